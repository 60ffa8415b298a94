"""The SQL that selects the events of an interval, and the reader of the table that holds them.

The author's query is read once and its rows are stored before anything is sent: every attempt sees the same
events. The events of one user or device stand together in batches, and a slice never cuts a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from sqlglot import exp

from airflow_kinesis_audience.core.model.events import Events, EventSource, Interval
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.readers.change_sets import (
    SliceReader,
    columns_of,
    identities_by_label,
    read_table,
)
from airflow_kinesis_audience.core.readers.outline import count_chunks, is_within, slice_of
from airflow_kinesis_audience.core.source.arrival import arrived_in
from airflow_kinesis_audience.core.source.columns import key_text, value_of
from airflow_kinesis_audience.core.source.identities import is_filled, is_invalid
from airflow_kinesis_audience.core.source.staging import SourceReading, stage_source_rows
from airflow_kinesis_audience.core.sql.statements import (
    SOURCE_PLACEHOLDER,
    column,
    read_value,
    table,
    text,
)
from airflow_kinesis_audience.core.sql.types import LogicalType, arrow_type
from airflow_kinesis_audience.core.state.rows import bucket_of, padded

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.source.event_layout import EventLayout
    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

BATCH_ROWS = 500
"""Most events of a batch."""

INVALID_EVENT_REASONS = {
    "no_id": "have no event id",
    "nobody": "have neither a user id nor a device id",
    "no_time": "have no time",
    "wrong_identity": "have an identity that breaks its rule",
    "repeated": "repeat the event id of another",
}
"""The reasons for which a row is no event: as stored, and as a sentence goes on after a number of rows."""

_KEYS = ("event_id", "user_id", "device_id")
_OWN = ("position", "batch", "bucket", *_KEYS, "occurred_at")


@dataclass(frozen=True, kw_only=True, slots=True)
class EventSet:
    """The events of an interval that are to be sent: read and counted like a change set.

    :param table: the state table that holds them.
    :param rows: number of events, in ``slices`` slices.
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
    def instants(self) -> tuple[str, str]:
        """The interval, as texts."""
        return instant_text(self.interval.start), instant_text(self.interval.end)

    def is_delivered_by(self, cursor: datetime | None) -> bool:
        """Return false: intervals come in any order, so a cursor does not show it."""
        return False

    def reader(self, warehouse: Warehouse) -> SliceReader:
        """Make the reader of the slices."""
        is_event = column("problem").is_(exp.null())
        return SliceReader(
            counts=count_chunks(warehouse, table(self.schema, self.table), column("slice"), is_event),
            read=lambda slices, digits: _read_table(warehouse, self, slices, digits),
            make=lambda rows: _make_events(self, rows),
        )


def read_events(
    warehouse: Warehouse, source: EventSource, layout: EventLayout, interval: Interval, query: str
) -> SourceReading:
    """Build the reading of an interval's rows for a statement over the state."""
    columns, dialect = layout.columns, warehouse.origin.dialect
    checks = [(c, is_invalid(c, dialect)) for c in columns.checked]
    named_by = keys_of_events(source)
    nothing = exp.cast(exp.null(), "TEXT")
    keys = {n: nothing if c is None else key_text(c, columns, dialect) for n, c in named_by.items()}
    given = (
        exp.select(
            *(key.as_(name) for name, key in keys.items()),
            column(source.occurred_at or source.arrived_at).as_("occurred_at"),
            *(value_of(c, dialect).as_(c.new) for c in columns.columns),
            *(check.as_(c.invalid) for c, check in checks if check is not None),
        )
        .select(*(is_filled(c, dialect).as_(c.filled) for c in columns.filtered), copy=False)
        .from_(table(None, SOURCE_PLACEHOLDER).as_("given"))
        .where(arrived_in(source, layout, interval, dialect))
    )
    kinds = {**dict.fromkeys(_KEYS, LogicalType.TEXT), "occurred_at": layout.occurred}
    kinds |= {c.new: c.kind for c in columns.columns}
    flags = [*(c.invalid for c in columns.checked), *(c.filled for c in columns.filtered)]
    kinds |= dict.fromkeys(flags, LogicalType.BOOLEAN)
    return stage_source_rows(warehouse, given, query, kinds, columns, named_by)


def keys_of_events(source: EventSource) -> dict[str, str | None]:
    """Name the columns of an event's keys, and what they are in the source."""
    return {name: getattr(source, name) for name in _KEYS}


def select_events(read: exp.Select, layout: EventLayout, *, slice_rows: int) -> exp.Query:
    """Build the events that arrived in an interval, and a row with a reason for each row that is no event.

    :param read: the reading of the interval's rows.

    Columns: problem, slice, position, batch, bucket, event_id, user_id, device_id, occurred_at, the new value
    per mapped column, and per identity whether the source has a value there that stands for none: 1 or 0.
    """
    columns = layout.columns
    filled = {c.filled: c for c in columns.filtered}
    names = ("problem", "slice", *_OWN, *(c.new for c in columns.columns), *filled)
    given = {n: _is_placeholder(filled[n]) if n in filled else column(n, "cut") for n in names}
    found = padded(given, names).from_(table(None, "cut"))
    invalid = (
        padded({"problem": column("problem", "judged")}, names)
        .from_(table(None, "judged"))
        .where(column("problem", "judged").is_(exp.null()).not_())
    )
    return (
        exp.union(found, invalid, distinct=False)
        .with_("read", as_=read, copy=False)
        .with_("counted", as_=_counted(), copy=False)
        .with_("judged", as_=_judged(columns), materialized=True, copy=False)
        .with_("placed", as_=_placed(), copy=False)
        .with_("cut", as_=_cut(slice_rows), copy=False)
    )


