"""The rate of each shard: learned from responses, cut by throttled records, and independent of other shards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_kinesis_audience.core.producer.rate_limit import ShardRateLimiter, TokenBucket
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS, Limits, Outcome, Record, Status

LIMITS = replace(KINESIS_LIMITS, shard_records=1_000, shard_bytes=1_000_000)
RING = 2**128


def record(hash_key: int, size: int = 100) -> Record:
    return Record(hash_key, b"x" * size, f"key-{hash_key}", hash_key, 1, f"{hash_key}")


def taken(shard: str) -> Outcome:
    return Outcome(Status.DELIVERED, shard=shard)


def throttled(shard: str) -> Outcome:
    return Outcome(Status.THROTTLED, shard=shard)


def responded(limiter: ShardRateLimiter, records: list[Record], outcomes: list[Outcome], *, now: float) -> bool:
    limiter.discover_shards(outcomes)
    return limiter.record_outcomes(records, outcomes, put_at=now, now=now)


def test_no_rate_is_limited_until_a_shard_throttles_and_then_every_shard_s_is() -> None:
    limiter = ShardRateLimiter(LIMITS)
    one, other = record(1), record(RING // 2)
    responded(limiter, [one, other], [taken("a"), taken("b")], now=0.0)
    assert not limiter.is_active
    assert limiter.requeue([(one, "1", 100, None)]) == [(one, "1", 100, None)]
    assert responded(limiter, [one, other], [throttled("a"), taken("b")], now=1.0), (
        "records wait for their shards now"
    )
    assert limiter.is_active
    first, second = limiter.bucket_for(one), limiter.bucket_for(other)
    assert first is not None
    assert second is not None
    assert first.share < 1.0 == second.share


def test_the_rate_of_a_destination_without_shards_is_never_limited() -> None:
    limiter = ShardRateLimiter(Limits(records_per_request=500, record_bytes=1_000, request_bytes=4_000_000))
    assert limiter.available() == (500, 4_000_000)
    assert not limiter.limits_rate_of(throttled("a"))
    responded(limiter, [record(1)], [throttled("a")], now=0.0)
    assert not limiter.is_active


def test_no_more_is_in_flight_than_the_known_shards_take_in_a_second() -> None:
    limiter = ShardRateLimiter(LIMITS)
    records, size = limiter.available()
    assert (records, size) == (500, 500_000)
    limiter.reserve(records, 50_000)
    assert limiter.available()[0] == 500
    limiter.reserve(records, 50_000)
    assert limiter.available() == (0, 0)
    limiter.discover_shards([taken("a"), taken("b")])
    assert limiter.available()[0] == 500, "two shards take twice as much"
    limiter.free(2 * records, 100_000)
    limiter.reserve(1, 2_000_000)
    assert limiter.available() == (0, 0)
    limiter.free(1, 1_000_000)
    assert limiter.available() == (500, 1_000_000), "a request may be as large as what is left"
    assert ShardRateLimiter(replace(LIMITS, records_per_request=1)).available()[0] == 1


def test_a_response_halves_a_rate_at_most_and_a_single_throttled_record_cuts_little() -> None:
    bucket = TokenBucket(records=1_000, bytes=1_000_000, now=0.0)
    bucket.record_outcomes(0, 1, put_at=0.0, now=0.0)
    assert bucket.share == pytest.approx(0.9)
    bucket.record_outcomes(0, 500, put_at=1.0, now=1.0)
    assert bucket.share == pytest.approx(0.45)
    bucket.record_outcomes(0, 500, put_at=0.5, now=1.5)
    assert bucket.share == pytest.approx(0.45), "what was put before the cut was put at the old rate"
    for second in range(2, 100):
        bucket.record_outcomes(0, 500, put_at=second, now=second)
    assert bucket.share == pytest.approx(0.05), "a few are still put, or nothing would show that others stopped"
    for second in range(100, 400):
        bucket.record_outcomes(100, 0, put_at=second, now=second)
    assert bucket.share == 1.0


def test_tokens_come_with_time_and_a_burst_is_a_second_at_most() -> None:
    bucket = TokenBucket(records=1_000, bytes=1_000_000, now=0.0)
    bucket.waiting.extend((record(n), f"{n}", 100, None) for n in range(5_000))
    bucket.fill(0.2)
    assert len(bucket.take(500, 5_000_000)) == 200
    assert bucket.take(500, 5_000_000) == []
    bucket.fill(100.0)
    assert sum(len(bucket.take(500, 5_000_000)) for _ in range(10)) == 1_000


def test_the_records_of_a_turn_are_taken_together() -> None:
    limiter = ShardRateLimiter(LIMITS)
    responded(limiter, [record(1)], [throttled("a")], now=0.0)
    limiter.requeue([(record(n), f"{n}", 100, None) for n in range(500)])
    assert limiter.take(500, 5_000_000, 0.01) == [], "tokens for some, and not for a turn"
    due = limiter.next_due()
    assert due == pytest.approx(0.1, abs=0.01)
    assert len(limiter.take(500, 5_000_000, due + 0.001)) >= 90


def test_a_record_as_large_as_a_shards_second_is_put_alone() -> None:
    bucket = TokenBucket(records=1_000, bytes=1_000_000, now=0.0)
    bucket.waiting.extend((record(n), f"{n}", 1_500_000, None) for n in range(2))
    bucket.fill(0.5)
    assert bucket.take(500, 5_000_000) == []
    bucket.fill(1.0)
    assert len(bucket.take(500, 5_000_000)) == 1
    bucket.fill(1.6)
    assert bucket.due_at() > 1.6, "the credit is paid first"


def test_a_partition_that_was_never_put_to_is_taken_to_be_where_its_neighbour_is() -> None:
    limiter = ShardRateLimiter(LIMITS)
    low, high = record(RING // 4), record(3 * RING // 4)
    responded(limiter, [low, high], [throttled("a"), taken("b")], now=0.0)
    assert limiter.bucket_for(record(RING // 4 + 5)) is limiter.bucket_for(low)
    assert limiter.bucket_for(record(RING - 1)) is limiter.bucket_for(high)


def test_a_partition_that_has_moved_waits_for_the_shard_that_has_it_now() -> None:
    limiter = ShardRateLimiter(LIMITS)
    responded(limiter, [record(1)], [throttled("a")], now=0.0)
    pending = (record(1), "1", 100, None)
    assert limiter.requeue([pending]) == []
    assert responded(limiter, [record(1)], [taken("c")], now=1.0), "a split: what waits is to be queued again"
    limiter.requeue([])
    bucket = limiter.bucket_for(record(1))
    assert bucket is not None
    assert list(bucket.waiting) == [pending]
    assert bucket.share == 1.0
