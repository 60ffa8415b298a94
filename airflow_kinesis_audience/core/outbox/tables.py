"""Tables that one destination alone needs: a snapshot, and the profiles that a change set is about.

A snapshot is a change set made of a membership; profiles are what a change set says, gathered by user. Each is
announced before it is written and kept until it is delivered, so that a later attempt goes on with the same rows;
one that is gone before that is written again, with the same rows. Whoever could not announce a table touches no
other.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec.structs import replace as replace_detail

from airflow_kinesis_audience.core.changes.replay import select_entries, select_exits, select_full_snapshot
from airflow_kinesis_audience.core.exceptions import LedgerConflict
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet, change_set_of
from airflow_kinesis_audience.core.readers.partitions import WHOLE
from airflow_kinesis_audience.core.readers.profiles import ProfileSet, count_slices, select_profiles
from airflow_kinesis_audience.core.sql.names import table_name
from airflow_kinesis_audience.core.sql.statements import drop_table, has_table, render, table, write_table
from airflow_kinesis_audience.core.state.delivery_details import DeadLettersTable, ProfilesTable, SnapshotTable
from airflow_kinesis_audience.core.state.rows import select_counts
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, TablesRetired

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from sqlglot import exp

    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
    from airflow_kinesis_audience.core.state.commits import TableCommitter
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.membership import Tables


def name_table(log: DeliveryLog, what: str, as_of: datetime) -> str:
    """Make a name that no other table has."""
    return table_name(what, log.ledger.sync_id, as_of, uuid.uuid4().hex[:6])


def find_or_write_snapshot(log: DeliveryLog, as_of: datetime, *, announced: str = "") -> ChangeSet:
    """Find the change set in which everybody enters, or write it.

    :param announced: the table that this task has announced when it attached the destination.
    """
    known, name = log.whole.snapshot, announced
    if known is None or known.table != announced:
        if known is not None and (known.written or _is_sending(log, known.table)) and _is_there(log, known):
            return snapshot_of(log, as_of, known.table)
        name = _announce_snapshot(log, as_of)
    write_snapshot(log, as_of, name)
    if log.delivery.part != WHOLE:
        # The other parts wait for it; where there is but one task the row of its attempt says as much.
        _append_written(log, SnapshotTable(table=name, written=True), as_of)
    return snapshot_of(log, as_of, name)


def find_or_write_full_snapshot(log: DeliveryLog, as_of: datetime) -> ChangeSet:
    """Find the change set in which all members enter and all exit who are known to have left, or write it."""
    known = log.whole.snapshot
    if known is None or not known.written or not _is_there(log, known):
        known = SnapshotTable(table=_announce_snapshot(log, as_of), written=True)
        write_snapshot(log, as_of, known.table, full=True)
        _append_written(log, known, as_of)
    rows = sum(count for _, _, count, _ in count_actions(log.ledger, known.table))
    # Who has left may have been in an audience that the newest change set no longer names.
    return replace(snapshot_of(log, as_of, known.table), rows=rows, names=None)


def write_snapshot(log: DeliveryLog, as_of: datetime, name: str, *, full: bool = False) -> None:
    """Write a snapshot to a table.

    :param full: with the exits of all who are known to have left.
    """
    ledger, tables = log.ledger, _tables(log, as_of)
    query = select_full_snapshot(tables) if full else select_entries(tables)
    write_table(ledger.warehouse, table(ledger.schema, name), query, sliced_by="position", has_audience_rows=True)


def write_exits(
    committer: TableCommitter, tables: Tables, as_of: datetime, only: exp.Expr | None = None
) -> tuple[str, dict[str, int]]:
    """Write the table of a change set in which members exit; gives its name, and how many of each audience.

    :param only: see :func:`~airflow_kinesis_audience.core.changes.replay.select_exits`.
    """
    ledger = committer.ledger
    name = committer.announce("changes", as_of)
    with committer.unless_fenced(name, as_of):
        target, query = table(ledger.schema, name), select_exits(tables, only)
        write_table(ledger.warehouse, target, query, sliced_by="position", has_audience_rows=True)
        exits = {str(audience_id): rows for audience_id, _, rows, _ in count_actions(ledger, name)}
    return name, exits


def snapshot_of(log: DeliveryLog, as_of: datetime, name: str) -> ChangeSet:
    """Make the change set of a snapshot's table: every member enters."""
    found, tables = log.timeline.find(as_of), _tables(log, as_of)
    assert found is not None  # noqa: S101
    rows, mark = found.counts.members, ""
    if log.timeline.tombstones is not None and log.timeline.has_lost_rows(as_of):
        # Others than were counted then, and they have other positions.
        rows = sum(count for _, _, count, _ in count_actions(log.ledger, name))
        mark = log.timeline.tombstones.mark
    return replace(
        change_set_of(log.ledger, log.timeline, found),
        previous_as_of=None,
        table=name,
        rows=rows,
        epoch=found.epoch + (found.table if found.inserted else "") + mark,
        erased=0,
        layout=tables.layout,
        names_from=tables.base,
    )


