"""SQL of the membership at an instant: the newest base at or before it, plus the change sets after it.

It builds statements and runs none. Bases, change sets and snapshots share one row layout, so that any of them is
read the same way: rows of members or changes, and one ``audience`` row per audience. A base remembers who has
left, too, with the identities that were last sent. No table is ever written to again after it was created.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Action, instant_text
from airflow_kinesis_audience.kinds import Kind
from airflow_kinesis_audience.sql import column, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlglot import exp

    from airflow_kinesis_audience.layout import Layout

MEMBER = "member"
LEFT = "left"
AUDIENCE = "audience"
"""``action`` of rows that are no change: in a base who is a member and who has left, and what an audience is."""

AUDIENCE_COLUMNS = ("audience_name", "source_rows", "invalid_rows", "wrong_identities")
"""Columns that only the rows of audiences have."""

_TYPES = {"audience_name": "TEXT", "source_rows": "BIGINT", "invalid_rows": "BIGINT", "wrong_identities": "TEXT"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """The state tables that make up a membership, all of one layout.

    :param base: name of the base's table.
    :param changes: name and instant of each change set's table after the base, ascending.
    """

    schema: str
    layout: Layout
    base: str
    changes: Sequence[tuple[str, str]] = ()

    @property
    def newest(self) -> str:
        """The table that tells of the audiences as of the membership's instant."""
        return self.changes[-1][0] if self.changes else self.base


def fingerprint_of(layout: Layout) -> exp.Expr:
    """Build the fingerprint over the compared columns as they are kept: lengths keep NULL, '' and joins apart."""
    from sqlglot import exp

    parts: list[exp.Expr] = []
    for c in layout.columns:
        value = exp.cast(column(c.new), "TEXT")
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


def select_membership(tables: Tables) -> tuple[list[tuple[str, exp.Query]], exp.Query]:
    """Build the membership: base members without a later change, and the newest change of all others.

    :returns: common table expressions that it needs, and the query of :func:`member_columns`.
    """
    from sqlglot import exp

    names = member_columns(tables.layout)
    members = _base_rows(tables, names).where(column("action", "base").eq(MEMBER))
    if not tables.changes:
        return [], members
    changed = (
        exp.select(*(column(n, "ranked") for n in names))
        .from_(table(None, "ranked"))
        .where(column("recency", "ranked").eq(1), column("action", "ranked").neq(Action.EXITED.value))
    )
    ranked = _rank_changes(tables, {n: column(n) for n in names})
    return [("ranked", ranked)], exp.union(_unchanged(members, tables), changed, distinct=False)


def select_known(tables: Tables) -> tuple[list[tuple[str, exp.Query]], exp.Query]:
    """Build the membership and all who have left, with what was last sent of them.

    :returns: common table expressions that it needs, and the query of ``action`` (``member`` or ``left``),
        :func:`member_columns` and ``left_at``.
    """
    from sqlglot import exp

    layout = tables.layout
    names = ("action", *member_columns(layout), "left_at")
    known = _base_rows(tables, names).where(column("action", "base").isin(MEMBER, LEFT))
    if not tables.changes:
        return [], known
    gone = column("action").eq(Action.EXITED.value)
    given: dict[str, exp.Expr] = {n: column(n) for n in member_columns(layout)}
    given |= {c.new: exp.case().when(gone, column(c.old)).else_(column(c.new)) for c in layout.columns}
    gone = column("action", "ranked").eq(Action.EXITED.value)
    found: dict[str, exp.Expr] = {n: column(n, "ranked") for n in member_columns(layout)}
    found["action"] = exp.case().when(gone, text(LEFT)).else_(text(MEMBER))
    found["left_at"] = exp.case().when(gone, column("changed_at", "ranked"))
    changed = padded(found, names).from_(table(None, "ranked")).where(column("recency", "ranked").eq(1))
    return [("ranked", _rank_changes(tables, given))], exp.union(
        _unchanged(known, tables), changed, distinct=False
    )


def select_audience_ids(tables: Tables) -> exp.Query:
    """Build the ids of all audiences that anybody is in, or is known to have left."""
    from sqlglot import exp

    needed, known = select_known(tables)
    query = exp.select(column("audience_id")).distinct().from_(table(None, "known"))
    return with_expressions(query, [*((n, q, None) for n, q in needed), ("known", known, None)])


def _base_rows(tables: Tables, names: Sequence[str]) -> exp.Select:
    from sqlglot import exp

    return exp.select(*(column(n, "base") for n in names)).from_(
        table(tables.schema, tables.base).as_("base", quoted=True)
    )


def _rank_changes(tables: Tables, given: Mapping[str, exp.Expr]) -> exp.Select:
    """Build the changes of all change sets, the newest of each member first."""
    from sqlglot import exp

    edges: exp.Query | None = None
    for name, as_of in tables.changes:
        edge = (
            exp.select(
                text(as_of).as_("changed_at", quoted=True),
                column("action"),
                *(e.copy().as_(n, quoted=True) for n, e in given.items()),
            )
            .from_(table(tables.schema, name))
            .where(column("action").neq(AUDIENCE))
        )
        edges = edge if edges is None else exp.union(edges, edge, distinct=False, copy=False)
    assert edges is not None  # noqa: S101
    newest = exp.Window(
        this=exp.RowNumber(),
        partition_by=[column(k) for k in tables.layout.key],
        order=exp.Order(expressions=[exp.Ordered(this=column("changed_at"), desc=True)]),
    )
    ranked = exp.select(exp.Star(), newest.as_("recency", quoted=True))
    return ranked.from_(edges.subquery("edges", copy=False))


