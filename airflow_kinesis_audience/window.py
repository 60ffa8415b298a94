"""The records that a delivery holds: pulled, and not yet acknowledged.

Of each lane only the first record may be put, and only when it is neither on its way nor held back; that is what
keeps the order within it. A lane is a partition key, or less. Knows neither threads nor a clock: whoever schedules
says what time it is. A lane is forgotten with its last record, so memory grows with the bounds of the window and
nothing else. Each feed has a share of it, so that one that is slow does not fill it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from airflow_kinesis_audience.pacing import Pacing

if TYPE_CHECKING:
    from airflow_kinesis_audience.messages import Limits, Outcome, Record


class Batch(NamedTuple):
    """What is put together.

    :param size: bytes of all records, in the sense of the limits.
    :param put_at: when it was taken.
    """

    records: list[Record]
    size: int
    put_at: float


class _Feed:
    """One feed, and what of it is held."""

    __slots__ = ("bytes", "is_open", "records", "source")

    def __init__(self, source: Iterator[Record]) -> None:
        self.source = source
        self.is_open = True
        self.records = self.bytes = 0


class Window:
    """Records that are pulled and not acknowledged, by lane."""

    def __init__(
        self, feeds: Sequence[Iterable[Record]], *, limits: Limits, most_records: int, most_bytes: int
    ) -> None:
        self._feeds = [_Feed(iter(source)) for source in feeds]
        self._limits, self._most_records, self._most_bytes = limits, most_records, most_bytes
        # Nearly all lanes have one record, which then stands for its lane.
        self._lanes: dict[str, Record | deque[Record]] = {}
        self._feed_of: dict[str, _Feed] = {}
        self._ready: deque[Record] = deque()
        self._ready_bytes = 0
        self._delayed: list[tuple[float, str]] = []
        self.pacing = Pacing(limits)

    def find_feed(self) -> _Feed | None:
        """Find the feed to pull from next: of those that have not their share, the one that holds least."""
        sharing = self._sharing()
        most_records, most_bytes = max(1, self._most_records // sharing), self._most_bytes // sharing
        room = (f for f in self._feeds if f.is_open and f.records < most_records and f.bytes <= most_bytes)
        return min(room, key=lambda f: (f.bytes, f.records), default=None)

    def pull(self, feed: _Feed, is_done: Callable[[int], bool]) -> None:
        """Pull some records of a feed, but those that are done."""
        # A part of a request: the others are to fill it, too.
        sharing = self._sharing()
        most = self._limits.records_per_request // sharing + 1
        most = max(1, min(most, self._most_records // sharing - feed.records))
        # What is ready to be put does not wait for more to be read.
        if len(self._ready) < self._limits.records_per_request:
            most = min(most, self._limits.records_per_request - len(self._ready))
        most_bytes = min(feed.bytes + self._limits.request_bytes // sharing, self._most_bytes // sharing)
        pulled = 0
        for record in islice(feed.source, most):
            pulled += 1
            if not is_done(record.ordinal):
                self._admit(record, feed)
                if feed.bytes >= most_bytes:
                    return
        feed.is_open = pulled == most

    def _sharing(self) -> int:
        return max(1, sum(feed.is_open or feed.records > 0 for feed in self._feeds))

    def _admit(self, record: Record, feed: _Feed) -> None:
        size = len(record.data) + len(record.partition_key)
        feed.records += 1
        feed.bytes += size
        key = record.lane or record.partition_key
        found = self._lanes.get(key)
        if found is None:
            self._lanes[key] = record
            self._feed_of[key] = feed
            self._make_ready(record, size)
        elif type(found) is deque:
            found.append(record)
        else:
            self._lanes[key] = deque((found, record))  # type: ignore[arg-type]

    def has_ready(self, now: float) -> bool:
        """Tell whether anything may be put."""
        return (bool(self._ready) and min(self.pacing.room()) > 0) or self._is_due(now)

    def fills_a_batch(self, now: float) -> bool:
        """Tell whether there is no reason to wait for more."""
        limits, (records, size) = self._limits, self.pacing.room()
        records, size = min(records, limits.records_per_request), min(size, limits.request_bytes)
        return len(self._ready) >= records or self._ready_bytes >= size or self._is_due(now)

    def _is_due(self, now: float) -> bool:
        due = self.pacing.next_due() if self.pacing.is_active else None
        return due is not None and due <= now

    @property
    def next_due(self) -> float | None:
        """When something may be put that is held back now."""
        delayed = [self._delayed[0][0]] if self._delayed else []
        paced = self.pacing.next_due() if self.pacing.is_active else None
        return min((*delayed, *([] if paced is None else [paced])), default=None)

    def take_batch(self, now: float) -> Batch:
        """Take what is due of shards that are paced, then what has been ready for longest, within the limits."""
        limits = self._limits
        batch: list[Record] = []
        if self.pacing.is_active:
            batch = self.pacing.take(limits.records_per_request, limits.request_bytes, now)
        ready, filled = self._ready, sum(r.size for r in batch)
        most_records, most_bytes = self.pacing.room()
        most_records = min(most_records, limits.records_per_request - len(batch))
        most_bytes = min(most_bytes, limits.request_bytes - filled)
        taken = 0
        while ready and len(batch) < limits.records_per_request and taken < most_records:
            first = ready[0]
            size = len(first.data) + len(first.partition_key)
            if size > most_bytes and batch:
                break
            most_bytes -= size
            filled += size
            taken += 1
            batch.append(ready.popleft())
            self._ready_bytes -= size
        self.pacing.fly(len(batch), filled)
        return Batch(batch, filled, now)

    def land(self, batch: Batch, outcomes: Sequence[Outcome], now: float) -> None:
        """Learn from the answer to a batch, one outcome per record."""
        self.pacing.fly(-len(batch.records), -batch.size)
        if self.pacing.note(batch.records, outcomes, put_at=batch.put_at, now=now):
            self._ready = deque(self.pacing.sort(self._ready))
            self._ready_bytes = sum(record.size for record in self._ready)

    def first(self, key: str) -> Record | None:
        """Give the first record of a lane."""
        found = self._lanes.get(key)
        return found[0] if type(found) is deque else found  # type: ignore[return-value]

    def remove_first(self, record: Record) -> bool:
        """Remove the first record of its lane; tell whether there is another, which is not ready by that."""
        key = record.lane or record.partition_key
        feed, found = self._feed_of[key], self._lanes[key]
        feed.records -= 1
        feed.bytes -= len(record.data) + len(record.partition_key)
        if type(found) is deque:
            found.popleft()
            if found:
                return True
        del self._lanes[key], self._feed_of[key]
        return False

    def close(self, key: str) -> None:
        """Remove all records of a lane."""
        while (record := self.first(key)) is not None:
            self.remove_first(record)

    @property
    def lanes(self) -> list[str]:
        """The lanes that have records."""
        return list(self._lanes)

    def hold(self, key: str, until: float) -> None:
        """Hold a lane back."""
        heapq.heappush(self._delayed, (until, key))

    def release(self, now: float) -> None:
        """Make those lanes ready whose delay is over."""
        while self._delayed and self._delayed[0][0] <= now:
            self.make_ready(heapq.heappop(self._delayed)[1])

    def make_ready(self, key: str) -> None:
        """Let the first record of a lane be put."""
        record = self.first(key)
        if record is not None:
            self._make_ready(record, record.size)

    def _make_ready(self, record: Record, size: int) -> None:
        if self.pacing.is_active and (pace := self.pacing.pace_of(record)) is not None:
            pace.waiting.append(record)
        else:
            self._ready.append(record)
            self._ready_bytes += size
