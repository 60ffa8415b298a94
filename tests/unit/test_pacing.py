"""The pace of each shard by itself: learned from answers, cut by refusals, and no other shard's business."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_kinesis_audience.messages import KINESIS_LIMITS, Limits, Outcome, Record, Status
from airflow_kinesis_audience.pacing import Pace, Pacing

LIMITS = replace(KINESIS_LIMITS, shard_records=1_000, shard_bytes=1_000_000)
RING = 2**128


def record(hash_key: int, size: int = 100) -> Record:
    return Record(hash_key, b"x" * size, f"key-{hash_key}", hash_key, 1, f"{hash_key}")


def taken(shard: str) -> Outcome:
    return Outcome(Status.DELIVERED, shard=shard)


def refused(shard: str) -> Outcome:
    return Outcome(Status.THROTTLED, shard=shard)


def answered(pacing: Pacing, records: list[Record], outcomes: list[Outcome], *, now: float) -> bool:
    pacing.see(outcomes)
    return pacing.note(records, outcomes, put_at=now, now=now)


def test_nothing_is_paced_until_a_shard_refuses_and_then_every_shard_is() -> None:
    pacing = Pacing(LIMITS)
    one, other = record(1), record(RING // 2)
    answered(pacing, [one, other], [taken("a"), taken("b")], now=0.0)
    assert not pacing.is_active
    assert pacing.sort([(one, "1", 100, None)]) == [(one, "1", 100, None)]
    assert answered(pacing, [one, other], [refused("a"), taken("b")], now=1.0), "records wait for their shards now"
    assert pacing.is_active
    first, second = pacing.pace_of(one), pacing.pace_of(other)
    assert first is not None
    assert second is not None
    assert first.share < 1.0 == second.share


def test_a_destination_without_shards_is_never_paced() -> None:
    pacing = Pacing(Limits(records_per_request=500, record_bytes=1_000, request_bytes=4_000_000))
    assert pacing.room() == (500, 4_000_000)
    assert not pacing.has_limits(refused("a"))
    answered(pacing, [record(1)], [refused("a")], now=0.0)
    assert not pacing.is_active


def test_no_more_is_on_its_way_than_the_shards_that_were_seen_take_in_a_second() -> None:
    pacing = Pacing(LIMITS)
    records, size = pacing.room()
    assert (records, size) == (500, 500_000)
    pacing.fly(records, 50_000)
    assert pacing.room()[0] == 500
    pacing.fly(records, 50_000)
    assert pacing.room() == (0, 0)
    pacing.see([taken("a"), taken("b")])
    assert pacing.room()[0] == 500, "two shards take twice as much"
    pacing.fly(-2 * records, -100_000)
    pacing.fly(1, 2_000_000)
    assert pacing.room() == (0, 0)


def test_a_refusal_halves_a_pace_at_most_and_a_single_one_cuts_little() -> None:
    pace = Pace(records=1_000, bytes=1_000_000, now=0.0)
    pace.note(0, 1, put_at=0.0, now=0.0)
    assert pace.share == pytest.approx(0.9)
    pace.note(0, 500, put_at=1.0, now=1.0)
    assert pace.share == pytest.approx(0.45)
    pace.note(0, 500, put_at=0.5, now=1.5)
    assert pace.share == pytest.approx(0.45), "what was put before the cut says nothing of the pace since"
    for second in range(2, 100):
        pace.note(0, 500, put_at=second, now=second)
    assert pace.share == pytest.approx(0.05), "it is asked now and then, or nothing would tell of the end"
    for second in range(100, 400):
        pace.note(100, 0, put_at=second, now=second)
    assert pace.share == 1.0


def test_tokens_come_with_time_and_a_burst_is_a_second_at_most() -> None:
    pace = Pace(records=1_000, bytes=1_000_000, now=0.0)
    pace.waiting.extend((record(n), f"{n}", 100, None) for n in range(5_000))
    pace.fill(0.2)
    assert len(pace.take(500, 5_000_000)) == 200
    assert pace.take(500, 5_000_000) == []
    pace.fill(100.0)
    assert sum(len(pace.take(500, 5_000_000)) for _ in range(10)) == 1_000


def test_a_record_as_large_as_a_shards_second_goes_alone() -> None:
    pace = Pace(records=1_000, bytes=1_000_000, now=0.0)
    pace.waiting.extend((record(n), f"{n}", 1_500_000, None) for n in range(2))
    pace.fill(0.5)
    assert pace.take(500, 5_000_000) == []
    pace.fill(1.0)
    assert len(pace.take(500, 5_000_000)) == 1
    pace.fill(1.6)
    assert pace.due_at() > 1.6, "the credit is paid first"


def test_a_partition_that_was_never_put_to_is_taken_to_be_where_its_neighbour_is() -> None:
    pacing = Pacing(LIMITS)
    low, high = record(RING // 4), record(3 * RING // 4)
    answered(pacing, [low, high], [refused("a"), taken("b")], now=0.0)
    assert pacing.pace_of(record(RING // 4 + 5)) is pacing.pace_of(low)
    assert pacing.pace_of(record(RING - 1)) is pacing.pace_of(high)


def test_a_partition_that_has_moved_waits_for_the_shard_that_has_it_now() -> None:
    pacing = Pacing(LIMITS)
    answered(pacing, [record(1)], [refused("a")], now=0.0)
    held = (record(1), "1", 100, None)
    assert pacing.sort([held]) == []
    assert answered(pacing, [record(1)], [taken("c")], now=1.0), "a split: it is to be sorted anew"
    pacing.sort([])
    pace = pacing.pace_of(record(1))
    assert pace is not None
    assert list(pace.waiting) == [held]
    assert pace.share == 1.0
