"""SQL of a change set: what differs between a membership and the source, found in one statement.

All that it finds is of one moment of the source, which is compared with the last published membership as
``compare.py`` says. NULL equals NULL. Rows are numbered in the order in which messages are made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.compare import differs, select_differing
from airflow_kinesis_audience.core.changes.source_rows import (
    reasons_of,
    select_audiences,
    select_kept,
    select_source,
)
from airflow_kinesis_audience.core.model.audience import Action, UpdatedPart
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.statements import column, table, text
from airflow_kinesis_audience.core.state.membership import Tables, select_membership
from airflow_kinesis_audience.core.state.rows import (
    audience_rows,
    change_columns,
    numbered,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.sql.dialects import Dialect


def select_changes(
    read: exp.Select,
    tables: Tables,
    as_of: datetime,
    dialect: Dialect,
    *,
    deduplicate: bool = False,
    materialize: bool = True,
    nulls: bool = False,
) -> exp.Query:
    """Build a change set: from a membership to the source as of now.

    :param read: the reading of the source.
    :param tables: of the membership, in the layout of the source.
    :param dialect: of the engine that has them.
    :param deduplicate: leave out all but the first row of each user.
    :param materialize: keep what is read of the source until all is found; otherwise it is read twice in this
        statement.
    :param nulls: count of each mapped column the rows that have nothing in it.
    """
    layout = tables.layout
    needed, members = select_membership(tables)
    names = change_columns(layout)
    rows = numbered(names, table(None, "compared"))
    audiences = audience_rows(table(None, "audiences"), names)
    query: exp.Query = exp.union(rows, audiences, distinct=False)
    query = query.with_(
        "source", as_=select_source(read, layout, deduplicate=deduplicate), materialized=materialize, copy=False
    )
    for name, body in needed:
        query = query.with_(name, as_=body, copy=False)
    query = query.with_("previous", as_=members, materialized=False, copy=False)
    for name, body in select_differing(layout, dialect, deduplicate=deduplicate):
        query = query.with_(name, as_=body, copy=False)
    query = query.with_("compared", as_=classify(layout, as_of), copy=False)
    if has_kept := deduplicate and bool(layout.checked):
        query = query.with_("kept", as_=select_kept(layout), copy=False)
    how = {"deduplicate": deduplicate, "has_kept": has_kept, "nulls": nulls}
    found = select_audiences(layout, left_out=reasons_of(read), **how)
    return query.with_("audiences", as_=found, copy=False)


def classify(layout: TableLayout, as_of: datetime) -> exp.Select:
    """Build action and kind of update; whoever is not gone, not fresh and has equal values is no change."""

    def differing(columns: Sequence[Column]) -> exp.Expr:
        return differs(layout, columns, "differing", "differing", "old")

    is_missing, is_new = column("gone"), column("fresh")
    action = (
        exp.case()
        .when(is_missing, text(Action.EXITED.value))
        .when(is_new, text(Action.ENTERED.value))
        .else_(text(Action.UPDATED.value))
    )
    both = exp.and_(differing(layout.identities), differing(layout.properties))
    updated = (
        exp.case()
        .when(exp.or_(is_missing, is_new), exp.cast(exp.null(), "TEXT"))
        .when(both, text(UpdatedPart.BOTH.value))
        .when(differing(layout.identities), text(UpdatedPart.IDENTITIES.value))
        .else_(text(UpdatedPart.PROPERTIES.value))
    )
    since = exp.func("COALESCE", column("member_since"), text(instant_text(as_of)))
    return (
        exp.select(
            action.as_("action"),
            updated.as_("updated"),
            column("audience_id"),
            column("user_id"),
            since.as_("member_since"),
            *(column(n) for c in layout.columns for n in (c.new, c.old)),
        )
        .from_(table(None, "differing"))
        .where(exp.or_(is_missing, is_new, differing(layout.columns)))
    )
