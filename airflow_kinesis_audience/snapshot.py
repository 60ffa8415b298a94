"""Snapshots: the change sets that one destination alone is told, made of a membership.

Announced before it is written and kept until it is delivered, so that a later attempt goes on with the same
rows. It is read and sent like any change set.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_audience.diff import select_counts
from airflow_kinesis_audience.ledger import Event
from airflow_kinesis_audience.retelling import select_entries, select_truth
from airflow_kinesis_audience.slices import ChangeSet, change_set_of
from airflow_kinesis_audience.sql import drop_table, render, table, table_name, write_table

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.delivery_log import DeliveryLog
    from airflow_kinesis_audience.ledger import Ledger


def write_snapshot(log: DeliveryLog, as_of: datetime, *, keep: bool = True, truth: bool = False) -> ChangeSet:
    """Write the change set in which everybody enters, or find the one that an earlier attempt wrote.

    :param keep: for a later attempt to go on with.
    :param truth: let all exit, too, who are known to have left.
    """
    ledger = log.ledger
    timeline, standing = log.read()
    edge = timeline.find(as_of)
    assert edge is not None  # noqa: S101
    tables = timeline.tables(ledger.schema, as_of)
    name = table_name("snapshot", ledger.sync_id, as_of, uuid.uuid4().hex[:6])
    known = standing.snapshot or {}
    if keep and known.get("written"):
        name = known["table"]
    else:
        if keep:
            if known:
                drop_table(ledger.warehouse, table(ledger.schema, known["table"]))
            standing = log.append(standing, Event.SNAPSHOT, as_of, {"table": name})
        query = select_truth(tables) if truth else select_entries(tables)
        write_table(ledger.warehouse, table(ledger.schema, name), query, sliced=True)
        if keep:
            log.append(standing, Event.SNAPSHOT, as_of, {"table": name, "written": True})
    return replace(
        change_set_of(ledger, timeline, edge),
        previous_as_of=None,
        table=name,
        rows=sum(rows for _, _, rows, _ in count_actions(ledger, name)),
        layout=tables.layout,
        names_from=tables.base,
    )


def count_actions(ledger: Ledger, name: str) -> list[tuple[str, str, int, int]]:
    """Count the rows of a change set's table: audience, action, rows, users."""
    found = ledger.warehouse.read_rows(render(select_counts(ledger.schema, name), ledger.warehouse.dialect))
    return [(str(audience_id), str(action), rows, users) for audience_id, action, rows, users in found]


def drop_snapshot(log: DeliveryLog) -> None:
    """Drop the snapshot once it is delivered.

    Before it goes the log says that it cannot be relied on, and after that it is gone: whoever looks in between
    neither reads a table that is not there nor forgets one that is.
    """
    _, standing = log.read()
    if standing.cursor is not None and standing.snapshot:
        attached, name = standing.attached, standing.snapshot["table"]
        assert attached is not None  # noqa: S101
        standing = log.append(standing, Event.SNAPSHOT, attached, {"table": name})
        drop_table(log.ledger.warehouse, table(log.ledger.schema, name))
        log.append(standing, Event.SNAPSHOT, attached, {})
