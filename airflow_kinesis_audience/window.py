"""The records that a delivery holds: pulled, and not yet acknowledged.

Of each lane only the first record may be put, and only when it is neither on its way nor held back; that is what
keeps the order within it. A lane is a partition key, or less. Knows neither threads nor a clock: whoever schedules
says what time it is. A lane is forgotten with its last record, so memory grows with the bounds of the window and
nothing else. Each feed has a share of it, so that one that is slow does not fill it. Every record passes here, so
what is counted once goes with it as a plain tuple.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from airflow_kinesis_audience.pacing import Held, Pacing

if TYPE_CHECKING:
    from airflow_kinesis_audience.messages import Limits, Outcome, Record
    from airflow_kinesis_audience.settled import Settled


class Batch(NamedTuple):
    """What is put together.

    :param records: those that are held, as they are put.
    :param size: bytes of all records, in the sense of the limits.
    :param put_at: when it was taken.
    """

    held: list[Held]
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
        self._lanes: dict[str, Held | deque[Held]] = {}
        self._ready: deque[Held] = deque()
        self._ready_bytes = 0
        self._delayed: list[tuple[float, str]] = []
        self.pacing = Pacing(limits)

    def find_feed(self) -> _Feed | None:
        """Find the feed to pull from next: of those that have not their share, the one that holds least."""
        sharing = self._sharing()
        most_records, most_bytes = max(1, self._most_records // sharing), self._most_bytes // sharing
        room = (f for f in self._feeds if f.is_open and f.records < most_records and f.bytes <= most_bytes)
        return min(room, key=lambda f: (f.bytes, f.records), default=None)

    def pull(self, feed: _Feed, settled: Settled) -> None:
        """Pull some records of a feed, but those that are settled."""
        # A part of a request: the others are to fill it, too.
        sharing = self._sharing()
        most = self._limits.records_per_request // sharing + 1
        most = max(1, min(most, self._most_records // sharing - feed.records))
        # What is ready to be put does not wait for more to be read.
        if len(self._ready) < self._limits.records_per_request:
            most = min(most, self._limits.records_per_request - len(self._ready))
        most_bytes = min(feed.bytes + self._limits.request_bytes // sharing, self._most_bytes // sharing)
        lanes, new, settled_end = self._lanes, [], settled.end
        pulled, held_records, held_bytes = 0, feed.records, feed.bytes
        for record in islice(feed.source, most):
            pulled += 1
            ordinal, data, partition_key, _, _, lane, _ = record
            if ordinal < settled_end and ordinal in settled:
                continue
            size = len(data) + len(partition_key)
            held_records += 1
            held_bytes += size
            key = lane or partition_key
            held = record, key, size, feed
            first = lanes.setdefault(key, held)
            if first is held:
                new.append(held)
            else:
                self._follow(first, held)
            if held_bytes >= most_bytes:
                break
        else:
            feed.is_open = pulled == most
        feed.records, feed.bytes = held_records, held_bytes
        if self.pacing.is_active:
            new = self.pacing.sort(new)
        self._ready += new
        self._ready_bytes += sum([held[2] for held in new])

    def _sharing(self) -> int:
        return max(1, sum(feed.is_open or feed.records > 0 for feed in self._feeds))

    def _follow(self, first: Held | deque[Held], held: Held) -> None:
        if type(first) is deque:
            first.append(held)
        else:
            self._lanes[held[1]] = deque((first, held))  # type: ignore[arg-type]

    def has_ready(self, now: float) -> bool:
        """Tell whether anything may be put."""
        return (bool(self._ready) and self.pacing.room() > (0, 0)) or self._is_due(now)

    def fills_a_batch(self, now: float) -> bool:
        """Tell whether there is no reason to wait for more."""
        records, size = self.pacing.room()
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
        limits, ready = self._limits, self._ready
        taken: list[Held] = []
        if self.pacing.is_active:
            taken = self.pacing.take(limits.records_per_request, limits.request_bytes, now)
        filled = sum(held[2] for held in taken)
        records, size = self.pacing.room()
        most_records = min(records + len(taken), limits.records_per_request)
        most_bytes = min(size + filled, limits.request_bytes)
        while ready and len(taken) < most_records:
            size = ready[0][2]
            if filled + size > most_bytes and taken:
                break
            filled += size
            self._ready_bytes -= size
            taken.append(ready.popleft())
        self.pacing.fly(len(taken), filled)
        return Batch(taken, [held[0] for held in taken], filled, now)

    def land(self, batch: Batch, outcomes: Sequence[Outcome], now: float, *, is_whole: bool) -> None:
        """Learn from the answer to a batch, one outcome per record; whole if all were taken."""
        pacing = self.pacing
        pacing.fly(-len(batch.held), -batch.size)
        pacing.see(outcomes)
        if is_whole and not pacing.is_active:
            return
        if pacing.note(batch.records, outcomes, put_at=batch.put_at, now=now):
            self._ready = deque(self.pacing.sort(self._ready))
            self._ready_bytes = sum(held[2] for held in self._ready)

    def first(self, key: str) -> Record | None:
        """Give the first record of a lane."""
        held = self._first(key)
        return None if held is None else held[0]

    def _first(self, key: str) -> Held | None:
        found = self._lanes.get(key)
        return found[0] if type(found) is deque else found  # type: ignore[return-value]

    def remove(self, firsts: Iterable[Held]) -> list[str]:
        """Remove records that are the first of their lanes; gives the lanes that have another, which waits."""
        lanes, others = self._lanes, []
        for held in firsts:
            _, key, size, feed = held
            feed.records -= 1
            feed.bytes -= size
            found = lanes[key]
            if found is held:
                del lanes[key]
                continue
            found.popleft()  # type: ignore[union-attr]
            if found:
                others.append(key)
            else:
                del lanes[key]
        return others

    def close(self, key: str) -> None:
        """Remove all records of a lane."""
        while (held := self._first(key)) is not None:
            self.remove([held])

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
        held = self._first(key)
        if held is not None:
            self._make_ready(held)

    def _make_ready(self, held: Held) -> None:
        if self.pacing.is_active and (pace := self.pacing.pace_of(held[0])) is not None:
            pace.waiting.append(held)
        else:
            self._ready.append(held)
            self._ready_bytes += held[2]