def _is_placeholder(c: Column) -> exp.Expr:
    stands_for_none = exp.and_(column(c.filled, "cut"), column(c.new, "cut").is_(exp.null()))
    return exp.case().when(stands_for_none, exp.Literal.number(1)).else_(exp.Literal.number(0))


def _counted() -> exp.Select:
    order = [exp.Ordered(this=column(n)) for n in ("occurred_at", "user_id", "device_id")]
    occurrence = exp.Window(
        this=exp.RowNumber(), partition_by=[column("event_id")], order=exp.Order(expressions=order)
    )
    return exp.select(exp.Star(), occurrence.as_("occurrence")).from_(table(None, "read"))


def _judged(columns: TableLayout) -> exp.Select:
    nobody = exp.and_(*(column(n).is_(exp.null()) for n in ("user_id", "device_id")))
    wrong = exp.or_(*(column(c.invalid) for c in columns.checked)) if columns.checked else exp.false()
    reason = (
        exp.case()
        .when(column("event_id").is_(exp.null()), text("no_id"))
        .when(nobody, text("nobody"))
        .when(column("occurred_at").is_(exp.null()), text("no_time"))
        .when(wrong, text("wrong_identity"))
        .when(exp.GT(this=column("occurrence"), expression=exp.Literal.number(1)), text("repeated"))
    )
    return exp.select(exp.Star(), reason.as_("problem")).from_(table(None, "counted"))


def _placed() -> exp.Select:
    """Number the events by their user or device, and by when they happened."""

    def number(partition: list[exp.Expr], first: list[exp.Expr]) -> exp.Expr:
        order = [exp.Ordered(this=e) for e in (*first, column("occurred_at"), column("event_id"))]
        window = exp.Window(this=exp.RowNumber(), partition_by=partition, order=exp.Order(expressions=order))
        return exp.Sub(this=window, expression=exp.Literal.number(1))

    subject = exp.func("COALESCE", column("user_id"), column("device_id"))
    bucket = bucket_of(subject)
    # A user and a device may have one id, and are two.
    about: list[exp.Expr] = [bucket.copy(), column("user_id"), column("device_id")]
    return (
        exp.select(
            exp.Star(),
            bucket.as_("bucket"),
            number([], about).as_("position"),
            number([column("user_id"), column("device_id")], []).as_("within"),
        )
        .from_(table(None, "judged"))
        .where(column("problem").is_(exp.null()))
    )


def _cut(slice_rows: int) -> exp.Select:
    """Name each batch by the position of its first event; a slice holds the batches that begin in it."""
    inside = exp.paren(exp.Mod(this=column("within"), expression=exp.Literal.number(BATCH_ROWS)))
    first = exp.paren(exp.Sub(this=column("position"), expression=inside))
    return exp.select(exp.Star(), first.as_("batch"), slice_of(first.copy(), slice_rows).as_("slice")).from_(
        table(None, "placed")
    )


def _read_table(warehouse: Warehouse, events: EventSet, slices: range, digits: range) -> pa.Table:
    layout = events.layout.columns
    types = {
        "slice": pa.int64(),
        "position": pa.int64(),
        "batch": pa.int64(),
        "occurred_at": arrow_type(events.layout.occurred),
    }
    names = ("slice", *_OWN)
    fields = [(n, types.get(n, pa.string())) for n in names]
    fields += [(c.new, arrow_type(c.kind)) for c in layout.columns]
    query = (
        exp.select(
            *(column(n) for n in names),
            *(read_value(c.new, c.kind) for c in layout.columns),
        )
        .from_(table(events.schema, events.table))
        .where(column("problem").is_(exp.null()), *is_within("slice", slices, digits))
        .order_by(column("position"))
    )
    return read_table(warehouse, query, fields, rows=20_000)


def _make_events(events: EventSet, rows: pa.Table) -> Events:
    layout, read = events.layout.columns, columns_of(rows)
    own: dict[str, Any] = {n: read[n] for n in ("batch", "bucket", *_KEYS)}
    zone = ZoneInfo(events.layout.occurred_timezone)
    return Events(
        **own,
        sync_id=events.sync_id,
        end=events.interval.end,
        occurred_at=[_instant_of(value, zone) for value in read["occurred_at"]],
        identities=identities_by_label(layout, read),
        fields={c.label: read[c.new] for c in layout.properties},
    )


def _instant_of(value: date | datetime, zone: ZoneInfo) -> datetime:
    """Return an instant, of a date its first one."""
    return value if isinstance(value, datetime) else datetime.combine(value, time(), zone).astimezone(UTC)
