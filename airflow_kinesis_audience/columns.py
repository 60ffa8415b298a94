"""A column as it was read: plain values for whoever asks for them, Arrow for whoever works on whole columns.

Values are made of it when they are first asked for and not before, because a format that cuts its messages out of
Arrow never needs them. It can be read and not changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import compress, count, islice
from operator import ne
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowColumn(Sequence[Any]):
    """The values of a column, of one type, and none for NULL.

    :param array: whose values they are.
    """

    __slots__ = ("_values", "array")

    def __init__(self, array: pa.Array) -> None:
        self.array = array
        self._values: list[Any] | None = None

    @property
    def is_text(self) -> bool:
        """Tell whether every value is text."""
        import pyarrow as pa

        return pa.types.is_string(self.array.type) and not self.array.null_count

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, at: Any) -> Any:
        return self._listed()[at]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._listed())

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} values of type {self.array.type}>"

    def _listed(self) -> list[Any]:
        if self._values is None:
            try:
                self._values = self.array.to_pylist()
            except OverflowError:
                raise ValueError(
                    "a column holds a day or an instant outside the years 1 to 9999; bound it in the query"
                ) from None
        return self._values


def find_breaks(column: Sequence[Any]) -> Iterator[int]:
    """Find the rows whose value is not that of the row before."""
    if not isinstance(column, ArrowColumn):
        return compress(count(1), map(ne, column, islice(column, 1, None)))
    import pyarrow.compute as pc

    ends: list[int] = pc.run_end_encode(column.array).run_ends.to_pylist()
    return iter(ends[:-1])


def first_letters(column: Sequence[str], count: int) -> Sequence[str]:
    """Give the first letters of each text."""
    if not isinstance(column, ArrowColumn):
        return [text[:count] for text in column]
    import pyarrow.compute as pc

    return ArrowColumn(pc.utf8_slice_codeunits(column.array, 0, count))


def find_rows(column: Sequence[Any], rows: range, values: Collection[str]) -> Sequence[int]:
    """Find, among rows side by side, those that have one of the values."""
    if not isinstance(column, ArrowColumn):
        return [row for row in rows if column[row] in values]
    import pyarrow as pa
    import pyarrow.compute as pc

    has = pc.is_in(column.array.slice(rows.start, len(rows)), value_set=pa.array(values))
    return pc.add(pc.indices_nonzero(has), pa.scalar(rows.start, pa.uint64())).to_pylist()  # type: ignore[no-any-return]


def take_rows(column: Sequence[Any], rows: Sequence[int]) -> Sequence[Any]:
    """Give the values of some rows."""
    if not isinstance(column, ArrowColumn):
        return [column[row] for row in rows]
    import pyarrow as pa

    return ArrowColumn(column.array.take(pa.array(rows, pa.int64())))


def value_at(column: Sequence[Any], row: int) -> Any:
    """Give one value, without making all of them."""
    return column.array[row].as_py() if isinstance(column, ArrowColumn) else column[row]
