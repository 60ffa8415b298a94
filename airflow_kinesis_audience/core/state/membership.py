"""SQL of the membership at an instant: the newest base at or before it, plus the change sets after it.

It builds statements and runs none. Bases, change sets and snapshots share one row layout, so that any of them is
read the same way: rows of members or changes, and one ``audience`` row per audience. A base remembers who has
left, too, with the identities that were last sent. No table is ever written to again after it was created.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.collations import state_by_bytes
from airflow_kinesis_audience.core.sql.statements import column, table, text, union_all
from airflow_kinesis_audience.core.sql.types import LogicalType
from airflow_kinesis_audience.core.state.rows import (
    AUDIENCE,
    LEFT,
    MEMBER,
    audience_rows,
    base_columns,
    kept_columns,
    member_columns,
    padded,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """The state tables that make up a membership, all of one layout.

    :param base: name of the base's table.
    :param changes: name and instant of each change set's table after the base, ascending.
    :param missed: the same of change sets before the base that were inserted after it was written: it has their
        members as they are, and may not know of their exits.
    """

    schema: str
    layout: TableLayout
    base: str
    changes: Sequence[tuple[str, str]] = ()
    missed: Sequence[tuple[str, str]] = ()

    @property
    def newest(self) -> str:
        """The table that tells of the audiences as of the membership's instant."""
        return self.changes[-1][0] if self.changes else self.base


def select_membership(tables: Tables) -> tuple[list[tuple[str, exp.Query]], exp.Query]:
    """Build the membership: base members without a later change, and the newest change of all others.

    :returns: common table expressions that it needs, and the query of :func:`member_columns`.
    """
    names = member_columns(tables.layout)
    members = _base_rows(tables, names).where(column("action", "base").eq(MEMBER))
    if not tables.changes:
        return [], members
    changed = (
        exp.select(*(column(n, "ranked") for n in names))
        .from_(table(None, "ranked"))
        .where(column("recency", "ranked").eq(1), column("action", "ranked").neq(Action.EXITED.value))
    )
    ranked = _rank_changes(tables, tables.changes, kept_columns(tables.layout, names))
    return [("ranked", ranked)], exp.union(_unchanged(members, tables, "ranked"), changed, distinct=False)


def select_known(tables: Tables, *, mark: str = "") -> tuple[list[tuple[str, exp.Query]], exp.Query]:
    """Build the membership and all who have left, with what was last sent of them.

    :param mark: what the names of the expressions begin with, where one statement has two of these: Spark takes
        common table expressions out of subqueries.
    :returns: common table expressions that it needs, and the query of ``action`` (``member`` or ``left``),
        :func:`member_columns` and ``left_at``.
    """
    names = ("action", *member_columns(tables.layout), "left_at")
    known = _base_rows(tables, names).where(column("action", "base").isin(MEMBER, LEFT))
    needed: list[tuple[str, exp.Query]] = []
    missed, remembered, ranked = (mark + name for name in ("missed", "remembered", "ranked"))
    if tables.missed:
        exits = _select_newest(missed, names).where(column("action", missed).eq(Action.EXITED.value))
        base = exp.select(exp.Literal.number(1)).from_(table(tables.schema, tables.base).as_("base"))
        missing = exp.not_(exp.Exists(this=base.where(*_same_key(tables, missed))))
        needed += [
            (missed, _rank_known(tables, tables.missed)),
            (remembered, exp.union(known, exits.where(missing), distinct=False)),
        ]
        known = exp.select(*(column(n, "base") for n in names)).from_(table(None, remembered).as_("base"))
    if not tables.changes:
        return needed, known
    needed.append((ranked, _rank_known(tables, tables.changes)))
    return needed, exp.union(_unchanged(known, tables, ranked), _select_newest(ranked, names), distinct=False)


def _rank_known(tables: Tables, changes: Sequence[tuple[str, str]]) -> exp.Select:
    """Build what change sets say of each member, the newest first; of who exited, what was sent before."""
    layout = tables.layout
    gone = column("action").eq(Action.EXITED.value)
    given = kept_columns(layout, (*member_columns(layout), *(c.old for c in layout.columns)))
    given |= {c.new: exp.case().when(gone, given.pop(c.old)).else_(given[c.new]) for c in layout.columns}
    return _rank_changes(tables, changes, given)


def _select_newest(ranked: str, names: Sequence[str]) -> exp.Select:
    """Build the rows of what is known, of the newest change of each member."""
    gone = column("action", ranked).eq(Action.EXITED.value)
    found: dict[str, exp.Expr] = {n: column(n, ranked) for n in names}
    found["action"] = exp.case().when(gone, text(LEFT)).else_(text(MEMBER))
    found["left_at"] = exp.case().when(gone.copy(), column("changed_at", ranked))
    return padded(found, names).from_(table(None, ranked)).where(column("recency", ranked).eq(1))


