"""What goes over the wire by the short cuts is what the SDK would have sent, signed, and read as the SDK reads it.

An endpoint keeps whole requests, and the tests compare these. The short cuts rely on parts of the SDK that it does
not promise, so the first tests here fail when a new version changes them; the next ones show that a put is right
even then.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import random
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.core.exceptions import DestinationRefused
from airflow_kinesis_audience.core.producer.records import Outcome, Record, Status
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_audience.hooks.streams import open_connections
from airflow_kinesis_audience.hooks.streams.calls import PUT_RECORD_BATCH, PUT_RECORDS
from airflow_kinesis_audience.hooks.streams.signed_request import RequestTemplate, SignedRequests

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.streams.stream_hook import StreamHook

HOOK_CLASSES: dict[str, type[StreamHook]] = {"kinesis": KinesisStreamHook, "firehose": FirehoseStreamHook}
CALLS = {"kinesis": PUT_RECORDS, "firehose": PUT_RECORD_BATCH}
both = pytest.mark.parametrize("service", HOOK_CLASSES)


@dataclass(frozen=True)
class Request:
    """A request as it came in."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def access_key(self) -> str:
        return re.search(r"Credential=(\w+)/", self.headers["authorization"])[1]  # type: ignore[index]


Answer = Callable[[Request], tuple[int, bytes]]


def take_all(request: Request) -> tuple[int, bytes]:
    """Acknowledge each record; its shard is that of its first bytes, so that an answer shows whose it is."""
    entries = request.document["Records"]
    shards = [base64.b64decode(entry["Data"])[:8].hex() for entry in entries]
    if "PutRecordBatch" in request.headers["x-amz-target"]:
        answer: dict[str, Any] = {
            "FailedPutCount": 0,
            "RequestResponses": [{"RecordId": s or "-"} for s in shards],
        }
    else:
        answer = {"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1", "ShardId": s} for s in shards]}
    return 200, json.dumps(answer).encode()


@dataclass
class RecordingEndpoint:
    """A context manager; serves HTTP, or HTTPS with a certificate, and keeps what comes."""

    answer: Answer = take_all
    certificate: Path | None = None
    requests: list[Request] = field(default_factory=list, repr=False)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.recorder = self
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        serve = {"poll_interval": 0.02}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def last(self) -> Request:
        return self.requests[-1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    recorder: RecordingEndpoint

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a client that does not trust the certificate hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, self.rfile.read(int(headers["content-length"])))
        self.server.recorder.requests.append(request)
        status, body = self.server.recorder.answer(request)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


@contextmanager
def connection(url: str, **extra: Any) -> Iterator[None]:
    fields = {
        "conn_type": "aws",
        "login": "key",
        "password": "secret",
        "extra": {"endpoint_url": url, "region_name": "eu-west-1"} | extra,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(fields))
        yield


@pytest.fixture(scope="module")
def recorder() -> Iterator[RecordingEndpoint]:
    with RecordingEndpoint() as recorder, connection(recorder.url):
        yield recorder


@pytest.fixture(scope="module")
def hooks(recorder: RecordingEndpoint) -> dict[str, StreamHook]:
    """Hooks that are used again and again: the SDK's call makes their first request, and no later one."""
    found = {name: hook_class("s") for name, hook_class in HOOK_CLASSES.items()}
    recorder.answer = take_all
    for hook in found.values():
        assert hook.put(records_of(2))[0].status is Status.DELIVERED
    return found


@pytest.fixture(autouse=True)
def _take_all_again(recorder: RecordingEndpoint) -> None:
    recorder.answer = take_all
    recorder.requests.clear()


def records_of(count: int, seed: int = 1) -> list[Record]:
    chance = random.Random(seed)
    return [
        Record(n, chance.randbytes(chance.randint(1, 40)), f"key-{n % 5}", chance.randrange(2**128), 1)
        for n in range(count)
    ]


def put_plainly(service: str, url: str, records: list[Record]) -> None:
    """Put by an unchanged client of the SDK."""
    session = boto3.Session("key", "secret", region_name="eu-west-1")
    entries = [
        {"Data": r.data, "PartitionKey": r.partition_key, "ExplicitHashKey": str(r.hash_key)} for r in records
    ]
    if service == "kinesis":
        session.client("kinesis", endpoint_url=url).put_records(StreamName="s", Records=entries)
    else:
        bare = [{"Data": entry["Data"]} for entry in entries]
        session.client("firehose", endpoint_url=url).put_record_batch(DeliveryStreamName="s", Records=bare)


