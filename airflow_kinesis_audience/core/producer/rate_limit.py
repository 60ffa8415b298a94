"""Rate limits: one token bucket per shard, from the first throttled record on.

A stream that never throttles has no buckets; it only has no more in flight than its shards take in a second. The
first throttled record gives every shard a bucket that fills at what a shard takes, and slower where other
producers put to it, too: the rate is cut in proportion to what was throttled, and grows again while nothing is. A
shard never slows another. Responses name the shard of a partition, so a split or a merge shows in the first of
them. There are no threads and no clock here.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.producer.records import Limits, Outcome, Record, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

_shard = attrgetter("shard")

Pending = tuple[Record, str, int, Any]
"""A record that is not acknowledged, its ordering key, its bytes as the limits count them, and its group."""

_TURN_SECONDS = 0.1
"""The records of this part of a second are put together: requests are well filled, and bursts stay small."""

_BURST_SECONDS = 1.0
"""Tokens are kept for this long: a shard's own bucket holds as much."""

_GROWTH = 0.02
"""A rate grows by this share a second, and by more with every second in which nothing was throttled."""

_FASTEST_GROWTH = 0.25

_DEEPEST_CUT, _TRUSTED = 0.5, 9
"""A response halves a rate at most, and cuts a tenth for a single throttled record: so many count as delivered."""

_SLOWEST = 0.05
"""A shard that other producers fill still gets this share of its rate: only that shows when they stop."""


class TokenBucket:
    """The rate limit of one shard: records that wait for it, and tokens for records and bytes.

    :param records: what the shard takes in a second, and ``bytes`` likewise.
    """

    def __init__(self, *, records: int, bytes: int, now: float) -> None:
        self.waiting: deque[Pending] = deque()
        self.share = 1.0
        self.cut_at = now
        self._records, self._bytes = records, bytes
        self._record_tokens = self._byte_tokens = 0.0
        self._filled_at = self._grown_at = now

    def fill(self, now: float) -> None:
        """Add the tokens of the time that has passed."""
        seconds, self._filled_at = now - self._filled_at, now
        records, bytes_ = self.share * self._records, self.share * self._bytes
        self._record_tokens = min(records * _BURST_SECONDS, self._record_tokens + seconds * records)
        # The largest record takes all of a second, however small the share of it is.
        self._byte_tokens = min(self._bytes * _BURST_SECONDS, self._byte_tokens + seconds * bytes_)

    def due_at(self) -> float:
        """Return when there are tokens for the records of a turn, or for those that wait if they are fewer."""
        records = min(len(self.waiting), max(1.0, self.share * self._records * _TURN_SECONDS))
        missing = max(
            (records - self._record_tokens) / (self.share * self._records),
            (self._needed() - self._byte_tokens) / (self.share * self._bytes),
        )
        # Later by as much as keeps rounding from making it too early.
        return self._filled_at + max(0.0, missing + _TURN_SECONDS / 100)

    def _needed(self) -> float:
        # Larger than what a shard takes in a second is put on credit.
        return min(self.waiting[0][2], self._bytes * _BURST_SECONDS)

    def take(self, most_records: int, most_bytes: int) -> list[Pending]:
        """Take the records for which there are tokens; each of them has an ordering key of its own."""
        taken: list[Pending] = []
        while self.waiting and len(taken) < most_records and self._record_tokens >= 1.0:
            size = self.waiting[0][2]
            if size > most_bytes or self._byte_tokens < self._needed():
                break
            self._record_tokens -= 1.0
            self._byte_tokens -= size
            most_bytes -= size
            taken.append(self.waiting.popleft())
        return taken

    def record_outcomes(self, delivered: int, throttled: int, *, put_at: float, now: float) -> None:
        """Adapt the rate to a response: lower if a part was throttled, and slowly higher if nothing was."""
        if throttled:
            # What was put before the last cut was put at the rate before it.
            if put_at >= self.cut_at:
                cut = (delivered + _TRUSTED) / (delivered + throttled + _TRUSTED)
                self.share = max(_SLOWEST, self.share * max(_DEEPEST_CUT, cut))
                self.cut_at = now
            self._record_tokens = min(self._record_tokens, 0.0)
            self._byte_tokens = min(self._byte_tokens, 0.0)
        else:
            quiet = min(_FASTEST_GROWTH, _GROWTH * (now - self.cut_at))
            self.share = min(1.0, self.share * (1.0 + quiet * (now - self._grown_at)))
        self._grown_at = now


