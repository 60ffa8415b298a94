"""What the values of a new change set are like: how long they are, and whether there is JSON for all of them.

Looked at before the change set counts, in one pass over its table: long values make a slice of fewer rows, so that
whoever reads it holds a bounded number of bytes, and a value that cannot be told stops the run with nothing sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.kinds import Kind
from airflow_kinesis_audience.membership import AUDIENCE
from airflow_kinesis_audience.sql import column, render, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlglot import exp

    from airflow_kinesis_audience.layout import Column, Layout
    from airflow_kinesis_audience.sql import Warehouse

SLICE_CHARACTERS = 20_000_000
"""Most characters of a slice's texts, on an average."""

_BOUNDS = {
    Kind.DATE: ("DATE", "0001-01-01", "9999-12-31"),
    Kind.TIMESTAMP: ("TIMESTAMPTZ", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"),
}
"""The days and instants that JSON's RFC 3339 and Python have words for."""


def choose_slice_rows(
    warehouse: Warehouse, schema: str, name: str, layout: Layout, *, most_rows: int, both_sides: bool
) -> int:
    """Choose how many rows a slice of a new table has.

    :param both_sides: whether the table has old values beside the new ones.
    :raises ValueError: if a value is a day or an instant that cannot be told; a retry does not help.
    """
    dated = [c for c in layout.columns if c.kind in _BOUNDS]
    texts = [n for c in layout.columns if c.kind is Kind.TEXT for n in (c.new, c.old)[: 1 + both_sides]]
    query = render(_select_extent(schema, name, texts, dated), warehouse.dialect)
    [(width, *beyond)] = warehouse.read_rows(query)
    if found := [c.source for c, is_beyond in zip(dated, beyond, strict=True) if is_beyond]:
        raise ValueError(
            f"{', '.join(map(repr, found))} has values outside the years 1 to 9999, such as infinity, which no "
            "message can tell; bound them in the query, or make them NULL. Nothing was sent"
        )
    return max(1, min(most_rows, int(SLICE_CHARACTERS / max(1.0, width or 0.0))))


def _select_extent(schema: str, name: str, texts: Sequence[str], dated: Sequence[Column]) -> exp.Query:
    """Build the width of a row, on an average where it is largest, and per column whether it is beyond bounds."""
    from sqlglot import exp

    width: exp.Expr = exp.Literal.number(0)
    for n in texts:
        length = exp.func("COALESCE", exp.Length(this=column(n)), exp.Literal.number(0))
        width = exp.Add(this=width, expression=length)
    found = {"width": exp.Avg(this=exp.cast(width, "DOUBLE"))} | {
        f"beyond_{n}": exp.Max(this=_is_beyond(c)) for n, c in enumerate(dated)
    }
    each = (
        exp.select(*(e.as_(n, quoted=True) for n, e in found.items()))
        .from_(table(schema, name))
        .where(column("action").neq(AUDIENCE))
        .group_by(column("audience_id"))
    )
    return exp.select(*(exp.Max(this=column(n)) for n in found)).from_(each.subquery("audiences"))


def _is_beyond(c: Column) -> exp.Expr:
    from sqlglot import exp

    type_name, first, last = _BOUNDS[c.kind]
    low, high = (exp.cast(exp.Literal.string(bound), type_name) for bound in (first, last))
    beyond = exp.or_(exp.LT(this=column(c.new), expression=low), exp.GT(this=column(c.new), expression=high))
    return exp.case().when(beyond, exp.Literal.number(1)).else_(exp.Literal.number(0))