def count_entries(hook: StreamHook) -> list[Record]:
    """Keep what is handed to the SDK as a record of its own from here on."""
    handed: list[Record] = []

    def entry(record: Record) -> dict[str, Any]:
        handed.append(record)
        return CALLS[hook.service].entry(record)

    hook.call = replace(hook.call, entry=entry)  # type: ignore[misc]
    return handed


@both
def test_this_sdk_serializes_one_sample_of_a_request_and_no_record_of_it(
    service: str, recorder: RecordingEndpoint
) -> None:
    hook = HOOK_CLASSES[service]("s")
    handed = count_entries(hook)
    batch = records_of(50)
    hook.put(batch)
    assert len(handed) == 1
    assert handed[0] not in batch
    assert len(recorder.last.document["Records"]) == 50


@both
def test_this_sdk_has_its_call_made_for_the_first_request_alone(service: str, recorder: RecordingEndpoint) -> None:
    hook = HOOK_CLASSES[service]("s")
    called = count_calls(hook)
    for number in range(4):
        assert hook.put(records_of(50, number))[0].status is Status.DELIVERED
    assert called == ["before-call", "before-parse"]
    first, *others = recorder.requests
    for request in others:
        assert is_signed(request, service)
        assert (request.target, set(request.headers)) == (first.target, set(first.headers))
        for name in set(first.headers) - OF_ONE_REQUEST:
            assert request.headers[name] == first.headers[name]
        assert signed_headers(request) == signed_headers(first)
    assert len({request.headers["amz-sdk-invocation-id"] for request in recorder.requests}) == 4


