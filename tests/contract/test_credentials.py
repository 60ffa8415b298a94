"""Credentials and signatures that AWS accepts no more in the middle of a delivery: asked for anew, for some times.

A scripted STS gives each time another key, and a scripted Kinesis takes a key for as long as a test says, so that
what is signed with which is seen. Nothing is lost, put twice, or out of order by it.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_kinesis_audience.core.exceptions import AudienceError, DeliveryIncomplete, DestinationRefused
from airflow_kinesis_audience.core.producer.records import Outcome, Status
from airflow_kinesis_audience.hooks.streams import credentials
from airflow_kinesis_audience.hooks.streams.credentials import MOST_RENEWALS
from tests.contract.test_stream_faults import HOOK_CLASSES, records_of, send
from tests.contract.test_wire import RecordingEndpoint, Request, connection, take_all

both = pytest.mark.parametrize("service", HOOK_CLASSES)
AGED = "Signature expired: 20261129T020000Z is now earlier than 20261129T021000Z (20261129T021500Z - 5 min.)"
EARLY = "Signature not yet current: 20261129T040000Z is still later than 20261129T021500Z"
TOO_OLD = [
    ("ExpiredTokenException", "The security token included in the request is expired"),
    ("ExpiredToken", "The provided token has expired."),
    ("RequestExpired", "Request has expired."),
    ("RequestTimeTooSkewed", "The difference between the request time and the server's time is too large."),
    ("InvalidSignatureException", AGED),
    ("InvalidSignatureException", EARLY),
    ("SignatureDoesNotMatch", AGED),
]
WRONG = [
    (
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided.",
    ),
    ("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."),
    ("UnrecognizedClientException", "The security token included in the request is invalid."),
    ("InvalidClientTokenId", "The security token included in the request is invalid."),
]


@dataclass
class Aws:
    """STS and the stream: each role that is assumed has a key of its own, valid for an hour by its own date."""

    accepts: Callable[[str, int], bool]
    refusal: tuple[str, str]
    given: list[str] = field(default_factory=list)
    refused: int = 0
    taken: int = 0

    def assume(self, _request: Request) -> tuple[int, bytes]:
        self.given.append(f"ROLE{len(self.given)}")
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        found = (
            f"<AccessKeyId>{self.given[-1]}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>t</SessionToken><Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        )
        result = f"<AssumeRoleResult><Credentials>{found}</Credentials></AssumeRoleResult>"
        return 200, f"<AssumeRoleResponse>{result}</AssumeRoleResponse>".encode()

    def take(self, request: Request) -> tuple[int, bytes]:
        if not self.accepts(request.access_key, self.taken):
            self.refused += 1
            code, message = self.refusal
            return 403, json.dumps({"__type": code, "message": message}).encode()
        self.taken += 1
        return take_all(request)


@contextmanager
def opened(aws: Aws) -> Iterator[RecordingEndpoint]:
    role = "arn:aws:iam::123456789012:role/r"
    with (
        RecordingEndpoint(aws.assume) as sts,
        RecordingEndpoint(aws.take) as stream,
        connection(stream.url, role_arn=role, service_config={"sts": {"endpoint_url": sts.url}}),
    ):
        yield stream


def first_role_until(requests: int) -> Callable[[str, int], bool]:
    """Accept the first key for so many requests, and every later one."""
    return lambda key, taken: taken < requests if key == "ROLE0" else True


@pytest.mark.parametrize("refusal", [*TOO_OLD, *WRONG], ids=lambda pair: " ".join(pair)[:40])
@both
def test_credentials_that_end_in_the_middle_are_asked_for_anew_and_nothing_is_lost(
    service: str, refusal: tuple[str, str]
) -> None:
    aws = Aws(first_role_until(3), refusal)
    records = records_of(120, 40)
    with opened(aws) as stream:
        result = send(records, HOOK_CLASSES[service]("s"))
        taken = [r for r in stream.requests if r.access_key != "ROLE0"]
    assert result.failure is None
    assert (result.delivered, result.failed) == (120, 0)
    assert aws.given == ["ROLE0", "ROLE1"]
    assert {request.access_key for request in taken} == {"ROLE1"}
    assert result.codes.total() == result.retried
    assert set(result.codes) == {refusal[0]}


@pytest.mark.parametrize("refusal", TOO_OLD, ids=lambda pair: " ".join(pair)[:40])
@both
def test_a_signature_that_is_too_old_from_the_first_on_is_made_anew_too(
    service: str, refusal: tuple[str, str]
) -> None:
    aws = Aws(first_role_until(0), refusal)
    with opened(aws):
        hook = HOOK_CLASSES[service]("s")
        assert hook.put(records_of(3, 3)) == [Outcome(Status.UNKNOWN, refusal[0])] * 3
        assert [outcome.status for outcome in hook.put(records_of(3, 3))] == [Status.DELIVERED] * 3
    assert len(aws.given) == 2


@both
def test_a_look_whose_signature_is_too_old_refuses_nothing(service: str) -> None:
    aws = Aws(lambda _key, _taken: False, TOO_OLD[4])
    with opened(aws):
        HOOK_CLASSES[service]("s").check()
    assert aws.refused == 1


@pytest.mark.parametrize("refusal", WRONG, ids=lambda pair: pair[0])
@both
def test_a_secret_that_is_wrong_from_the_first_request_on_is_refused_at_once(
    service: str, refusal: tuple[str, str]
) -> None:
    aws = Aws(lambda _key, _taken: False, refusal)
    with opened(aws), pytest.raises(DestinationRefused, match=f"does not accept the credentials .*{refusal[0]}"):
        HOOK_CLASSES[service]("s").put(records_of(3, 3))
    assert (aws.refused, len(aws.given)) == (1, 1)


@pytest.mark.parametrize(
    ("refusal", "kind", "match"),
    [
        (
            TOO_OLD[0],
            DeliveryIncomplete,
            r"too old \(ExpiredTokenException\).*after 5 requests for new credentials.*role_arn",
        ),
        (TOO_OLD[4], DeliveryIncomplete, r"too old \(InvalidSignatureException\).*Correct the worker's clock"),
        (WRONG[2], DestinationRefused, "does not accept the credentials of connection aws_default"),
    ],
    ids=["token", "clock", "key"],
)
@both
def test_credentials_that_stay_no_good_end_the_delivery_with_what_to_do(
    service: str, refusal: tuple[str, str], kind: type[AudienceError], match: str
) -> None:
    aws = Aws(lambda key, taken: key == "ROLE0" and taken < 2, refusal)
    with opened(aws):
        result = send(records_of(60, 20), HOOK_CLASSES[service]("s"))
    assert type(result.failure) is kind
    with pytest.raises(kind, match=match):
        raise result.failure
    assert len(aws.given) == 1 + MOST_RENEWALS
    assert 0 < result.delivered < 60


@contextmanager
def one_answer_is_late(service: str) -> Iterator[tuple[Aws, Any, Future[Any], threading.Event]]:
    """Have one request wait for its answer, which the first credentials get; they get no other."""
    is_waiting, may_answer = threading.Event(), threading.Event()

    def accepts(key: str, _taken: int) -> bool:
        if key != "ROLE0" or is_waiting.is_set():
            return False
        is_waiting.set()
        return may_answer.wait(30)

    aws = Aws(accepts, TOO_OLD[0])
    with opened(aws), ThreadPoolExecutor() as pool:
        hook = HOOK_CLASSES[service]("s")
        late = pool.submit(hook.put, records_of(1, 1))
        assert is_waiting.wait(30)
        yield aws, hook, late, may_answer


@both
def test_a_late_answer_to_earlier_credentials_does_not_begin_the_count_anew(service: str) -> None:
    with one_answer_is_late(service) as (aws, hook, late, may_answer):
        assert hook.put(records_of(1, 1))[0].status is Status.UNKNOWN
        may_answer.set()
        assert late.result()[0].status is Status.DELIVERED
        for _ in range(MOST_RENEWALS - 1):
            assert hook.put(records_of(1, 1))[0].status is Status.UNKNOWN
        with pytest.raises(DeliveryIncomplete, match="too old"):
            hook.put(records_of(1, 1))
    assert len(aws.given) == 1 + MOST_RENEWALS


@both
def test_an_answer_to_earlier_credentials_in_the_middle_of_a_renewal_is_late_too(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with one_answer_is_late(service) as (_, hook, late, may_answer):

        def say(*_: object) -> None:
            may_answer.set()
            wait([late], timeout=0.5)

        monkeypatch.setattr(hook.log, "info", say)
        assert hook.put(records_of(1, 1))[0].status is Status.UNKNOWN
        assert late.result()[0].status is Status.DELIVERED
        assert hook.renewals == 1


@both
def test_one_request_that_is_accepted_begins_the_count_anew(service: str) -> None:
    """A long delivery may outlive many sessions."""
    lives: dict[str, int] = {}

    def accepts(key: str, _taken: int) -> bool:
        lives[key] = lives.get(key, 0) + 1
        return lives[key] <= 1

    aws = Aws(accepts, TOO_OLD[0])
    with opened(aws):
        hook = HOOK_CLASSES[service]("s")
        outcomes = [hook.put(records_of(1, 1))[0].status for _ in range(4 * MOST_RENEWALS)]
    assert outcomes == [Status.DELIVERED, Status.UNKNOWN] * (2 * MOST_RENEWALS)


@both
def test_a_key_that_is_replaced_in_the_connection_is_taken_up(service: str) -> None:
    aws = Aws(lambda key, taken: taken < 1 if key == "key" else key == "NEW", WRONG[2])
    with RecordingEndpoint(aws.take) as stream, connection(stream.url):
        hook = HOOK_CLASSES[service]("s")
        assert hook.put(records_of(2, 2))[0].status is Status.DELIVERED
        with pytest.MonkeyPatch.context() as patch:
            extra = {"endpoint_url": stream.url, "region_name": "eu-west-1"}
            fields = {"conn_type": "aws", "login": "NEW", "password": "secret", "extra": extra}
            patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(fields))
            assert hook.put(records_of(2, 2))[0].status is Status.UNKNOWN
            assert hook.put(records_of(2, 2))[0].status is Status.DELIVERED
            assert stream.last.access_key == "NEW"


@both
def test_a_connection_that_leads_elsewhere_meanwhile_is_not_followed(service: str) -> None:
    aws = Aws(lambda _key, taken: taken < 1, TOO_OLD[0])
    with RecordingEndpoint(aws.take) as stream, RecordingEndpoint() as other, connection(stream.url):
        hook = HOOK_CLASSES[service]("s")
        assert hook.put(records_of(2, 2))[0].status is Status.DELIVERED
        with connection(other.url):
            for _ in range(MOST_RENEWALS):
                assert hook.put(records_of(2, 2))[0].status is Status.UNKNOWN
            with pytest.raises(DeliveryIncomplete, match="too old"):
                hook.put(records_of(2, 2))
        assert other.requests == []


@both
def test_an_sts_that_gives_nothing_for_a_moment_ends_nothing(service: str) -> None:
    aws = Aws(first_role_until(1), TOO_OLD[0])
    own, calls = aws.assume, []

    def sometimes(request: Request) -> tuple[int, bytes]:
        calls.append(request)
        denied = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        return (403, denied) if len(calls) == 2 else own(request)

    aws.assume = sometimes  # type: ignore[method-assign]
    with opened(aws):
        hook = HOOK_CLASSES[service]("s")
        found = [hook.put(records_of(1, 1))[0].status for _ in range(4)]
    assert found == [Status.DELIVERED, Status.UNKNOWN, Status.UNKNOWN, Status.DELIVERED]


@pytest.mark.parametrize(("seconds", "said"), [(900, "ahead of"), (-900, "behind"), (5, "")])
def test_a_clock_that_is_wrong_is_named(seconds: int, said: str) -> None:
    from botocore.exceptions import ClientError

    date = email.utils.format_datetime(datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds))
    headers: dict[str, Any] = {"HTTPHeaders": {"date": date}, "HTTPStatusCode": 400}
    error = ClientError({"Error": {"Code": "RequestExpired"}, "ResponseMetadata": headers}, "PutRecords")  # type: ignore[typeddict-item]
    sentence = credentials.describe_clock(error)
    assert (f"s {said} AWS's" in sentence) if said else sentence == ""