def find_or_write_profiles(log: DeliveryLog, change_set: ChangeSet, *, exits_kept: timedelta) -> ProfileSet:
    """Find the profiles that a change set is about, or write them.

    :param exits_kept: how long after its end a profile still has a membership.
    :raises HistoryGone: if the membership that the change set leads from is no longer kept.
    """
    known, seconds = log.whole.profiles, int(exits_kept.total_seconds())
    asked = (True, change_set.table, seconds)
    found = known and (known.written, known.changes, known.exits_kept_seconds)
    if known is not None and found == asked and _is_there(log, known):
        return ProfileSet(change_set=change_set, table=known.table, slices=known.slices)
    name = name_table(log, "profiles", change_set.as_of)
    announced = ProfilesTable(table=name, changes=change_set.table, exits_kept_seconds=seconds)
    log.append(announced, change_set.as_of)
    if known is not None:
        drop_superseded(log, known, change_set.as_of)
    profiles = write_profiles(log, change_set, name, exits_kept=exits_kept)
    written = ProfilesTable(
        table=name, changes=change_set.table, exits_kept_seconds=seconds, slices=profiles.slices, written=True
    )
    _append_written(log, written, change_set.as_of)
    return profiles


def write_profiles(log: DeliveryLog, change_set: ChangeSet, name: str, *, exits_kept: timedelta) -> ProfileSet:
    """Write the profiles that a change set is about to a table."""
    ledger = log.ledger
    now = log.timeline.tables(ledger.schema, change_set.as_of, change_set.layout)
    before = None
    if change_set.previous_as_of is not None:
        before = log.timeline.tables(ledger.schema, change_set.previous_as_of, change_set.layout)
    query = select_profiles(change_set, now, before, left_after=change_set.as_of - exits_kept)
    write_table(ledger.warehouse, table(ledger.schema, name), query, sliced_by="slice")
    slices = count_slices(ledger.warehouse, ledger.schema, name)
    return ProfileSet(change_set=change_set, table=name, slices=slices)


def count_actions(ledger: Ledger, name: str) -> list[tuple[str, str, int, int]]:
    """Count the rows of a change set's table: audience, action, rows, users."""
    found = ledger.warehouse.read_rows(render(select_counts(ledger.schema, name), ledger.warehouse.dialect))
    return [(str(audience_id), str(action), rows, users) for audience_id, action, rows, users in found]


def drop_snapshot(log: DeliveryLog) -> None:
    """Drop the snapshot once it is delivered, and nothing reads it any more."""
    known, as_of = log.whole.snapshot, log.whole.attached
    if known is not None and as_of is not None and log.whole.cursor is not None:
        if log.delivery.resync and known.written:
            # Read until the resync is complete: a retry must not find it half gone.
            log.append(SnapshotTable(table=known.table), as_of)
        drop_table(log.ledger.warehouse, table(log.ledger.schema, known.table))
        log.append(SnapshotTable(), as_of)


def drop_all(log: DeliveryLog) -> None:
    """Drop what the delivery alone needs, before it ends: afterwards nobody looks for it."""
    drop_snapshot(log)
    drop_profiles(log)
    drop_litter(log)


def announce_litter(log: DeliveryLog, what: str, as_of: datetime) -> str:
    """Announce a table that is read once and then dropped with the litter; gives its name."""
    name = name_table(log, what, as_of)
    log.append_to_part(SnapshotTable(table=name, resend=True), as_of)
    return name


