"""SQL of the profiles that a change set is about, and the reading of them.

Users are joined with all their memberships inside the warehouse, before and after the change set. One row per
profile comes out, its memberships as one text. A slice is as many profiles as have some thousand memberships in
all, so memory is bounded however many audiences a profile is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import Action, instant_text
from airflow_kinesis_audience.membership import (
    AUDIENCE,
    MEMBER,
    Tables,
    bucket_of,
    select_known,
    with_expressions,
)
from airflow_kinesis_audience.profile import Profiles, Stay
from airflow_kinesis_audience.slices import (
    ChangeSet,
    Reader,
    by_label,
    columns_of,
    count_cells,
    read_audience_names,
    read_table,
    slice_of,
    value_columns,
    value_fields,
)
from airflow_kinesis_audience.sql import Warehouse, column, render, table, text

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa
    from sqlglot import exp

    from airflow_kinesis_audience.layout import Layout

_OWN = ("position", "user_id", "bucket", "changes", "known", "memberships")
_COUNTS = ("position", "changes", "known")
_NO_INSTANT = " " * len("2026-01-31T00:00:00Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileSet:
    """The profiles of a change set that are to be sent: read and counted like the change set itself.

    :param table: where they are.
    :param slices: how many slices there are.
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
        """The instant that the change set leads to."""
        return self.change_set.as_of

    @property
    def rows(self) -> int:
        """Changes of the change set."""
        return self.change_set.rows

    @property
    def edge(self) -> tuple[str, str]:
        """The instants that the change set leads from and to, as text."""
        return self.change_set.edge

    def reader(self, warehouse: Warehouse) -> Reader:
        """Make what reads the slices."""
        from sqlglot import exp

        names = read_audience_names(warehouse, self.change_set)
        origin = table(self.change_set.schema, self.table)
        return Reader(
            counts=count_cells(warehouse, origin, column("slice"), exp.true(), column("changes")),
            read=lambda number: _read_table(warehouse, self, number),
            make=lambda rows: _make_profiles(self, rows, names),
        )


def select_profiles(
    change_set: ChangeSet, now: Tables, before: Tables | None, *, left_after: datetime
) -> exp.Query:
    """Build the profiles that a change set is about.

    :param now: the membership that the change set leads to, and ``before`` the one that it leads from, if any.
    :param left_after: memberships that ended at or before this instant are left out, unless the change set tells
        of them.

    Columns: slice, position, user_id, bucket, changes, known, memberships, and per mapped column the new and the
    old value.
    """
    from sqlglot import exp

    changed = (
        exp.select(*(column(n) for n in ("audience_id", "user_id", "action")))
        .from_(table(change_set.schema, change_set.table))
        .where(column("action").neq(AUDIENCE))
    )
    touched = (
        exp.select(column("user_id"), exp.Count(this=exp.Star()).as_("changes", quoted=True))
        .from_(table(None, "changed"))
        .group_by(column("user_id"))
    )
    named: list[tuple[str, exp.Query, bool | None]] = [
        ("changed", changed, None),
        ("touched", touched, None),
        ("current", _select_current(now, left_after), None),
        ("leading", _leading(now.layout, "current"), None),
        ("collected", _collected(), None),
    ]
    if before is not None:
        named += [("past", _of_touched(before), None), ("trailing", _leading(before.layout, "past"), None)]
    return with_expressions(_joined(change_set, before), named)


def _of_touched(tables: Tables) -> exp.Select:
    """Build the memberships, past ones too, of the users whom the change set is about."""
    from sqlglot import exp

    needed, known = select_known(tables)
    if needed:
        known = with_expressions(known, [(n, q, None) for n, q in needed])
    return (
        # Not "known", which the outermost query calls a column: ClickHouse sees it from in here.
        exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier("everybody", quoted=True)))
        .from_(known.subquery("everybody", copy=False))
        .join(table(None, "touched"), on=column("user_id", "everybody").eq(column("user_id", "touched")))
    )


def _select_current(tables: Tables, left_after: datetime) -> exp.Select:
    from sqlglot import exp

    same = exp.and_(*(column(k, "of_touched").eq(column(k, "changed")) for k in ("user_id", "audience_id")))
    late = exp.GT(this=column("left_at", "of_touched"), expression=text(instant_text(left_after)))
    return (
        exp.select(
            exp.Column(this=exp.Star(), table=exp.to_identifier("of_touched", quoted=True)),
            column("action", "changed").as_("happened", quoted=True),
        )
        .from_(_of_touched(tables).subquery("of_touched", copy=False))
        .join(table(None, "changed"), on=same, join_type="left")
        .where(
            exp.or_(
                column("action", "of_touched").eq(MEMBER),
                column("action", "changed").is_(exp.null()).not_(),
                late,
            )
        )
    )


