"""Which records of a change set are done, in a few numbers.

Records settle nearly in their order, so everything below one ordinal and a few ranges above it say it all,
however many records there are. Nothing here reads or writes; a ledger keeps the JSON. What is in the set was
acknowledged: a record is never in it on a guess, because whatever is in it is never put again.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import LedgerUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    def __len__(self) -> int:
        return self.below + sum(self._ends) - sum(self._starts)

    def add(self, ordinal: int) -> None:
        """Mark one record as done; once more changes nothing."""
        if ordinal in self:
            return
        self._merge(ordinal)
        if self._starts and self._starts[0] == self.below:
            self.below = self._ends.pop(0)
            del self._starts[0]

    def _merge(self, ordinal: int) -> None:
        at = bisect_right(self._starts, ordinal)
        joins_left = at > 0 and self._ends[at - 1] == ordinal
        joins_right = at < len(self._starts) and self._starts[at] == ordinal + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif joins_left:
            self._ends[at - 1] = ordinal + 1
        elif joins_right:
            self._starts[at] = ordinal
        else:
            self._starts.insert(at, ordinal)
            self._ends.insert(at, ordinal + 1)

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
