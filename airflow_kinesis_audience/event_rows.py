"""SQL of the events that arrived in an interval, and the reading of them.

The author's query is read once, and what it gave is written down before anything is sent: every attempt sees the
same events. Those of one user or device stand together in batches, and a slice never cuts one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.events import Events, EventSource, Interval
from airflow_kinesis_audience.identity import is_wrong
from airflow_kinesis_audience.kinds import Kind, arrow_type
from airflow_kinesis_audience.membership import bucket_of, padded, with_expressions
from airflow_kinesis_audience.slices import (
    Reader,
    columns_of,
    count_cells,
    identities_by_label,
    read_table,
    slice_of,
)
from airflow_kinesis_audience.source import key_text, value_of
from airflow_kinesis_audience.sql import SOURCE_PLACEHOLDER, Warehouse, column, read_value, render, table, text
from airflow_kinesis_audience.staging import stand_where_state_is

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

    from airflow_kinesis_audience.dialects import Dialect
    from airflow_kinesis_audience.event_layout import EventLayout
    from airflow_kinesis_audience.layout import Layout

BATCH_ROWS = 500
"""Most events of a batch."""

PROBLEMS = {
    "no_id": "have no event id",
    "nobody": "name neither a user nor a device",
    "no_time": "do not say when they happened",
    "wrong_identity": "have an identity that is not what its rule promises",
    "repeated": "repeat the event id of another",
}
"""Why a row is no event, and how to say so."""

_KEYS = ("event_id", "user_id", "device_id")
_OWN = ("position", "batch", "bucket", *_KEYS, "occurred_at")


@dataclass(frozen=True, kw_only=True, slots=True)
class EventSet:
    """The events of an interval that are to be sent: read and counted like a change set.

    :param table: where they are.
    :param rows: how many they are, and ``slices`` in how many slices.
    """

    sync_id: str
    interval: Interval
    schema: str
    table: str
    rows: int
    slices: int
    layout: EventLayout

    @property
    def as_of(self) -> datetime:
        """The end of the interval."""
        return self.interval.end

    @property
    def edge(self) -> tuple[str, str]:
        """The interval, as texts."""
        return instant_text(self.interval.start), instant_text(self.interval.end)

    def is_told_by(self, cursor: datetime | None) -> bool:
        """Tell whether they are delivered; intervals come in any order, so a cursor does not say it."""
        return False

    def reader(self, warehouse: Warehouse) -> Reader:
        """Make what reads the slices."""
        from sqlglot import exp

        told = column("problem").is_(exp.null())
        return Reader(
            counts=count_cells(warehouse, table(self.schema, self.table), column("slice"), told),
            read=lambda number: _read_table(warehouse, self, number),
            make=lambda rows: _make_events(self, rows),
        )


def read_events(
    warehouse: Warehouse, source: EventSource, layout: EventLayout, interval: Interval, query: str
) -> tuple[exp.Select, str | None]:
    """Give the reading of an interval's rows for a statement over the state, and the query, if that holds it."""
    from sqlglot import exp

    columns, dialect = layout.columns, warehouse.origin.dialect
    checks = [(c, is_wrong(c, dialect)) for c in columns.checked]
    named_by = {name: getattr(source, name) for name in _KEYS}
    keys = {n: key_text(c) if c is not None else exp.cast(exp.null(), "TEXT") for n, c in named_by.items()}
    given = (
        exp.select(
            *(key.as_(name, quoted=True) for name, key in keys.items()),
            column(source.occurred_at or source.arrived_at).as_("occurred_at", quoted=True),
            *(value_of(c, dialect).as_(c.new, quoted=True) for c in columns.columns),
            *(check.as_(c.wrong, quoted=True) for c, check in checks if check is not None),
        )
        .from_(table(None, SOURCE_PLACEHOLDER).as_("given", quoted=True))
        .where(_arrived_in(source.arrived_at, layout.arrived, interval, dialect))
    )
    kinds = {**dict.fromkeys(_KEYS, Kind.TEXT), "occurred_at": layout.occurred}
    kinds |= {c.new: c.kind for c in columns.columns} | {c.wrong: Kind.BOOLEAN for c in columns.checked}
    return stand_where_state_is(warehouse, given, query, kinds)


def select_events(read: exp.Select, layout: EventLayout, *, slice_rows: int) -> exp.Query:
    """Build the events that arrived in an interval, and a row with its reason for each row that is none.

    :param read: the reading of the interval's rows.

    Columns: problem, slice, position, batch, bucket, event_id, user_id, device_id, occurred_at, and the new value
    per mapped column.
    """
    from sqlglot import exp

    columns = layout.columns
    names = ("problem", "slice", *_OWN, *(c.new for c in columns.columns))
    found = padded({n: column(n, "cut") for n in names}, names).from_(table(None, "cut"))
    none = (
        padded({"problem": column("problem", "judged")}, names)
        .from_(table(None, "judged"))
        .where(column("problem", "judged").is_(exp.null()).not_())
    )
    named: list[tuple[str, exp.Query, bool | None]] = [
        ("read", read, None),
        ("counted", _counted(), None),
        ("judged", _judged(columns), True),
        ("placed", _placed(), None),
        ("cut", _cut(slice_rows), None),
    ]
    return with_expressions(exp.union(found, none, distinct=False), named)