def _leading(layout: Layout, origin: str) -> exp.Select:
    """Build, per user, the row of the membership that says what is known of the profile."""
    from sqlglot import exp

    lasts = exp.case().when(column("action").eq(MEMBER), exp.Literal.number(0)).else_(exp.Literal.number(1))
    order = [
        exp.Ordered(this=lasts),
        exp.Ordered(this=column("left_at"), desc=True),
        exp.Ordered(this=column("audience_id")),
    ]
    rank = exp.Window(
        this=exp.RowNumber(), partition_by=[column("user_id")], order=exp.Order(expressions=order)
    ).as_("rank", quoted=True)
    names = ("user_id", *(c.new for c in layout.columns))
    ranked = exp.select(*(column(n) for n in names), rank).from_(table(None, origin)).subquery("ranked_rows")
    return exp.select(*(column(n) for n in names)).from_(ranked).where(column("rank").eq(1))


def _collected() -> exp.Select:
    """Build, per user, the memberships as one text, and how many they are."""
    from sqlglot import exp

    lasts = column("action").eq(MEMBER)
    stay = (
        exp.case()
        .when(exp.and_(lasts, column("happened").eq(Action.ENTERED.value)), text(Stay.ENTERED.value))
        .when(lasts, text(Stay.MEMBER.value))
        .when(column("happened").eq(Action.EXITED.value), text(Stay.EXITED.value))
        .else_(text(Stay.LEFT.value))
    )
    until = exp.case().when(lasts, text(_NO_INSTANT)).else_(column("left_at"))
    length = exp.cast(exp.Length(this=column("audience_id")), "TEXT")
    whole: exp.Expr = stay
    for part in (column("member_since"), until, length, text(":"), column("audience_id")):
        whole = exp.DPipe(this=whole, expression=part)
    return (
        exp.select(
            column("user_id"),
            exp.GroupConcat(this=whole, separator=exp.Literal.string("")).as_("memberships", quoted=True),
            exp.Count(this=exp.Star()).as_("weight", quoted=True),
        )
        .from_(table(None, "current"))
        .group_by(column("user_id"))
    )


def _joined(change_set: ChangeSet, before: Tables | None) -> exp.Select:
    """Build the numbered rows; a slice ends where its profiles have as many memberships as a slice has rows."""
    from sqlglot import exp

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
        # Of the same type as the new one, which NULL by itself is not.
        given[c.old] = (
            exp.case().when(exp.false(), column(c.new, "leading")) if before is None else column(c.new, "trailing")
        )
    query = (
        exp.select(*(e.as_(n, quoted=True) for n, e in given.items()))
        .from_(table(None, "touched"))
        .join(table(None, "collected"), on=same_user("collected"))
        .join(table(None, "leading"), on=same_user("leading"))
    )
    if before is not None:
        query = query.join(table(None, "trailing"), on=same_user("trailing"), join_type="left")
    return query


def count_slices(warehouse: Warehouse, schema: str, name: str) -> int:
    """Count the slices of a table of profiles."""
    from sqlglot import exp

    query = exp.select(exp.Max(this=column("slice"))).from_(table(schema, name))
    [(last,)] = warehouse.read_rows(render(query, warehouse.dialect))
    return 0 if last is None else int(last) + 1


def _read_table(warehouse: Warehouse, profiles: ProfileSet, number: int) -> pa.Table:
    import pyarrow as pa
    from sqlglot import exp

    change_set, layout = profiles.change_set, profiles.change_set.layout
    fields = [(n, pa.int64() if n in _COUNTS else pa.string()) for n in _OWN]
    query = (
        exp.select(*(column(n) for n in _OWN), *value_columns(layout))
        .from_(table(change_set.schema, profiles.table))
        .where(column("slice").eq(number))
        .order_by(column("position"))
    )
    return read_table(warehouse, query, fields + value_fields(layout), rows=change_set.slice_rows)


def _make_profiles(profiles: ProfileSet, rows: pa.Table, names: dict[str, str]) -> Profiles:
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
    )
