"""The promises of a delivery, through the real hooks and the real SDK, against an endpoint with scripted faults.

A record may be taken more than once, where an answer was lost; the first of each is the one that consumers apply.
The script decides by request and record, so that every kind of fault meets every kind of batch. What both
destinations promise is tested with both.
"""

from __future__ import annotations

import base64
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, DestinationRefused
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals, AcknowledgedRanges
from airflow_kinesis_audience.core.producer.backoff import RetryPolicy
from airflow_kinesis_audience.core.producer.in_flight import Bounds
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.producer.records import (
    FIREHOSE_LIMITS,
    KINESIS_LIMITS,
    Destination,
    Outcome,
    Record,
    Status,
)
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from tests.scripted_kinesis import (
    FAIL,
    TAKE,
    THROTTLE,
    UNAVAILABLE,
    Arrived,
    Decision,
    Raw,
    ScriptedKinesis,
    Whole,
    error,
    take_everything,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.producer.result import ProduceResult
    from airflow_kinesis_audience.hooks.streams.stream_hook import StreamHook

STREAM_CLIENT = "airflow_kinesis_audience.hooks.streams.stream_client"
QUICK = RetryPolicy(attempts=60, stall_seconds=60.0, first_delay_seconds=0.001, longest_delay_seconds=0.02)
LIMITS = {
    "records_per_request": 8,
    "record_bytes": 1_000,
    "request_bytes": 2_000,
    "shard_records": 100_000,
    "shard_bytes": 100_000_000,
}

HOOK_CLASSES: dict[str, type[StreamHook]] = {"kinesis": KinesisStreamHook, "firehose": FirehoseStreamHook}
THROTTLES = {"kinesis": THROTTLE, "firehose": UNAVAILABLE}
both = pytest.mark.parametrize("service", HOOK_CLASSES)
"""A test of either destination."""


@contextmanager
def connection(kinesis_url: str, **extra: Any) -> Iterator[None]:
    """Be Airflow's connection to the endpoint, by environment variable as a deployment may have it."""
    patch = pytest.MonkeyPatch()
    fields = {
        "conn_type": "aws",
        "login": "testing",
        "password": "testing",
        "extra": {"endpoint_url": kinesis_url, "region_name": "eu-west-1"} | extra,
    }
    patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(fields))
    try:
        yield
    finally:
        patch.undo()


@contextmanager
def stream(kinesis: ScriptedKinesis, service: str = "kinesis", **extra: Any) -> Iterator[StreamHook]:
    with kinesis, connection(kinesis.endpoint_url, **extra):
        yield HOOK_CLASSES[service]("audience-changes")


def records_of(count: int, keys: int) -> list[Record]:
    chance = random.Random(count * 31 + keys)
    return [
        Record(n, f"{n:06}".encode() * chance.randint(1, 60), f"key-{n % keys}", (n % keys) << 100, n % 4 + 1)
        for n in range(count)
    ]


def send(
    records: Iterable[Record], hook: StreamHook, acknowledged: AcknowledgedOrdinals | None = None, **bounds: int
) -> ProduceResult:
    return produce(
        [records],
        Destination(put=hook.put, limits=replace(hook.limits, **LIMITS), name=hook.destination),
        acknowledged=AcknowledgedOrdinals() if acknowledged is None else acknowledged,
        on_progress=lambda _: None,
        policy=QUICK,
        bounds=Bounds(**bounds),
    )


def first_takes(taken: Sequence[Arrived], records: Sequence[Record]) -> dict[str, list[bytes]]:
    """What each key holds, without what came again; a record's key is known by its bytes."""
    keys = {r.data: r.partition_key for r in records}
    found: dict[str, dict[bytes, None]] = {}
    for arrived in taken:
        found.setdefault(keys[arrived.data], {})[arrived.data] = None
    return {key: list(documents) for key, documents in found.items()}


