"""Tables that one destination alone needs: a snapshot, and the profiles that a change set is about.

A snapshot is a change set made of a membership; profiles are what a change set says, gathered by user. Each is
announced before it is written and kept until it is delivered, so that a later attempt goes on with the same rows.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.diff import select_counts
from airflow_kinesis_audience.exceptions import LedgerConflict
from airflow_kinesis_audience.feeds import WHOLE
from airflow_kinesis_audience.ledger import Event
from airflow_kinesis_audience.profiling import ProfileSet, count_slices, select_profiles
from airflow_kinesis_audience.retelling import select_entries, select_truth
from airflow_kinesis_audience.slices import ChangeSet, change_set_of
from airflow_kinesis_audience.sql import drop_table, render, table, table_name, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from airflow_kinesis_audience.delivery_log import DeliveryLog
    from airflow_kinesis_audience.ledger import Ledger
    from airflow_kinesis_audience.standing import Standing


def write_snapshot(
    log: DeliveryLog, as_of: datetime, *, keep: bool = True, truth: bool = False, seen: Standing | None = None
) -> ChangeSet:
    """Write the change set in which everybody enters, or find the one that an earlier attempt wrote.

    :param keep: for a later attempt to go on with.
    :param truth: let all exit, too, who are known to have left.
    :param seen: what the log said when it was decided to write it, if that is to hold still.
    """
    ledger = log.ledger
    timeline, standing = log.read()
    standing = seen or standing
    edge = timeline.find(as_of)
    assert edge is not None  # noqa: S101
    tables = timeline.tables(ledger.schema, as_of)

    def write(name: str) -> dict[str, Any]:
        query = select_truth(tables) if truth else select_entries(tables)
        target = table(ledger.schema, name)
        write_table(ledger.warehouse, target, query, sliced_by="position", tells_audiences=True)
        return {}

    known = (standing.snapshot or {}) if keep else None
    name = find_or_write(log, Event.SNAPSHOT, known, as_of, {}, write, seen=seen)["table"]
    return replace(
        change_set_of(ledger, timeline, edge),
        previous_as_of=None,
        table=name,
        rows=sum(rows for _, _, rows, _ in count_actions(ledger, name)),
        layout=tables.layout,
        names_from=tables.base,
    )


def write_profiles(
    log: DeliveryLog, change_set: ChangeSet, *, exits_kept: timedelta, keep: bool = True
) -> ProfileSet:
    """Write the profiles that a change set is about, or find those that an earlier attempt wrote.

    :param exits_kept: how long after its end a profile still has a membership.
    :param keep: for a later attempt to go on with.
    :raises HistoryGone: if the membership that the change set leads from is not kept any more.
    """
    ledger = log.ledger
    timeline, standing = log.look()
    now = timeline.tables(ledger.schema, change_set.as_of, change_set.layout)
    before = None
    if change_set.previous_as_of is not None:
        before = timeline.tables(ledger.schema, change_set.previous_as_of, change_set.layout)

    def write(name: str) -> dict[str, Any]:
        query = select_profiles(change_set, now, before, left_after=change_set.as_of - exits_kept)
        write_table(ledger.warehouse, table(ledger.schema, name), query, sliced_by="slice")
        return {"slices": count_slices(ledger.warehouse, ledger.schema, name)}

    known = (standing.profiles or {}) if keep else None
    about = {"changes": change_set.table, "exits_kept_seconds": int(exits_kept.total_seconds())}
    found = find_or_write(log, Event.PROFILES, known, change_set.as_of, about, write)
    return ProfileSet(change_set=change_set, table=found["table"], slices=found["slices"])


def find_or_write(
    log: DeliveryLog,
    event: Event,
    known: Mapping[str, Any] | None,
    as_of: datetime,
    about: Mapping[str, Any],
    write: Callable[[str], Mapping[str, Any]],
    what: str = "",
    *,
    seen: Standing | None = None,
) -> Mapping[str, Any]:
    """Find the table that an earlier attempt wrote, or announce one and write it; gives what is known of it.

    :param known: what the log's last row of this event says; none if no later attempt is to find the table.
    :param about: what the table is made of, if there may be several.
    :param write: writes the table of that name, and says what else is to be known of it.
    :param what: what the table's name begins with, by default the event.
    :param seen: what the log said when ``known`` was read, if that is to hold still.
    """
    name = table_name(what or event.value, log.ledger.sync_id, as_of, uuid.uuid4().hex[:6])
    if known is None:
        return {"table": name, **write(name)}
    if known.get("written") and all(known.get(n) == value for n, value in about.items()):
        return known
    if known:
        drop_table(log.ledger.warehouse, table(log.ledger.schema, known["table"]))
    standing = seen or log.look()[1]
    detail = {"table": name, **about, **({} if log.delivery.part == WHOLE else {"by": log.delivery.part.number})}
    standing = log.append(standing, event, as_of, detail)
    detail |= {**write(name), "written": True}
    try:
        log.append(standing, event, as_of, detail)
    except LedgerConflict:
        drop_table(log.ledger.warehouse, table(log.ledger.schema, name))
        raise
    return detail


def count_actions(ledger: Ledger, name: str) -> list[tuple[str, str, int, int]]:
    """Count the rows of a change set's table: audience, action, rows, users."""
    found = ledger.warehouse.read_rows(render(select_counts(ledger.schema, name), ledger.warehouse.dialect))
    return [(str(audience_id), str(action), rows, users) for audience_id, action, rows, users in found]


def drop_snapshot(log: DeliveryLog) -> None:
    """Drop the snapshot once it is delivered."""
    _, standing = log.look()
    if standing.cursor is not None and standing.snapshot:
        assert standing.attached is not None  # noqa: S101
        drop_kept(log, Event.SNAPSHOT, standing.snapshot, standing.attached)


def drop_profiles(log: DeliveryLog) -> None:
    """Drop the profiles once nothing of them is left to be sent."""
    _, standing = log.look()
    if standing.profiles and standing.sending is None:
        assert standing.attached is not None  # noqa: S101
        drop_kept(log, Event.PROFILES, standing.profiles, standing.attached)


def drop_kept(log: DeliveryLog, event: Event, known: Mapping[str, Any], as_of: datetime) -> None:
    """Drop a kept table.

    Before it goes the log says that it cannot be relied on, and after that it is gone: whoever looks in between
    neither reads a table that is not there nor forgets one that is.
    """
    _, standing = log.look()
    standing = log.append(standing, event, as_of, {"table": known["table"]})
    drop_table(log.ledger.warehouse, table(log.ledger.schema, known["table"]))
    log.append(standing, event, as_of, {})
