"""Another sync that has members of the same audiences at a destination, such as this one before it was renamed.

Two such syncs know nothing of each other: whoever leaves one that runs no more stays a member at the consumers for
ever. So it is asked once, before a destination is attached and before anything is put.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import AudienceTaken
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.state.audiences import find_current, find_populated
from airflow_kinesis_audience.core.state.delivery_details import DestinationAttached, DestinationDetached
from airflow_kinesis_audience.core.state.sync_details import (
    ChangeSetCommitted,
    ChangeSetDetail,
    Event,
    FirstBase,
    SyncClosed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
    from airflow_kinesis_audience.core.state.entries import Entry
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.sync_details import ChangeSetAuthor

_ASKED = (Event.ATTACHED, Event.DETACHED, Event.FIRST, Event.CHANGE_SET, Event.CLOSED)
_MOST_IDS = 3
"""How many audience ids a sentence has at most."""


def check_other_syncs(log: DeliveryLog, change_set: RecordedChangeSet) -> None:
    """Check that no other sync of the same state delivers an audience of a change set to the same destination.

    Syncs of other audiences count for nothing, nor do those that are deleted or detached from it.

    :param log: of the delivery that is to begin, which other syncs have under the same name.
    :param change_set: with which it is to begin.
    :raises AudienceTaken: if one does.
    """
    ledger = log.ledger
    own: set[str] = set()
    for sync_id, entries in ledger.read_others(log.delivery.log, _ASKED).items():
        newest = _find_newest(entries)
        if newest is None or not isinstance(newest.detail, ChangeSetDetail):
            continue
        own = own or find_current(ledger, log.timeline, change_set)
        if same := sorted(own & find_populated(ledger, sync_id, newest.detail)):
            adopting = _describe_adoption(ledger.sync_id, change_set.detail.author, sync_id, newest.detail.author)
            raise AudienceTaken(
                f"sync {ledger.sync_id!r} has sent nothing to {log.delivery.destination} yet, and sync "
                f"{sync_id!r} already delivers {_describe_audiences(same)} there, in the same format; its newest "
                f"change set is as of {instant_text(newest.as_of)}. A member that has left since would stay a "
                "member at the consumers. If that is this sync before it was renamed, continue with its state: "
                f'set {adopting} on the diff task. If both syncs are intended, set on_other_sync="ignore" on this '
                "task. If nobody needs the other sync, delete it or detach its destination. Nothing was sent"
            )


def _find_newest(entries: Sequence[Entry]) -> Entry | None:
    """Find the newest change set of a sync that goes on delivering; none if it does not."""
    last = {type(entry.detail): entry.sequence for entry in entries}
    if last.get(DestinationAttached, 0) <= last.get(DestinationDetached, 0):
        return None
    if last.get(SyncClosed, 0) > last.get(FirstBase, 0):
        return None
    change_sets = (e for e in entries if isinstance(e.detail, (FirstBase, ChangeSetCommitted)))
    return max(change_sets, key=lambda e: e.sequence, default=None)


def _describe_audiences(ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, ids[:_MOST_IDS]))
    more = f" and {len(ids) - _MOST_IDS:,} more" if len(ids) > _MOST_IDS else ""
    return f"audience{'s' * (len(ids) > 1)} {shown}{more}"


def _describe_adoption(
    sync_id: str, author: ChangeSetAuthor | None, other: str, others: ChangeSetAuthor | None
) -> str:
    """Say which arguments of the diff task make it go on with the state of another sync."""
    former = others.task if others is not None else other
    given = []
    if author is None or author.task != former:
        given.append(f"adopt_state_of={former!r}")
    if other != former or (author is not None and author.task != sync_id):
        given.append(f"sync_id={other!r}")
    return " and ".join(given or [f"sync_id={other!r}"])