def select_audience_ids(tables: Tables) -> exp.Query:
    """Build the ids of all audiences that anybody is in, or is known to have left."""
    needed, known = select_known(tables)
    query = exp.select(column("audience_id")).distinct().from_(table(None, "known"))
    for name, body in (*needed, ("known", known)):
        query = query.with_(name, as_=body, copy=False)
    return query


def _base_rows(tables: Tables, names: Sequence[str]) -> exp.Select:
    kept = kept_columns(tables.layout, names, "base").items()
    return exp.select(*(e if isinstance(e, exp.Column) else e.as_(n) for n, e in kept)).from_(
        table(tables.schema, tables.base).as_("base")
    )


def _rank_changes(tables: Tables, changes: Sequence[tuple[str, str]], given: Mapping[str, exp.Expr]) -> exp.Select:
    """Build the changes of change sets, the newest of each member first."""
    all_changes = union_all(
        exp.select(text(as_of).as_("changed_at"), column("action"), *(e.copy().as_(n) for n, e in given.items()))
        .from_(table(tables.schema, name))
        .where(column("action").neq(AUDIENCE))
        for name, as_of in changes
    )
    newest = exp.Window(
        this=exp.RowNumber(),
        partition_by=[column(k) for k in tables.layout.key],
        order=exp.Order(expressions=[exp.Ordered(this=column("changed_at"), desc=True)]),
    )
    ranked = exp.select(exp.Star(), newest.as_("recency"))
    return ranked.from_(all_changes.subquery("edges", copy=False))


def _unchanged(rows: exp.Select, tables: Tables, ranked: str) -> exp.Select:
    later = exp.select(exp.Literal.number(1)).from_(table(None, ranked)).where(*_same_key(tables, ranked))
    return rows.where(exp.not_(exp.Exists(this=later)))


def _same_key(tables: Tables, ranked: str) -> list[exp.Expr]:
    """Build the conditions that a change and a row of the base are of one member."""
    keys = tables.layout.key
    return [exp.EQ(this=column(k, ranked), expression=state_by_bytes(column(k, "base"))) for k in keys]


def select_base(
    tables: Tables,
    layout: TableLayout,
    *,
    types: Mapping[str, exp.DataType] | None = None,
    left_after: datetime | None = None,
) -> exp.Query:
    """Build the base with what base and change sets tell together, in the layout that is asked for.

    A column that is new, or of another kind, holds NULL, and what was sent of one that is retired stays: the next
    change set then finds the members that differ by either.

    :param types: of the source's columns, in the engine's words; needed where the layout is another.
    :param left_after: who left before this instant is forgotten.
    """
    names = base_columns(layout)
    needed, known = select_known(tables)
    given: dict[str, exp.Expr] = {n: column(n) for n in ("action", *member_columns(tables.layout), "left_at")}
    if not layout.matches(tables.layout):
        given |= _translated(tables.layout, layout, types or {})
    rows = exp.select(*(e.as_(n) for n, e in given.items())).from_(table(None, "known"))
    if left_after is not None:
        late = exp.GT(this=column("left_at"), expression=text(instant_text(left_after)))
        rows = rows.where(exp.or_(column("action").eq(MEMBER), late))
    kept: dict[str, exp.Expr] = {
        n: column(n) for n in names if n in ("action", "left_at", *member_columns(layout))
    }
    audiences = audience_rows(table(tables.schema, tables.newest), names).where(column("action").eq(AUDIENCE))
    query: exp.Query = exp.union(padded(kept, names).from_(table(None, "kept")), audiences, distinct=False)
    for name, body in needed:
        query = query.with_(name, as_=body, copy=False)
    return query.with_("known", as_=known, materialized=False, copy=False).with_("kept", as_=rows, copy=False)


def _translated(before: TableLayout, now: TableLayout, types: Mapping[str, exp.DataType]) -> dict[str, exp.Expr]:
    """Map each column to what was sent under its label, or to NULL of its type."""
    retired = {(c.role, c.label): c.new for c in before.columns if not c.retired}
    given: dict[str, exp.Expr] = {}
    for c in now.columns:
        if c.retired:
            given[c.new] = exp.cast(column(retired[c.role, c.label]), "TEXT")
            continue
        known = next((b.new for b in before.columns if not b.retired and b.is_like(c)), None)
        missing = exp.cast(exp.null(), "TEXT" if c.kind is LogicalType.TEXT else types[c.source])
        given[c.new] = missing if known is None else column(known)
    return given
