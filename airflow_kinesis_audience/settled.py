"""Which records of a change set are done, in a few numbers.

Records settle nearly in their order, so everything below one ordinal and a few ranges above it say it all,
however many records there are. Nothing here reads or writes; a ledger keeps the JSON. What is in the set was
acknowledged: a record is never in it on a guess, because whatever is in it is never put again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import LedgerUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Settled:
    """The ordinals that are done: all under ``below``, and the merged ranges above it.

    :param below: every ordinal under it is done.
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
        """The ordinal from which on none is done."""
        return self._ends[-1] if self._ends else self.below

    def covers(self, start: int, stop: int) -> bool:
        """Tell whether every ordinal from one up to, and not including, another is done."""
        if stop <= self.below:
            return True
        at = bisect_right(self._starts, max(start, self.below)) - 1
        return at >= 0 and stop <= self._ends[at]

    def add(self, ordinal: int) -> None:
        """Mark one record as done; once more changes nothing."""
        self.add_range(ordinal, ordinal + 1)

    def add_all(self, ordinals: Iterable[int]) -> None:
        """Mark records as done, those that follow each other at once."""
        start = stop = 0
        for ordinal in ordinals:
            if ordinal != stop:
                self.add_range(start, stop)
                start = ordinal
            stop = ordinal + 1
        self.add_range(start, stop)

    def add_range(self, start: int, stop: int) -> None:
        """Mark every ordinal from one up to, and not including, another as done."""
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

    def as_json(self) -> dict[str, Any]:
        """Render as ``{"below": int, "above": [[start, end], ...]}``, the ends not included."""
        return {"below": self.below, "above": [list(pair) for pair in zip(self._starts, self._ends, strict=True)]}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Settled:
        """Read what :meth:`as_json` rendered.

        :raises LedgerUnreadable: if it is anything else; a set that is only nearly right would lose records.
        """
        try:
            settled = cls(found["below"])
            for start, end in found["above"]:
                settled._starts.append(start)
                settled._ends.append(end)
        except (KeyError, TypeError, ValueError):
            settled = cls(-1)
        if not settled._is_sound():
            raise LedgerUnreadable(
                'a checkpoint is not {"below": number, "above": [[start, end], ...]} with ascending ranges; '
                "restore it, or have the change set sent again from its beginning"
            )
        return settled

    def _is_sound(self) -> bool:
        bounds = [self.below, *(bound for pair in zip(self._starts, self._ends, strict=True) for bound in pair)]
        whole = all(type(bound) is int for bound in bounds)
        return whole and bounds[0] >= 0 and all(low < high for low, high in pairwise(bounds))