def expected(records: Sequence[Record]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for record in records:
        found.setdefault(record.partition_key, []).append(record.data)
    return found


def seeded(seed: int, faults: Sequence[Whole], whole: float, part: float) -> Callable[..., Decision]:
    chance = random.Random(seed)

    def script(_request: int, records: Sequence[Arrived]) -> Decision:
        if faults and chance.random() < whole:
            return chance.choice(faults)
        return [chance.choice((THROTTLE, FAIL)) if chance.random() < part else TAKE for _ in records]

    return script


WHOLE_AND_QUICK = [fault for fault in Whole if fault.name not in ("DENIED", "MISSING", "TAKEN_AND_SILENT")]


@both
@settings(max_examples=settings.default.max_examples // 4)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 120),
    keys=st.integers(1, 30),
    max_in_flight=st.integers(1, 4),
    faults=st.lists(st.sampled_from(WHOLE_AND_QUICK), unique=True),
    part=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_through_every_fault_each_record_is_taken_in_the_order_of_its_key(
    service: str, seed: int, count: int, keys: int, max_in_flight: int, faults: list[Whole], part: float
) -> None:
    records = records_of(count, keys)
    acknowledged = AcknowledgedOrdinals()
    with ScriptedKinesis(seeded(seed, faults, 0.25, part)) as kinesis, connection(kinesis.endpoint_url):
        hook = HOOK_CLASSES[service]("s")
        result = send(records, hook, acknowledged, max_in_flight=max_in_flight)
        assert result.failure is None
        assert first_takes(kinesis.taken, records) == expected(records)
        assert acknowledged.ranges == AcknowledgedRanges(below=count, above=())
        assert result.delivered == count
        assert result.changes_delivered == sum(record.changes for record in records)
        assert result.requests == len(kinesis.requests)


@both
def test_a_record_that_was_acknowledged_is_never_put_again(service: str) -> None:
    records = records_of(200, 24)
    with ScriptedKinesis(seeded(3, [Whole.THROTTLED, Whole.SERVER_ERROR], 0.2, 0.3)) as kinesis:
        with connection(kinesis.endpoint_url):
            result = send(records, HOOK_CLASSES[service]("s"))
        assert result.failure is None
        assert result.codes[THROTTLES[service]] > 0 < result.codes[FAIL]
        assert result.throttles.total() == result.codes[THROTTLES[service]]
        acknowledged_in = {arrived.data: arrived.request for arrived in kinesis.taken}
        assert len(kinesis.taken) == len(records)
        for number, request in enumerate(kinesis.requests):
            assert all(acknowledged_in[arrived.data] >= number for arrived in request)


@both
def test_after_a_partial_failure_only_the_failed_records_are_put_again(service: str) -> None:
    def script(request: int, records: Sequence[Arrived]) -> Decision:
        return [THROTTLE if request == 0 and n in (1, 4) else TAKE for n in range(len(records))]

    with ScriptedKinesis(script) as kinesis, connection(kinesis.endpoint_url):
        records = records_of(8, 8)
        result = send(records, HOOK_CLASSES[service]("s"))
        puts = Counter(arrived.data for request in kinesis.requests for arrived in request)
    assert result.failure is None
    assert {data for data, count in puts.items() if count > 1} == {records[1].data, records[4].data}
    assert result.retried == puts.total() - 8


@both
def test_an_answer_that_never_comes_leads_to_a_duplicate_not_to_a_loss(service: str) -> None:
    def script(request: int, _records: Sequence[Arrived]) -> Decision:
        return Whole.TAKEN_AND_SILENT if request == 1 else TAKE

    records = records_of(40, 10)
    impatient = {"config_kwargs": {"read_timeout": 0.3}}
    with ScriptedKinesis(script) as kinesis, connection(kinesis.endpoint_url, **impatient):
        result = send(records, HOOK_CLASSES[service]("s"))
        silent = len(kinesis.requests[1])
        assert result.failure is None
        assert first_takes(kinesis.taken, records) == expected(records)
        assert len(kinesis.taken) == len(records) + silent
        assert result.codes == {"ReadTimeoutError": silent}


@both
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Whole.SERVER_ERROR, "InternalFailure"),
        (Whole.UNAVAILABLE, "503"),
        (Whole.THROTTLED, THROTTLE),
        (Whole.RESET, "ConnectionClosedError"),
        (Whole.TAKEN_AND_RESET, "ConnectionClosedError"),
        (Whole.TAKEN_AND_GARBLED, "AnswerUnreadable"),
        (Whole.TAKEN_AND_SHORT, "AnswerDoesNotMatch"),
    ],
)
def test_a_request_that_fails_whole_is_put_once_by_the_sdk_and_again_by_the_delivery(
    service: str, fault: Whole, code: str
) -> None:
    def script(request: int, _records: Sequence[Arrived]) -> Decision:
        return fault if request == 0 else TAKE

    code = THROTTLES[service] if fault is Whole.THROTTLED else code
    with ScriptedKinesis(script) as kinesis, connection(kinesis.endpoint_url):
        result = send(records_of(4, 4), HOOK_CLASSES[service]("s"), max_in_flight=1)
        assert result.failure is None
        # Had the SDK retried, too, there would be more requests than puts.
        assert result.requests == len(kinesis.requests)
        assert sum(len(request) for request in kinesis.requests) == 8
        assert [(c, n) for c, n in result.codes.items() if not c.startswith("Connection")] == (
            [] if code.startswith("Connection") else [(code, 4)]
        )
        assert result.codes.total() == 4


