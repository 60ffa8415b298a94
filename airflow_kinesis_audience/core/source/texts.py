"""A value of the author's query as text: by which keys, identities and texts differ.

It is the value's text alone: its bytes decide and no collation, a number has no zeros at its end, and how a file
spells it plays no part. It builds expressions and runs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.sql.collations import by_bytes
from airflow_kinesis_audience.core.sql.statements import column
from airflow_kinesis_audience.core.sql.types import DECIMAL, FILLED, LogicalType

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.sql.dialects import Dialect


def text_of(name: str, kind: str, dialect: Dialect) -> exp.Expr:
    """Build a source column as text.

    :param kind: of its values, from :func:`~airflow_kinesis_audience.core.sql.types.text_kind`.
    """
    value = column(name) if kind == LogicalType.TEXT else value_itself(column(name), dialect, kind)
    return element_text(by_bytes(exp.cast(value, "TEXT")), kind)


def element_text(text: exp.Expr, kind: str) -> exp.Expr:
    """Build a value's text out of what a cast makes of it."""
    return without_zeros(text) if kind.removesuffix(FILLED) == DECIMAL else text


def value_itself(value: exp.Expr, dialect: Dialect, kind: str = "") -> exp.Expr:
    """Build a source column for a cast to text: DuckDB would have a file's reader cast what is written there.

    :param kind: of its values; a sum is a number without the zeros that its column puts before it.
    """
    if dialect.name == "duckdb":
        return exp.case().when(value.is_(exp.null()).not_(), value.copy())
    return exp.Add(this=value, expression=exp.Literal.number(0)) if kind.endswith(FILLED) else value


def without_zeros(number: exp.Expr) -> exp.Expr:
    """Build a number's text without the zeros after its last decimal: 7.00 and 7 are one number."""
    shorter = number
    for character in "0.":
        end = exp.Literal.string(character)
        shorter = exp.Trim(this=shorter.copy(), expression=end, position="TRAILING")
    has_decimals = exp.Like(this=number.copy(), expression=exp.Literal.string("%.%"))
    return exp.case().when(has_decimals, shorter).else_(number.copy())
