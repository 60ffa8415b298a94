"""Detaches a destination that nobody uses any more, or ends a resync that nobody finishes.

A delivery keeps all history after its cursor, for ever. Once it is detached it keeps nothing: its tables are
dropped here, and the next run drops what only it has needed. Nothing is sent to the destination. Whoever publishes
to it again attaches it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.sql.statements import drop_table, table
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached, SnapshotTable

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.ledger import Ledger


def detach(ledger: Ledger, logs: Collection[str]) -> None:
    """Detach deliveries, each with its parts; what an earlier attempt has left is dropped, too.

    :param logs: of the deliveries.
    :raises LedgerConflict: if one is being sent to at this moment; a retry goes on from there.
    """
    timeline = ledger.read().timeline
    for state in list(ledger.state.deliveries.values()):
        of = state.part.delivery if state.part else state.log
        begun = state.attached or state.cursor or state.sending
        if of in logs and begun is not None:
            ledger.append(state.log, DestinationDetached(part=state.part), as_of=begun)
    for state in list(ledger.state.deliveries.values()):
        if state.litter and _is_over(state) and timeline.newest is not None:
            for name in state.litter:
                drop_table(ledger.warehouse, table(ledger.schema, name))
            ledger.append(state.log, SnapshotTable(resend=True, part=state.part), as_of=timeline.newest.as_of)


def _is_over(state: DeliveryState) -> bool:
    return state.attached is None and state.cursor is None and state.sending is None
