"""How a table of events is made: which column of the source is what, and which have the times.

Kept in the ledger with the table, so that whoever reads it needs no mapping. It builds no SQL and runs none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.source.layout import TableLayout, layout_of
from airflow_kinesis_audience.core.sql.types import LogicalType, logical_type_of, text_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.core.model.events import EventSource
    from airflow_kinesis_audience.core.sql.dialects import Dialect


@dataclass(frozen=True, kw_only=True, slots=True)
class EventLayout:
    """How a table of events is made; kept in the ledger with it.

    :param columns: of the mapped columns.
    :param arrived: what kind of value says when a row arrived, and ``occurred`` when its event happened.
    :param occurred_timezone: in which time zone an event happened whose column has a date.
    """

    columns: TableLayout
    arrived: LogicalType
    occurred: LogicalType
    occurred_timezone: str = "UTC"


def event_layout(source: EventSource, types: Mapping[str, str], dialect: Dialect) -> EventLayout:
    """Work out the layout from the mapping and the types that the warehouse reports.

    :raises ValueError: if a column is missing or has a type without a JSON form, no column has times, or nothing
        says when a day of arrival ends.
    """
    occurred_at = source.occurred_at or source.arrived_at
    named = [source.event_id, source.arrived_at, occurred_at, source.user_id, source.device_id]
    if missing := sorted({c for c in named if c is not None and c not in types}):
        raise ValueError(
            f"the query returns no column {', '.join(map(repr, missing))}; it returns "
            f"{', '.join(map(repr, types))}"
        )
    mapped = Source(
        query=source.query,
        user_id=source.user_id or source.device_id or "",
        identities=source.identities,
        properties=source.fields,
        audience_id="events",
        identity_rules=source.identity_rules,
    )
    kinds = [logical_type_of(types[name], name, dialect) for name in (source.arrived_at, occurred_at)]
    for name, kind in zip((source.arrived_at, occurred_at), kinds, strict=True):
        if kind not in (LogicalType.DATE, LogicalType.TIMESTAMP):
            raise ValueError(f"column {name!r} is a {types[name]}; expected a timestamp with time zone, or a date")
    zone = source.arrived_at_timezone
    if kinds[0] is LogicalType.DATE and zone is None:
        raise ValueError(
            f"column {source.arrived_at!r} is a date, and the time zone of its days is unknown. Set "
            "arrived_at_timezone to the time zone of the dates, such as America/New_York or UTC, or choose a "
            "column of timestamps with time zone"
        )
    if kinds[0] is not LogicalType.DATE and zone is not None:
        raise ValueError(
            f"arrived_at_timezone is {zone!r}, and column {source.arrived_at!r} is a {types[source.arrived_at]}, "
            "which already has a time zone; remove arrived_at_timezone"
        )
    columns = layout_of(mapped, types, dialect)
    keys = (c for c in (source.event_id, source.user_id, source.device_id) if c is not None)
    columns = replace(columns, key_types={c: text_kind(types[c], c, dialect, role="key") for c in keys})
    dated = zone if zone is not None and occurred_at == source.arrived_at else "UTC"
    return EventLayout(columns=columns, arrived=kinds[0], occurred=kinds[1], occurred_timezone=dated)
