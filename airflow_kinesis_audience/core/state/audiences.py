"""Which audiences a sync has, or once had: as far as the ledger and the tables that are kept know of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.sql.statements import render
from airflow_kinesis_audience.core.state.membership import select_audience_ids
from airflow_kinesis_audience.core.state.rows import select_audience_rows

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.sync_details import ChangeSetDetail
    from airflow_kinesis_audience.core.state.timeline import Timeline


def read_audiences(ledger: Ledger, timeline: Timeline, newest: RecordedChangeSet) -> dict[str, str]:
    """Read every audience that anybody is or was in, with its name as far as it is known."""
    tables = timeline.tables(ledger.schema, newest.as_of)
    names: dict[str, str] = {}
    for name in (tables.base, *(n for n, _ in tables.changes)):
        names |= _read_named(ledger, name)
    known = ledger.warehouse.read_rows(render(select_audience_ids(tables), ledger.warehouse.dialect))
    return {**{a: a for (a,) in known}, **names}


def recorded_audiences(timeline: Timeline) -> set[str]:
    """List the audiences that the ledger itself has: the one of a sync, or those of change sets of few."""
    found: set[str] = set()
    for recorded in timeline.change_sets:
        found |= {recorded.layout.audience_id} if recorded.layout.audience_id is not None else set()
        found |= set(recorded.detail.audiences or ())
    return found


def find_audiences(
    ledger: Ledger, timeline: Timeline, change_set: RecordedChangeSet, asked: Collection[str]
) -> set[str]:
    """Find audiences of a sync until all that are asked for are among them, or no further one is known.

    The ledger has them where they are few; where not, a look at the change set's table mostly does. The whole
    membership is read only before an id counts as unknown.
    """
    found = recorded_audiences(timeline)
    if change_set.layout.audience_id is not None or found >= set(asked):
        return found
    if (name := timeline.audiences_table(change_set)) is not None:
        found |= set(_read_named(ledger, name))
    return found if found >= set(asked) else found | set(read_audiences(ledger, timeline, change_set))


def find_current(ledger: Ledger, timeline: Timeline, change_set: RecordedChangeSet) -> set[str]:
    """Find the audiences of a change set, those that have nobody any more among them."""
    if change_set.layout.audience_id is not None:
        return {change_set.layout.audience_id}
    if change_set.detail.audiences is not None:
        return set(change_set.detail.audiences)
    name = timeline.audiences_table(change_set)
    return set(read_audiences(ledger, timeline, change_set) if name is None else _read_named(ledger, name))


def find_populated(ledger: Ledger, sync_id: str, newest: ChangeSetDetail) -> set[str]:
    """Find the audiences of another sync that have members; where they are many its ledger is read.

    :param newest: its newest change set.
    """
    if newest.layout.audience_id is not None:
        return {newest.layout.audience_id} if newest.counts.members else set()
    if newest.audiences is not None:
        return {a for a, counts in newest.audiences.items() if counts.members}
    other = ledger.of_sync(sync_id)
    timeline = other.read().timeline
    return find_current(other, timeline, timeline.newest) if timeline.newest is not None else set()


def _read_named(ledger: Ledger, name: str) -> dict[str, str]:
    """Read the audiences that a table has: id to name."""
    rows = ledger.warehouse.read_rows(render(select_audience_rows(ledger.schema, name), ledger.warehouse.dialect))
    return {a: called or a for a, called, *_ in rows if a is not None}
