"""Several messages in one record, read back with the library's own other half."""

from __future__ import annotations

from typing import Any

import pytest
from aws_kinesis_agg.deaggregator import iter_deaggregate_records
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.model.messages import Message
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.producer.aggregation import RECORD_BYTES, aggregate
from airflow_kinesis_audience.core.producer.records import FIREHOSE_LIMITS, KINESIS_LIMITS, Limits, Record
from airflow_kinesis_audience.formats import load_renderer

MESSAGE_BYTES = 999_936


def undo(records: list[Record]) -> list[tuple[str, bytes, str | None]]:
    """Read records as a KCL consumer does: partition key, data and explicit hash key of each message."""
    stored = [
        {
            "SequenceNumber": str(r.ordinal),
            "PartitionKey": r.partition_key,
            "ApproximateArrivalTimestamp": 0,
            "Data": r.data,
        }
        for r in records
    ]
    return [
        (k["partitionKey"], data_of(k), k.get("explicitHashKey"))
        for k in (found["kinesis"] for found in iter_deaggregate_records(stored, data_format="Boto3"))
    ]


def data_of(found: dict[str, Any]) -> bytes:
    import base64

    return base64.b64decode(found["data"]) if found.get("aggregated") else found["data"]


def delivery(**changed: Any) -> Delivery:
    given = {
        "destination": "kinesis://eu-west-1/a",
        "connection": "aws_default",
        "message_format": "amplitude_cohort",
        "options": {},
        "renderer": load_renderer("amplitude_cohort", {}),
        "limits": KINESIS_LIMITS,
        "aggregate": True,
    }
    return Delivery(**{**given, **changed})


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.binary(min_size=2, max_size=RECORD_BYTES // 3), st.integers(0, 1)),
        max_size=40,
    )
)
def test_every_message_comes_out_once_in_its_order_under_its_own_keys(parts):
    messages = [
        Message(data, f"key-{p}", p * 7, changes, ordering_key=str(n))
        for n, (p, data, changes) in enumerate(parts)
    ]
    records = list(delivery().records(messages, 5))
    assert [(key, data) for key, data, _ in undo(records)] == [(m.partition, m.document) for m in messages]
    assert [r.ordinal for r in records] == list(range(5, 5 + len(records)))
    assert sum(r.messages for r in records) == len(messages)
    assert sum(r.changes for r in records) == sum(m.changes for m in messages)
    # KCL drops what lies outside the shard of its record: all of a record's messages have the record's own keys.
    hash_keys = {f"key-{p}": p * 7 for p in range(4)}
    assert all(
        r.hash_key == hash_keys[r.partition_key] and r.effective_ordering_key == r.partition_key for r in records
    )
    assert all(hash_key in (None, str(hash_keys[key])) for key, _, hash_key in undo(records))


def test_small_messages_share_records_up_to_the_bound():
    messages = [Message(b"x" * 400, "key", 1, 1) for _ in range(1_000)]
    records = list(delivery().records(messages, 0))
    assert len(records) == -(-1_000 // (RECORD_BYTES // 412))
    assert all(RECORD_BYTES // 2 < len(r.data) <= RECORD_BYTES + 256 for r in records[:-1])


def test_a_message_without_a_neighbour_and_one_that_is_too_large_stay_as_they_are():
    messages = [Message(b"x" * 400_000, "a", 1, 1), Message(b"y", "b", 2, 1), Message(b"z", "a", 1, 1)]
    assert [r.data for r in delivery().records(messages, 0)] == [m.document for m in messages]


@pytest.mark.parametrize("most", [2_000, 60_000, 1_000_000])
def test_a_record_keeps_within_the_destinations_bound(most):
    limits = Limits(records_per_request=500, record_bytes=most, request_bytes=5_000_000)
    messages = [Message(b"x" * 150, "k" * 22, 2**128 - 1, 1) for _ in range(2_000)]
    records = list(delivery(limits=limits).records(messages, 0))
    assert len(records) <= 200
    assert max(r.size for r in records) <= most


def test_the_same_messages_give_the_same_bytes():
    messages = [Message(b"%d" % n, "key", 1, 1) for n in range(500)]
    once, again = (list(aggregate(iter(messages), message_bytes=MESSAGE_BYTES)) for _ in range(2))
    assert once == again


def test_aggregating_is_part_of_what_decides_the_bytes():
    assert delivery().render_config != delivery(aggregate=False).render_config
    assert delivery().log == delivery(aggregate=False).log


def test_a_destination_that_ends_its_records_does_not_take_aggregated_ones():
    with pytest.raises(ValueError, match="firehose://eu-west-1/a does not split an aggregated record"):
        delivery(destination="firehose://eu-west-1/a", limits=FIREHOSE_LIMITS, record_end=b"\n")