def _unchanged(rows: exp.Select, tables: Tables) -> exp.Select:
    from sqlglot import exp

    later = (
        exp.select(exp.Literal.number(1))
        .from_(table(None, "ranked"))
        .where(*(column(k, "ranked").eq(column(k, "base")) for k in tables.layout.key))
    )
    return rows.where(exp.not_(exp.Exists(this=later)))


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
    if expressions:
        query.set("with_", exp.With(expressions=expressions))
    return query


def base_columns(layout: Layout) -> tuple[str, ...]:
    """List the columns of a base."""
    return ("action", *member_columns(layout), "left_at", *AUDIENCE_COLUMNS)


def bucket_of(user: exp.Expr) -> exp.Expr:
    """Build a user's bucket, three hexadecimal digits; it never changes.

    :param user: the user's id, or what else tells whom a message is about.
    """
    from sqlglot import exp

    return exp.func("SUBSTRING", exp.MD5(this=user.copy()), exp.Literal.number(1), exp.Literal.number(3))


def padded(given: Mapping[str, exp.Expr], names: Sequence[str]) -> exp.Select:
    """Select the given expressions under their names, in the order of ``names``, and NULL for all others."""
    from sqlglot import exp

    # What is NULL in every row has no type by itself, and some engines make no table of that.
    typed = {n: exp.cast(exp.null(), kind) for n, kind in _TYPES.items()}
    return exp.select(*(given.get(n, typed.get(n, exp.null())).as_(n, quoted=True) for n in names))


def audience_rows(origin: exp.Table, names: Sequence[str], **more: exp.Expr) -> exp.Select:
    """Build the rows that tell of audiences, from a table or an expression that has them.

    :param more: columns that only the run which read the source can tell of.
    """
    from sqlglot import exp

    kept = ("audience_id", "audience_name", "source_rows", "invalid_rows")
    # A column must have a type, also where no row of the table has a value in it.
    nothing = {"wrong_identities": exp.cast(exp.null(), "TEXT")}
    given = {"action": text(AUDIENCE), **{n: column(n) for n in kept}, **nothing, **more}
    return padded(given, names).from_(origin)


def select_base(
    tables: Tables,
    layout: Layout,
    *,
    types: Mapping[str, exp.DataType] | None = None,
    left_after: datetime | None = None,
) -> exp.Query:
    """Build the base with what base and change sets tell together, in the layout that is asked for.

    A column that is new, or of another kind, holds NULL, and what was sent of one that is retired stays: the next
    change set then finds the members for whom either makes a difference.

    :param types: of the source's columns, in the engine's words; needed where the layout is another.
    :param left_after: who left before this instant is forgotten.
    """
    from sqlglot import exp

    names = base_columns(layout)
    needed, known = select_known(tables)
    given: dict[str, exp.Expr] = {n: column(n) for n in ("action", *member_columns(tables.layout), "left_at")}
    if not layout.matches(tables.layout):
        given |= _translated(tables.layout, layout, types or {})
    rows = exp.select(*(e.as_(n, quoted=True) for n, e in given.items())).from_(table(None, "known"))
    if left_after is not None:
        late = exp.GT(this=column("left_at"), expression=text(instant_text(left_after)))
        rows = rows.where(exp.or_(column("action").eq(MEMBER), late))
    named: list[tuple[str, exp.Query, bool | None]] = [(n, q, None) for n, q in needed]
    named += [("known", known, False), ("kept", rows, None)]
    kept: dict[str, exp.Expr] = {
        n: column(n) for n in names if n in ("action", "left_at", *member_columns(layout))
    }
    if layout.fingerprint and not layout.matches(tables.layout):
        kept["fingerprint"] = fingerprint_of(layout)
    audiences = audience_rows(table(tables.schema, tables.newest), names).where(column("action").eq(AUDIENCE))
    query = exp.union(padded(kept, names).from_(table(None, "kept")), audiences, distinct=False)
    return with_expressions(query, named)


def _translated(before: Layout, now: Layout, types: Mapping[str, exp.DataType]) -> dict[str, exp.Expr]:
    """Map each column to what was sent under its label, or to NULL of its type."""
    from sqlglot import exp

    sent = {(c.role, c.label, c.nature): c.new for c in before.columns if not c.retired}
    retired = {(c.role, c.label): c.new for c in before.columns if not c.retired}
    given: dict[str, exp.Expr] = {}
    for c in now.columns:
        if c.retired:
            given[c.new] = exp.cast(column(retired[c.role, c.label]), "TEXT")
            continue
        known = sent.get((c.role, c.label, c.nature))
        missing = exp.cast(exp.null(), "TEXT" if c.kind is Kind.TEXT else types[c.source])
        given[c.new] = missing if known is None else column(known)
    return given
