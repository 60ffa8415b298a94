"""Which rows of a table of events arrived in an interval, and how far an interval can be read at this moment.

It knows no clock but that of the warehouse where the rows arrive. The invariant: intervals that do not overlap
have no row in common, and together they have all rows.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa
from sqlglot import exp

from airflow_kinesis_audience.core.sql.statements import column, render
from airflow_kinesis_audience.core.sql.types import LogicalType

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.events import EventSource, Interval
    from airflow_kinesis_audience.core.source.event_layout import EventLayout
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse


def read_clock(warehouse: Warehouse) -> datetime:
    """Read the time of the warehouse where an author's query runs, without its fractions of a second.

    It is a statement of its own: in the one that reads the events, Redshift refuses the time, and a table that
    Athena writes takes none with a zone.
    """
    origin, schema = warehouse.origin, pa.schema([("now", pa.timestamp("us", tz="UTC"))])
    sql = render(exp.select(exp.CurrentTimestamp().as_("now")), origin.dialect)
    [found] = [batch.column(0)[0].as_py() for batch in origin.read_batches(sql, schema, rows=1)]
    moment: datetime = found.astimezone(UTC).replace(microsecond=0)
    return moment


def arrived_in(source: EventSource, layout: EventLayout, interval: Interval, dialect: Dialect) -> exp.Expr:
    """Build the condition that a row arrived in an interval.

    A day arrives when it ends, in the author's time zone: until then rows of it may still come.
    """
    zone = ZoneInfo(source.arrived_at_timezone or "UTC")

    def bound(at: datetime) -> exp.Expr:
        if layout.arrived is LogicalType.DATE:
            return _date(at.astimezone(zone).date())
        instant = at if dialect.types.instant_offsets else at.astimezone(UTC).replace(tzinfo=None)
        return exp.cast(exp.Literal.string(instant.isoformat()), "TIMESTAMPTZ")

    return exp.and_(
        exp.GTE(this=column(source.arrived_at), expression=bound(interval.start)),
        exp.LT(this=column(source.arrived_at), expression=bound(interval.end)),
    )


def _date(day: date) -> exp.Expr:
    return exp.cast(exp.Literal.string(day.isoformat()), "DATE")
