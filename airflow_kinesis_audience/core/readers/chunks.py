"""Reads the chunks of a delivery: by spans, ahead of their use, and each row once.

What was read of a span and is not used yet is kept: groups with few rows have spans in common.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_kinesis_audience.core.model.arrow_values import integer, texts
from airflow_kinesis_audience.core.readers.partitions import (
    MOST_PARTITION_GROUPS,
    Chunk,
    Part,
    count_partition_groups,
)
from airflow_kinesis_audience.core.readers.read_ahead import ReadAhead
from airflow_kinesis_audience.core.readers.spans import ReadSpan, plan_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from airflow_kinesis_audience.core.readers.change_sets import SliceReader

_ROWS_AT_ONCE = 2_000
"""Rows that a format gets at once, if it makes one message per row."""

_SLICES = 2**32
"""More than a table has."""

_GNU_SETTINGS = ((-3, 128 * 1024), (-8, 1))
"""``M_MMAP_THRESHOLD`` and ``M_ARENA_MAX``: what is larger is given back at once, and all else shares an arena."""


class ChunkReader:
    """Reads chunks, each once.

    :param reader: of what is sent.
    :param planned: the chunks of each partition group of a part.
    :param is_done: whether a chunk need not be read.
    :param one_message_per_row: the format makes a message of every row, so that a chunk may be rendered in parts.
    :param beside_others: entered by a thread that reads while others use the warehouse, too.
    """

    def __init__(
        self,
        reader: SliceReader,
        planned: Sequence[Sequence[Chunk]],
        *,
        partitions: int,
        part: Part,
        is_done: Callable[[Chunk], bool],
        one_message_per_row: bool,
        beside_others: Callable[[], AbstractContextManager[None]],
    ) -> None:
        _free_slices_at_once()
        self._reader = reader
        self._groups = count_partition_groups(partitions)
        self._one_message_per_row = one_message_per_row
        spans = plan_spans(planned, rows=reader.span_rows, slices=reader.span_slices, is_done=is_done)
        self._span_of = {chunk: span for span in spans for chunk in span.chunks}
        self._ahead = ReadAhead(self._read_span, spans, beside_others, tasks=part.of)
        self._ready: dict[tuple[int, int], pa.Table] = {}

    def read(self, chunk: Chunk) -> Iterator[Any]:
        """Read what a format renders of a chunk, in the order of the change set."""
        found = (chunk.group, chunk.slice)
        if found not in self._ready:
            self._ready |= self._cut(self._ahead.take(self._span_of[chunk]))
        rows = self._ready.pop(found)
        at_once = _ROWS_AT_ONCE if self._one_message_per_row else max(1, rows.num_rows)
        for first in range(0, rows.num_rows, at_once):
            yield self._reader.make(rows.slice(first, at_once))

    def close(self) -> None:
        """Read no more, and leave nothing that is being read."""
        self._ahead.close()

    def _read_span(self, span: ReadSpan) -> pa.Table:
        return self._reader.read(span.slices, span.digits(self._groups))

    def _cut(self, rows: pa.Table) -> dict[tuple[int, int], pa.Table]:
        """Cut what was read into chunks, by group and slice."""
        digits = pc.utf8_slice_codeunits(rows["bucket"], 0, 1)
        names = texts(f"{digit:x}" for digit in range(MOST_PARTITION_GROUPS))
        number = pc.index_in(digits, value_set=names).cast(pa.int64())
        groups = pc.divide(number, integer(MOST_PARTITION_GROUPS // self._groups))
        chunks = pc.add(pc.multiply(groups, integer(_SLICES)), rows["slice"])
        if not pc.all(pc.greater_equal(chunks[1:], chunks[:-1])).as_py():
            order = pc.sort_indices(chunks)  # which keeps the order of equals
            rows, chunks = rows.take(order).combine_chunks(), chunks.take(order)
        counted = pc.value_counts(chunks).to_pylist()
        ends = accumulate(one["counts"] for one in counted)
        return {
            divmod(one["values"], _SLICES): rows.slice(end - one["counts"], one["counts"])
            for one, end in zip(counted, ends, strict=True)
        }


def _free_slices_at_once() -> None:
    """Have the memory of a slice given back after its use, by Arrow and by the allocator of the GNU C library.

    Arrow's own allocator keeps some 40 MiB of it. The library's keeps an arena for each of the threads that read
    and put, and in it whatever lies below what is in use: some 80 MiB. For the whole process, unless its
    environment sets the allocator.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
    if not any(name.startswith("MALLOC_") for name in os.environ):
        # Other C libraries have no such setting, and other allocators ignore it.
        with contextlib.suppress(AttributeError, OSError):
            mallopt = ctypes.CDLL(None).mallopt
            for setting, value in _GNU_SETTINGS:
                mallopt(setting, value)
