"""The window of records in flight: pulled, and not yet acknowledged.

Of the records that share an ordering key only the first may be put, and only while it is neither part of a request
nor delayed; that keeps the order within a key, and a failed record holds back its own key alone. There are no
threads and no clock here: the caller passes the time. A key is forgotten with its last record, so memory grows
with the bounds of the window and nothing else. Each partition group has a share of the window, so that a slow one
does not fill it. Every record passes here, so what is counted once goes with it as a plain tuple.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from airflow_kinesis_audience.core.producer.rate_limit import Pending, ShardRateLimiter

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
    from airflow_kinesis_audience.core.producer.records import Limits, Outcome, Record

MAX_IN_FLIGHT_REQUESTS = 16
"""Most requests in flight: enough for an endpoint that answers within some tens of milliseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How much is in flight at a time.

    :param records: most records that are pulled and not acknowledged.
    :param bytes: bytes of such records from which on none is pulled.
    :param max_in_flight: most requests that have no answer yet.
    :raises ValueError: if one of them is below 1.
    """

    records: int = 16_000
    bytes: int = 16_000_000
    max_in_flight: int = MAX_IN_FLIGHT_REQUESTS

    def __post_init__(self) -> None:
        if min(self.records, self.bytes, self.max_in_flight) < 1:
            raise ValueError(f"{self}; all must be above 0")


class Batch(NamedTuple):
    """The records of one request.

    :param records: those of ``pending``, as they are put.
    :param size: bytes of all records, as the limits count them.
    :param put_at: when it was taken.
    """

    pending: list[Pending]
    records: list[Record]
    size: int
    put_at: float


class _PartitionGroup:
    """One source of records, and how many of its records and bytes are in the window."""

    __slots__ = ("bytes", "is_open", "records", "source")

    def __init__(self, source: Iterator[Record]) -> None:
        self.source = source
        self.is_open = True
        self.records = self.bytes = 0


class InFlightWindow:
    """Records that are pulled and not acknowledged, by ordering key.

    :param partition_groups: no two have records of one ordering key.
    """

    def __init__(self, partition_groups: Sequence[Iterable[Record]], *, limits: Limits, bounds: Bounds) -> None:
        self._groups = [_PartitionGroup(iter(source)) for source in partition_groups]
        self._limits, self._most_records, self._most_bytes = limits, bounds.records, bounds.bytes
        # Nearly all keys have one record, which then stands for its key.
        self._by_key: dict[str, Pending | deque[Pending]] = {}
        self._ready: deque[Pending] = deque()
        self._ready_bytes = 0
        self._delayed: list[tuple[float, str]] = []
        self.rate_limiter = ShardRateLimiter(limits)

    def find_group(self) -> _PartitionGroup | None:
        """Find the group to pull from next: of those below their share, the one that has least in the window."""
        sharing = self._sharing()
        most_records, most_bytes = max(1, self._most_records // sharing), self._most_bytes // sharing
        below = (g for g in self._groups if g.is_open and g.records < most_records and g.bytes <= most_bytes)
        return min(below, key=lambda g: (g.bytes, g.records), default=None)

    def pull(self, group: _PartitionGroup, acknowledged: AcknowledgedOrdinals) -> None:
        """Pull some records of a group, except those that are acknowledged."""
        # A part of a request: the others are to fill it, too.
        sharing = self._sharing()
        most = self._limits.records_per_request // sharing + 1
        most = max(1, min(most, self._most_records // sharing - group.records))
        # What is ready to be put does not wait for more to be read.
        if len(self._ready) < self._limits.records_per_request:
            most = min(most, self._limits.records_per_request - len(self._ready))
        most_bytes = min(group.bytes + self._limits.request_bytes // sharing, self._most_bytes // sharing)
        taken, pulled, acknowledged_end, window_bytes = [], 0, acknowledged.end, group.bytes
        for record in islice(group.source, most):
            pulled += 1
            ordinal, data, partition_key, _, _, ordering_key, _ = record
            if ordinal < acknowledged_end and ordinal in acknowledged:
                continue
            size = len(data) + len(partition_key)
            taken.append((record, ordering_key or partition_key, size, group))
            window_bytes += size
            if window_bytes >= most_bytes:
                break
        else:
            group.is_open = pulled == most
        group.records, group.bytes = group.records + len(taken), window_bytes
        new = self._add(taken)
        if self.rate_limiter.is_active:
            new = self.rate_limiter.requeue(new)
        self._ready += new
        self._ready_bytes += sum([pending[2] for pending in new])

    def _add(self, taken: list[Pending]) -> list[Pending]:
        """Add records behind those of their ordering keys; return those that are the first of theirs."""
        by_key, keyed = self._by_key, {pending[1]: pending for pending in taken}
        if len(keyed) == len(taken) and by_key.keys().isdisjoint(keyed):
            by_key.update(keyed)
            return taken
        new = []
        for pending in taken:
            first = by_key.setdefault(pending[1], pending)
            if first is pending:
                new.append(pending)
            else:
                self._follow(first, pending)
        return new

    def _sharing(self) -> int:
        return max(1, sum(group.is_open or group.records > 0 for group in self._groups))

    def _follow(self, first: Pending | deque[Pending], pending: Pending) -> None:
        if type(first) is deque:
            first.append(pending)
        else:
            self._by_key[pending[1]] = deque((first, pending))  # type: ignore[arg-type]

    def has_ready(self, now: float) -> bool:
        """Return whether anything may be put."""
        return (bool(self._ready) and self.rate_limiter.available() > (0, 0)) or self._is_due(now)

    def fills_a_batch(self, now: float) -> bool:
        """Return whether there is no reason to wait for more records."""
        records, size = self.rate_limiter.available()
        return len(self._ready) >= records or self._ready_bytes >= size or self._is_due(now)

    def _is_due(self, now: float) -> bool:
        due = self.rate_limiter.next_due() if self.rate_limiter.is_active else None
        return due is not None and due <= now

    @property
    def next_due(self) -> float | None:
        """When something may be put that may not be put now."""
        delayed = [self._delayed[0][0]] if self._delayed else []
        limited = self.rate_limiter.next_due() if self.rate_limiter.is_active else None
        return min((*delayed, *([] if limited is None else [limited])), default=None)

    def take_batch(self, now: float) -> Batch:
        """Take what is due of rate-limited shards, then what has been ready for longest, within the limits."""
        limits, ready = self._limits, self._ready
        taken: list[Pending] = []
        if self.rate_limiter.is_active:
            taken = self.rate_limiter.take(limits.records_per_request, limits.request_bytes, now)
        filled = sum(pending[2] for pending in taken)
        records, size = self.rate_limiter.available()
        most_records = min(records + len(taken), limits.records_per_request)
        most_bytes = min(size + filled, limits.request_bytes)
        if len(ready) <= most_records - len(taken) and self._ready_bytes <= most_bytes - filled:
            filled += self._ready_bytes
            taken += ready
            ready.clear()
            self._ready_bytes = 0
        while ready and len(taken) < most_records:
            size = ready[0][2]
            if filled + size > most_bytes and taken:
                break
            filled += size
            self._ready_bytes -= size
            taken.append(ready.popleft())
        self.rate_limiter.reserve(len(taken), filled)
        return Batch(taken, [pending[0] for pending in taken], filled, now)

    def on_response(self, batch: Batch, outcomes: Sequence[Outcome], now: float, *, all_delivered: bool) -> None:
        """Learn from the response to a batch, one outcome per record."""
        rate_limiter = self.rate_limiter
        rate_limiter.free(len(batch.pending), batch.size)
        rate_limiter.discover_shards(outcomes)
        if all_delivered and not rate_limiter.is_active:
            return
        if rate_limiter.record_outcomes(batch.records, outcomes, put_at=batch.put_at, now=now):
            self._ready = deque(self.rate_limiter.requeue(self._ready))
            self._ready_bytes = sum(pending[2] for pending in self._ready)

    def first(self, key: str) -> Record | None:
        """Return the first record of an ordering key, if it has one."""
        pending = self._first(key)
        return None if pending is None else pending[0]

    def _first(self, key: str) -> Pending | None:
        found = self._by_key.get(key)
        return found[0] if type(found) is deque else found  # type: ignore[return-value]

    def remove(self, firsts: Iterable[Pending]) -> list[str]:
        """Remove the first records of their ordering keys; return the keys that have another record."""
        by_key, others = self._by_key, []
        for pending in firsts:
            _, key, size, group = pending
            group.records -= 1
            group.bytes -= size
            found = by_key.pop(key)
            if found is pending:
                continue
            found.popleft()  # type: ignore[union-attr]
            if found:
                by_key[key] = found
                others.append(key)
        return others

    def drop_key(self, key: str) -> None:
        """Remove all records of an ordering key: they are not put in this attempt."""
        while (pending := self._first(key)) is not None:
            self.remove([pending])

    @property
    def ordering_keys(self) -> list[str]:
        """The ordering keys that have records."""
        return list(self._by_key)

    def delay_key(self, key: str, until: float) -> None:
        """Put nothing of an ordering key before an instant."""
        heapq.heappush(self._delayed, (until, key))

    def end_delays(self, now: float) -> None:
        """Make those ordering keys ready whose delay is over."""
        while self._delayed and self._delayed[0][0] <= now:
            self.make_ready(heapq.heappop(self._delayed)[1])

    def make_ready(self, key: str) -> None:
        """Let the first record of an ordering key be put."""
        pending = self._first(key)
        if pending is not None:
            self._make_ready(pending)

    def _make_ready(self, pending: Pending) -> None:
        limiter = self.rate_limiter
        if limiter.is_active and (bucket := limiter.bucket_for(pending[0])) is not None:
            bucket.waiting.append(pending)
        else:
            self._ready.append(pending)
            self._ready_bytes += pending[2]