class ShardRateLimiter:
    """The token buckets of a stream's shards, and how much may be in flight.

    :param limits: what a shard takes in a second; without such limits there are no buckets.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._shards: set[str] = set()
        self._buckets: dict[str, TokenBucket] = {}
        self._shard_of: dict[int, str] = {}
        self._known: list[int] = []
        self._in_flight_records = self._in_flight_bytes = 0

    @property
    def is_active(self) -> bool:
        """Whether any shard has a bucket."""
        return bool(self._buckets)

    def limits_rate_of(self, outcome: Outcome) -> bool:
        """Return whether it is a shard that throttled a record, so that the shard's bucket sets the delay."""
        return outcome.status is Status.THROTTLED and bool(outcome.shard) and self._limits.shard_records > 0

    def bucket_for(self, record: Record) -> TokenBucket | None:
        """Return the bucket of a record's shard; none if the shard is not known, or has no bucket."""
        shard = self._shard_of.get(record.hash_key) or self._guess_shard(record.hash_key)
        return None if shard is None else self._buckets.get(shard)

    def _guess_shard(self, hash_key: int) -> str | None:
        # Shards are ranges of the ring: the nearest partition below that is known is mostly of the same.
        at = bisect_right(self._known, hash_key)
        return self._shard_of[self._known[max(0, at - 1)]] if self._known else None

    def available(self) -> tuple[int, int]:
        """Return how many records, and bytes, one more request may have beside those in flight; 0 for none."""
        limits = self._limits
        if not limits.shard_records:
            return limits.records_per_request, limits.request_bytes
        # What all shards take in a second, in two requests at least, of which none is a mere rest.
        shards = max(1, len(self._shards))
        most_records, most_bytes = shards * limits.shard_records, shards * limits.shard_bytes
        records = max(1, min(limits.records_per_request, most_records // 2))
        size = max(1, min(limits.request_bytes, most_bytes // 2))
        if self._in_flight_records + records > most_records or self._in_flight_bytes + size > most_bytes:
            return 0, 0
        return records, size

    def reserve(self, records: int, size: int) -> None:
        """Count the records and bytes of a request that is put now as in flight."""
        self._in_flight_records += records
        self._in_flight_bytes += size

    def free(self, records: int, size: int) -> None:
        """Count the records and bytes of a request that has its response as no longer in flight."""
        self._in_flight_records -= records
        self._in_flight_bytes -= size

    def discover_shards(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from a response which shards there are."""
        self._shards.update(map(_shard, outcomes))
        self._shards.discard("")

    def record_outcomes(
        self, batch: Sequence[Record], outcomes: Sequence[Outcome], *, put_at: float, now: float
    ) -> bool:
        """Learn from a response, after :meth:`discover_shards`.

        :returns: whether waiting records now belong to another bucket; then :meth:`requeue` them.
        """
        found: dict[str, list[int]] = {}
        has_moved = False
        for record, outcome in zip(batch, outcomes, strict=True):
            is_throttled = self.limits_rate_of(outcome)
            if outcome.shard and (is_throttled or outcome.status is Status.DELIVERED):
                before = self._shard_of.get(record.hash_key)
                if before is None:
                    insort(self._known, record.hash_key)
                has_moved |= before is not None and before != outcome.shard
                self._shard_of[record.hash_key] = outcome.shard
                found.setdefault(outcome.shard, [0, 0])[is_throttled] += 1
        limits, known = self._limits, len(self._buckets)
        if known or any(throttled for _, throttled in found.values()):
            for shard in self._shards - self._buckets.keys():
                self._buckets[shard] = TokenBucket(records=limits.shard_records, bytes=limits.shard_bytes, now=now)
            for shard, (delivered, throttled) in found.items():
                self._buckets[shard].record_outcomes(delivered, throttled, put_at=put_at, now=now)
        return has_moved or len(self._buckets) > known

    def take(self, most_records: int, most_bytes: int, now: float) -> list[Pending]:
        """Take what is due of all shards, within the bounds of a request."""
        taken: list[Pending] = []
        for bucket in self._in_use():
            bucket.fill(now)
            if bucket.due_at() <= now and len(taken) < most_records:
                more = bucket.take(most_records - len(taken), most_bytes)
                most_bytes -= sum(pending[2] for pending in more)
                taken += more
        # The shard that was first is last the next time.
        if self._buckets:
            first = next(iter(self._buckets))
            self._buckets[first] = self._buckets.pop(first)
        return taken

    def next_due(self) -> float | None:
        """Return when the next record that waits for tokens may be put; none if no record waits."""
        return min((bucket.due_at() for bucket in self._in_use()), default=None)

    def requeue(self, ready: Iterable[Pending]) -> list[Pending]:
        """Queue records at their shard's bucket, those that wait already first; return those without a bucket."""
        others, waiting = [], [pending for bucket in self._buckets.values() for pending in bucket.waiting]
        for bucket in self._buckets.values():
            bucket.waiting.clear()
        for pending in (*waiting, *ready):
            if (found := self.bucket_for(pending[0])) is None:
                others.append(pending)
            else:
                found.waiting.append(pending)
        return others

    def _in_use(self) -> Iterator[TokenBucket]:
        return (bucket for bucket in self._buckets.values() if bucket.waiting)
