"""SQL of change sets made of what is known, not of the source: everybody enters, all leave, the whole truth, and
what is true by now of members that a destination did not get.

It builds statements and runs none. What comes out has the rows and the order of any change set, so that it is read
and sent like one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.model.audience import Action, UpdatedPart
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.statements import column, table, text
from airflow_kinesis_audience.core.sql.types import LogicalType
from airflow_kinesis_audience.core.state.membership import (
    Tables,
    select_known,
    select_membership,
)
from airflow_kinesis_audience.core.state.rows import (
    AUDIENCE,
    AUDIENCE_COLUMNS,
    LEFT,
    LOST,
    MEMBER,
    RECORDED_AT,
    audience_rows,
    change_columns,
    kept_columns,
    member_columns,
    numbered,
    padded,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout


@dataclass(frozen=True, kw_only=True, slots=True)
class Undelivered:
    """Rows of a change set that a destination did not get.

    :param table: the change set's table, and ``layout`` how it is made.
    :param rows: the condition on its rows.
    :param maybe_delivered: an attempt may have delivered them, and nobody knows.
    :param maybe_known: the destination may have got something of them before.
    :param recorded_at: when they were recorded; none where the table itself says so.
    :param given_up_until: whichever were recorded up to then are given up, if not none.
    :param times_only: the rows say since when those of the others are open, and nothing else.
    """

    table: str
    layout: TableLayout
    rows: exp.Expr
    maybe_delivered: bool = False
    maybe_known: bool = False
    recorded_at: datetime | None = None
    given_up_until: datetime | None = None
    times_only: bool = False


def select_entries(tables: Tables) -> exp.Query:
    """Build the change set in which every member of a membership enters: for a destination that knows nobody."""
    return _select_replayed(tables, {MEMBER: Action.ENTERED})


def select_full_snapshot(tables: Tables) -> exp.Query:
    """Build the change set in which every member enters and all exit who are known to have left."""
    return _select_replayed(tables, {MEMBER: Action.ENTERED, LEFT: Action.EXITED})


def select_exits(tables: Tables, only: exp.Expr | None = None) -> exp.Query:
    """Build the change set in which every member exits: for the end of an audience.

    :param only: the condition on those that exit, of the table ``known``; the others stay.
    """
    return _select_replayed(tables, {MEMBER: Action.EXITED}, only)


def _select_replayed(tables: Tables, actions: dict[str, Action], only: exp.Expr | None = None) -> exp.Query:
    """Build a change set from what is known, with the action that each kind of row becomes.

    An exit carries what was last sent as its old values, an entry what is true as its new ones.

    :param only: the condition on the rows that it has; what is to be known of an audience is then without them.
    """
    layout = tables.layout
    needed, known = select_known(tables)
    names = change_columns(layout)
    kind = column("action", "known")
    exits = (
        kind.isin(*(k for k, becomes in actions.items() if becomes is Action.EXITED))
        if _exits(actions)
        else exp.false()
    )
    action = exp.case()
    for before, becomes in actions.items():
        action = action.when(kind.eq(before), text(becomes.value))
    given: dict[str, exp.Expr] = {n: column(n, "known") for n in member_columns(layout)}
    for c in layout.columns:
        given[c.new] = exp.case().when(exp.not_(exits.copy()), column(c.new, "known"))
        given[c.old] = exp.case().when(exits.copy(), column(c.new, "known"))
    given |= {"action": action, "updated": exp.cast(exp.null(), "TEXT")}
    redelivered = (
        exp.select(*(e.as_(n) for n, e in given.items())).from_(table(None, "known")).where(kind.isin(*actions))
    )
    rows = numbered(names, table(None, "replayed"))
    newest = table(tables.schema, tables.newest)
    origin: exp.Table | exp.Subquery = newest
    if only is not None:
        redelivered, origin = redelivered.where(only), _fewer_rows(newest).subquery("counted", copy=False)
    audiences = audience_rows(origin, names).where(column("action").eq(AUDIENCE))
    query = exp.union(rows, audiences, distinct=False)
    for name, body in needed:
        query = query.with_(name, as_=body, copy=False)
    return query.with_("known", as_=known, materialized=False, copy=False).with_(
        "replayed", as_=redelivered, copy=False
    )


def _fewer_rows(origin: exp.Table) -> exp.Select:
    """Build what a table has of audiences, without the rows of the source whose users exit."""
    kept = ("action", "audience_id", *AUDIENCE_COLUMNS)
    counted = exp.func("COALESCE", column("exits", "gone"), exp.Literal.number(0))
    fewer = exp.Sub(this=column("source_rows", "before"), expression=counted)
    values = {n: column(n, "before") for n in kept} | {"source_rows": fewer}
    gone = (
        exp.select(column("audience_id"), exp.Count(this=exp.Star()).as_("exits"))
        .from_(table(None, "replayed"))
        .group_by(column("audience_id"))
        .subquery("gone", copy=False)
    )
    same = column("audience_id", "before").eq(column("audience_id", "gone"))
    return (
        exp.select(*(e.as_(n) for n, e in values.items()))
        .from_(origin.as_("before"))
        .join(gone, on=same, join_type="left")
        .where(column("action", "before").eq(AUDIENCE))
    )


def _exits(actions: dict[str, Action]) -> bool:
    return Action.EXITED in actions.values()


def select_undelivered(tables: Tables, undelivered: Sequence[Undelivered]) -> exp.Query:
    """Build what a destination must get of dead letters, by what is true at a membership's instant.

    Whoever is a member enters, or is updated if the destination knows an earlier state. Whoever is none exits, and
    is left out if the destination never got them. What it knows are the old values of a member's first row.

    Who is given up has no instant of recording any more, and no old values: a member enters, and whoever is none
    is left out, unless the destination has something of them and their exit is too large.

    :param undelivered: oldest first; those of which only the times count are the last.
    """
    layout, names = tables.layout, (*change_columns(tables.layout), RECORDED_AT, LOST)
    needed, members = select_membership(tables)
    keys = ("audience_id", "user_id")
    same = exp.and_(*(column(k, "undelivered").eq(column(k, "now")) for k in keys))
    is_missing = column("user_id", "now").is_(exp.null())
    is_open = exp.not_(column("open_since", "undelivered").is_(exp.null()))
    is_lost = exp.not_(column("any_lost", "undelivered").is_(exp.null()))
    unknown = column("action", "undelivered").eq(Action.ENTERED.value)
    maybe = column("maybe", "undelivered").eq(1)
    enters = exp.and_(exp.not_(is_missing.copy()), exp.or_(unknown.copy(), is_lost))
    exits = exp.and_(is_open, exp.not_(unknown.copy()))
    action = (
        exp.case()
        .when(is_missing, text(Action.EXITED.value))
        .when(enters, text(Action.ENTERED.value))
        .else_(text(Action.UPDATED.value))
    )
    given: dict[str, exp.Expr] = {n: column(n, "now") for n in member_columns(layout)}
    given |= {k: column(k, "undelivered") for k in keys}
    given["member_since"] = exp.func(
        "COALESCE", column("member_since", "now"), column("member_since", "undelivered")
    )
    stays = exp.and_(exp.not_(is_missing.copy()), exp.not_(enters.copy()))
    given |= {"action": action, "updated": exp.case().when(stays, text(UpdatedPart.BOTH.value))}
    given |= {RECORDED_AT: column("open_since", "undelivered"), LOST: column("any_lost", "undelivered")}
    for c in layout.columns:
        left = exp.and_(is_missing.copy(), maybe.copy())
        either = exp.func("COALESCE", column(c.old, "undelivered"), column(c.new, "undelivered"))
        kept = exp.case().when(exp.not_(enters.copy()), column(c.old, "undelivered"))
        given[c.old] = exp.case().when(left, either).else_(kept)
    redelivered = (
        exp.select(*(e.as_(n) for n, e in given.items()))
        .from_(table(None, "undelivered"))
        .join(table(None, "now"), on=same, join_type="left")
        .where(exp.or_(exp.not_(is_missing.copy()), exits, maybe.copy()))
    )
    audiences = audience_rows(table(tables.schema, tables.newest), names).where(column("action").eq(AUDIENCE))
    query = exp.union(numbered(names, table(None, "replayed")), audiences, distinct=False)
    for name, body in (
        *needed,
        ("now", members),
        ("undelivered", _first_undelivered(tables, undelivered)),
        ("replayed", redelivered),
    ):
        query = query.with_(name, as_=body, copy=False)
    return query


def _first_undelivered(tables: Tables, undelivered: Sequence[Undelivered]) -> exp.Select:
    """Build the first row of each member: it has what the destination knows.

    An entry is the last one where the destination has values that are kept no more.
    """
    names = ("audience_id", "user_id", "action", "member_since")
    values = [n for c in tables.layout.columns for n in (c.new, c.old)]
    rows: exp.Query | None = None
    for number, found in enumerate(undelivered):
        given = kept_columns(tables.layout, names) | _values_of(found.layout, tables) | _standing_of(found)
        given["number"] = exp.Literal.number(number)
        given["maybe"] = exp.Literal.number(int(found.maybe_delivered))
        each = (
            padded(given, (*names, *values, *_standing_of(found), "number", "maybe"))
            .from_(table(tables.schema, found.table))
            .where(column("action").neq(AUDIENCE), found.rows)
        )
        rows = each if rows is None else exp.union(rows, each, distinct=False, copy=False)
    assert rows is not None  # noqa: S101
    keys = [column("audience_id"), column("user_id")]
    enters = exp.and_(exp.not_(column(LOST).is_(exp.null())), column("action").eq(Action.ENTERED.value))
    times = exp.Literal.number(sum(not u.times_only for u in undelivered))
    is_last: exp.Case = exp.case()
    if undelivered[-1].times_only:
        is_last = is_last.when(column("number") >= times, exp.Literal.number(2))
    is_last = is_last.when(enters, exp.Literal.number(1)).else_(exp.Literal.number(0))
    order = exp.Order(expressions=[exp.Ordered(this=is_last), exp.Ordered(this=column("number"))])
    rank = exp.Window(this=exp.RowNumber(), partition_by=keys, order=order)
    since = exp.Window(this=exp.Min(this=column(RECORDED_AT)), partition_by=keys)
    lost = exp.Window(this=exp.Max(this=column(LOST)), partition_by=keys)
    ranked = exp.select(exp.Star(), rank.as_("rank"), since.as_("open_since"), lost.as_("any_lost")).from_(
        rows.subquery("rows", copy=False)
    )
    first = exp.select(exp.Star()).from_(ranked.subquery("ranked_rows")).where(column("rank").eq(1))
    return first.where(column("number") < times.copy()) if undelivered[-1].times_only else first


def _standing_of(found: Undelivered) -> dict[str, exp.Expr]:
    """Build since when each is open, and whether the destination has values that are kept no more."""
    if found.times_only:
        return {RECORDED_AT: column(RECORDED_AT), LOST: exp.cast(exp.null(), "TEXT")}
    has_some = found.maybe_delivered or found.maybe_known
    if found.recorded_at is not None:
        lost = text("yes") if has_some else exp.cast(exp.null(), "TEXT")
        return {RECORDED_AT: text(instant_text(found.recorded_at)), LOST: lost}
    recorded_at, lost = column(RECORDED_AT), text("yes") if has_some else column(LOST)
    if found.given_up_until is None:
        return {RECORDED_AT: recorded_at, LOST: lost}
    until = text(instant_text(found.given_up_until))
    has_old = exp.and_(recorded_at <= until, column("action").neq(Action.ENTERED.value))
    return {
        RECORDED_AT: exp.case().when(recorded_at > until.copy(), recorded_at.copy()),
        LOST: exp.case().when(has_old, text("yes")).else_(lost),
    }


def _values_of(before: TableLayout, tables: Tables) -> dict[str, exp.Expr]:
    """Map new and old values to those of a layout that may be another: what has no place in it is left out."""
    kept = [c for c in before.columns if not c.retired]
    given: dict[str, exp.Expr] = {}
    for c in tables.layout.columns:
        found = next((k for k in kept if k.is_like(c)), None)
        # Nothing, of the column's own type, which NULL by itself is not.
        nothing = exp.select(column(c.new)).from_(table(tables.schema, tables.newest)).where(exp.false())
        for name in ("new", "old"):
            # An exact number's own type is not in its nature, and one column has one type.
            same = found is not None and (tables.layout.matches(before) or c.kind is not LogicalType.EXACT)
            given[getattr(c, name)] = column(getattr(found, name)) if same else nothing.subquery()
    return given
