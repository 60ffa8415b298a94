"""The members of an audience at an instant, from the base and the change sets that are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import HistoryGone
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet, change_set_of
from airflow_kinesis_audience.core.sql.statements import column, render, table
from airflow_kinesis_audience.core.state.membership import Tables, select_membership
from airflow_kinesis_audience.hooks.settings import STATE_SCHEMA, configured
from airflow_kinesis_audience.hooks.state import State, open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet

_BATCH_ROWS = 50_000


class Member(NamedTuple):
    """One member of one audience, and since when (RFC 3339 in UTC)."""

    audience_id: str
    user_id: str
    member_since: str


def open_history(
    conn_id: str, sync_id: str, *, state_schema: str | None = None, state_path: str | None = None
) -> AbstractContextManager[Ledger]:
    """Open a sync's ledger for the other functions of this module.

    :param conn_id: Airflow connection to the warehouse that has the state.
    :param state_schema: schema of the state; set it and ``state_path`` as on the diff task.
    :raises ValueError: if the connection or the address is not supported; a retry does not help.
    """
    schema = state_schema or configured("state_schema", STATE_SCHEMA)
    state = State(warehouse_conn_id=conn_id, state_schema=schema, state_path=state_path)
    return open_ledger(state, sync_id, tag=None)


def read_members(ledger: Ledger, at: datetime) -> Iterator[Member]:
    """Read the members of all audiences at an instant, in bounded memory.

    :param at: any instant; the newest membership at or before it counts.
    :raises HistoryGone: if there was no membership, or it is no longer kept.
    """
    found = find_membership(ledger, at)
    tables = ledger.state.timeline.tables(ledger.schema, found.as_of)
    query = render(select_members(tables), ledger.warehouse.dialect)
    schema = pa.schema([(name, pa.string()) for name in Member._fields])
    for batch in ledger.warehouse.read_batches(query, schema, rows=_BATCH_ROWS):
        yield from map(Member._make, zip(*batch.to_pydict().values(), strict=True))


def find_membership(ledger: Ledger, at: datetime) -> RecordedChangeSet:
    """Find the newest change set at or before an instant.

    :raises HistoryGone: if there is none that is kept.
    """
    found = next((c for c in reversed(ledger.read().timeline.change_sets) if c.as_of <= at), None)
    if found is None:
        raise HistoryGone(
            f"sync {ledger.sync_id!r} had no membership at {instant_text(at)}, or no longer keeps it"
        )
    return found


def all_members(ledger: Ledger, recorded: RecordedChangeSet, tables: Tables) -> ChangeSet:
    """Make the change set in which everybody enters; its rows are those of ``select_entries``."""
    return replace(
        change_set_of(ledger, ledger.state.timeline, recorded),
        previous_as_of=None,
        table=tables.newest,
        rows=recorded.counts.members,
        layout=tables.layout,
        names_from=tables.base,
    )


def select_members(tables: Tables) -> exp.Select:
    """Build the query of the fields of :class:`Member`."""
    needed, members = select_membership(tables)
    names = [column(n, "members") for n in Member._fields]
    query = exp.select(*names).from_(table(None, "members"))
    for name, expression in needed:
        query = query.with_(name, as_=expression)
    return query.with_("members", as_=members, materialized=False)
