"""The SQL that selects the profiles of a change set, and the reader of the table that holds them.

The warehouse joins each changed user with all memberships, before and after the change set. The result has one row
per profile, its memberships as one text. A slice ends when its profiles have some thousand memberships together,
so memory is bounded however many audiences a profile is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlglot import exp

from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.model.profiles import MembershipStatus, Profiles
from airflow_kinesis_audience.core.readers.change_sets import (
    ChangeSet,
    SliceReader,
    by_label,
    columns_of,
    read_table,
    value_columns,
    value_fields,
)
from airflow_kinesis_audience.core.readers.outline import count_chunks, is_within, read_audience_names, slice_of
from airflow_kinesis_audience.core.sql.collations import state_by_bytes
from airflow_kinesis_audience.core.sql.statements import column, null_like, render, table, text
from airflow_kinesis_audience.core.state.membership import Tables, select_known
from airflow_kinesis_audience.core.state.rows import AUDIENCE, MEMBER, bucket_of

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

_OWN = ("position", "user_id", "bucket", "changes", "known", "memberships")
_COUNTS = ("slice", "position", "changes", "known")
_NO_INSTANT = " " * len("2026-01-31T00:00:00Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileSet:
    """The profiles of a change set that are to be sent: read and counted like the change set itself.

    :param table: the state table that holds them.
    :param slices: number of slices.
    """

    change_set: ChangeSet
    table: str
    slices: int

    @property
    def sync_id(self) -> str:
        """The sync whose change set it is."""
        return self.change_set.sync_id

    @property
    def as_of(self) -> datetime:
        """The instant after the change set."""
        return self.change_set.as_of

    @property
    def rows(self) -> int:
        """Changes of the change set."""
        return self.change_set.rows

    @property
    def instants(self) -> tuple[str, str]:
        """The instants before and after the change set, as text."""
        return self.change_set.instants

    def reader(self, warehouse: Warehouse) -> SliceReader:
        """Make the reader of the slices."""
        names = read_audience_names(warehouse, self.change_set)
        origin = table(self.change_set.schema, self.table)
        return SliceReader(
            counts=count_chunks(warehouse, origin, column("slice"), exp.true(), column("changes")),
            read=lambda slices, digits: _read_table(warehouse, self, slices, digits),
            make=lambda rows: make_profiles(self, rows, names),
            span_rows=self.change_set.slice_rows,
            span_slices=1,
        )


def select_profiles(
    change_set: ChangeSet, now: Tables, before: Tables | None, *, left_after: datetime
) -> exp.Query:
    """Build the profiles that a change set is about.

    :param now: the membership after the change set, and ``before`` the one before it, if any.
    :param left_after: memberships that ended at or before this instant are left out, unless the change set changes
        them.

    Columns: slice, position, user_id, bucket, changes, known, memberships, and per mapped column the new and the
    old value.
    """
    changed = (
        exp.select(*(state_by_bytes(column(n)).as_(n) for n in ("audience_id", "user_id")), column("action"))
        .from_(table(change_set.schema, change_set.table))
        .where(column("action").neq(AUDIENCE))
    )
    touched = (
        exp.select(column("user_id"), exp.Count(this=exp.Star()).as_("changes"))
        .from_(table(None, "changed"))
        .group_by(column("user_id"))
    )
    query: exp.Query = _joined(change_set, before)
    expressions = {
        "changed": changed,
        "touched": touched,
        "current": _select_current(now, left_after),
        "leading": _leading(now.layout, "current"),
        "collected": _collected(),
    }
    if before is not None:
        expressions |= {"past": _of_touched(before, "past"), "trailing": _leading(before.layout, "past")}
    for name, body in expressions.items():
        query = query.with_(name, as_=body, copy=False)
    return query


def _of_touched(tables: Tables, name: str) -> exp.Select:
    """Build the memberships, past ones too, of the users that the change set is about."""
    needed, known = select_known(tables, mark=f"{name}_")
    for name, body in needed:
        known = known.with_(name, as_=body, copy=False)
    return (
        # Not "known", which the outermost query calls a column: ClickHouse sees it from in here.
        exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier("everybody", quoted=True)))
        .from_(known.subquery("everybody", copy=False))
        .join(table(None, "touched"), on=column("user_id", "everybody").eq(column("user_id", "touched")))
    )


def _select_current(tables: Tables, left_after: datetime) -> exp.Select:
    same = exp.and_(*(column(k, "of_touched").eq(column(k, "changed")) for k in ("user_id", "audience_id")))
    late = exp.GT(this=column("left_at", "of_touched"), expression=text(instant_text(left_after)))
    return (
        exp.select(
            exp.Column(this=exp.Star(), table=exp.to_identifier("of_touched", quoted=True)),
            column("action", "changed").as_("happened"),
        )
        .from_(_of_touched(tables, "current").subquery("of_touched", copy=False))
        .join(table(None, "changed"), on=same, join_type="left")
        .where(
            exp.or_(
                column("action", "of_touched").eq(MEMBER),
                column("action", "changed").is_(exp.null()).not_(),
                late,
            )
        )
    )


def _leading(layout: TableLayout, origin: str) -> exp.Select:
    """Build, per user, the row of the membership that the profile's values come from."""
    lasts = exp.case().when(column("action").eq(MEMBER), exp.Literal.number(0)).else_(exp.Literal.number(1))
    order = [
        exp.Ordered(this=lasts),
        exp.Ordered(this=column("left_at"), desc=True),
        exp.Ordered(this=column("audience_id")),
    ]
    rank = exp.Window(
        this=exp.RowNumber(), partition_by=[column("user_id")], order=exp.Order(expressions=order)
    ).as_("rank")
    names = ("user_id", *(c.new for c in layout.columns))
    ranked = exp.select(*(column(n) for n in names), rank).from_(table(None, origin)).subquery("ranked_rows")
    return exp.select(*(column(n) for n in names)).from_(ranked).where(column("rank").eq(1))


