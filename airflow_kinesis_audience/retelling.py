"""SQL of change sets made of what is known, not of the source: everybody enters, all leave, the whole truth, and
what is true by now of those of whom a destination could not be told.

It builds statements and runs none. What comes out has the rows and the order of any change set, so that it is read
and sent like one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Action, Updated
from airflow_kinesis_audience.diff import change_columns, numbered
from airflow_kinesis_audience.kinds import Kind
from airflow_kinesis_audience.membership import (
    AUDIENCE,
    LEFT,
    MEMBER,
    Tables,
    audience_rows,
    member_columns,
    padded,
    select_known,
    select_membership,
    with_expressions,
)
from airflow_kinesis_audience.sql import column, table, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlglot import exp

    from airflow_kinesis_audience.layout import Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class Untold:
    """Rows of a change set of which a destination was not told.

    :param table: the change set's table, and ``layout`` how it is made.
    :param rows: the condition on its rows.
    :param maybe_told: an attempt may have told of them, and nobody knows.
    """

    table: str
    layout: Layout
    rows: exp.Expr
    maybe_told: bool = False


def select_entries(tables: Tables) -> exp.Query:
    """Build the change set in which every member of a membership enters: for a destination that knows nobody."""
    return _select_retold(tables, {MEMBER: Action.ENTERED})


def select_truth(tables: Tables) -> exp.Query:
    """Build the change set in which every member enters and all exit who are known to have left."""
    return _select_retold(tables, {MEMBER: Action.ENTERED, LEFT: Action.EXITED})


def select_exits(tables: Tables) -> exp.Query:
    """Build the change set in which every member exits: for the end of an audience."""
    return _select_retold(tables, {MEMBER: Action.EXITED})


def select_history(schema: str, edges: Sequence[tuple[str, str]]) -> exp.Query:
    """Build the list of all changes that are kept, for people to look at.

    Columns: as_of, audience_id, user_id, action, updated, member_since. Of a base come its members and those that
    it remembers to have left.

    :param edges: name and instant of each table.
    """
    from sqlglot import exp

    query: exp.Query | None = None
    for name, as_of in edges:
        is_base = name.startswith("base_")
        # Of a text column's type and collation, which NULL by itself is not.
        updated = exp.case().when(exp.false(), column("action")) if is_base else column("updated")
        found = (
            exp.select(
                text(as_of).as_("as_of", quoted=True),
                *(column(n) for n in ("audience_id", "user_id", "action")),
                updated.as_("updated", quoted=True),
                column("member_since"),
            )
            .from_(table(schema, name))
            .where(column("action").neq(AUDIENCE))
        )
        query = found if query is None else exp.union(query, found, distinct=False, copy=False)
    assert query is not None  # noqa: S101
    return query


def _select_retold(tables: Tables, told: dict[str, Action]) -> exp.Query:
    """Build a change set from what is known, with the action that each kind of row is told as.

    An exit carries what was last sent as its old values, an entry what is true as its new ones.
    """
    from sqlglot import exp

    layout = tables.layout
    needed, known = select_known(tables)
    names = change_columns(layout)
    kind = column("action", "known")
    exits = kind.isin(*(k for k, tells in told.items() if tells is Action.EXITED)) if _exits(told) else exp.false()
    action = exp.case()
    for before, tells in told.items():
        action = action.when(kind.eq(before), text(tells.value))
    given: dict[str, exp.Expr] = {n: column(n, "known") for n in member_columns(layout)}
    for c in layout.columns:
        given[c.new] = exp.case().when(exp.not_(exits.copy()), column(c.new, "known"))
        given[c.old] = exp.case().when(exits.copy(), column(c.new, "known"))
    given |= {"action": action, "updated": exp.cast(exp.null(), "TEXT")}
    retold = (
        exp.select(*(e.as_(n, quoted=True) for n, e in given.items()))
        .from_(table(None, "known"))
        .where(kind.isin(*told))
    )
    rows = numbered(names, table(None, "retold"))
    audiences = audience_rows(table(tables.schema, tables.newest), names).where(column("action").eq(AUDIENCE))
    query = exp.union(rows, audiences, distinct=False)
    return with_expressions(
        query, [*((n, q, None) for n, q in needed), ("known", known, False), ("retold", retold, None)]
    )


def _exits(told: dict[str, Action]) -> bool:
    return Action.EXITED in told.values()


def select_untold(tables: Tables, untold: Sequence[Untold]) -> exp.Query:
    """Build what a destination must be told of rejected members, by what is true at a membership's instant.

    Whoever is a member enters, or is updated if the destination knows an earlier state. Whoever is none exits, and
    is left out if the destination never heard of them. What it knows are the old values of a member's first row.

    :param untold: oldest first.
    """
    from sqlglot import exp

    layout, names = tables.layout, change_columns(tables.layout)
    needed, members = select_membership(tables)
    keys = ("audience_id", "user_id")
    same = exp.and_(*(column(k, "untold").eq(column(k, "now")) for k in keys))
    gone = column("user_id", "now").is_(exp.null())
    unknown = column("action", "untold").eq(Action.ENTERED.value)
    maybe = column("maybe", "untold").eq(1)
    known = exp.and_(exp.not_(gone.copy()), exp.not_(unknown.copy()))
    action = (
        exp.case()
        .when(gone, text(Action.EXITED.value))
        .when(unknown, text(Action.ENTERED.value))
        .else_(text(Action.UPDATED.value))
    )
    given: dict[str, exp.Expr] = {n: column(n, "now") for n in member_columns(layout)}
    given |= {k: column(k, "untold") for k in keys}
    given["member_since"] = exp.func("COALESCE", column("member_since", "now"), column("member_since", "untold"))
    given |= {"action": action, "updated": exp.case().when(known, text(Updated.BOTH.value))}
    for c in layout.columns:
        left = exp.and_(gone.copy(), maybe.copy())
        either = exp.func("COALESCE", column(c.old, "untold"), column(c.new, "untold"))
        given[c.old] = exp.case().when(left, either).else_(column(c.old, "untold"))
    retold = (
        exp.select(*(e.as_(n, quoted=True) for n, e in given.items()))
        .from_(table(None, "untold"))
        .join(table(None, "now"), on=same, join_type="left")
        .where(exp.or_(exp.not_(gone.copy()), exp.not_(unknown.copy()), maybe.copy()))
    )
    audiences = audience_rows(table(tables.schema, tables.newest), names).where(column("action").eq(AUDIENCE))
    query = exp.union(numbered(names, table(None, "retold")), audiences, distinct=False)
    named: list[tuple[str, exp.Query, bool | None]] = [(n, q, None) for n, q in needed]
    named += [("now", members, None), ("untold", _first_untold(tables, untold), None), ("retold", retold, None)]
    return with_expressions(query, named)


def _first_untold(tables: Tables, untold: Sequence[Untold]) -> exp.Select:
    """Build the first row of each member: it has what the destination knows."""
    from sqlglot import exp

    names = ("audience_id", "user_id", "action", "member_since")
    values = [n for c in tables.layout.columns for n in (c.new, c.old)]
    rows: exp.Query | None = None
    for number, found in enumerate(untold):
        given = {n: column(n) for n in names} | _values_of(found.layout, tables)
        given["number"] = exp.Literal.number(number)
        given["maybe"] = exp.Literal.number(int(found.maybe_told))
        each = (
            padded(given, (*names, *values, "number", "maybe"))
            .from_(table(tables.schema, found.table))
            .where(column("action").neq(AUDIENCE), found.rows)
        )
        rows = each if rows is None else exp.union(rows, each, distinct=False, copy=False)
    assert rows is not None  # noqa: S101
    rank = exp.Window(
        this=exp.RowNumber(),
        partition_by=[column("audience_id"), column("user_id")],
        order=exp.Order(expressions=[exp.Ordered(this=column("number"))]),
    )
    ranked = exp.select(exp.Star(), rank.as_("rank", quoted=True)).from_(rows.subquery("rows", copy=False))
    return exp.select(exp.Star()).from_(ranked.subquery("ranked_rows")).where(column("rank").eq(1))


def _values_of(before: Layout, tables: Tables) -> dict[str, exp.Expr]:
    """Map new and old values to those of a layout that may be another: what has no place in it is left out."""
    from sqlglot import exp

    kept = {(c.role, c.label, c.nature): c for c in before.columns if not c.retired}
    given: dict[str, exp.Expr] = {}
    for c in tables.layout.columns:
        found = kept.get((c.role, c.label, c.nature))
        # Nothing, of the column's own type, which NULL by itself is not.
        nothing = exp.select(column(c.new)).from_(table(tables.schema, tables.newest)).where(exp.false())
        for name in ("new", "old"):
            # An exact number's own type is not in its nature, and one column has one type.
            same = found is not None and (before == tables.layout or c.kind is not Kind.EXACT)
            given[getattr(c, name)] = column(getattr(found, name)) if same else nothing.subquery()
    return given
