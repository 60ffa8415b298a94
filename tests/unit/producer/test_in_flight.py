"""The window of records in flight: how much of it each group of partitions may have."""

from __future__ import annotations

from collections import Counter

import pytest

from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.in_flight import Bounds, InFlightWindow
from airflow_kinesis_audience.core.producer.records import Limits, Record

LIMITS = Limits(records_per_request=500, record_bytes=1_000, request_bytes=40_000)
GROUPS = "abcd"
MANY = 1_000_000


@pytest.mark.parametrize(
    ("records", "size", "each"),
    [
        (20, MANY, 5),
        # Fewer records than groups: each group still has one, or it would never be put.
        (2, MANY, 1),
        # A share of 100 bytes is one record; a group that has just as much may have one more.
        (MANY, 400, 2),
    ],
)
def test_a_group_has_its_share_of_the_window_and_no_more(records: int, size: int, each: int) -> None:
    groups = [[Record(n, b"x" * 97, f"{group}{n:02}", n, 1) for n in range(90)] for group in GROUPS]
    window = InFlightWindow(groups, limits=LIMITS, bounds=Bounds(records=records, bytes=size))
    while (group := window.find_group()) is not None:
        window.pull(group, AcknowledgedOrdinals())
    assert Counter(key[0] for key in window.ordering_keys) == dict.fromkeys(GROUPS, each)


def test_a_request_has_the_records_that_fit_by_their_own_sizes() -> None:
    limits = Limits(records_per_request=500, record_bytes=1_000, request_bytes=400)
    sizes = [100, 350, 100, 300]
    source = [Record(n, b"x" * (size - 1), f"{n}", n, 1) for n, size in enumerate(sizes)]
    window = InFlightWindow([source], limits=limits, bounds=Bounds())
    while (group := window.find_group()) is not None:
        window.pull(group, AcknowledgedOrdinals())
    batches = []
    while window.has_ready(0.0):
        batches.append(window.take_batch(0.0))
    assert [[pending[2] for pending in batch.pending] for batch in batches] == [[100], [350], [100, 300]]
    assert [batch.size for batch in batches] == [100, 350, 400]
