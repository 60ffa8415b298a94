"""What a state schema's ledger says of all that goes on in it: which syncs, and how far each destination is.

It only reads, and creates nothing: a ledger that is not there yet is told from one that cannot be read. For people
who look on; no run relies on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.exceptions import AudienceError, LedgerUnreadable
from airflow_kinesis_audience.ledger_rows import LEDGER_TABLE
from airflow_kinesis_audience.sql import Warehouse, column, render, table
from airflow_kinesis_audience.standing import RESYNC, Standing, read_standings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_kinesis_audience.ledger import Entry, Ledger
    from airflow_kinesis_audience.timeline import Timeline


@dataclass(frozen=True, kw_only=True, slots=True)
class Behind:
    """How far one destination is behind its sync.

    :param cursor: up to where everything is delivered; none while nothing is.
    :param change_sets: that it has not been told yet, and ``changes`` what is in them.
    :param under_way: the instant of the one of which a part may have been sent.
    :param knows_nobody: nothing was delivered yet, so that every member enters first.
    """

    destination: str
    message_format: str
    cursor: datetime | None
    change_sets: int
    changes: int
    under_way: datetime | None
    knows_nobody: bool


def is_there(warehouse: Warehouse, schema: str) -> bool:
    """Tell whether a schema has a ledger.

    :raises LedgerUnreadable: if that cannot be told.
    """
    from sqlglot import exp

    _, _, name = schema.rpartition(".")
    query = (
        exp.select(exp.Count(this=exp.Star()))
        .from_(exp.table_("tables", db="information_schema"))
        .where(
            exp.Lower(this=exp.column("table_schema")).eq(name.lower()),
            exp.Lower(this=exp.column("table_name")).eq(LEDGER_TABLE),
        )
    )
    try:
        [(found,)] = warehouse.read_rows(query.sql(dialect=warehouse.dialect.name))
    except AudienceError as error:
        raise LedgerUnreadable(f"whether schema {schema!r} has a ledger cannot be told: {error}") from None
    return bool(found)


def read_entries(ledger: Ledger) -> list[Entry]:
    """Read a sync's rows; none where no run has made a ledger yet.

    :raises LedgerUnreadable: if there is one and it cannot be read.
    """
    try:
        return ledger.read()
    except LedgerUnreadable:
        if is_there(ledger.warehouse, ledger.schema):
            raise
        return []


def read_syncs(warehouse: Warehouse, schema: str) -> list[str]:
    """Read the names of all syncs of a schema."""
    if not is_there(warehouse, schema):
        return []
    from sqlglot import exp

    query = exp.select(column("sync_id")).distinct().from_(table(schema, LEDGER_TABLE))
    return sorted(str(sync_id) for (sync_id,) in warehouse.read_rows(render(query, warehouse.dialect)))


def find_behind(timeline: Timeline, entries: Sequence[Entry]) -> list[Behind]:
    """Find out how far each destination that gets the sync's changes is behind."""
    return [
        _behind(timeline, standing)
        for standing in read_standings(entries)
        if standing.attached is not None and not standing.part and standing.on_first_run != RESYNC
    ]


def _behind(timeline: Timeline, standing: Standing) -> Behind:
    known = standing.cursor or standing.attached
    left = [e for e in timeline.edges if known is not None and e.as_of > known]
    return Behind(
        destination=str(standing.detail["destination"]),
        message_format=str(standing.detail["message_format"]),
        cursor=standing.cursor,
        change_sets=len(left),
        changes=sum(e.rows for e in left),
        under_way=standing.sending,
        knows_nobody=standing.cursor is None,
    )
