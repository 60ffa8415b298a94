"""How fast each shard is put to, once one has said that it is too fast.

A stream that never throttles is not paced at all; it only has no more on its way than its shards take in a
second. With the first refusal each shard gets a bucket of tokens that fills at what a shard takes, and less where
others put to it, too; no other shard is slowed by that. Which shard a partition is in is learned from the answers,
so a split or a merge is noticed with the first of them. No threads or clock are here.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.messages import Limits, Outcome, Record, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

Held = tuple[Record, str, int, Any]
"""A record, its lane, its bytes in the sense of the limits, and what else is known of it where it is held."""

_TURN_SECONDS = 0.1
"""So much of a second's records are put together: requests are well filled, and bursts stay small."""

_BURST_SECONDS = 1.0
"""Tokens are kept for so long: a shard's own bucket holds as much."""

_GROWTH = 0.02
"""By this share a second, and more with every second in which nothing was refused, a pace grows."""

_FASTEST_GROWTH = 0.25

_DEEPEST_CUT, _TRUSTED = 0.5, 9
"""A refusal halves a pace at most, and by a tenth if it is of a single record: so many are taken for granted."""

_SLOWEST = 0.05
"""A shard that others fill is still asked at this share of what it takes: otherwise nothing tells of its end."""


class Pace:
    """The pace of one shard: records that wait for it, and tokens for records and bytes.

    :param records: what the shard takes in a second, and ``bytes`` likewise.
    """

    def __init__(self, *, records: int, bytes: int, now: float) -> None:
        self.waiting: deque[Held] = deque()
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
        """Tell when enough is there for the records of a turn, or for those that wait if they are fewer."""
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

    def take(self, most_records: int, most_bytes: int) -> list[Held]:
        """Take the records for which there are tokens; of those that are put at once each is of another lane."""
        taken: list[Held] = []
        while self.waiting and len(taken) < most_records and self._record_tokens >= 1.0:
            size = self.waiting[0][2]
            if size > most_bytes or self._byte_tokens < self._needed():
                break
            self._record_tokens -= 1.0
            self._byte_tokens -= size
            most_bytes -= size
            taken.append(self.waiting.popleft())
        return taken

    def note(self, delivered: int, refused: int, *, put_at: float, now: float) -> None:
        """Learn from an answer: put less if a part was refused, and slowly more if nothing is."""
        if refused:
            # What was put before the last cut says nothing of the pace since.
            if put_at >= self.cut_at:
                cut = (delivered + _TRUSTED) / (delivered + refused + _TRUSTED)
                self.share = max(_SLOWEST, self.share * max(_DEEPEST_CUT, cut))
                self.cut_at = now
            self._record_tokens = min(self._record_tokens, 0.0)
            self._byte_tokens = min(self._byte_tokens, 0.0)
        else:
            quiet = min(_FASTEST_GROWTH, _GROWTH * (now - self.cut_at))
            self.share = min(1.0, self.share * (1.0 + quiet * (now - self._grown_at)))
        self._grown_at = now


