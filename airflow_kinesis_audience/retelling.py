"""SQL of change sets made of what is known, not of the source: everybody enters, all leave, the whole truth.

It builds statements and runs none. What comes out has the rows and the order of any change set, so that it is read
and sent like one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Action
from airflow_kinesis_audience.diff import change_columns, numbered
from airflow_kinesis_audience.membership import (
    AUDIENCE,
    LEFT,
    MEMBER,
    Tables,
    audience_rows,
    member_columns,
    select_known,
    with_expressions,
)
from airflow_kinesis_audience.sql import column, table, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlglot import exp


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
