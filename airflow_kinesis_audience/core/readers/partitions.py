"""Partition groups: a delivery's partitions in up to sixteen groups, each read independently of the others.

The rows of a change set stand by partition. Read in their order they would fill one shard after the other, and a
slow shard would delay all; read by group they reach all shards at the same time. The rows of a group in one slice
are a chunk: it is rendered alone, and its records have numbers of their own, so that chunks are read in any order,
by any number of tasks, and give the same bytes and ids.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_kinesis_audience.core.readers.change_sets import SliceReader

MOST_PARTITION_GROUPS = 16
"""One for each first digit of a bucket."""

_CHUNK_RECORDS = 2**32
"""Numbers that a chunk has for its records, far more than it needs."""

_KEPT_SLICES = 4
"""The last slices are kept beside those that are being rendered: groups have rows in the same slices."""

_ROWS_AT_ONCE = 2_000
"""Rows that a format gets at once, if it makes one message per row."""


class Part(NamedTuple):
    """Which part of a delivery a task sends, of how many: each part has its share of the partition groups."""

    number: int = 0
    of: int = 1


WHOLE = Part()


class Chunk(NamedTuple):
    """The rows of a partition group in a slice.

    :param start: number of its first record; the numbers of all its records are below ``stop``.
    :param changes: how many changes of the change set it holds.
    """

    group: int
    slice: int
    start: int
    stop: int
    changes: int


def count_partition_groups(partitions: int) -> int:
    """Return how many partition groups a delivery has."""
    return min(partitions, MOST_PARTITION_GROUPS)


def plan_chunks(
    counts: Mapping[tuple[int, str], int], *, slices: int, partitions: int, part: Part
) -> list[list[Chunk]]:
    """List the chunks of each partition group of a part, in the order in which they are read.

    :param counts: changes by slice and first digit of the bucket.
    """
    groups = count_partition_groups(partitions)
    own = range(part.number * groups // part.of, (part.number + 1) * groups // part.of)
    found: Counter[tuple[int, int]] = Counter()
    for (number, digit), changes in counts.items():
        found[int(digit, 16) * groups // MOST_PARTITION_GROUPS, number] += changes
    planned: list[list[Chunk]] = [[] for _ in own]
    for (group, number), changes in sorted(found.items()):
        if group in own:
            start = (group * slices + number) * _CHUNK_RECORDS
            planned[group - own.start].append(Chunk(group, number, start, start + _CHUNK_RECORDS, changes))
    return planned


@dataclass(frozen=True, eq=False)
class _Sorted:
    """A slice with the rows of each partition group side by side, in their order.

    :param ends: where those of each group end.
    """

    rows: pa.Table
    ends: Sequence[int]


class ChunkReader:
    """Reads chunks; a slice that other chunks use, or used just now, is not read again.

    :param reader: of what is sent.
    :param one_message_per_row: the format makes a message of every row, so that a chunk may be rendered in parts.
    """

    def __init__(self, reader: SliceReader, *, partitions: int, one_message_per_row: bool) -> None:
        _free_slices_at_once()
        self._reader = reader
        self._groups = count_partition_groups(partitions)
        self._one_message_per_row = one_message_per_row
        self._in_use: WeakValueDictionary[int, _Sorted] = WeakValueDictionary()
        self._last: deque[_Sorted] = deque(maxlen=_KEPT_SLICES)

    def read(self, chunk: Chunk) -> Iterator[Any]:
        """Read what a format renders of a chunk, in the order of the change set."""
        found = self._in_use.get(chunk.slice) or self._read_sorted(chunk.slice)
        self._in_use[chunk.slice] = found
        self._last.append(found)
        start, end = found.ends[chunk.group - 1] if chunk.group else 0, found.ends[chunk.group]
        rows = _ROWS_AT_ONCE if self._one_message_per_row else max(1, end - start)
        for first in range(start, end, rows):
            yield self._reader.make(found.rows.slice(first, min(rows, end - first)))

    def _read_sorted(self, number: int) -> _Sorted:
        rows = self._reader.read(number)
        if self._groups == 1:
            return _Sorted(rows, [rows.num_rows])
        digits = pc.utf8_slice_codeunits(rows["bucket"], 0, 1)
        names = pa.array(f"{digit:x}" for digit in range(MOST_PARTITION_GROUPS))
        groups = pc.divide(pc.index_in(digits, value_set=names), MOST_PARTITION_GROUPS // self._groups)
        found = {one["values"]: one["counts"] for one in pc.value_counts(groups).to_pylist()}
        ends = list(accumulate(found.get(group, 0) for group in range(self._groups)))
        if pc.all(pc.greater_equal(groups[1:], groups[:-1])).as_py():
            return _Sorted(rows, ends)  # as in all slices that hold one audience's entries, or exits, alone
        # Sorting keeps the order of equals.
        return _Sorted(rows.take(pc.sort_indices(groups)).combine_chunks(), ends)


def _free_slices_at_once() -> None:
    """Have Arrow give back the memory of a slice after its use: Arrow's own allocator keeps some 40 MiB of it.

    For the whole process, unless ``ARROW_DEFAULT_MEMORY_POOL`` names an allocator.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
