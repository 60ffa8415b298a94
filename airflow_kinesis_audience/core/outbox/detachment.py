"""Detaches a destination that nobody uses any more, or ends a resync or a replay that nobody finishes.

A delivery keeps all history after its cursor, for ever. Once it is detached it keeps nothing: its tables are
dropped here, and the next run drops what only it has needed. Nothing is sent to the destination. Whoever publishes
to it again attaches it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.sql.statements import drop_table, table
from airflow_kinesis_audience.core.state.delivery_details import (
    DestinationAttached,
    DestinationDetached,
    SnapshotTable,
)
from airflow_kinesis_audience.core.state.status import find_pins

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.status import Pin


def choose_pins(
    ledger: Ledger,
    destination: str,
    *,
    message_format: str | None = None,
    only_resyncs: bool = False,
    only_replays: bool = False,
) -> list[Pin]:
    """Choose what is to be detached, of a ledger that was read; nothing where it was detached before.

    :param destination: as the ledger names it, such as ``kinesis://eu-west-1/audience-changes``.
    :param message_format: only deliveries of this format.
    :param only_resyncs: only resyncs that are not finished, and ``only_replays`` only such replays.
    :raises ValueError: if the sync never had such a destination.
    """
    pins = find_pins(ledger.state)
    chosen = [
        pin
        for pin in pins
        if pin.destination == destination
        and message_format in (None, pin.message_format)
        and (pin.is_resync or not only_resyncs)
        and (pin.is_replay or not only_replays)
    ]
    if not chosen and not _was_attached(ledger, destination):
        known = ", ".join(sorted({pin.destination for pin in pins})) or "none"
        raise ValueError(
            f"sync {ledger.sync_id!r} has never delivered to {destination!r}; its destinations are {known}"
        )
    return chosen


def detach(ledger: Ledger, logs: Collection[str]) -> None:
    """Detach deliveries, each with its parts; what an earlier attempt has left is dropped, too.

    :param logs: of the deliveries.
    :raises LedgerConflict: if one is being sent to at this moment; a retry goes on from there.
    """
    ledger.read()
    for state in list(ledger.state.deliveries.values()):
        of = state.part.delivery if state.part else state.log
        begun = state.attached or state.cursor or state.sending
        if of in logs and begun is not None:
            ledger.append(state.log, DestinationDetached(part=state.part), as_of=begun)
    drop_litter_of_detached(ledger)


def drop_litter_of_detached(ledger: Ledger, *, of_parts: bool = False) -> None:
    """Drop what deliveries that are over have left, of a ledger that was read.

    :param of_parts: also what parts have left, of which perhaps no task is there any more.
    """
    timeline = ledger.state.timeline
    for state in list(ledger.state.deliveries.values()):
        is_left = _is_over(state) or (of_parts and state.part is not None)
        if state.litter and is_left and timeline.newest is not None:
            for name in state.litter:
                drop_table(ledger.warehouse, table(ledger.schema, name))
            ledger.append(state.log, SnapshotTable(resend=True, part=state.part), as_of=timeline.newest.as_of)


def _was_attached(ledger: Ledger, destination: str) -> bool:
    details = (e.detail for e in ledger.entries()) if ledger.state.deliveries else ()
    return any(isinstance(d, DestinationAttached) and d.destination == destination for d in details)


def _is_over(state: DeliveryState) -> bool:
    return state.attached is None and state.cursor is None and state.sending is None