_EXHAUSTED = {
    "kinesis": (
        "Retry Limit Exceeded at kinesis://eu-west-1/s (60 attempts each)",
        " of them of shardId-000000000001",
        "a shard accepts 1,000 records and 1 MB per second: add shards",
    ),
    "firehose": (
        "Retry Limit Exceeded at firehose://eu-west-1/s (60 attempts each)",
        UNAVAILABLE,
        "per second: ask AWS to raise the quota",
    ),
}


@both
def test_a_key_throttled_for_ever_ends_and_the_next_attempt_puts_exactly_the_rest(service: str) -> None:
    records = records_of(90, 9)
    stuck = {r.data for r in records if r.partition_key == "key-4"}

    def script(_request: int, arrived: Sequence[Arrived]) -> Decision:
        return [THROTTLE if record.data in stuck else TAKE for record in arrived]

    acknowledged = AcknowledgedOrdinals()
    with ScriptedKinesis(script) as kinesis, connection(kinesis.endpoint_url):
        hook = HOOK_CLASSES[service]("s")
        result = send(records, hook, acknowledged)
        assert isinstance(result.failure, DeliveryIncomplete)
        assert all(part in str(result.failure) for part in _EXHAUSTED[service])
        assert (result.delivered, result.failed) == (80, 1)
        assert first_takes(kinesis.taken, records) == expected([r for r in records if r.data not in stuck])

        seen = len(kinesis.taken)
        kinesis.script = take_everything
        assert send(records, hook, AcknowledgedOrdinals.of(acknowledged.ranges)).failure is None
        rest = [r.data for r in records if r.data in stuck]
        assert [arrived.data for arrived in kinesis.taken[seen:]] == rest


@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        (Whole.MISSING, ("audience-changes", "eu-west-1", "aws kinesis create-stream")),
        (Whole.DENIED, ("PutRecords", "kms:GenerateDataKey", "arn:aws:iam::1:user/x")),
    ],
)
def test_what_every_record_would_meet_is_refused_at_once(fault: Whole, parts: tuple[str, ...]) -> None:
    with ScriptedKinesis(lambda _request, _records: fault) as kinesis, connection(kinesis.endpoint_url):
        result = send(records_of(50, 10), KinesisStreamHook("audience-changes"), max_in_flight=1)
        assert isinstance(result.failure, DestinationRefused)
        assert result.requests == 1
        # A denial is followed by the question whether one record may be put.
        assert kinesis.operations == ["PutRecords", *(["PutRecord"] if fault is Whole.DENIED else [])]
        assert all(part in str(result.failure) for part in parts)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("KMSThrottlingException", Status.THROTTLED),
        ("LimitExceededException", Status.THROTTLED),
        ("ThrottlingException", Status.THROTTLED),
        ("RequestLimitExceeded", Status.THROTTLED),
        ("ExpiredTokenException", Status.UNKNOWN),
        ("SomethingNew", Status.UNKNOWN),
        ("KMSDisabledException", None),
        ("KMSOptInRequired", None),
        ("UnrecognizedClientException", None),
        ("InvalidSignatureException", None),
        ("InvalidArgumentException", None),
        ("ValidationException", None),
        ("SerializationException", None),
    ],
)
def test_an_error_code_for_a_whole_request_is_classified(code: str, status: Status | None) -> None:
    batch = records_of(3, 3)
    with ScriptedKinesis(lambda _request, _records: error(code)) as kinesis, connection(kinesis.endpoint_url):
        hook = KinesisStreamHook("s")
        if status is None:
            with pytest.raises(DestinationRefused, match=code):
                hook.put(batch)
        else:
            assert hook.put(batch) == [Outcome(status, code)] * 3


@both
def test_a_server_s_error_is_never_a_refusal_whatever_it_is_called(service: str) -> None:
    answer = error("ValidationException", status=500)
    with ScriptedKinesis(lambda _request, _records: answer) as kinesis, connection(kinesis.endpoint_url):
        assert (
            HOOK_CLASSES[service]("s").put(records_of(2, 2))
            == [Outcome(Status.UNKNOWN, "ValidationException")] * 2
        )


