"""Which records of a change set are acknowledged, in a few numbers: what makes a retry idempotent.

Records are acknowledged nearly in their order, so one ordinal, below which all are, and a few ranges above it are
enough, however many records there are. Nothing here reads or writes; a ledger keeps the JSON. A record is never in
the set on a guess, because a record in the set is never put again: delivery is at least once, never less.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class AcknowledgedRanges(Struct, frozen=True, kw_only=True):
    """The ordinals that are done, in few numbers.

    :param below: every ordinal under it is done.
    :param above: start and end, not included, of the ranges above it that are done, ascending.
    :raises ValueError: if it is anything else; a set that is only nearly right would lose records.
    """

    below: int
    above: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        bounds = [self.below, *(bound for pair in self.above for bound in pair)]
        if bounds[0] < 0 or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError("ranges are not in ascending order")


class AcknowledgedOrdinals:
    """The ordinals that are acknowledged: all under ``below``, and the merged ranges above it.

    :param below: every ordinal under it is acknowledged.
    """

    def __init__(self, below: int = 0) -> None:
        self.below = below
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __contains__(self, ordinal: int) -> bool:
        if ordinal < self.below:
            return True
        at = bisect_right(self._starts, ordinal) - 1
        return at >= 0 and ordinal < self._ends[at]

    def __iter__(self) -> Iterator[int]:
        yield from range(self.below)
        for start, end in zip(self._starts, self._ends, strict=True):
            yield from range(start, end)

    def __len__(self) -> int:
        return self.below + sum(self._ends) - sum(self._starts)

    @property
    def end(self) -> int:
        """The ordinal from which on none is acknowledged."""
        return self._ends[-1] if self._ends else self.below

    def covers(self, start: int, stop: int) -> bool:
        """Return whether every ordinal from ``start`` up to, and not including, ``stop`` is acknowledged."""
        if stop <= self.below:
            return True
        at = bisect_right(self._starts, max(start, self.below)) - 1
        return at >= 0 and stop <= self._ends[at]

    def add(self, ordinal: int) -> None:
        """Mark one record as acknowledged; a second time changes nothing."""
        self.add_range(ordinal, ordinal + 1)

    def add_all(self, ordinals: Iterable[int]) -> None:
        """Mark records as acknowledged, each run of neighbours in one step."""
        start = stop = 0
        for ordinal in ordinals:
            if ordinal != stop:
                self.add_range(start, stop)
                start = ordinal
            stop = ordinal + 1
        self.add_range(start, stop)

    def add_range(self, start: int, stop: int) -> None:
        """Mark every ordinal from ``start`` up to, and not including, ``stop`` as acknowledged."""
        start = max(start, self.below)
        if start >= stop:
            return
        first = bisect_left(self._ends, start)
        after = bisect_right(self._starts, stop)
        if first < after:
            start, stop = min(start, self._starts[first]), max(stop, self._ends[after - 1])
        self._starts[first:after], self._ends[first:after] = [start], [stop]
        if self._starts[0] == self.below:
            self.below = self._ends.pop(0)
            del self._starts[0]

    @property
    def ranges(self) -> AcknowledgedRanges:
        """The same as a value that a ledger can keep."""
        return AcknowledgedRanges(below=self.below, above=tuple(zip(self._starts, self._ends, strict=True)))

    @classmethod
    def of(cls, ranges: AcknowledgedRanges) -> AcknowledgedOrdinals:
        """Make the set of what :attr:`ranges` gave."""
        found = cls(ranges.below)
        found._starts, found._ends = [start for start, _ in ranges.above], [end for _, end in ranges.above]
        return found
