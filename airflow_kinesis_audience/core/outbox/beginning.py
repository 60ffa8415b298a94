"""How a delivery begins: its destination is attached, or attached anew to a stream that was created anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from airflow_kinesis_audience.core.outbox.attaching import rely_on
from airflow_kinesis_audience.core.outbox.other_syncs import check_other_syncs
from airflow_kinesis_audience.core.outbox.tables import name_table
from airflow_kinesis_audience.core.readers.partitions import WHOLE
from airflow_kinesis_audience.core.sql.statements import drop_table, table

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog

OnFirstRun = Literal["enter_all", "baseline", "fail"]
OnOtherSync = Literal["fail", "ignore"]


def make_attached(log: DeliveryLog, as_of: datetime, on_first_run: OnFirstRun, on_other_sync: OnOtherSync) -> str:
    """Make sure that the destination is attached, and that nobody changes the membership that it begins with.

    :returns: the snapshot that this task has announced; empty if it has not.
    """
    attached = log.whole.attached
    if attached is None:
        return _attach(log, as_of, on_first_run, on_other_sync)
    if replaced := log.find_replaced():
        return _renew(log, as_of, replaced)
    found = log.timeline.find(attached)
    if found is not None and not (found.sealed and log.has_begun(attached)):
        rely_on(log, attached, just_attached=False)  # the attempt that attached it may have ended before it did
    return ""


def _attach(log: DeliveryLog, as_of: datetime, on_first_run: OnFirstRun, on_other_sync: OnOtherSync) -> str:
    found, announced = log.timeline.find(as_of), ""
    assert found is not None  # noqa: S101
    if on_other_sync == "fail":
        check_other_syncs(log, found)
    if on_first_run == "enter_all" and log.delivery.part == WHOLE:
        announced = name_table(log, "snapshot", as_of)
    log.begin(as_of, on_first_run, snapshot=announced)
    return announced


def _renew(log: DeliveryLog, as_of: datetime, replaced: str) -> str:
    """Go on with a stream that was created anew as its author says."""
    announced, schema = "", log.ledger.schema
    if log.delivery.on_new_stream == "fail":
        log.refuse_replaced(replaced)
    if log.delivery.on_new_stream == "continue":
        log.accept_stream()
        return ""
    begins = max(as_of, log.whole.cursor or as_of)
    log.seal(begins)
    known = log.whole.snapshot
    while log.find_replaced():
        log.timeline.tables(schema, begins)
        if log.delivery.part == WHOLE:
            announced = name_table(log, "snapshot", begins)
        with log.unless_another_part_was_faster():
            log.attach(begins, "enter_all", snapshot=announced)
    if known is not None:
        drop_table(log.ledger.warehouse, table(schema, known.table))
    return announced
