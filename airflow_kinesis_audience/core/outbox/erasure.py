"""Takes the rows of users who are forgotten out of all tables of a sync.

No table is changed: each that has such rows is written once more without them, the new one takes its place in the
ledger, and the old one is dropped. Rows keep their positions, by which dead letters and views know them. Whoever
sends what was rewritten once more sends it with other ids. Nothing is erased that a destination has not got.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as replace_detail
from sqlglot import exp

from airflow_kinesis_audience.core.changes.replay import select_undelivered
from airflow_kinesis_audience.core.changes.views import find_delivered_query, write_delivered_view, write_views
from airflow_kinesis_audience.core.exceptions import WarehouseRefused
from airflow_kinesis_audience.core.outbox.detachment import drop_litter_of_detached
from airflow_kinesis_audience.core.outbox.giving_up import count_letters
from airflow_kinesis_audience.core.outbox.tables import drop_replaced
from airflow_kinesis_audience.core.outbox.undelivered import still_undelivered
from airflow_kinesis_audience.core.sql.names import delivered_view_name, table_name, view_name
from airflow_kinesis_audience.core.sql.statements import column, has_table, render, table, write_table
from airflow_kinesis_audience.core.state.delivery_details import DeadLettersTable
from airflow_kinesis_audience.core.state.sync_details import TablesReplaced, UsersForgotten
from airflow_kinesis_audience.core.state.tombstones import (
    is_forgotten,
    select_counts_of_forgotten,
    select_forgotten,
    select_kept,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.state.commits import TableCommitter
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import Tombstones

_TABLES_AT_ONCE = 50


def list_tables(ledger: Ledger) -> set[str]:
    """List the tables of a sync, and of its deliveries, that have rows of users, by a ledger that was read."""
    timeline = ledger.state.timeline
    of_deliveries = {n for d in ledger.state.deliveries.values() for n in (*d.tables, *d.litter)}
    return {*timeline.standing, *timeline.waiting, *of_deliveries}


def count_rows(ledger: Ledger, tombstones: Tombstones, names: Collection[str]) -> dict[str, int]:
    """Count the rows of users who are forgotten, of each table; those that are not there have none."""
    rows = _read_of_tables(ledger, tombstones, names, select_counts_of_forgotten)
    return {str(name): int(count) for name, count in rows}


def find_users(ledger: Ledger, tombstones: Tombstones, names: Collection[str]) -> set[str]:
    """Find the ids of users who are forgotten and still have rows in a table."""
    return {str(user) for (user,) in _read_of_tables(ledger, tombstones, names, select_forgotten)}


def _read_of_tables(
    ledger: Ledger,
    tombstones: Tombstones,
    names: Collection[str],
    select: Callable[[str, Sequence[str], Tombstones, Dialect], exp.Query],
) -> list[tuple[Any, ...]]:
    """Read what there is of users who are forgotten in tables, some of which may not be there."""
    found: list[tuple[Any, ...]] = []
    in_order = sorted(names) if tombstones.table else []

    def read(some: Sequence[str]) -> list[tuple[Any, ...]]:
        query = select(ledger.schema, some, tombstones, ledger.warehouse.dialect)
        return list(ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect)))

    for start in range(0, len(in_order), _TABLES_AT_ONCE):
        some = in_order[start : start + _TABLES_AT_ONCE]
        try:
            found += read(some)
        except WarehouseRefused:
            for name in some:
                try:
                    found += read([name])
                except WarehouseRefused:
                    # One that is announced may not be there yet, or not any more.
                    if has_table(ledger.warehouse, table(ledger.schema, name)):
                        raise
    return found


def erase(committer: TableCommitter) -> None:
    """Take their rows out of all tables, and write down that this is done.

    :raises LedgerConflict: if another task writes to the ledger meanwhile; a retry goes on from there.
    """
    ledger, tombstones = committer.ledger, committer.timeline.tombstones
    assert tombstones is not None  # noqa: S101
    drop_litter_of_detached(ledger, of_parts=True)
    found = count_rows(ledger, tombstones, committer.timeline.standing)
    for name, rows in sorted(found.items()):
        if rows:
            _replace(committer, tombstones, name, rows)
    for log in list(ledger.state.deliveries):
        _erase_dead_letters(ledger, tombstones, log)
    _drop_old(committer, tombstones.since)
    done = UsersForgotten(table=tombstones.table, salt=tombstones.salt, users=tombstones.users, erased=True)
    committer.append(done, tombstones.since)


def _replace(committer: TableCommitter, tombstones: Tombstones, old: str, rows: int) -> None:
    """Put a table without their rows in the place of another."""
    ledger = committer.ledger
    what = old.partition("_")[0]
    name = committer.announce(what, tombstones.since)
    with committer.unless_fenced(name, tombstones.since):
        write_table(
            ledger.warehouse,
            table(ledger.schema, name),
            select_kept(ledger.schema, old, tombstones, ledger.warehouse.dialect),
            sliced_by="position" if what == "changes" else "",
            has_audience_rows=True,
        )
    committer.commit(name, TablesReplaced(tables={old: name}, rows={old: rows}), tombstones.since)


def _erase_dead_letters(ledger: Ledger, tombstones: Tombstones, log: str) -> None:
    """Leave out of a destination's dead letters whoever is forgotten; tables that do not count go, too."""
    delivery = ledger.state.delivery(log)
    reached = delivery.cursor or delivery.attached
    if reached is None:
        return

    def append(detail: DeadLettersTable) -> None:
        ledger.append(log, replace_detail(detail, owner=""), as_of=reached)

    drop_replaced(ledger, log, append)
    known = ledger.state.delivery(log).dead_letters
    if not known.rows or known.layout is None:
        return
    if not count_rows(ledger, tombstones, [known.table]).get(known.table):
        return
    forgotten = is_forgotten(ledger.schema, tombstones, ledger.warehouse.dialect, column("user_id"))
    others = still_undelivered(known, exp.not_(forgotten))
    tables = ledger.state.timeline.tables(ledger.schema, reached)
    name = table_name("rejects", ledger.sync_id, reached, uuid.uuid4().hex[:6])
    append(replace_detail(known, writing=name))
    query = select_undelivered(tables, [others])
    target = table(ledger.schema, name)
    write_table(ledger.warehouse, target, query, sliced_by="position", has_audience_rows=True)
    rows, asleep, since = count_letters(ledger, name)
    report = known.report and replace_detail(known.report, users=())
    left = DeadLettersTable(replaced=(known.table, name), report=report)
    if rows:
        left = DeadLettersTable(
            table=name,
            rows=rows,
            as_of=reached,
            layout=tables.layout,
            # Their messages must not share an id with those of another redelivery.
            number=ledger.state.delivery(log).sequence,
            replaced=known.table,
            largest=known.largest,
            has_times=True,
            since=since,
            given_up=asleep,
            report=report,
        )
    append(left)
    drop_replaced(ledger, log, append)


def _drop_old(committer: TableCommitter, as_of: datetime) -> None:
    """Drop all tables that do not count, after the views that stand on them are written over what does."""
    ledger = committer.ledger
    if _has_view(ledger, view_name):
        write_views(ledger)
    elif _has_view(ledger, delivered_view_name) and (query := find_delivered_query(ledger)) is not None:
        write_delivered_view(ledger, query)
    # Of what another run is writing nothing is about them: it began after they were forgotten.
    committer.drop(committer.timeline.orphans - {committer.timeline.writer}, as_of)


def _has_view(ledger: Ledger, name_of: Callable[[str], str]) -> bool:
    return has_table(ledger.warehouse, table(ledger.schema, name_of(ledger.sync_id)))