BODIES = [
    b"",
    b"[]",
    b"null",
    b"5",
    b'"x"',
    b"<html>",
    b"\xff\xfe",
    b'{"Records": 5}',
    b'{"Records": null}',
    b'{"Records": [null]}',
    b'{"Records": [{}]}',
    b'{"Records": [{"SequenceNumber": ""}]}',
    b'{"RequestResponses": 5}',
    b'{"RequestResponses": [null]}',
    b'{"RequestResponses": [{}]}',
    b'{"RequestResponses": [{"RecordId": ""}]}',
]


@both
@pytest.mark.parametrize("status", [200, 413, 502])
def test_what_is_no_acknowledgement_is_never_taken_for_one(service: str, status: int) -> None:
    with ScriptedKinesis() as kinesis, connection(kinesis.endpoint_url):
        hook = HOOK_CLASSES[service]("s")
        for body in BODIES:
            answer = kinesis.describe = Raw(status, body)
            kinesis.script = lambda _request, _records, answer=answer: answer
            hook.check()
            outcomes = hook.put(records_of(1, 1))
            assert [outcome.status for outcome in outcomes] == [Status.UNKNOWN], body
            assert outcomes[0].code


@both
def test_an_endpoint_that_is_not_there_is_no_answer(service: str) -> None:
    with ScriptedKinesis() as gone:
        url = gone.endpoint_url
    with connection(url):
        hook = HOOK_CLASSES[service]("s")
        hook.check()
        assert hook.put(records_of(1, 1)) == [Outcome(Status.UNKNOWN, "EndpointConnectionError")]


def test_a_record_goes_out_with_its_bytes_key_and_hash_key() -> None:
    record = Record(0, b'{"a": 1}', "digest-3", 2**127 + 5, 1)
    with ScriptedKinesis() as kinesis, connection(kinesis.endpoint_url):
        assert [outcome.status for outcome in KinesisStreamHook("s").put([record])] == [Status.DELIVERED]
    assert kinesis.taken == [Arrived(0, record.partition_key, record.data, record.hash_key)]


def test_looking_at_the_stream_refuses_one_that_is_missing() -> None:
    with (
        stream(ScriptedKinesis(describe=Whole.MISSING)) as hook,
        pytest.raises(DestinationRefused, match=r"audience-changes does not exist in eu-west-1.*create-stream"),
    ):
        hook.check()


@pytest.mark.parametrize(
    ("summary", "match"),
    [
        ({"StreamStatus": "DELETING"}, "DELETING"),
        ({"StreamStatus": "ACTIVE", "RecordDistributionStrategy": "AUTO"}, "overtake"),
    ],
)
def test_looking_at_the_stream_refuses_one_that_is_no_good(summary: dict[str, str], match: str) -> None:
    with stream(ScriptedKinesis(describe=summary)) as hook, pytest.raises(DestinationRefused, match=match):
        hook.check()


def test_a_stream_that_is_being_created_is_worth_another_attempt() -> None:
    creating = ScriptedKinesis(describe={"StreamStatus": "CREATING"})
    with stream(creating) as hook, pytest.raises(DeliveryIncomplete, match="being created"):
        hook.check()


@both
@pytest.mark.parametrize("describe", [Whole.DENIED, Whole.SERVER_ERROR, Whole.THROTTLED, Whole.RESET])
def test_a_login_that_may_only_put_is_enough(service: str, describe: Whole) -> None:
    with stream(ScriptedKinesis(describe=describe), service) as hook:
        hook.check()
        assert hook.put(records_of(1, 1))[0].status is Status.DELIVERED


@both
def test_an_unknown_connection_is_refused_before_anything_is_asked(service: str) -> None:
    hook = HOOK_CLASSES[service]("s", aws_conn_id="nobody", region_name="eu-west-1")
    with pytest.raises(ValueError, match=r"aws_conn_id is 'nobody'.*airflow connections add nobody"):
        hook.check()


@both
def test_missing_credentials_are_reported(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with ScriptedKinesis() as kinesis:
        extra = {"endpoint_url": kinesis.endpoint_url, "region_name": "eu-west-1"}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "extra": extra}))
        with pytest.raises(DestinationRefused, match="no AWS credentials"):
            HOOK_CLASSES[service]("s").check()
        assert kinesis.operations == []