def _collected() -> exp.Select:
    """Build, per user, the memberships as one text, and how many they are."""
    lasts = column("action").eq(MEMBER)
    status = (
        exp.case()
        .when(exp.and_(lasts, column("happened").eq(Action.ENTERED.value)), text(MembershipStatus.ENTERED.value))
        .when(lasts, text(MembershipStatus.MEMBER.value))
        .when(column("happened").eq(Action.EXITED.value), text(MembershipStatus.EXITED.value))
        .else_(text(MembershipStatus.LEFT.value))
    )
    until = exp.case().when(lasts, text(_NO_INSTANT)).else_(column("left_at"))
    length = exp.cast(exp.Length(this=column("audience_id")), "TEXT")
    whole: exp.Expr = status
    for part in (column("member_since"), until, length, text(":"), column("audience_id")):
        whole = exp.DPipe(this=whole, expression=part)
    return (
        exp.select(
            column("user_id"),
            exp.GroupConcat(this=whole, separator=exp.Literal.string("")).as_("memberships"),
            exp.Count(this=exp.Star()).as_("weight"),
        )
        .from_(table(None, "current"))
        .group_by(column("user_id"))
    )


def _joined(change_set: ChangeSet, before: Tables | None) -> exp.Select:
    """Build the numbered rows; a slice ends where its profiles have as many memberships as a slice has rows."""

    def same_user(name: str) -> exp.Expr:
        return column("user_id", "touched").eq(column("user_id", name))

    user_id = column("user_id", "touched")
    bucket = bucket_of(user_id)
    order = exp.Order(expressions=[exp.Ordered(this=bucket.copy()), exp.Ordered(this=user_id.copy())])
    number = exp.Window(this=exp.RowNumber(), order=order)
    so_far = exp.Window(
        this=exp.Sum(this=column("weight", "collected")),
        order=order.copy(),
        spec=exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW"),
    )
    ahead = exp.paren(exp.Sub(this=so_far, expression=column("weight", "collected")))
    known = exp.null() if before is None else column("user_id", "trailing")
    given: dict[str, exp.Expr] = {
        "slice": slice_of(ahead, change_set.slice_rows),
        "position": exp.Sub(this=number, expression=exp.Literal.number(1)),
        "user_id": user_id,
        "bucket": bucket,
        "changes": column("changes", "touched"),
        "known": exp.case()
        .when(exp.cast(known, "TEXT").is_(exp.null()), exp.Literal.number(0))
        .else_(exp.Literal.number(1)),
        "memberships": column("memberships", "collected"),
    }
    for c in change_set.layout.columns:
        given[c.new] = column(c.new, "leading")
        given[c.old] = null_like(column(c.new, "leading")) if before is None else column(c.new, "trailing")
    query = (
        exp.select(*(e.as_(n) for n, e in given.items()))
        .from_(table(None, "touched"))
        .join(table(None, "collected"), on=same_user("collected"))
        .join(table(None, "leading"), on=same_user("leading"))
    )
    if before is not None:
        query = query.join(table(None, "trailing"), on=same_user("trailing"), join_type="left")
    return query


def count_slices(warehouse: Warehouse, schema: str, name: str) -> int:
    """Count the slices of a table of profiles."""
    query = exp.select(exp.Max(this=column("slice"))).from_(table(schema, name))
    [(last,)] = warehouse.read_rows(render(query, warehouse.dialect))
    return 0 if last is None else int(last) + 1


def _read_table(warehouse: Warehouse, profiles: ProfileSet, slices: range, digits: range) -> pa.Table:
    change_set, layout = profiles.change_set, profiles.change_set.layout
    names = ("slice", *_OWN)
    fields = [(n, pa.int64() if n in _COUNTS else pa.string()) for n in names]
    query = (
        exp.select(*(column(n) for n in names), *value_columns(layout))
        .from_(table(change_set.schema, profiles.table))
        .where(*is_within("slice", slices, digits))
        .order_by(column("position"))
    )
    return read_table(warehouse, query, fields + value_fields(layout), rows=change_set.slice_rows)


def make_profiles(profiles: ProfileSet, rows: pa.Table, names: dict[str, str]) -> Profiles:
    """Make of a slice, or of some of its rows, what a format renders."""
    change_set = profiles.change_set
    read = columns_of(rows)
    own: dict[str, Any] = {n: read[n] for n in _OWN}
    return Profiles(
        **own | {"known": [bool(n) for n in read["known"]]},
        **by_label(change_set.layout, read),
        sync_id=change_set.sync_id,
        as_of=change_set.as_of,
        previous_as_of=change_set.previous_as_of,
        audience_names=names,
        rules={c.label: c.rule for c in change_set.layout.identities if not c.retired},
        withdrawn_rules={c.label: c.rule for c in change_set.layout.identities if c.withdrawn},
    )
