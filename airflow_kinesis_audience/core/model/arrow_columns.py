"""A column as it was read: plain values for code that asks for them, Arrow for code that works on whole columns.

Values are made of it when they are first asked for and not before, because a format that cuts its messages out of
Arrow never needs them. It can be read and not changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

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
        """Whether every value is text."""
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
                    "a column has a date or an instant outside the years 1 to 9999; limit it in the query"
                ) from None
        return self._values
