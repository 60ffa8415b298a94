"""What is known outside of the ledger of how far a delivery got, and what a ledger that is behind it means.

Such a ledger was restored from a backup, or lost rows: whoever entered and left since is a member at the
destination, and nobody here knows. So nothing is sent until a resync makes void what was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import LedgerBehind
from airflow_kinesis_audience.core.model.instants import instant_text

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """Up to which instant a delivery was complete.

    :param epoch: the one that the sync began with: a backup has it however old it is, and another state never.
    """

    epoch: str
    as_of: datetime


def find_lost(log: DeliveryLog, remembered: Remembered | None) -> datetime | None:
    """Find up to which instant something was delivered that the ledger does not know any more; none if it does."""
    if remembered is None or remembered.epoch not in log.timeline.epochs:
        return None
    reached = log.whole.reached
    return remembered.as_of if reached is None or reached < remembered.as_of else None


def check_nothing_lost(log: DeliveryLog, remembered: Remembered | None) -> None:
    """Check that the ledger knows all that was delivered.

    :raises LedgerBehind: if it does not.
    """
    if (lost := find_lost(log, remembered)) is not None:
        known = log.whole.reached
        raise LedgerBehind(
            f"{log.delivery.destination} received the changes of sync {log.ledger.sync_id!r} up to "
            f"{instant_text(lost)}, and the ledger ends at {instant_text(known) if known else 'nothing'}: it was "
            "restored from a backup, or some of its rows were deleted. Members that entered and left since would "
            "stay members at the consumers, so nothing was sent. Run the diff task for a later instant, and then "
            "an AudienceResyncOperator of this destination: it replaces what was sent with all present members, "
            "and publishing continues after it"
        )


def check_later(log: DeliveryLog, as_of: datetime | None, lost: datetime) -> datetime:
    """Check that what a resync speaks for is newer than all that it makes void; gives that instant.

    :raises LedgerBehind: if it is not.
    """
    if as_of is None or as_of <= lost:
        raise LedgerBehind(
            f"{log.delivery.destination} received changes up to {instant_text(lost)}, and a resync of sync "
            f"{log.ledger.sync_id!r} would be as of {instant_text(as_of) if as_of else 'no instant'}, so "
            "consumers would ignore it. Run the diff task for a later instant, then another resync. Nothing was "
            "sent"
        )
    return as_of


def find_news(log: DeliveryLog, remembered: Remembered | None) -> Remembered | None:
    """Find what is to be remembered of how far a delivery is; none if that is known, or more was delivered."""
    reached = log.whole.reached
    if reached is None or not log.timeline.epochs or find_lost(log, remembered) is not None:
        return None
    now = Remembered(epoch=log.timeline.epochs[0], as_of=reached)
    return None if now == remembered else now
