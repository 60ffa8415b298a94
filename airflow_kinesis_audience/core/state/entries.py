"""One row of the ledger: its event chooses the struct of its detail, and the struct decides what can be read.

A row of an unknown event or version, without a field or with one of another type, is unreadable; it never reads as
"nothing there".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import to_builtins
from msgspec.json import decode

from airflow_kinesis_audience.core.exceptions import LedgerUnreadable
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.state.delivery_details import (
    AttemptCheckpoint,
    AttemptStarted,
    AttemptUnsent,
    ChangeSetDelivered,
    DeadLettersTable,
    DestinationAttached,
    DestinationDetached,
    DestinationRenewed,
    ProfilesTable,
    RemovalsCounted,
    SnapshotTable,
)
from airflow_kinesis_audience.core.state.sync_details import (
    BaseWritten,
    ChangeSetCommitted,
    ChangeSetHeld,
    ChangeSetInserted,
    ChangeSetSealed,
    Detail,
    EpochBegun,
    Event,
    FirstBase,
    SyncClosed,
    TablesDropped,
    TablesReplaced,
    TablesRetired,
    TableStarted,
    UsersForgotten,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_EVENTS: tuple[type[Detail], ...] = (
    *(TableStarted, FirstBase, ChangeSetCommitted, ChangeSetHeld, BaseWritten, ChangeSetSealed),
    *(TablesRetired, TablesDropped, SyncClosed, EpochBegun, ChangeSetInserted, UsersForgotten, TablesReplaced),
    *(DestinationAttached, SnapshotTable, ProfilesTable, AttemptStarted, AttemptUnsent, AttemptCheckpoint),
    *(ChangeSetDelivered, DeadLettersTable, DestinationDetached, DestinationRenewed, RemovalsCounted),
)
_BY_EVENT: Mapping[str, type[Detail]] = {str(kind.__struct_config__.tag): kind for kind in _EVENTS}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One row of the ledger.

    :param recorded_at: when it was written, by the clock of the worker that wrote it; it decides nothing.
    :param digest: of all that the row says.
    """

    log: str
    sequence: int
    as_of: datetime
    detail: Detail
    recorded_at: str = ""
    digest: str = ""

    @property
    def event(self) -> Event:
        """What the row is about."""
        return event_of(self.detail)


def event_of(detail: Detail) -> Event:
    """Return the event that a detail belongs to."""
    return Event(str(detail.__struct_config__.tag))


def encode_detail(detail: Detail) -> str:
    """Render a detail as JSON; what has its default is left out, but for the version."""
    found = {**to_builtins(detail), "version": detail.version}
    del found["event"]
    return json.dumps(found, sort_keys=True)


def decode_detail(event: str, text: str) -> Detail:
    """Read the detail of an event.

    :raises ValueError: if the event, its version or a field is unknown, missing or of another type.
    """
    kind = _BY_EVENT.get(event)
    if kind is None:
        raise ValueError("unknown event")
    found: Detail = decode(text, type=kind)
    return found


def follow(known: str, entry: Entry) -> str:
    """Check that a row follows what is known of its log; gives the digest that the next row has as ``before``.

    That of a checkpoint is not: most of them are never read again.

    :param known: what the row before it gave.
    :raises LedgerUnreadable: if rows between are gone.
    """
    if entry.detail.before and entry.detail.before != known:
        raise LedgerUnreadable(
            f"rows of the ledger's log {entry.log!r} before row {entry.sequence}, {entry.event.value} as of "
            f"{instant_text(entry.as_of)}, were deleted or changed: restore the table from a backup"
        )
    return known if entry.event is Event.CHECKPOINT else entry.digest


def corrupt_row(entry: Entry) -> LedgerUnreadable:
    """Make the error of a row that does not fit those before it."""
    return LedgerUnreadable(
        f"row {entry.sequence} of the ledger's log {entry.log!r}, {entry.event.value} as of "
        f"{instant_text(entry.as_of)}, does not fit the rows before it: restore the ledger from a backup"
    )
