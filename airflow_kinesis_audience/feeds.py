"""The feeds of a delivery: its partitions in up to sixteen groups, each read by itself.

The rows of a change set stand by partition. Read in their order they would fill one shard after the other, and a
slow one would hold up all; read by feeds they reach all shards at once. What a feed has in one slice is a cell: it
is rendered by itself, and its records have numbers of their own, so that cells are read in any order, by any
number of tasks, and give the same bytes and ids.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from airflow_kinesis_audience.slices import Reader

MOST_FEEDS = 16
"""One for each first digit of a bucket."""

_CELL_RECORDS = 2**32
"""Numbers that a cell has for its records, far more than it needs."""

_KEPT_SLICES = 4
"""The last slices are kept beside those that are being rendered: feeds have rows in the same ones."""

_ROWS_AT_ONCE = 2_000
"""Rows that a format gets at once, if it makes a message of each."""


class Part(NamedTuple):
    """Which part of a delivery a task sends, of how many: feeds are shared out among parts."""

    number: int = 0
    of: int = 1


WHOLE = Part()


class Cell(NamedTuple):
    """What a feed has in a slice.

    :param start: number of its first record; those of all its records are below ``stop``.
    :param changes: how many changes of the change set it holds.
    """

    feed: int
    slice: int
    start: int
    stop: int
    changes: int


def count_feeds(partitions: int) -> int:
    """Tell how many feeds a delivery has."""
    return min(partitions, MOST_FEEDS)


def lay_out(
    counts: Mapping[tuple[int, str], int], *, slices: int, partitions: int, part: Part
) -> list[list[Cell]]:
    """Lay out the cells of each feed of a part, in the order in which they are read.

    :param counts: changes by slice and first digit of the bucket.
    """
    feeds = count_feeds(partitions)
    own = range(part.number * feeds // part.of, (part.number + 1) * feeds // part.of)
    found: Counter[tuple[int, int]] = Counter()
    for (number, digit), changes in counts.items():
        found[int(digit, 16) * feeds // MOST_FEEDS, number] += changes
    laid: list[list[Cell]] = [[] for _ in own]
    for (feed, number), changes in sorted(found.items()):
        if feed in own:
            start = (feed * slices + number) * _CELL_RECORDS
            laid[feed - own.start].append(Cell(feed, number, start, start + _CELL_RECORDS, changes))
    return laid


@dataclass(frozen=True, eq=False)
class _Sorted:
    """A slice with the rows of each feed side by side, in their order.

    :param ends: where those of each feed end.
    """

    rows: pa.Table
    ends: Sequence[int]


class CellReader:
    """Reads cells; a slice that others are being rendered of, or were just now, is not read again.

    :param reader: of what is sent.
    :param apart: the format makes a message of every row, so that a cell may be rendered in parts.
    """

    def __init__(self, reader: Reader, *, partitions: int, apart: bool) -> None:
        _free_slices_at_once()
        self._reader = reader
        self._feeds = count_feeds(partitions)
        self._apart = apart
        self._in_use: WeakValueDictionary[int, _Sorted] = WeakValueDictionary()
        self._last: deque[_Sorted] = deque(maxlen=_KEPT_SLICES)

    def read(self, cell: Cell) -> Iterator[Any]:
        """Read what a format is to render, in the order of the change set."""
        found = self._in_use.get(cell.slice) or self._read_sorted(cell.slice)
        self._in_use[cell.slice] = found
        self._last.append(found)
        start, end = found.ends[cell.feed - 1] if cell.feed else 0, found.ends[cell.feed]
        rows = _ROWS_AT_ONCE if self._apart else max(1, end - start)
        for first in range(start, end, rows):
            yield self._reader.make(found.rows.slice(first, min(rows, end - first)))

    def _read_sorted(self, number: int) -> _Sorted:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = self._reader.read(number)
        if self._feeds == 1:
            return _Sorted(rows, [rows.num_rows])
        digits = pc.utf8_slice_codeunits(rows["bucket"], 0, 1)
        names = pa.array(f"{digit:x}" for digit in range(MOST_FEEDS))
        feeds = pc.divide(pc.index_in(digits, value_set=names), MOST_FEEDS // self._feeds)
        found = {one["values"]: one["counts"] for one in pc.value_counts(feeds).to_pylist()}
        ends = list(accumulate(found.get(feed, 0) for feed in range(self._feeds)))
        if pc.all(pc.greater_equal(feeds[1:], feeds[:-1])).as_py():
            return _Sorted(rows, ends)  # as in all slices that hold one audience's entries, or exits, alone
        # Sorting keeps the order of equals.
        return _Sorted(rows.take(pc.sort_indices(feeds)).combine_chunks(), ends)


def _free_slices_at_once() -> None:
    """Have Arrow give back the memory of a slice that is done with: its own allocator keeps some 40 MiB of it.

    For the whole process, unless ``ARROW_DEFAULT_MEMORY_POOL`` says which allocator it is to be.
    """
    import pyarrow as pa

    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
