"""Texts with bytes that are no characters, on engines whose texts may have any bytes.

They are never sent: a reader replaces such bytes, so that two ids would become one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import WarehouseRefused
from airflow_kinesis_audience.core.sql.statements import column
from airflow_kinesis_audience.core.sql.types import LogicalType, in_each

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.sql.dialects import Dialect


def keys_of(layout: TableLayout) -> dict[str, str | None]:
    """Name the columns of a member's key, and what they are in the source."""
    return {"user_id": layout.user_id, "audience_id": layout.audience_id_column}


def checked_texts(layout: TableLayout, keys: Mapping[str, str | None], dialect: Dialect) -> dict[str, str]:
    """Name the columns of texts that may have any bytes, and what they are in the source; none on most engines."""
    if dialect.functions.is_text is None:
        return {}
    mapped = {c.new: c.source for c in layout.columns if c.kind is LogicalType.TEXT and not c.retired}
    return {n: c for n, c in ({**keys, **mapped}).items() if c is not None}


def has_no_text(name: str, dialect: Dialect) -> exp.Expr:
    """Build the measure whether a group of rows has such bytes in a column: 1 if it does."""
    return exp.Max(this=mark_no_text(name, dialect))


def mark_no_text(name: str, dialect: Dialect) -> exp.Expr:
    """Build whether a value has such bytes: 1 if it does."""
    quoted = column(name).sql(dialect=dialect.name, identify=True)
    is_text = sqlglot.parse_one(str(dialect.functions.is_text).format(column=quoted), dialect=dialect.name)
    return exp.case().when(exp.not_(is_text), exp.Literal.number(1)).else_(exp.Literal.number(0))


def check_texts(
    layout: TableLayout, texts: Mapping[str, str], measured: Sequence[Sequence[object]], dialect: Dialect
) -> None:
    """Refuse such bytes.

    :param texts: what :func:`checked_texts` names, and ``measured`` of each group of rows their measures.
    :raises WarehouseRefused: if there are any; a retry does not help.
    """
    found = [source for n, source in enumerate(texts.values()) if any(group[n] for group in measured)]
    if not found:
        return
    several = found[0] in {c.source for c in layout.columns if c.several}
    digits = in_each("HEX({column})", found[0], dialect, several=several)
    raise WarehouseRefused(
        f"{' and '.join(map(repr, found))} has values that are not UTF-8 text. Nothing was sent. Convert them "
        f"to text in the query, for example: {digits} AS {found[0]}"
    )
