"""SQL of the membership at an instant: the newest base at or before it, plus the change sets after it.

It builds statements and runs none. Bases, change sets and snapshots share one row layout, so that any of them is
read the same way: rows of members or changes, and one ``audience`` row per audience. No table is ever
written to again after it was created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Action, Source, instant_text
from airflow_kinesis_audience.sql import SOURCE_PLACEHOLDER, Kind, column, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlglot import exp

    from airflow_kinesis_audience.layout import Layout

MEMBER = "member"
AUDIENCE = "audience"
"""``action`` of the rows that are no change: a member of a base, and what is known of an audience."""


def fingerprint_of(layout: Layout) -> exp.Expr:
    """Build the fingerprint over the compared columns of the source: lengths keep NULL, '' and joins apart."""
    from sqlglot import exp

    parts: list[exp.Expr] = []
    for c in layout.columns:
        value = exp.cast(column(c.source), "TEXT")
        length = exp.cast(exp.Length(this=value.copy()), "TEXT")
        known = exp.DPipe(this=exp.DPipe(this=length, expression=exp.Literal.string(":")), expression=value)
        parts.append(exp.func("COALESCE", known, exp.Literal.string("-")))
    whole = parts[0] if parts else exp.Literal.string("")
    for part in parts[1:]:
        whole = exp.DPipe(this=whole, expression=part)
    return exp.Anonymous(this=layout.fingerprint, expressions=[whole])


def member_columns(layout: Layout) -> tuple[str, ...]:
    """List the state columns of a member, in the order of every base."""
    narrow = ("fingerprint",) if layout.fingerprint else ()
    return ("audience_id", "user_id", "member_since", *narrow, *(c.new for c in layout.columns))


def select_membership(
    layout: Layout, schema: str, base: str, changes: Sequence[str]
) -> tuple[list[tuple[str, exp.Query]], exp.Query]:
    """Build the membership: base members without a later change, and the newest change of all others.

    :param base: name of the base's table.
    :param changes: names of the change sets' tables after the base, ascending.
    :returns: common table expressions that it needs, and the query of :func:`member_columns`.
    """
    from sqlglot import exp

    names = member_columns(layout)
    members = (
        exp.select(*(column(n, "base") for n in names))
        .from_(table(schema, base).as_("base", quoted=True))
        .where(column("action", "base").eq(MEMBER))
    )
    if not changes:
        return [], members
    edges: exp.Query | None = None
    for number, name in enumerate(changes):
        edge = (
            exp.select(
                exp.Literal.number(number).as_("edge", quoted=True),
                column("action"),
                *(column(n) for n in names),
            )
            .from_(table(schema, name))
            .where(column("action").neq(AUDIENCE))
        )
        edges = edge if edges is None else exp.union(edges, edge, distinct=False, copy=False)
    assert edges is not None  # noqa: S101
    newest = exp.Window(
        this=exp.RowNumber(),
        partition_by=[column(k) for k in layout.key],
        order=exp.Order(expressions=[exp.Ordered(this=column("edge"), desc=True)]),
    )
    ranked = exp.select(exp.Star(), newest.as_("recency", quoted=True)).from_(edges.subquery("edges", copy=False))
    unchanged = members.where(
        exp.not_(
            exp.Exists(
                this=exp.select(exp.Literal.number(1))
                .from_(table(None, "ranked"))
                .where(*(column(k, "ranked").eq(column(k, "base")) for k in layout.key))
            )
        )
    )
    changed = (
        exp.select(*(column(n, "ranked") for n in names))
        .from_(table(None, "ranked"))
        .where(column("recency", "ranked").eq(1), column("action", "ranked").neq(Action.EXITED.value))
    )
    return [("ranked", ranked)], exp.union(unchanged, changed, distinct=False)


def with_expressions(query: exp.Query, named: Sequence[tuple[str, exp.Query, bool | None]]) -> exp.Query:
    """Put common table expressions before a query; the flag says whether each must or must not be materialized."""
    from sqlglot import exp

    expressions = [
        exp.CTE(
            this=body,
            alias=exp.TableAlias(this=exp.to_identifier(name, quoted=True)),
            **({} if materialized is None else {"materialized": materialized}),
        )
        for name, body, materialized in named
    ]
    query.set("with_", exp.With(expressions=expressions))
    return query


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
    compared = [
        (exp.cast(column(c.source), "TEXT") if c.kind is Kind.TEXT else column(c.source)).as_(c.new, quoted=True)
        for c in layout.columns
    ]
    narrow = [fingerprint_of(layout).as_("fingerprint", quoted=True)] if layout.fingerprint else []
    return exp.select(
        audience.as_("audience_id", quoted=True),
        name.as_("audience_name", quoted=True),
        key_text(source.user_id).as_("user_id", quoted=True),
        *narrow,
        *compared,
    )


def select_audiences() -> exp.Select:
    """Build what is to be known of each audience from the one reading of the source: its name and its rows."""
    from sqlglot import exp

    return (
        exp.select(
            column("audience_id"),
            exp.Max(this=column("audience_name")).as_("audience_name", quoted=True),
            exp.Count(this=exp.Star()).as_("source_rows", quoted=True),
            exp.Sub(this=exp.Count(this=exp.Star()), expression=exp.Count(this=column("user_id"))).as_(
                "invalid_rows", quoted=True
            ),
        )
        .from_(table(None, "source"))
        .group_by(column("audience_id"))
    )


def base_columns(layout: Layout) -> tuple[str, ...]:
    """List the columns of a base."""
    return ("action", *member_columns(layout), "audience_name", "source_rows", "invalid_rows")


def padded(given: Mapping[str, exp.Expr], names: Sequence[str]) -> exp.Select:
    """Select the given expressions under their names, in the order of ``names``, and NULL for all others."""
    from sqlglot import exp

    return exp.select(*(given.get(n, exp.null()).as_(n, quoted=True) for n in names))


def select_first_base(source: Source, layout: Layout, as_of: datetime) -> exp.Query:
    """Build the base of a first run, straight from the source."""
    from sqlglot import exp

    names = base_columns(layout)
    given: dict[str, exp.Expr] = {n: column(n) for n in member_columns(layout)}
    members = (
        padded({**given, "action": text(MEMBER), "member_since": text(instant_text(as_of))}, names)
        .from_(table(None, "source"))
        .where(column("user_id").is_(exp.null()).not_(), column("audience_id").is_(exp.null()).not_())
    )
    read = source_columns(source, layout).from_(table(None, SOURCE_PLACEHOLDER).as_("given", quoted=True))
    query = exp.union(members, audience_rows(table(None, "audiences"), names), distinct=False)
    return with_expressions(query, [("source", read, True), ("audiences", select_audiences(), None)])


def audience_rows(origin: exp.Table, names: Sequence[str]) -> exp.Select:
    """Build the rows that tell of audiences, from a table or an expression that has them."""
    kept = ("audience_id", "audience_name", "source_rows", "invalid_rows")
    return padded({"action": text(AUDIENCE), **{n: column(n) for n in kept}}, names).from_(origin)


def select_compacted(layout: Layout, schema: str, base: str, changes: Sequence[str]) -> exp.Query:
    """Build the base at the newest of ``changes``: the same members as base and change sets together."""
    from sqlglot import exp

    names = base_columns(layout)
    needed, members = select_membership(layout, schema, base, changes)
    given: dict[str, exp.Expr] = {n: column(n) for n in member_columns(layout)}
    rows = padded({**given, "action": text(MEMBER)}, names).from_(table(None, "members"))
    audiences = audience_rows(table(schema, changes[-1] if changes else base), names).where(
        column("action").eq(AUDIENCE)
    )
    query = exp.union(rows, audiences, distinct=False)
    return with_expressions(query, [*((n, q, None) for n, q in needed), ("members", members, False)])
