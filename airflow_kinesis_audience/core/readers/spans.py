"""Spans: what one statement reads of a table, so that each of its rows is read once, whoever reads it.

A span is some chunks of some partition groups. Groups with few rows are read together, those of a group with many
in pieces; so a change set of a thousand audiences, whose every slice has rows of all groups, takes no more
statements than one of a single audience. Pure: nothing is read here.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from airflow_kinesis_audience.core.readers.partitions import MOST_PARTITION_GROUPS, Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_PHASES = 4
"""Pieces of groups that are equally large end at so many different times: not all are wanted at once."""


class ReadSpan(NamedTuple):
    """Chunks that are read together: those of each group in their order, and no others lie between them."""

    chunks: tuple[Chunk, ...]

    @property
    def slices(self) -> range:
        """The slices that they are in."""
        numbers = [chunk.slice for chunk in self.chunks]
        return range(min(numbers), max(numbers) + 1)

    def digits(self, groups: int) -> range:
        """The first digits of their buckets, where there are so many partition groups."""
        numbers, each = [chunk.group for chunk in self.chunks], MOST_PARTITION_GROUPS // groups
        return range(min(numbers) * each, (max(numbers) + 1) * each)


def plan_spans(
    planned: Sequence[Sequence[Chunk]], *, rows: int, slices: int | None, is_done: Callable[[Chunk], bool]
) -> list[ReadSpan]:
    """List the spans of some groups' chunks, in the order in which they are likely to be wanted.

    :param planned: the chunks of each group, the groups in their order.
    :param rows: most changes of a span that has more than one chunk.
    :param slices: most slices of a span, if that is what bounds it.
    :param is_done: whether a chunk need not be read.
    """
    by_source: list[list[ReadSpan]] = []
    together: list[Chunk] = []
    for chunks in planned:
        # What is done lies within no span: its rows would be read with the others.
        is_whole = not any(map(is_done, chunks))
        if is_whole and _fits([*together, *chunks], rows, slices):
            together += chunks
            continue
        by_source += [[ReadSpan(tuple(together))]] * bool(together)
        together = [*chunks] if is_whole and _fits(chunks, rows, slices) else []
        if not together:
            first = rows * (len(by_source) % _PHASES + 1) // _PHASES
            by_source.append([ReadSpan(c) for c in _cut(chunks, is_done, first=first, rows=rows, slices=slices)])
    by_source += [[ReadSpan(tuple(together))]] * bool(together)
    return [span for nth in zip_longest(*by_source) for span in nth if span is not None]


def _cut(
    chunks: Iterable[Chunk], is_done: Callable[[Chunk], bool], *, first: int, rows: int, slices: int | None
) -> Iterator[tuple[Chunk, ...]]:
    """Cut the chunks of a group; what is done lies within no piece."""
    piece: list[Chunk] = []
    most = first
    for chunk in chunks:
        done = is_done(chunk)
        if piece and (done or not _fits([*piece, chunk], most, slices)):
            yield tuple(piece)
            piece, most = [], rows
        if not done:
            piece.append(chunk)
    if piece:
        yield tuple(piece)


def _fits(chunks: Sequence[Chunk], rows: int, slices: int | None) -> bool:
    few_slices = slices is None or len({chunk.slice for chunk in chunks}) <= slices
    return few_slices and sum(chunk.changes for chunk in chunks) <= rows
