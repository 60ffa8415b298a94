"""A login with the policy of a vendor's own page delivers: one by one, without a look, or with a list.

mParticle's pages allow ``PutRecord`` alone (and, to Firehose, a look); Amplitude's both puts and the simulation,
but no look; Adobe's both puts and ``ListStreams``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, DestinationRefused
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals, AcknowledgedRanges
from airflow_kinesis_audience.core.producer.records import Outcome, Status
from tests.contract.test_preflight import ACTIONS, ARNS, opened
from tests.contract.test_stream_faults import (
    HOOK_CLASSES,
    connection,
    expected,
    first_takes,
    records_of,
    send,
    stream,
)
from tests.scripted_iam import USER, ScriptedIam
from tests.scripted_kinesis import FAIL, TAKE, THROTTLE, Arrived, Decision, ScriptedKinesis, Whole, error

both = pytest.mark.parametrize("service", HOOK_CLASSES)
MANY = {"kinesis": "PutRecords", "firehose": "PutRecordBatch"}
LOOKS = {"DescribeStreamSummary", "DescribeDeliveryStream", "ListStreams"}


def may_put_one(service: str, **more: Any) -> ScriptedKinesis:
    """Be a stream whose login may put one record at a time, as mParticle's pages say."""
    return ScriptedKinesis(denied=frozenset({MANY[service], *LOOKS}), **more)


@both
def test_with_put_record_alone_each_record_arrives_with_its_bytes_and_keys_and_it_is_said_once(
    service: str, capfd: pytest.CaptureFixture[str]
) -> None:
    records, acknowledged = records_of(120, 30), AcknowledgedOrdinals()
    with may_put_one(service) as kinesis, connection(kinesis.endpoint_url):
        hook = HOOK_CLASSES[service]("audience-changes")
        hook.check()
        result = send(records, hook, acknowledged)
    assert result.failure is None
    assert (result.delivered, result.failed, result.retried) == (120, 0, 0)
    assert acknowledged.ranges == AcknowledgedRanges(below=120, above=())
    assert result.changes_delivered == sum(record.changes for record in records)
    assert first_takes(kinesis.taken, records) == expected(records)
    arrived = {a.data: (a.partition_key, a.hash_key) for a in kinesis.taken}
    keys = {r.data: (r.partition_key, r.hash_key) if service == "kinesis" else ("", -1) for r in records}
    assert arrived == keys
    assert len(kinesis.taken) == 120
    assert kinesis.operations.count(MANY[service]) <= 2  # those that were under way when the first was denied
    printed = "".join(capfd.readouterr())
    assert printed.count("each record is put in its own request") == 1
    assert f"is not allowed {ACTIONS[service]}, but is allowed {service}:PutRecord" in printed


@both
def test_where_many_may_be_put_at_once_no_record_is_put_on_its_own(service: str) -> None:
    with ScriptedKinesis() as kinesis, connection(kinesis.endpoint_url):
        assert send(records_of(60, 20), HOOK_CLASSES[service]("s")).failure is None
        assert "PutRecord" not in kinesis.operations


@both
def test_a_login_that_may_put_neither_is_refused_by_the_call_for_many(service: str) -> None:
    denied = frozenset({MANY[service], "PutRecord", *LOOKS})
    with stream(ScriptedKinesis(denied=denied), service) as hook:
        result = send(records_of(40, 10), hook, max_in_flight=1)
    assert isinstance(result.failure, DestinationRefused)
    assert f"AWS denies {MANY[service]} for " in str(result.failure)
    assert ACTIONS[service] in str(result.failure)
    assert result.delivered == 0


@both
def test_once_many_were_put_a_denial_of_that_is_a_refusal(service: str) -> None:
    def script(request: int, _records: Sequence[Arrived]) -> Decision:
        return TAKE if request < 2 else Whole.DENIED

    with ScriptedKinesis(script) as kinesis, connection(kinesis.endpoint_url):
        result = send(records_of(40, 40), HOOK_CLASSES[service]("s"), max_in_flight=1)
        assert isinstance(result.failure, DestinationRefused)
        assert "PutRecord" not in kinesis.operations
        assert result.delivered == len(kinesis.taken)


@both
@pytest.mark.parametrize("seed", range(3))
def test_one_by_one_faults_lose_nothing_and_keep_the_order_of_each_key(service: str, seed: int) -> None:
    chance = random.Random(seed)
    faults = [Whole.SERVER_ERROR, Whole.THROTTLED, Whole.RESET, Whole.TAKEN_AND_RESET, Whole.TAKEN_AND_GARBLED]

    def script(_request: int, _records: Sequence[Arrived]) -> Decision:
        return chance.choice([*faults, THROTTLE, FAIL]) if chance.random() < 0.2 else TAKE

    records, acknowledged = records_of(80, 20), AcknowledgedOrdinals()
    with may_put_one(service, script=script) as kinesis, connection(kinesis.endpoint_url):
        result = send(records, HOOK_CLASSES[service]("s"), acknowledged)
        assert result.failure is None
        assert (result.delivered, acknowledged.below) == (80, 80)
        assert first_takes(kinesis.taken, records) == expected(records)
        again = [n for n in Counter(a.data for r in kinesis.requests for a in r).values() if n > 1]
        assert result.retried >= len(again) > 0


