"""SQL of the one reading of the source: who is in it, under which audience, with which values.

It builds statements and runs none. The author's query stands in each of them once, so that all that a run finds is
of one moment. Rows that name no user are counted here and compared nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Source, instant_text
from airflow_kinesis_audience.membership import (
    MEMBER,
    audience_rows,
    base_columns,
    fingerprint_of,
    member_columns,
    padded,
    with_expressions,
)
from airflow_kinesis_audience.sql import SOURCE_PLACEHOLDER, Kind, column, table, text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlglot import exp

    from airflow_kinesis_audience.layout import Column, Layout


def select_first_base(source: Source, layout: Layout, as_of: datetime, *, once: bool = False) -> exp.Query:
    """Build the base of a first run, straight from the source.

    :param once: leave out all but the first row of each user.
    """
    from sqlglot import exp

    names = base_columns(layout)
    given: dict[str, exp.Expr] = {n: column(n) for n in member_columns(layout)}
    given |= {
        "action": text(MEMBER),
        "member_since": text(instant_text(as_of)),
        "left_at": exp.cast(exp.null(), "TEXT"),
    }
    members = padded(given, names).from_(table(None, "source")).where(is_member(once=once))
    query = exp.union(members, audience_rows(table(None, "audiences"), names), distinct=False)
    read = select_source(source, layout, once=once)
    return with_expressions(query, [("source", read, True), ("audiences", select_audiences(once=once), None)])


def source_columns(source: Source, layout: Layout) -> exp.Select:
    """Build the reading of the source: keys and identities as text, the compared columns, the fingerprint.

    An empty user id counts as none: nobody could be told of it.
    """
    from sqlglot import exp

    def key_text(name: str) -> exp.Expr:
        return exp.func("NULLIF", exp.cast(column(name), "TEXT"), exp.Literal.string(""))

    audience: exp.Expr
    name: exp.Expr
    if source.audience_id_column is not None:
        audience = key_text(source.audience_id_column)
        named_by = source.audience_name_column or source.audience_id_column
        name = exp.cast(column(named_by), "TEXT")
    else:
        audience = text(source.audience_id or "")
        name = text(source.audience_name or source.audience_id or "")

    def value(c: Column) -> exp.Expr:
        if c.retired:
            return exp.cast(exp.null(), "TEXT")
        return exp.cast(column(c.source), "TEXT") if c.kind is Kind.TEXT else column(c.source)

    compared = [value(c).as_(c.new, quoted=True) for c in layout.columns]
    narrow = [fingerprint_of(layout).as_("fingerprint", quoted=True)] if layout.fingerprint else []
    return exp.select(
        audience.as_("audience_id", quoted=True),
        name.as_("audience_name", quoted=True),
        key_text(source.user_id).as_("user_id", quoted=True),
        *narrow,
        *compared,
    )


def select_source(source: Source, layout: Layout, *, once: bool = False) -> exp.Select:
    """Build the one reading of the source.

    :param once: number the rows of each user, which costs a sort, so that all but the first can be left out. Which
        one is the first depends on the values alone, so that it is the same one on the next run.
    """
    from sqlglot import exp

    read = source_columns(source, layout).from_(table(None, SOURCE_PLACEHOLDER).as_("given", quoted=True))
    if not once:
        return read
    order = [exp.Ordered(this=column(c.new), nulls_first=False) for c in layout.columns] or [
        exp.Ordered(this=column("user_id"))
    ]
    occurrence = exp.Window(
        this=exp.RowNumber(),
        partition_by=[column("audience_id"), column("user_id")],
        order=exp.Order(expressions=order),
    )
    return exp.select(exp.Star(), occurrence.as_("occurrence", quoted=True)).from_(read.subquery("read"))


def is_member(*, once: bool) -> exp.Expr:
    """Build the condition on a row of the source that makes it a member's; others are counted, not compared."""
    from sqlglot import exp

    named = [column(n).is_(exp.null()).not_() for n in ("user_id", "audience_id")]
    return exp.and_(*named, *([column("occurrence").eq(1)] if once else []))


def select_audiences(*, once: bool = False) -> exp.Select:
    """Build what is to be known of each audience from the one reading of the source: its name and its rows.

    Rows that are not invalid are members, unless users repeat and their rows were not numbered.
    """
    from sqlglot import exp

    named: exp.Expr = column("user_id")
    if once:
        named = exp.case().when(column("occurrence").eq(1), named)
    return (
        exp.select(
            column("audience_id"),
            exp.Max(this=column("audience_name")).as_("audience_name", quoted=True),
            exp.Count(this=exp.Star()).as_("source_rows", quoted=True),
            exp.Sub(this=exp.Count(this=exp.Star()), expression=exp.Count(this=named)).as_(
                "invalid_rows", quoted=True
            ),
        )
        .from_(table(None, "source"))
        .group_by(column("audience_id"))
    )
