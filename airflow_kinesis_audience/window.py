"""The records that a delivery holds: pulled, and not yet acknowledged.

Of each lane only the first record may be put, and only when it is neither on its way nor held back; that is what
keeps the order within it. A lane is a partition key, or less. Knows neither threads nor a clock: whoever schedules
says what time it is. A lane is forgotten with its last record, so memory grows with the bounds of the window and
nothing else.
"""

from __future__ import annotations

import heapq
from collections import deque

from airflow_kinesis_audience.messages import Limits, Record, pack


class Queue:
    """The records of one lane; only the first may be put."""

    __slots__ = ("attempts", "failures", "puts", "records", "seen")

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self.puts = 0  # of the first record
        self.attempts = 0  # those that count towards its being given up
        self.failures = 0  # outlives a record, so that a key that was throttled goes on gently
        self.seen = 0  # acknowledged records of the whole delivery when it was last put


class Window:
    """Records that are pulled and not acknowledged, by lane."""

    def __init__(self, *, limits: Limits, most_records: int, most_bytes: int) -> None:
        self.queues: dict[str, Queue] = {}
        self._limits, self._most_records, self._most_bytes = limits, most_records, most_bytes
        self._records = self._bytes = self._ready_bytes = 0
        self._ready: deque[str] = deque()
        self._delayed: list[tuple[float, str]] = []

    @property
    def has_room(self) -> bool:
        return self._records < self._most_records and self._bytes < self._most_bytes

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    @property
    def fills_a_batch(self) -> bool:
        limits = self._limits
        return len(self._ready) >= limits.records_per_request or self._ready_bytes >= limits.request_bytes

    @property
    def next_due(self) -> float | None:
        return self._delayed[0][0] if self._delayed else None

    def admit(self, record: Record) -> None:
        self._records += 1
        self._bytes += record.size
        queue = self.queues.setdefault(record.order, Queue())
        queue.records.append(record)
        if len(queue.records) == 1:
            self._make_ready(record.order)

    def take_batch(self) -> list[Record]:
        """Take the first records of the keys that have been ready for longest, within the limits."""
        firsts = (self.queues[key].records[0] for key in self._ready)
        limits = self._limits
        batch = next(
            pack(
                firsts,
                size=lambda record: record.size,
                max_count=limits.records_per_request,
                max_bytes=limits.request_bytes,
            )
        )
        for record in batch:
            self._ready.popleft()
            self._ready_bytes -= record.size
        return batch

    def remove_first(self, key: str) -> None:
        """Remove the first record of a key, and the key with its last; the next record is not ready by that."""
        queue = self.queues[key]
        record = queue.records.popleft()
        queue.puts = queue.attempts = 0
        self._records -= 1
        self._bytes -= record.size
        if not queue.records:
            del self.queues[key]

    def close(self, key: str) -> None:
        """Remove all records of a key."""
        while key in self.queues:
            self.remove_first(key)

    def hold(self, key: str, until: float) -> None:
        heapq.heappush(self._delayed, (until, key))

    def release(self, now: float) -> None:
        """Make those keys ready whose delay is over."""
        while self._delayed and self._delayed[0][0] <= now:
            self._make_ready(heapq.heappop(self._delayed)[1])

    def _make_ready(self, key: str) -> None:
        self._ready.append(key)
        self._ready_bytes += self.queues[key].records[0].size
