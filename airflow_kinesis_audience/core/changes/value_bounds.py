"""What the values of a new change set are like: how long they are, and whether there is JSON for all of them.

Looked at before the change set counts, in the one reading that counts its rows: long values make a slice of fewer
rows, so that whoever reads it holds a bounded number of bytes, and a value that JSON cannot hold stops the run
with nothing sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlglot import exp

from airflow_kinesis_audience.core.source.flags import find_numbers, flags_of, has_numbers
from airflow_kinesis_audience.core.source.no_texts import check_texts, checked_texts, has_no_text, keys_of
from airflow_kinesis_audience.core.sql.statements import column
from airflow_kinesis_audience.core.sql.types import LogicalType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.sql.dialects import Dialect

SLICE_CHARACTERS = 20_000_000
"""Most characters of a slice's texts, on an average."""

_BOUNDS = {
    LogicalType.DATE: ("DATE", "0001-01-01", "9999-12-31"),
    LogicalType.TIMESTAMP: ("TIMESTAMPTZ", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"),
}
"""The days and instants that JSON's RFC 3339 and Python have words for."""


def choose_slice_rows(
    layout: TableLayout, dialect: Dialect, extents: Sequence[Sequence[Any]], *, most_rows: int
) -> int:
    """Choose how many rows a slice of a new table has.

    :param extents: of each group of rows: what :func:`measure_values` selects.
    :raises ValueError: if a value is a day or an instant that JSON cannot hold; a retry does not help.
    :raises WarehouseRefused: if a text has bytes that are no characters; a retry does not help.
    """
    texts = checked_texts(layout, keys_of(layout), dialect)
    check_texts(layout, texts, [group[len(group) - len(texts) :] for group in extents], dialect)
    if found := [c.source for n, c in enumerate(_dated(layout), 1) if any(group[n] for group in extents)]:
        raise ValueError(
            f"{', '.join(map(repr, found))} has values outside the years 1 to 9999, such as infinity, which a "
            "message cannot contain. Limit them in the query, or make them NULL. Nothing was sent"
        )
    width = max((float(group[0] or 0) for group in extents), default=0.0)
    return max(1, min(most_rows, int(SLICE_CHARACTERS / max(1.0, width))))


def measure_values(layout: TableLayout, dialect: Dialect, *, both_sides: bool) -> list[exp.Expr]:
    """Build the measures of a group of rows.

    They are: characters of a row on an average; per dated column whether it is beyond the bounds; per boolean
    that could be a number whether it is one; per text whether it is none, where texts may have any bytes.

    :param both_sides: whether the table has old values beside the new ones.
    """
    width: exp.Expr = exp.Literal.number(0)
    for n in (n for c in layout.columns if c.kind is LogicalType.TEXT for n in (c.new, c.old)[: 1 + both_sides]):
        length = exp.func("COALESCE", exp.Length(this=column(n)), exp.Literal.number(0))
        width = exp.Add(this=width, expression=length)
    dated = (exp.Max(this=_is_beyond(c)) for c in _dated(layout))
    flags, texts = map(has_numbers, flags_of(layout)), checked_texts(layout, keys_of(layout), dialect)
    return [exp.Avg(this=exp.cast(width, "DOUBLE")), *dated, *flags, *(has_no_text(n, dialect) for n in texts)]


def find_measured_numbers(layout: TableLayout, extents: Sequence[Sequence[Any]]) -> list[Column]:
    """Find the columns that are taken for booleans and have other numbers."""
    return find_numbers(layout, (group[1 + len(_dated(layout)) :] for group in extents))


def _dated(layout: TableLayout) -> list[Column]:
    return [c for c in layout.columns if c.kind in _BOUNDS]


def _is_beyond(c: Column) -> exp.Expr:
    type_name, first, last = _BOUNDS[c.kind]
    low, high = (exp.cast(exp.Literal.string(bound), type_name) for bound in (first, last))
    beyond = exp.or_(exp.LT(this=column(c.new), expression=low), exp.GT(this=column(c.new), expression=high))
    return exp.case().when(beyond, exp.Literal.number(1)).else_(exp.Literal.number(0))