class Pacing:
    """The paces of a stream's shards.

    :param limits: what a shard takes in a second; without such limits nothing is paced.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._shards: set[str] = set()
        self._paces: dict[str, Pace] = {}
        self._shard_of: dict[int, str] = {}
        self._known: list[int] = []
        self._flying_records = self._flying_bytes = 0

    @property
    def is_active(self) -> bool:
        """Tell whether any shard is paced."""
        return bool(self._paces)

    def has_limits(self, outcome: Outcome) -> bool:
        """Tell whether what refused a record is a shard, to be paced."""
        return outcome.status is Status.THROTTLED and bool(outcome.shard) and self._limits.shard_records > 0

    def pace_of(self, record: Record) -> Pace | None:
        """Give the pace at which a record is to be put; none if there is none that is known."""
        shard = self._shard_of.get(record.hash_key) or self._guess_shard(record.hash_key)
        return None if shard is None else self._paces.get(shard)

    def _guess_shard(self, hash_key: int) -> str | None:
        # Shards are ranges of the ring: the nearest partition below that is known is mostly of the same.
        at = bisect_right(self._known, hash_key)
        return self._shard_of[self._known[max(0, at - 1)]] if self._known else None

    def room(self) -> tuple[int, int]:
        """Tell how many records, and bytes, may be put in one request besides those on their way; 0 for none."""
        limits = self._limits
        if not limits.shard_records:
            return limits.records_per_request, limits.request_bytes
        # What all shards take in a second, in two requests at least, of which none is a mere rest.
        shards = max(1, len(self._shards))
        most_records, most_bytes = shards * limits.shard_records, shards * limits.shard_bytes
        records = max(1, min(limits.records_per_request, most_records // 2))
        size = max(1, min(limits.request_bytes, most_bytes // 2))
        if self._flying_records + records > most_records or self._flying_bytes + size > most_bytes:
            return 0, 0
        return records, size

    def fly(self, records: int, size: int) -> None:
        """Count what goes on its way, or with numbers below 0 what has come to its end."""
        self._flying_records += records
        self._flying_bytes += size

    def see(self, outcomes: Sequence[Outcome]) -> None:
        """Learn which shards there are."""
        self._shards.update({outcome.shard for outcome in outcomes})
        self._shards.discard("")

    def note(self, batch: Sequence[Record], outcomes: Sequence[Outcome], *, put_at: float, now: float) -> bool:
        """Learn from an answer, of shards seen; tell whether records now wait for the wrong shard, or for none."""
        found: dict[str, list[int]] = {}
        has_moved = False
        for record, outcome in zip(batch, outcomes, strict=True):
            is_refused = self.has_limits(outcome)
            if outcome.shard and (is_refused or outcome.status is Status.DELIVERED):
                before = self._shard_of.get(record.hash_key)
                if before is None:
                    insort(self._known, record.hash_key)
                has_moved |= before is not None and before != outcome.shard
                self._shard_of[record.hash_key] = outcome.shard
                found.setdefault(outcome.shard, [0, 0])[is_refused] += 1
        limits, known = self._limits, len(self._paces)
        if known or any(refused for _, refused in found.values()):
            for shard in self._shards - self._paces.keys():
                self._paces[shard] = Pace(records=limits.shard_records, bytes=limits.shard_bytes, now=now)
            for shard, (delivered, refused) in found.items():
                self._paces[shard].note(delivered, refused, put_at=put_at, now=now)
        return has_moved or len(self._paces) > known

    def take(self, most_records: int, most_bytes: int, now: float) -> list[Held]:
        """Take what is due of all shards, within the bounds of a request."""
        taken: list[Held] = []
        for pace in self._waiting():
            pace.fill(now)
            if pace.due_at() <= now and len(taken) < most_records:
                more = pace.take(most_records - len(taken), most_bytes)
                most_bytes -= sum(held[2] for held in more)
                taken += more
        # Whoever was first is last the next time.
        if self._paces:
            first = next(iter(self._paces))
            self._paces[first] = self._paces.pop(first)
        return taken

    def next_due(self) -> float | None:
        """Tell when the next record of a paced shard may be put."""
        return min((pace.due_at() for pace in self._waiting()), default=None)

    def sort(self, ready: Iterable[Held]) -> list[Held]:
        """Let those records wait whose shard is paced, and those anew that wait already; give the others."""
        others, waiting = [], [held for paced in self._paces.values() for held in paced.waiting]
        for paced in self._paces.values():
            paced.waiting.clear()
        for held in (*waiting, *ready):
            if (pace := self.pace_of(held[0])) is None:
                others.append(held)
            else:
                pace.waiting.append(held)
        return others

    def _waiting(self) -> Iterator[Pace]:
        return (pace for pace in self._paces.values() if pace.waiting)
