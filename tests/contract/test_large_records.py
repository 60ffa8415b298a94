"""Records as large as the stream accepts, if they are asked for: over HTTP, from a table to the stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, MessageTooLarge
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_audience.operators import AudienceToKinesisOperator
from tests.scripted_kinesis import ScriptedKinesis, Whole
from tests.warehouses import QUICK, day, open_duckdb, small_delivery

if TYPE_CHECKING:
    from pathlib import Path

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/audience-changes"


@contextmanager
def streams(describe: Any) -> Iterator[ScriptedKinesis]:
    patch = pytest.MonkeyPatch()
    with ScriptedKinesis(describe=describe) as kinesis:
        extra = {"region_name": "eu-west-1", "endpoint_url": kinesis.endpoint_url}
        connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        try:
            yield kinesis
        finally:
            patch.undo()


@pytest.mark.parametrize(
    ("kib", "record", "request_bytes"),
    [
        (1024, 1_000_000, 5_000_000),
        (512, 1_000_000, 5_000_000),
        (4096, 4_000_000, 5_000_000),
        (10_240, 10_000_000, 10_000_000),
    ],
)
def test_the_size_of_the_stream_is_the_limit(kib: int, record: int, request_bytes: int) -> None:
    with streams({"StreamARN": ARN, "MaxRecordSizeInKiB": kib}):
        hook = KinesisStreamHook("audience-changes")
        hook.check()
        limits = hook.find_large_limits()
    assert (limits.record_bytes, limits.request_bytes) == (record, request_bytes)
    assert record <= max(kib, 1024) * 1024
    assert replace(limits, record_bytes=1_000_000, request_bytes=5_000_000) == KINESIS_LIMITS == hook.limits


@pytest.mark.parametrize("describe", [{"StreamARN": ARN}, Whole.DENIED, Whole.UNAVAILABLE])
def test_a_size_that_cannot_be_read_stops_the_task_before_anything_is_put(describe: Any) -> None:
    with streams(describe) as kinesis:
        hook = KinesisStreamHook("audience-changes")
        hook.check()
        with pytest.raises(DeliveryIncomplete, match=r"nothing was put.*kinesis:DescribeStreamSummary"):
            hook.find_large_limits()
    assert kinesis.taken == []


def test_a_delivery_stream_has_no_such_size() -> None:
    with pytest.raises(ValueError, match="large_records is for data streams; remove it for delivery stream d"):
        FirehoseStreamHook("d").find_large_limits()


def test_large_records_are_not_aggregated() -> None:
    pytest.importorskip("aws_kinesis_agg")
    task = AudienceToKinesisOperator(
        task_id="p",
        change_set={},
        stream_name="s",
        message_format="amplitude_cohort",
        aggregate=True,
        large_records="True",
    )
    with pytest.raises(ValueError, match="large_records and aggregate are both set"):
        task._are_large(small_delivery(aggregate=True))
    task.large_records = "no"
    with pytest.raises(ValueError, match="large_records is 'no'; expected true or false"):
        task._are_large(small_delivery())


def test_a_member_of_three_megabytes_is_too_large_and_with_large_records_is_delivered(tmp_path: Path) -> None:
    text = "x" * 3_000_000
    with (
        streams({"StreamARN": ARN, "MaxRecordSizeInKiB": 4096}) as kinesis,
        open_duckdb(tmp_path / "w.duckdb") as warehouse,
    ):
        warehouse.execute("CREATE TABLE people (uid TEXT, note TEXT)")
        for user, note in (("ann", text), ("bob", "short")):
            warehouse.execute("INSERT INTO people VALUES (?, ?)", [user, note])
        source = Source(
            query="SELECT * FROM people",
            user_id="uid",
            identities={},
            properties={"note": "note"},
            audience_id="a",
            audience_name="A",
        )
        ledger = Ledger(warehouse, "state", "s.diff")
        Sync(ledger, source).run(day(0))
        hook = KinesisStreamHook("audience-changes")
        hook.check()
        delivery = small_delivery(options={"user_properties": True}, limits=hook.limits)
        with pytest.raises(MessageTooLarge):
            Outbox(ledger, delivery, hook.put, policy=QUICK).drain(day(0))
        assert [len(r.data) < 1000 for r in kinesis.taken] == [True]
        large = replace(delivery, limits=hook.find_large_limits())
        Outbox(ledger, large, hook.put, policy=QUICK).drain(day(0))
    [user] = json.loads(kinesis.taken[-1].data)["users"]
    assert (user["user_id"], user["user_properties"]["note"]) == ("ann", text)
    assert len(kinesis.taken) == 2