def drop_litter(log: DeliveryLog) -> None:
    """Drop what nobody relies on any more: tables of a resend, and those that a killed task had replaced."""
    for state, append in ((log.own, log.append_to_part), (log.whole, log.append)):
        # What is dropped already is not there the second time.
        if state.litter and log.whole.attached is not None:
            for name in state.litter:
                drop_table(log.ledger.warehouse, table(log.ledger.schema, name))
            # Another part may do so at this moment, too.
            with contextlib.suppress(LedgerConflict):
                append(SnapshotTable(resend=True), log.whole.attached)
            if log.delivery.part == WHOLE:
                return


def drop_profiles(log: DeliveryLog) -> None:
    """Drop the profiles once nothing of them is left to be sent.

    Before the table goes the log says that it cannot be relied on, and after that it is gone: whoever looks in
    between neither reads a table that is not there nor forgets one that is.
    """
    known, as_of = log.whole.profiles, log.whole.attached
    if known is not None and as_of is not None and log.whole.sending is None:
        log.append(ProfilesTable(table=known.table), as_of)
        drop_table(log.ledger.warehouse, table(log.ledger.schema, known.table))
        log.append(ProfilesTable(), as_of)


def drop_superseded(log: DeliveryLog, known: SnapshotTable | ProfilesTable, as_of: datetime) -> None:
    """Drop a table in whose place the log names another one."""
    drop_table(log.ledger.warehouse, table(log.ledger.schema, known.table))
    if not known.written:
        leave_behind(log.ledger, log.delivery.log, known.table)


def _tables(log: DeliveryLog, as_of: datetime) -> Tables:
    return log.timeline.tables(log.ledger.schema, as_of)


def _is_there(log: DeliveryLog, known: SnapshotTable | ProfilesTable) -> bool:
    """Return whether a table that was written is still there: a restored backup, or a person, may have none."""
    return has_table(log.ledger.warehouse, table(log.ledger.schema, known.table))


def _is_sending(log: DeliveryLog, name: str) -> bool:
    """Return whether an attempt has begun to send a table, which is then complete."""
    checkpoint = log.whole.checkpoint
    return checkpoint is not None and checkpoint.table == name


def _announce_snapshot(log: DeliveryLog, as_of: datetime) -> str:
    """Announce a new table, and drop the one before, which nobody finished."""
    known, name = log.whole.snapshot, name_table(log, "snapshot", as_of)
    log.append(SnapshotTable(table=name), as_of)
    if known is not None:
        drop_superseded(log, known, as_of)
    return name


def _append_written(log: DeliveryLog, detail: SnapshotTable | ProfilesTable, as_of: datetime) -> None:
    """Append that a table is complete; if another was faster, it is not needed."""
    try:
        log.append(detail, as_of)
    except LedgerConflict:
        drop_table(log.ledger.warehouse, table(log.ledger.schema, detail.table))
        raise


def leave_behind(ledger: Ledger, log: str, name: str) -> None:
    """Let later runs drop a table of a delivery once more that the server may still finish for a killed task.

    :raises LedgerConflict: if the delivery went on meanwhile: what this task has announced does not hold.
    """
    detail, known = TablesRetired(tables=(name,), unfinished=True), ledger.state.delivery(log)
    as_of = known.cursor or known.attached
    assert as_of is not None  # noqa: S101
    while True:
        with contextlib.suppress(LedgerConflict):
            ledger.append(SYNC_LOG, detail, as_of=as_of, lazy=True)
            break
        ledger.read()
    if (now := ledger.state.delivery(log)).sequence != known.sequence:
        destination = now.destination.destination if now.destination is not None else log
        raise LedgerConflict(f"the delivery to {destination} has continued in the meantime; retry")


def drop_replaced(ledger: Ledger, log: str, append: Callable[[DeadLettersTable], object]) -> None:
    """Drop a delivery's tables of dead letters that do not count, and write down that they are gone.

    :param append: appends to its log.
    """

    def known() -> DeadLettersTable:
        return ledger.state.delivery(log).dead_letters

    if writing := known().writing:
        # Whoever is writing it could let it count until here.
        append(replace_detail(known(), writing="", replaced=list_replaced(known())))
        leave_behind(ledger, log, writing)
    if names := list_replaced(known()):
        for name in names:
            drop_table(ledger.warehouse, table(ledger.schema, name))
        append(replace_detail(known(), replaced=None))


def list_replaced(known: DeadLettersTable) -> tuple[str, ...]:
    """List the tables that do not count: one that is being written, and those that were replaced."""
    replaced = (known.replaced,) if isinstance(known.replaced, str) else known.replaced or ()
    return (known.writing, *replaced) if known.writing else replaced