@both
@pytest.mark.parametrize("taken", [1, 13])
def test_one_by_one_a_refusal_in_the_middle_keeps_the_count_of_what_was_taken(service: str, taken: int) -> None:
    gone = error("ResourceNotFoundException")

    def script(request: int, _records: Sequence[Arrived]) -> Decision:
        return TAKE if request < taken else gone

    acknowledged = AcknowledgedOrdinals()
    with may_put_one(service, script=script) as kinesis, connection(kinesis.endpoint_url):
        result = send(records_of(60, 60), HOOK_CLASSES[service]("s"), acknowledged)
        assert isinstance(result.failure, DestinationRefused)
        assert "does not exist" in str(result.failure)
        assert result.delivered == len(kinesis.taken) == len(acknowledged) == taken


@both
def test_one_by_one_an_endpoint_that_is_gone_is_not_asked_for_every_record(service: str) -> None:
    def script(request: int, _records: Sequence[Arrived]) -> Decision:
        return TAKE if request < 1 else Whole.RESET

    with may_put_one(service, script=script) as kinesis, connection(kinesis.endpoint_url):
        outcomes = HOOK_CLASSES[service]("s").put(records_of(200, 200))
        assert outcomes[0].status is Status.DELIVERED
        assert {outcome.status for outcome in outcomes[1:]} == {Status.UNKNOWN}
        assert len(kinesis.requests) < 20


@both
def test_iam_that_allows_the_put_of_one_record_stops_nobody(service: str) -> None:
    decisions = {ACTIONS[service]: "implicitDeny"}
    with opened(service, ScriptedIam(decisions=decisions)) as hook:
        hook.check()
    neither = ScriptedIam(decisions=decisions | {f"{service}:PutRecord": "implicitDeny"})
    with (
        opened(service, neither) as hook,
        pytest.raises(DestinationRefused, match=f"is not allowed {ACTIONS[service]} on"),
    ):
        hook.check()


@both
@pytest.mark.parametrize("by", ["name", "arn"])
def test_a_login_that_may_not_look_is_asked_about_by_the_arn_of_the_stream(service: str, by: str) -> None:
    """Amplitude's page allows the simulation, and no look."""
    iam = ScriptedIam(decision="implicitDeny")
    with opened(service, iam, denied=frozenset(LOOKS)) as hook, pytest.raises(DestinationRefused) as refused:
        (hook if by == "name" else type(hook)(ARNS[service])).check()
    assert f"is not allowed {ACTIONS[service]} on {ARNS[service]}" in str(refused.value)
    asked = iam.asked[-1][1]
    assert (asked["ResourceArns.member.1"], asked["PolicySourceArn"]) == (ARNS[service], USER)
    with opened(service, ScriptedIam(), denied=frozenset(LOOKS)) as hook:
        hook.check()


LISTED = {"StreamName": "audience-changes", "StreamARN": ARNS["kinesis"], "StreamStatus": "ACTIVE"}
OTHER = {**LISTED, "StreamName": "other", "StreamARN": f"{ARNS['kinesis']}-other"}
NO_LOOK = frozenset({"DescribeStreamSummary"})


@pytest.mark.parametrize(
    ("listed", "kind", "match"),
    [
        ([OTHER], DestinationRefused, r"audience-changes does not exist in eu-west-1.*create-stream"),
        ([], DestinationRefused, "does not exist"),
        ([OTHER, {**LISTED, "StreamStatus": "CREATING"}], DeliveryIncomplete, "being created"),
        ([{**LISTED, "StreamStatus": "DELETING"}], DestinationRefused, "DELETING"),
    ],
)
def test_a_login_that_may_list_the_streams_finds_there_what_is_wrong(
    listed: list[dict[str, Any]], kind: type[Exception], match: str
) -> None:
    """Adobe's page allows the list, and no look."""
    with stream(ScriptedKinesis(denied=NO_LOOK, listed=listed)) as hook, pytest.raises(kind, match=match):
        hook.check()


def test_a_stream_in_the_list_is_asked_about_and_one_of_another_account_need_not_be_there() -> None:
    iam = ScriptedIam(decision="implicitDeny")
    found = opened("kinesis", iam, denied=NO_LOOK, listed=[OTHER, LISTED])
    with found as hook, pytest.raises(DestinationRefused, match="is not allowed kinesis:PutRecords on"):
        hook.check()
    elsewhere = ARNS["kinesis"].replace("123456789012", "210987654321")
    with stream(ScriptedKinesis(denied=NO_LOOK, listed=[OTHER])) as hook:
        type(hook)(elsewhere).check()


def test_one_put_of_many_that_is_throttled_decides_nothing() -> None:
    denied = frozenset({"PutRecords", *LOOKS})
    with ScriptedKinesis(lambda *_: THROTTLE, denied=denied) as kinesis, connection(kinesis.endpoint_url):
        hook = HOOK_CLASSES["kinesis"]("s")
        assert hook.put(records_of(3, 3)) == [Outcome(Status.THROTTLED, THROTTLE)] * 3
        assert len(kinesis.requests) == 1
