"""SQL of a change set: what differs between a membership and the source, found in one statement.

All that it finds is of one moment of the source, which is compared with the last published membership as
``comparing.py`` says. NULL equals NULL. Rows are numbered in the order in which messages are made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Action, Updated, instant_text
from airflow_kinesis_audience.comparing import Named, differs, select_differing
from airflow_kinesis_audience.membership import (
    AUDIENCE,
    AUDIENCE_COLUMNS,
    Tables,
    audience_rows,
    bucket_of,
    member_columns,
    padded,
    select_membership,
    with_expressions,
)
from airflow_kinesis_audience.source import select_audiences, select_source
from airflow_kinesis_audience.sql import column, table, text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlglot import exp

    from airflow_kinesis_audience.dialects import Dialect
    from airflow_kinesis_audience.layout import Column, Layout


def change_columns(layout: Layout) -> tuple[str, ...]:
    """List the columns of a change set and of a snapshot."""
    return (
        "position",
        "action",
        "updated",
        "bucket",
        *member_columns(layout),
        *(c.old for c in layout.columns),
        *AUDIENCE_COLUMNS,
    )


def select_changes(
    read: exp.Select, tables: Tables, as_of: datetime, dialect: Dialect, *, once: bool = False, kept: bool = True
) -> exp.Query:
    """Build a change set: from a membership to the source as of now.

    :param read: the reading of the source.
    :param tables: of the membership, in the layout of the source.
    :param dialect: of the engine that has them.
    :param once: leave out all but the first row of each user.
    :param kept: keep what is read of the source until all is found; otherwise it is read twice in this statement.
    """
    from sqlglot import exp

    layout = tables.layout
    needed, members = select_membership(tables)
    named: list[Named] = [
        ("source", select_source(read, layout, once=once), kept),
        *((name, query, None) for name, query in needed),
        ("previous", members, False),
        *select_differing(layout, dialect, once=once),
        ("compared", _classify(layout, as_of), None),
        ("audiences", select_audiences(layout, once=once), None),
    ]
    names = change_columns(layout)
    rows = numbered(names, table(None, "compared"))
    audiences = audience_rows(table(None, "audiences"), names, wrong_identities=column("wrong_identities"))
    query = exp.union(rows, audiences, distinct=False)
    return with_expressions(query, named)


def select_counts(schema: str, name: str) -> exp.Query:
    """Build the counts per audience and action of a base's members or a change set's rows.

    Columns: audience_id, action, rows, distinct users.
    """
    from sqlglot import exp

    return (
        exp.select(
            column("audience_id"),
            column("action"),
            exp.Count(this=exp.Star()),
            exp.Count(this=exp.Distinct(expressions=[column("user_id")])),
        )
        .from_(table(schema, name))
        .where(column("action").neq(AUDIENCE))
        .group_by(column("audience_id"), column("action"))
    )


def select_found(schema: str, name: str, *more: exp.Expr) -> exp.Query:
    """Build the counts and what is told of audiences in one reading of a table.

    :param more: further measures of an action's rows.

    Columns: audience_id, action, rows, distinct users; where the action is ``audience`` also audience_name,
    source_rows, invalid_rows, wrong_identities; and those.
    """
    from sqlglot import exp

    told = (exp.Max(this=column(n)) for n in AUDIENCE_COLUMNS)
    query = select_counts(schema, name).select(*told, *more)
    query.set("where", None)
    return query


def select_audience_rows(schema: str, name: str, *more: str) -> exp.Query:
    """Build the reading of what a state table tells of audiences.

    :param more: further columns of the audiences' rows.

    Columns: audience_id, audience_name, source_rows, invalid_rows, and those.
    """
    from sqlglot import exp

    names = ("audience_id", "audience_name", "source_rows", "invalid_rows", *more)
    return exp.select(*(column(n) for n in names)).from_(table(schema, name)).where(column("action").eq(AUDIENCE))


def _classify(layout: Layout, as_of: datetime) -> exp.Select:
    """Build action and kind of update; a fingerprint that differs over equal values is no change."""
    from sqlglot import exp

    def differing(columns: Sequence[Column]) -> exp.Expr:
        return differs(layout, columns, "differing", "differing", "old")

    gone, fresh = column("gone"), column("fresh")
    action = (
        exp.case()
        .when(gone, text(Action.EXITED.value))
        .when(fresh, text(Action.ENTERED.value))
        .else_(text(Action.UPDATED.value))
    )
    both = exp.and_(differing(layout.identities), differing(layout.properties))
    updated = (
        exp.case()
        .when(exp.or_(gone, fresh), exp.cast(exp.null(), "TEXT"))
        .when(both, text(Updated.BOTH.value))
        .when(differing(layout.identities), text(Updated.IDENTITIES.value))
        .else_(text(Updated.PROPERTIES.value))
    )
    since = exp.func("COALESCE", column("member_since"), text(instant_text(as_of)))
    narrow = (column("fingerprint"),) if layout.fingerprint else ()
    return (
        exp.select(
            action.as_("action", quoted=True),
            updated.as_("updated", quoted=True),
            column("audience_id"),
            column("user_id"),
            since.as_("member_since", quoted=True),
            *narrow,
            *(column(n) for c in layout.columns for n in (c.new, c.old)),
        )
        .from_(table(None, "differing"))
        .where(exp.or_(gone, fresh, differing(layout.columns)))
    )


def numbered(names: Sequence[str], origin: exp.Table) -> exp.Select:
    """Number the rows in the order of audience, action, bucket and user; a user's bucket never changes."""
    from sqlglot import exp

    bucket = bucket_of(column("user_id"))
    order = [exp.Ordered(this=e) for e in (column("audience_id"), column("action"), bucket, column("user_id"))]
    number = exp.Window(this=exp.RowNumber(), order=exp.Order(expressions=order))
    own = {
        "position": exp.Sub(this=number, expression=exp.Literal.number(1)),
        "bucket": bucket.copy(),
    }
    return padded({n: own.get(n, column(n)) for n in names if n not in AUDIENCE_COLUMNS}, names).from_(origin)