def _arrived_in(name: str, kind: Kind, interval: Interval, dialect: Dialect) -> exp.Expr:
    """Build the condition that a row arrived in an interval; a date is its first instant in UTC."""
    from sqlglot import exp

    def bound(at: datetime) -> exp.Expr:
        if kind is Kind.TIMESTAMP:
            told = at if dialect.offsets else at.astimezone(UTC).replace(tzinfo=None)
            return exp.cast(exp.Literal.string(told.isoformat()), "TIMESTAMPTZ")
        day = at.date() + timedelta(days=at.time() != time())
        return exp.cast(exp.Literal.string(day.isoformat()), "DATE")

    return exp.and_(
        exp.GTE(this=column(name), expression=bound(interval.start)),
        exp.LT(this=column(name), expression=bound(interval.end)),
    )


def _counted() -> exp.Select:
    from sqlglot import exp

    order = [exp.Ordered(this=column(n)) for n in ("occurred_at", "user_id", "device_id")]
    occurrence = exp.Window(
        this=exp.RowNumber(), partition_by=[column("event_id")], order=exp.Order(expressions=order)
    )
    return exp.select(exp.Star(), occurrence.as_("occurrence", quoted=True)).from_(table(None, "read"))


def _judged(columns: Layout) -> exp.Select:
    from sqlglot import exp

    nobody = exp.and_(*(column(n).is_(exp.null()) for n in ("user_id", "device_id")))
    wrong = exp.or_(*(column(c.wrong) for c in columns.checked)) if columns.checked else exp.false()
    problem = (
        exp.case()
        .when(column("event_id").is_(exp.null()), text("no_id"))
        .when(nobody, text("nobody"))
        .when(column("occurred_at").is_(exp.null()), text("no_time"))
        .when(wrong, text("wrong_identity"))
        .when(exp.GT(this=column("occurrence"), expression=exp.Literal.number(1)), text("repeated"))
    )
    return exp.select(exp.Star(), problem.as_("problem", quoted=True)).from_(table(None, "counted"))


def _placed() -> exp.Select:
    """Number the events by whom they are about, and when they happened."""
    from sqlglot import exp

    def number(partition: list[exp.Expr], first: list[exp.Expr]) -> exp.Expr:
        order = [exp.Ordered(this=e) for e in (*first, column("occurred_at"), column("event_id"))]
        window = exp.Window(this=exp.RowNumber(), partition_by=partition, order=exp.Order(expressions=order))
        return exp.Sub(this=window, expression=exp.Literal.number(1))

    whom = exp.func("COALESCE", column("user_id"), column("device_id"))
    bucket = bucket_of(whom)
    # A user and a device may have one id, and are two.
    about: list[exp.Expr] = [bucket.copy(), column("user_id"), column("device_id")]
    return (
        exp.select(
            exp.Star(),
            bucket.as_("bucket", quoted=True),
            number([], about).as_("position", quoted=True),
            number([column("user_id"), column("device_id")], []).as_("within", quoted=True),
        )
        .from_(table(None, "judged"))
        .where(column("problem").is_(exp.null()))
    )


def _cut(slice_rows: int) -> exp.Select:
    """Name each batch by the position of its first event; a slice holds the batches that begin in it."""
    from sqlglot import exp

    inside = exp.paren(exp.Mod(this=column("within"), expression=exp.Literal.number(BATCH_ROWS)))
    first = exp.paren(exp.Sub(this=column("position"), expression=inside))
    return exp.select(
        exp.Star(), first.as_("batch", quoted=True), slice_of(first.copy(), slice_rows).as_("slice", quoted=True)
    ).from_(table(None, "placed"))


def count_events(warehouse: Warehouse, schema: str, name: str) -> tuple[int, int, dict[str, int]]:
    """Count a table of events: events, slices, and rows that are none by reason."""
    from sqlglot import exp

    query = (
        exp.select(column("problem"), exp.Count(this=exp.Star()), exp.Max(this=column("slice")))
        .from_(table(schema, name))
        .group_by(column("problem"))
    )
    events, slices, problems = 0, 0, {}
    for problem, rows, last in warehouse.read_rows(render(query, warehouse.dialect)):
        if problem is None:
            events, slices = int(rows), int(last) + 1
        else:
            problems[str(problem)] = int(rows)
    return events, slices, problems


def _read_table(warehouse: Warehouse, events: EventSet, number: int) -> pa.Table:
    import pyarrow as pa
    from sqlglot import exp

    layout = events.layout.columns
    types = {"position": pa.int64(), "batch": pa.int64(), "occurred_at": arrow_type(events.layout.occurred)}
    fields = [(n, types.get(n, pa.string())) for n in _OWN]
    fields += [(c.new, arrow_type(c.kind)) for c in layout.columns]
    query = (
        exp.select(
            *(column(n) for n in _OWN),
            *(read_value(c.new, c.kind) for c in layout.columns),
        )
        .from_(table(events.schema, events.table))
        .where(column("problem").is_(exp.null()), column("slice").eq(number))
        .order_by(column("position"))
    )
    return read_table(warehouse, query, fields, rows=20_000)


def _make_events(events: EventSet, rows: pa.Table) -> Events:
    layout, read = events.layout.columns, columns_of(rows)
    own: dict[str, Any] = {n: read[n] for n in ("batch", "bucket", *_KEYS)}
    return Events(
        **own,
        sync_id=events.sync_id,
        end=events.interval.end,
        occurred_at=[_instant_of(value) for value in read["occurred_at"]],
        identities=identities_by_label(layout, read),
        fields={c.label: read[c.new] for c in layout.properties},
    )


def _instant_of(value: date | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)
