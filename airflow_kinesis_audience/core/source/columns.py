"""SQL of the one reading of the source: which users are in it, in which audience, with which values.

It builds statements and runs none. The author's query stands in each of them once, so that all that a run finds is
of one moment. Rows that name no user, or hold an identity that is not what its rule promises, are counted here and
compared nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.source.identities import identity_value, is_filled, is_invalid
from airflow_kinesis_audience.core.source.no_texts import keys_of
from airflow_kinesis_audience.core.source.priority import RANK, mark_outranked, rank_of
from airflow_kinesis_audience.core.source.splits import in_group
from airflow_kinesis_audience.core.source.staging import SourceReading, stage_source_rows
from airflow_kinesis_audience.core.source.texts import text_of, value_itself
from airflow_kinesis_audience.core.sql.statements import SOURCE_PLACEHOLDER, column, table, text
from airflow_kinesis_audience.core.sql.types import FILLED, REAL, LogicalType

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.source.exclusion import Exclusion
    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse


def read_source(
    warehouse: Warehouse, source: Source, layout: TableLayout, query: str, exclusion: Exclusion | None = None
) -> SourceReading:
    """Give the reading of the source for a statement over the state."""
    columns = source_columns(source, layout, warehouse.origin.dialect)
    given = columns.from_(table(None, SOURCE_PLACEHOLDER).as_("given"))
    kinds = dict.fromkeys(("audience_id", "audience_name", "user_id"), LogicalType.TEXT)
    kinds |= {c.new: c.kind for c in layout.columns}
    if exclusion is not None:
        given = exclusion.mark(given, warehouse.origin.dialect)
    if source.exclusive_by:
        given = mark_outranked(given)
    kinds |= {n: LogicalType.BOOLEAN for n in given.named_selects if n not in kinds}
    return stage_source_rows(warehouse, given, query, kinds, layout, keys_of(layout))


def source_columns(source: Source, layout: TableLayout, dialect: Dialect) -> exp.Select:
    """Build what is taken of each row: keys as text, the compared values, and which identities are invalid.

    An empty user id counts as none: no destination has a user of that id.
    """
    audience: exp.Expr
    name: exp.Expr
    if source.audience_id_column is not None:
        audience = key_text(source.audience_id_column, layout, dialect)
        named_by = source.audience_name_column or source.audience_id_column
        name = text_of(named_by, layout.key_types.get(named_by, ""), dialect)
    else:
        audience = text(source.audience_id or "")
        name = text(source.audience_name or source.audience_id or "")
    user_id = key_text(source.user_id, layout, dialect)
    rank = [rank_of(source.exclusive_by, audience).as_(RANK)] if source.exclusive_by else []
    if source.split is not None:
        audience = in_group(source.split, user_id, audience, ".{}")
        name = in_group(source.split, user_id, name, " ({})")
    checks = [(c, is_invalid(c, dialect)) for c in layout.checked]
    return exp.select(
        audience.as_("audience_id"),
        name.as_("audience_name"),
        user_id.as_("user_id"),
        *(value_of(c, dialect).as_(c.new) for c in layout.columns),
        *(check.as_(c.invalid) for c, check in checks if check is not None),
        *(is_filled(c, dialect).as_(c.filled) for c in layout.filtered),
        *rank,
    )


def key_text(name: str, layout: TableLayout, dialect: Dialect) -> exp.Expr:
    """Build a key as text; an empty one counts as none."""
    return exp.func("NULLIF", text_of(name, layout.key_types.get(name, ""), dialect), exp.Literal.string(""))


def value_of(c: Column, dialect: Dialect) -> exp.Expr:
    """Build what is taken of a mapped column: of an identity what its rule makes, of a retired one nothing."""
    if c.retired:
        return exp.cast(exp.null(), "TEXT")
    if c.role == "identity":
        return identity_value(c, dialect)
    if c.given == REAL:
        # Of the number that it is written as: 0.1 has other digits once it is widened.
        return exp.cast(exp.cast(value_itself(column(c.source), dialect), "TEXT"), "DOUBLE")
    if c.kind is LogicalType.TEXT:
        return text_of(c.source, c.kind, dialect)
    return value_itself(column(c.source), dialect, c.given) if c.given.endswith(FILLED) else column(c.source)
