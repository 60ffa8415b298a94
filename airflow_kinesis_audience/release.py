"""Lets one held change set through: the very one whose numbers a person has seen.

Nothing is computed. The held table is recorded as it is, if the membership that it was computed from is still the
newest; the permission is then used up, and a change set that was let through is never computed again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.exceptions import LedgerConflict, ReleaseRefused
from airflow_kinesis_audience.ledger import Event, Ledger
from airflow_kinesis_audience.recording import Recorder

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.timeline import Edge, Timeline


def is_released(ledger: Ledger, as_of: datetime, held_table: str) -> bool:
    """Tell whether a change set that was held counts by now."""
    return _find(Recorder(ledger).read(), as_of, held_table) is not None


def release(ledger: Ledger, as_of: datetime, held_table: str) -> dict[str, Any]:
    """Record the change set that is held for an instant, or find that this was done.

    :param held_table: the table whose numbers were seen.
    :returns: the summary, as of any run.
    :raises ReleaseRefused: if something else is held, or the line of time has moved on since.
    """
    recorder = Recorder(ledger)
    while True:
        timeline = recorder.read()
        if (edge := _find(timeline, as_of, held_table)) is not None:
            return edge.summary(ledger.sync_id)
        held = timeline.held
        if held is None or held.table != held_table:
            raise ReleaseRefused(
                f"the change set of sync {ledger.sync_id!r} as of {instant_text(as_of)} that was approved is not "
                "held any more: another run was recorded, or held, in the meantime. Nothing was sent. Clear the "
                "diff task of this run to see what holds now"
            )
        event = Event.FIRST if held.previous_as_of is None else Event.CHANGE_SET
        detail = {n: v for n, v in held.recorded.items() if n != "breaches"}
        detail["let_through"] = held.recorded["breaches"]
        with contextlib.suppress(LedgerConflict):
            # Announced anew, so that a run that is computing meanwhile can no longer record.
            recorder.append(timeline, Event.STARTED, as_of, {"table": held_table})
            recorder.record(held_table, event, as_of, detail)


def _find(timeline: Timeline, as_of: datetime, held_table: str) -> Edge | None:
    edge = timeline.find(as_of)
    return edge if edge is not None and edge.table == held_table else None
