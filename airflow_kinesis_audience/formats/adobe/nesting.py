"""Columns whose dotted names nest, as fragments of JSON: `person.name.first` becomes an object in an object.

Rendered by columns and joined once, because a dictionary per row would cost several times as much.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Tree = dict[str, "Tree | Sequence[bytes]"]


def nest(columns: Iterable[tuple[str, Sequence[bytes]]], rows: int, *, taken: Sequence[str] = ()) -> list[bytes]:
    """Render the members of an object, a comma before each, per row.

    :param columns: dotted name to one rendered value per row.
    :param taken: outermost names that no column may have.
    :raises ValueError: if a name is empty in part, taken, or both a value and an object; a retry does not help.
    """
    tree: Tree = {}
    for name, values in columns:
        *outer, inner = path = name.split(".")
        if not all(path):
            raise ValueError(f"{name!r} has an empty part; expected names separated by single dots")
        if path[0] in taken:
            raise ValueError(f"{name!r} has the place that the format uses for {path[0]!r}; choose another name")
        place = tree
        for part in outer:
            deeper = place.setdefault(part, {})
            if not isinstance(deeper, dict):
                raise ValueError(_both(name))
            place = deeper
        if inner in place:
            raise ValueError(_both(name))
        place[inner] = values
    pieces = [repeat(p, rows) if isinstance(p, bytes) else p for p in _pieces(tree)]
    return [b"".join(row) for row in zip(*pieces, strict=True)] if pieces else [b""] * rows


def _pieces(tree: Tree) -> Iterator[bytes | Sequence[bytes]]:
    """Give, in order, what a row is joined of: what is the same in every row, and columns."""
    for name, value in tree.items():
        yield b"," + orjson.dumps(name) + b":"
        if isinstance(value, dict):
            inner = list(_pieces(value))
            inner[0] = inner[0][1:]  # a key, whose comma has nothing before it
            yield b"{"
            yield from inner
            yield b"}"
        else:
            yield value


def _both(name: str) -> str:
    return f"{name!r} would be both a value and an object; rename it, or the names that start with it"