@both
def test_a_missing_region_is_reported(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(DestinationRefused, match="set region_name"):
        HOOK_CLASSES[service]("s", aws_conn_id=None).check()


ARN = "arn:aws:kinesis:ap-south-1:123456789012:stream/audience-changes"


def test_an_arn_names_stream_and_region() -> None:
    hook = KinesisStreamHook(ARN, aws_conn_id=None)
    assert hook.destination == f"kinesis://ap-south-1/{ARN}"
    with pytest.raises(ValueError, match="remove one"):
        KinesisStreamHook(ARN, region_name="eu-west-1")
    with pytest.raises(ValueError, match="expected a name or arn"):
        KinesisStreamHook("arn:aws:firehose:eu-west-1:123456789012:deliverystream/x")


@both
def test_the_connection_keeps_its_own_settings_except_retries(service: str) -> None:
    given = {"read_timeout": 7, "retries": {"mode": "adaptive", "max_attempts": 9}, "max_pool_connections": 200}
    with connection("http://127.0.0.1:9", config_kwargs=given):
        hook = HOOK_CLASSES[service]("s")
        config = hook.conn.meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (5, 7, 200)
    assert config.retries["total_max_attempts"] == 1
    assert hook.conn is hook.conn
    assert hook.destination == f"{service}://eu-west-1/s"


SECRET = b"jane.doe@example.com"


@pytest.fixture
def loggers_at_debug() -> Iterator[None]:
    """Undo what an earlier client set, and have every logger print all it can."""
    known = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    before = [(logger, logger.level) for logger in (logging.root, *known)]
    for logger, _ in before:
        logger.setLevel(logging.DEBUG)
    yield
    for logger, level in before:
        logger.setLevel(level)


def everything_logged_by_a_put(
    service: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> str:
    record = Record(0, b'{"Email": "' + SECRET + b'"}', "digest-3", 1, 1)
    faults = [Whole.SERVER_ERROR, Whole.THROTTLED, Whole.RESET, Whole.TAKEN_AND_GARBLED, [FAIL], TAKE]
    with ScriptedKinesis(lambda request, _records: faults[request]) as kinesis, connection(kinesis.endpoint_url):
        hook = HOOK_CLASSES[service]("s")
        hook.check()
        result = send([record], hook)
        assert (result.failure, result.requests) == (None, len(faults))
        not_bytes: Any = [SECRET]
        with pytest.raises(DestinationRefused) as refused:
            hook.put([Record(1, not_bytes, "k", 1, 1)])
    logging.getLogger("last").debug("the capture works")
    printed = capfd.readouterr()
    logged = [f"{entry.getMessage()} {entry.args} {entry.exc_text}" for entry in caplog.records]
    return "\n".join([*logged, printed.out, printed.err, *map(str, (refused.value, result))])


def gives_away(text: str) -> bool:
    # Of three alignments in base64 one shows, whatever stands before.
    encoded = [base64.b64encode(b"." * n + SECRET)[4:-4].decode() for n in range(3)]
    return any(part in text for part in (SECRET.decode(), *encoded))


@both
@pytest.mark.usefixtures("loggers_at_debug")
def test_nothing_of_a_record_reaches_a_log_at_debug(
    service: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logged = everything_logged_by_a_put(service, caplog, capfd)
    assert "the capture works" in logged
    assert not gives_away(logged)


@both
@pytest.mark.usefixtures("loggers_at_debug")
def test_without_the_hook_s_care_the_sdk_would_log_the_records(
    service: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{STREAM_CLIENT}.keep_requests_out_of_logs", lambda *_: None)
    assert gives_away(everything_logged_by_a_put(service, caplog, capfd))


def test_the_limits_of_the_hooks_are_those_of_the_destinations() -> None:
    assert (KinesisStreamHook.limits, KinesisStreamHook.record_end) == (KINESIS_LIMITS, b"")
    assert (FirehoseStreamHook.limits, FirehoseStreamHook.record_end) == (FIREHOSE_LIMITS, b"\n")


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        (UNAVAILABLE, 503, Status.THROTTLED),
        ("ThrottlingException", 400, Status.THROTTLED),
        ("LimitExceededException", 400, Status.THROTTLED),
        ("InternalFailure", 500, Status.UNKNOWN),
        ("SomethingNew", 400, Status.UNKNOWN),
        ("ExpiredTokenException", 400, Status.UNKNOWN),
        ("InvalidSourceException", 400, "because its source is not Direct PUT"),
        ("InvalidKMSResourceException", 400, "KMS key of delivery stream s cannot be used"),
        (
            "ResourceNotFoundException",
            400,
            "delivery stream s does not exist in eu-west-1; correct delivery_stream",
        ),
        (
            "AccessDeniedException",
            400,
            "AWS denies PutRecordBatch for delivery stream s .*firehose:PutRecordBatch",
        ),
        (
            "InvalidArgumentException",
            400,
            "the form of PutRecordBatch to delivery stream s .*delivery_stream_name",
        ),
        ("UnrecognizedClientException", 400, "does not accept the credentials of connection aws_default"),
    ],
)
def test_an_answer_of_firehose_is_classified(code: str, status: int, outcome: Status | str) -> None:
    answer = error(code, status=status)
    with ScriptedKinesis(lambda _request, _records: answer) as firehose, connection(firehose.endpoint_url):
        hook = FirehoseStreamHook("s")
        if isinstance(outcome, Status):
            assert hook.put(records_of(3, 3)) == [Outcome(outcome, code)] * 3
        else:
            with pytest.raises(DestinationRefused, match=outcome):
                hook.put(records_of(3, 3))


def test_firehose_is_put_bytes_and_nothing_else() -> None:
    record = Record(0, b'{"a": 1}\n', "digest-3", 2**127 + 5, 1)
    with ScriptedKinesis() as firehose, connection(firehose.endpoint_url):
        assert [outcome.status for outcome in FirehoseStreamHook("s").put([record])] == [Status.DELIVERED]
    assert firehose.taken == [Arrived(0, "", record.data, -1)]
    assert firehose.operations == ["PutRecordBatch"]


FIREHOSE_ARN = "arn:aws:firehose:eu-west-1:123456789012:deliverystream/audience-changes"


@pytest.mark.parametrize(
    ("described", "kind", "match"),
    [
        ({"DeliveryStreamStatus": "CREATING"}, DeliveryIncomplete, "being created"),
        ({"DeliveryStreamStatus": "DELETING"}, DestinationRefused, "is DELETING; expected ACTIVE"),
        ({"DeliveryStreamStatus": "CREATING_FAILED"}, DestinationRefused, "is CREATING_FAILED; expected ACTIVE"),
        ({"DeliveryStreamType": "KinesisStreamAsSource"}, DestinationRefused, "has the source .*Direct PUT"),
        ({"DeliveryStreamType": "MSKAsSource"}, DestinationRefused, "has the source .*Direct PUT"),
        (
            {"DeliveryStreamEncryptionConfiguration": {"Status": "ENABLING_FAILED"}},
            DestinationRefused,
            "encryption of delivery stream audience-changes is ENABLING_FAILED",
        ),
    ],
)
def test_looking_at_a_delivery_stream_refuses_one_that_is_no_good(
    described: dict[str, Any], kind: type[Exception], match: str
) -> None:
    description = {"DeliveryStreamStatus": "ACTIVE", "DeliveryStreamARN": FIREHOSE_ARN, **described}
    with stream(ScriptedKinesis(describe=description), "firehose") as hook, pytest.raises(kind, match=match):
        hook.check()


@pytest.mark.parametrize(
    "more",
    [{}, {"DeliveryStreamType": "DirectPut"}, {"DeliveryStreamEncryptionConfiguration": {"Status": "ENABLED"}}],
)
def test_a_delivery_stream_that_is_good_passes(more: dict[str, Any]) -> None:
    description = {"DeliveryStreamStatus": "ACTIVE", "DeliveryStreamARN": FIREHOSE_ARN, **more}
    with stream(ScriptedKinesis(describe=description), "firehose") as hook:
        hook.check()


def test_a_delivery_stream_by_its_arn_is_asked_for_by_its_name_and_must_be_the_one_that_is_reached() -> None:
    other = FIREHOSE_ARN.replace("123456789012", "210987654321")
    described = ScriptedKinesis(describe={"DeliveryStreamARN": FIREHOSE_ARN})
    with described as firehose, connection(firehose.endpoint_url):
        hook = FirehoseStreamHook(FIREHOSE_ARN)
        hook.check()
        assert hook.put(records_of(1, 1))[0].status is Status.DELIVERED
        assert hook.destination == f"firehose://eu-west-1/{FIREHOSE_ARN}"
        with pytest.raises(
            DestinationRefused, match=f"is {other}, and the login .* reaches {FIREHOSE_ARN}.*role_arn"
        ):
            FirehoseStreamHook(other).check()
    with pytest.raises(ValueError, match="expected a name or arn:aws:firehose"):
        FirehoseStreamHook(ARN)
    with pytest.raises(ValueError, match="remove one"):
        FirehoseStreamHook(FIREHOSE_ARN, region_name="us-east-1")
