"""How a table of events is made: which column of the source is what, and what tells the time.

Kept in the ledger with the table, so that whoever reads it needs no mapping. It builds no SQL and runs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import Source
from airflow_kinesis_audience.kinds import Kind, kind_of
from airflow_kinesis_audience.layout import Layout, layout_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.dialects import Dialect
    from airflow_kinesis_audience.events import EventSource


@dataclass(frozen=True, kw_only=True, slots=True)
class EventLayout:
    """How a table of events is made; kept in the ledger with it.

    :param columns: of the mapped columns.
    :param arrived: what kind of value says when a row arrived, and ``occurred`` when its event happened.
    """

    columns: Layout
    arrived: Kind
    occurred: Kind

    def as_json(self) -> dict[str, Any]:
        """Give the layout as JSON values."""
        return {"columns": self.columns.as_json(), "arrived": self.arrived, "occurred": self.occurred}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EventLayout:
        """Read what :meth:`as_json` gave."""
        return cls(
            columns=Layout.from_json(value["columns"]),
            arrived=Kind(value["arrived"]),
            occurred=Kind(value["occurred"]),
        )


def event_layout(source: EventSource, types: Mapping[str, str], dialect: Dialect) -> EventLayout:
    """Work out the layout from the mapping and the types that the warehouse reports.

    :raises ValueError: if a column is missing or has a type without a JSON form, or one that tells no time.
    """
    occurred_at = source.occurred_at or source.arrived_at
    named = [source.event_id, source.arrived_at, occurred_at, source.user_id, source.device_id]
    if missing := sorted({c for c in named if c is not None and c not in types}):
        raise ValueError(
            f"the query gives no column {', '.join(map(repr, missing))}; it gives {', '.join(map(repr, types))}"
        )
    mapped = Source(
        query=source.query,
        user_id=source.user_id or source.device_id or "",
        identities=source.identities,
        properties=source.fields,
        audience_id="events",
        identity_rules=source.identity_rules,
    )
    kinds = [kind_of(types[name], name, dialect) for name in (source.arrived_at, occurred_at)]
    for name, kind in zip((source.arrived_at, occurred_at), kinds, strict=True):
        if kind not in (Kind.DATE, Kind.TIMESTAMP):
            raise ValueError(f"column {name!r} is a {types[name]}; expected a timestamp with time zone, or a date")
    columns = layout_of(mapped, types, dialect)
    return EventLayout(columns=columns, arrived=kinds[0], occurred=kinds[1])
