"""Properties of MySQL's TINYINT(1), which is how it writes BOOLEAN, and where people keep small numbers, too.

The type does not say which; the values do. They are sent as true and false only while there is nothing else than
0 and 1. A property that has been sent as one of the two is never sent as the other without its author's word.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from airflow_kinesis_audience.core.sql.statements import column
from airflow_kinesis_audience.core.sql.types import FLAG, LogicalType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from airflow_kinesis_audience.core.source.layout import Column, TableLayout


def flags_of(layout: TableLayout) -> list[Column]:
    """List the columns that are taken for booleans, and could have other numbers."""
    return [c for c in layout.columns if c.given == FLAG and c.kind is LogicalType.BOOLEAN]


def has_numbers(c: Column) -> exp.Expr:
    """Build the measure whether a group of rows has other numbers in such a column: 1 if it does."""
    number = exp.cast(column(c.new), "BIGINT")
    other = exp.not_(exp.In(this=number, expressions=[exp.Literal.number(n) for n in (0, 1)]))
    return exp.Max(this=exp.case().when(other, exp.Literal.number(1)).else_(exp.Literal.number(0)))


def find_numbers(layout: TableLayout, measured: Iterable[Sequence[Any]]) -> list[Column]:
    """Find the columns that have other numbers.

    :param measured: of each group of rows the measures of :func:`flags_of`, in their order.
    """
    groups = list(measured)
    return [c for n, c in enumerate(flags_of(layout)) if any(group[n] for group in groups)]


def as_numbers(layout: TableLayout, found: Collection[Column]) -> TableLayout:
    """Take some of the columns for numbers."""
    changed = (replace(c, kind=LogicalType.INTEGER) if c in found else c for c in layout.columns)
    return replace(layout, columns=tuple(changed))


def numbers_as_before(layout: TableLayout, published: TableLayout) -> TableLayout:
    """Take for numbers what was sent as numbers, whatever it has now."""
    known = {
        (c.role, c.label, c.source)
        for c in published.columns
        if c.given == FLAG and c.kind is LogicalType.INTEGER and not c.retired
    }
    return as_numbers(layout, [c for c in flags_of(layout) if (c.role, c.label, c.source) in known])


def describe_numbers(found: Collection[Column]) -> str:
    """Say of which columns the values are no booleans, and what to write."""
    names = ", ".join(repr(c.source) for c in found)
    casts = ", ".join(f"CAST({c.source} AS SIGNED) AS {c.source}" for c in found)
    return (
        f"{names} is a TINYINT(1), which is MySQL's BOOLEAN, and has numbers other than 0 and 1. Nothing was "
        f"sent. To send numbers, write {casts} in the query; to send true and false, return only 0 and 1"
    )