@both
def test_this_sdk_s_open_connection_is_used_from_the_second_request_on(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    own = open_connections._exchange

    def exchange(connection: Any, *arguments: Any) -> Any:
        used.append(type(connection).__name__)
        return own(connection, *arguments)

    monkeypatch.setattr(open_connections, "_exchange", exchange)
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(certificate_of_this_machine())
    for plain in (True, False):
        with RecordingEndpoint(certificate=None if plain else certificate) as recorder:
            with connection(recorder.url, verify=str(certificate)):
                hook = HOOK_CLASSES[service]("s")
                for number in range(3):
                    assert hook.put(records_of(5, number))[0].status is Status.DELIVERED
            assert all(is_signed(request, service) for request in recorder.requests)
            assert len(recorder.requests) == 3
    assert used == ["socket", "socket", "SSLSocket", "SSLSocket"]


OF_ONE_REQUEST = {"authorization", "content-length", "amz-sdk-invocation-id", "x-amz-date"}


def signed_headers(request: Request) -> str:
    return re.search("SignedHeaders=([^,]+)", request.headers["authorization"])[1]  # type: ignore[index]


def count_calls(hook: StreamHook) -> list[str]:
    """Keep which events of the SDK's call are met from here on."""
    met: list[str] = []
    method = hook.conn.meta.method_to_api_mapping[hook.call.method]
    for event in ("before-call", "before-parse"):
        hook.conn.meta.events.register(
            f"{event}.{hook.service}.{method}", lambda event=event, **_: met.append(event)
        )
    return met


@both
def test_a_login_that_puts_one_by_one_has_its_call_made_once_too(
    service: str, recorder: RecordingEndpoint
) -> None:
    recorder.answer = lambda _request: (200, b'{"SequenceNumber": "1", "ShardId": "s", "RecordId": "2"}')
    hook = HOOK_CLASSES[service]("s")
    batch = records_of(4)
    outcomes = [hook._put_one([record])[0] for record in batch]
    assert {outcome.status for outcome in outcomes} == {Status.DELIVERED}
    assert [r.document for r in recorder.requests] == [
        {**hook.address, **hook.single_call.parameters(entries_of(service, [record]))} for record in batch
    ]
    assert all(is_signed(request, service) for request in recorder.requests)
    assert hook.single_request._own is not None


@pytest.mark.parametrize("breaks", ["a part is gone", "the signer is another", "the request is another"])
@both
def test_with_an_sdk_that_lacks_what_is_relied_on_every_put_is_the_plain_one(
    service: str, breaks: str, recorder: RecordingEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = HOOK_CLASSES[service]("s")
    request = hook.put_request
    own = SignedRequests.__init__

    def begin(self: Any, client: Any, operation: str, template: Any) -> None:
        if breaks == "a part is gone":
            raise AttributeError("get_auth_instance")
        own(self, client, operation, template)
        if breaks == "the signer is another":
            self._new_auth = lambda _name: None

    monkeypatch.setattr(SignedRequests, "__init__", begin)
    if breaks == "the request is another":
        monkeypatch.setattr(RequestTemplate, "of", classmethod(lambda _class, _request: None))
    called = count_calls(hook)
    for _ in range(3):
        assert hook.put(records_of(5))[0].status is Status.DELIVERED
    assert called == ["before-call", "before-parse"] * 3
    assert request._own is None
    assert len(recorder.requests) == 3


@settings(max_examples=60)
@given(
    records=st.lists(
        st.builds(
            Record,
            ordinal=st.just(0),
            data=st.binary(max_size=80),
            # what UTF-8 cannot encode the SDK would send, too, as an escape that no service takes
            partition_key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
            hash_key=st.integers(0, 2**128 - 1),
            changes=st.just(1),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_request_says_what_the_sdk_s_own_would(
    recorder: RecordingEndpoint, hooks: dict[str, StreamHook], records: list[Record]
) -> None:
    for service, hook in hooks.items():
        hook.put(records)
        ours = recorder.last
        put_plainly(service, recorder.url, records)
        plain = recorder.last
        assert ours is not plain
        assert ours.document == plain.document
        for name in ("x-amz-target", "content-type"):
            assert ours.headers[name] == plain.headers[name]
        assert set(ours.headers) == set(plain.headers)
        assert (ours.target, int(ours.headers["content-length"])) == (plain.target, len(ours.body))
        assert is_signed(ours, hook.service)
        assert is_signed(plain, hook.service)


def is_signed(request: Request, service: str, body: bytes | None = None) -> bool:
    """Sign what arrived once more, and compare."""
    said = dict(re.findall(r"(\w+)=([^,]+)", request.headers["authorization"]))
    signed = {name: request.headers[name] for name in said["SignedHeaders"].split(";")}
    url = f"http://{request.headers['host']}{request.target}"
    again = AWSRequest("POST", url, headers=signed, data=request.body if body is None else body)
    again.context["timestamp"] = request.headers["x-amz-date"]
    auth = SigV4Auth(Credentials("key", "secret"), service, "eu-west-1")
    to_sign = auth.string_to_sign(again, auth.canonical_request(again))
    return bool(auth.signature(to_sign, again) == said["Signature"])


@both
def test_the_signature_covers_every_byte_of_the_body(
    service: str, recorder: RecordingEndpoint, hooks: dict[str, StreamHook]
) -> None:
    hooks[service].put(records_of(5))
    assert is_signed(recorder.last, service)
    assert not is_signed(recorder.last, service, recorder.last.body + b" ")


def test_a_stream_may_be_named_by_its_arn(recorder: RecordingEndpoint) -> None:
    arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/s"
    assert KinesisStreamHook(arn).put(records_of(3))[0].status is Status.DELIVERED
    assert {k: v for k, v in recorder.last.document.items() if k != "Records"} == {"StreamARN": arn}


class AnotherSerializer:
    """An SDK whose requests came to look otherwise."""

    def __init__(self, own: Any, change: Callable[[dict[str, Any]], Any]) -> None:
        self._own, self._change = own, change

    def serialize_to_request(self, parameters: Any, operation_model: Any) -> Any:
        request = self._own.serialize_to_request(parameters, operation_model)
        self._change(request)
        return request


def covers_the_body(request: dict[str, Any]) -> None:
    request["headers"]["Digest"] = str(len(request["body"]))


def is_wrapped(request: dict[str, Any]) -> None:
    request["body"] = json.dumps({"Input": json.loads(request["body"])}).encode()


def is_no_json(request: dict[str, Any]) -> None:
    request["body"] = b"\xbf" + request["body"]


@pytest.mark.parametrize("change", [covers_the_body, is_wrapped, is_no_json])
@both
def test_with_another_serializer_a_request_is_that_serializer_s(
    service: str, change: Callable[[dict[str, Any]], Any], recorder: RecordingEndpoint
) -> None:
    recorder.answer = lambda _request: (200, b"{}")
    hook, batch = HOOK_CLASSES[service]("s"), records_of(4)
    client = hook.conn
    client._serializer = AnotherSerializer(client._serializer, change)
    hook.put(batch)
    assert len(recorder.requests) == 1
    expected = {
        "headers": {},
        "body": json.dumps({"Records": entries_of(service, batch), **hook.address}).encode(),
    }
    change(expected)
    body = recorder.last.body
    assert body.startswith(b"\xbf") == expected["body"].startswith(b"\xbf")
    assert json.loads(body.removeprefix(b"\xbf")) == json.loads(expected["body"].removeprefix(b"\xbf"))
    assert recorder.last.headers.get("digest", str(len(body))) == str(len(body))


def entries_of(service: str, batch: list[Record]) -> list[dict[str, str]]:
    return [
        {
            name: base64.b64encode(v).decode() if name == "Data" else v
            for name, v in CALLS[service].entry(r).items()
        }
        for r in batch
    ]


@both
def test_with_a_client_that_goes_round_the_short_cuts_a_put_is_the_plain_one(
    service: str, recorder: RecordingEndpoint
) -> None:
    hook, batch = HOOK_CLASSES[service]("s"), records_of(4)
    HOOK_CLASSES[service]("s").put(batch)
    before = recorder.last
    own = hook.conn._serializer
    handed = count_entries_of_wire(hook)
    hook.conn._serializer = own
    assert [outcome.status for outcome in hook.put(batch)] == [Status.DELIVERED] * 4
    assert handed[:4] == batch
    assert len(recorder.requests) == 2
    assert recorder.last.document == before.document


def count_entries_of_wire(hook: StreamHook) -> list[Record]:
    handed = count_entries(hook)
    hook.put_request._call = hook.call
    return handed


values = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.just("InternalFailure"))
results = st.one_of(
    st.dictionaries(
        st.sampled_from(["SequenceNumber", "RecordId", "ShardId", "ErrorCode", "ErrorMessage", "More"]), values
    ),
    st.fixed_dictionaries({"SequenceNumber": st.just("1"), "ShardId": st.just("s"), "RecordId": st.just("2")}),
    values,
)
bodies = st.one_of(
    st.builds(
        lambda key, found: json.dumps({key: found}).encode(),
        st.sampled_from(["Records", "RequestResponses", "Other"]),
        st.one_of(st.lists(results, max_size=4), values, results),
    ),
    st.builds(lambda found: json.dumps(found).encode(), st.one_of(values, st.lists(values))),
    st.binary(max_size=12),
)


@settings(max_examples=300)
@given(body=bodies, status=st.sampled_from([200, 200, 200, 201, 400, 500]))
def test_any_answer_means_what_it_means_when_the_sdk_reads_it(
    recorder: RecordingEndpoint,
    hooks: dict[str, StreamHook],
    plain_hooks: dict[str, StreamHook],
    body: bytes,
    status: int,
) -> None:
    recorder.answer = lambda _request: (status, body)
    for service, hook in hooks.items():
        assert outcomes_or_refusal(hook) == outcomes_or_refusal(plain_hooks[service])


@pytest.fixture(scope="module")
def plain_hooks(recorder: RecordingEndpoint) -> dict[str, StreamHook]:
    """Hooks whose requests the SDK's call makes, and whose answers it reads."""
    found = {name: hook_class("s") for name, hook_class in HOOK_CLASSES.items()}
    for hook in found.values():
        hook.put_request._may_send = False
    return found


def outcomes_or_refusal(hook: StreamHook) -> list[Outcome] | str:
    try:
        return hook.put(records_of(3))
    except DestinationRefused as refusal:
        return str(refusal)


def test_an_acknowledged_record_s_outcome_names_its_shard(hooks: dict[str, StreamHook]) -> None:
    batch = [record._replace(data=b"shard-%d." % (n % 2)) for n, record in enumerate(records_of(40))]
    outcomes = hooks["kinesis"].put(batch)
    assert outcomes == [Outcome(Status.DELIVERED, "", record.data[:8].hex()) for record in batch]
    # One object for each shard, not for each record.
    assert len({id(outcome) for outcome in outcomes}) == 2


def test_an_outcome_of_firehose_names_no_shard(hooks: dict[str, StreamHook]) -> None:
    assert hooks["firehose"].put(records_of(3)) == [Outcome(Status.DELIVERED)] * 3


def test_threads_that_share_a_client_get_each_its_own_answer(
    recorder: RecordingEndpoint, hooks: dict[str, StreamHook]
) -> None:
    batches = [
        [r._replace(data=b"%04d%04d" % (b, n) + r.data) for n, r in enumerate(records_of(20, b))]
        for b in range(60)
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(hooks["kinesis"].put, batches))
    for batch, outcomes in zip(batches, answers, strict=True):
        assert [outcome.shard for outcome in outcomes] == [record.data[:8].hex() for record in batch]
    arrived = [[entry["Data"] for entry in request.document["Records"]] for request in recorder.requests]
    assert sorted(arrived) == sorted([base64.b64encode(r.data).decode() for r in batch] for batch in batches)


@pytest.mark.parametrize(
    "changes",
    [{"data": ["jane.doe"]}, {"partition_key": ""}, {"partition_key": ["jane.doe"]}, {"partition_key": 5}],
)
def test_what_the_sdk_would_refuse_is_refused_and_not_sent(
    changes: dict[str, Any], recorder: RecordingEndpoint, hooks: dict[str, StreamHook]
) -> None:
    with pytest.raises(DestinationRefused, match="ParamValidationError") as refused:
        hooks["kinesis"].put([*records_of(2), records_of(1)[0]._replace(**changes)])
    assert "jane" not in str(refused.value)
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("batch", "named"),
    [
        ([], "0 values (none)"),
        ([b"jane.doe"], "1 values (bytes)"),
        (["jane.doe", 5], "2 values (int, str)"),
        ([*records_of(1), {"Data": b"jane.doe"}], "2 values (Record, dict)"),
        (records_of(501), "501 values (Record)"),
    ],
    ids=["none", "bytes", "two types", "one of them", "too many"],
)
@both
def test_what_is_no_batch_of_records_is_an_error_that_says_what_is_expected(
    service: str, batch: list[Any], named: str, recorder: RecordingEndpoint, hooks: dict[str, StreamHook]
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"put got {named}; expected 1 to 500 of")) as refused:
        hooks[service].put(batch)
    assert "jane" not in str(refused.value)
    assert recorder.requests == []


def test_the_caller_is_named_unless_the_connection_names_another(
    recorder: RecordingEndpoint, hooks: dict[str, StreamHook]
) -> None:
    hooks["kinesis"].put(records_of(1))
    ours = recorder.last.headers["user-agent"]
    assert re.match(r"airflow-kinesis-audience/\S+ Botocore/\S+ ", ours)
    assert " Airflow/" in ours
    with connection(recorder.url, config_kwargs={"user_agent": "somebody"}):
        KinesisStreamHook("s").put(records_of(1))
    assert recorder.last.headers["user-agent"].startswith("somebody")


def test_a_proxy_is_asked_for_an_endpoint_elsewhere(recorder: RecordingEndpoint) -> None:
    elsewhere = "http://kinesis.invalid"
    with connection(elsewhere, config_kwargs={"proxies": {"http": recorder.url}}):
        assert KinesisStreamHook("s").put(records_of(2))[0].status is Status.DELIVERED
    assert recorder.last.target == f"{elsewhere}/"
    assert is_signed(replace(recorder.last, target="/"), "kinesis")


def test_a_certificate_is_verified_as_the_connection_says(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(certificate_of_this_machine())
    with RecordingEndpoint(certificate=certificate) as recorder:
        with connection(recorder.url):
            assert KinesisStreamHook("s").put(records_of(2)) == [Outcome(Status.UNKNOWN, "SSLError")] * 2
        assert recorder.requests == []
        with connection(recorder.url, verify=str(certificate)):
            assert KinesisStreamHook("s").put(records_of(2))[0].status is Status.DELIVERED
        assert len(recorder.requests) == 1


def certificate_of_this_machine() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(form, *plain) + certificate.public_bytes(form)


def test_the_credentials_of_a_role_are_renewed_between_two_puts() -> None:
    """Credentials that are about to end are asked for again whenever a request is signed."""
    given: list[str] = []

    def assume(_request: Request) -> tuple[int, bytes]:
        given.append(f"ROLE{len(given)}")
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
        credentials = (
            f"<AccessKeyId>{given[-1]}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>t</SessionToken><Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        )
        result = f"<AssumeRoleResult><Credentials>{credentials}</Credentials></AssumeRoleResult>"
        return 200, f"<AssumeRoleResponse>{result}</AssumeRoleResponse>".encode()

    with RecordingEndpoint(assume) as sts, RecordingEndpoint() as recorder:
        role = {
            "role_arn": "arn:aws:iam::123456789012:role/r",
            "service_config": {"sts": {"endpoint_url": sts.url}},
        }
        with connection(recorder.url, **role):
            hook = KinesisStreamHook("s")
            for _ in range(3):
                assert hook.put(records_of(2))[0].status is Status.DELIVERED
        keys = [request.access_key for request in recorder.requests]
        assert len(set(keys)) == 3
        assert keys == sorted(keys)
        assert {request.headers["x-amz-security-token"] for request in recorder.requests} == {"t"}
