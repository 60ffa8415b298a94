"""A destination begins at an instant while users may be forgotten: neither task overlooks the other.

Who forgets users writes to the sync's log and then looks for destinations that need their exits. Who attaches a
destination writes to its log and then looks for users who are being forgotten. So one at least sees the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import ForgettingUnfinished, LedgerConflict
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.readers.partitions import WHOLE
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, ChangeSetSealed

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog


def rely_on(log: DeliveryLog, as_of: datetime, *, just_attached: bool) -> None:
    """Make the change set immutable that the destination was attached to.

    Where users are being forgotten and others may be putting already, this task goes on, and who forgets waits.

    :param just_attached: by this attempt.
    :raises ForgettingUnfinished: if users are being forgotten; the destination is not attached then.
    """
    found = log.timeline.find(as_of)
    if found is not None and found.sealed:
        log.ledger.read()  # otherwise a conflict is the signal
    log.seal(as_of)
    try:
        refuse_while_forgetting(log, as_of)
    except ForgettingUnfinished:
        if log.delivery.part != WHOLE or not just_attached:
            _be_seen(log, as_of)
            return
        log.append(DestinationDetached(), as_of)
        raise


def _be_seen(log: DeliveryLog, as_of: datetime) -> None:
    """Let whoever forgets users look again: its next row of the sync's log conflicts with this one."""
    while (tombstones := log.timeline.tombstones) is not None and not tombstones.erased:
        if log.timeline.find(as_of) is None:
            return
        try:
            log.ledger.append(SYNC_LOG, ChangeSetSealed(), as_of=as_of)
            return
        except LedgerConflict:
            log.ledger.read()


def refuse_while_forgetting(log: DeliveryLog, as_of: datetime) -> None:
    """Check that no users are being forgotten who may be members at an instant and exit after it.

    :raises ForgettingUnfinished: if there are some; a retry helps once their rows are erased.
    """
    tombstones = log.timeline.tombstones
    if tombstones is None or tombstones.erased:
        return
    if tombstones.exits_at is None or tombstones.exits_at > as_of:
        raise ForgettingUnfinished(
            f"users of sync {log.ledger.sync_id!r} are being forgotten, so nothing as of {instant_text(as_of)} is "
            "put to a destination that begins there. Nothing was put. Retry when the task that forgets them has "
            "succeeded, or let the next run publish"
        )
