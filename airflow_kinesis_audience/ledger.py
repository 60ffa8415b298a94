"""The ledger: append-only rows that say what exists and how far it got.

Each sync has a log of its own and one per delivery. A row is written as the next number of its log or not at all,
so whoever read an old state cannot write, and all readers see one order. A ledger that cannot be read raises; it
never reads as "nothing there".
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant, instant_text
from airflow_kinesis_audience.exceptions import AudienceError, LedgerConflict, LedgerUnreadable
from airflow_kinesis_audience.ledger_folding import rows_in
from airflow_kinesis_audience.ledger_rows import CHECKPOINT as _CHECKPOINT
from airflow_kinesis_audience.ledger_rows import LedgerRows, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.sql import Warehouse

SYNC_LOG = ""
"""Name of a sync's own log; a delivery's log has the delivery's id."""


class Event(StrEnum):
    """What a row says. The first nine are written to a sync's own log, the others to a delivery's."""

    STARTED = "started"
    """A table of this name is about to be written."""
    FIRST = "first"
    """The base with which the line of time begins."""
    CHANGE_SET = "change_set"
    BASE = "base"
    """A base made by compaction."""
    SEALED = "sealed"
    """A delivery has begun to rely on this change set: it is immutable from here on."""
    HELD = "held"
    """A change set that a guard stopped and a person may release; until then it does not exist."""
    RETIRED = "retired"
    """These tables are needed no more: nothing relies on them from here on, and they are about to be dropped."""
    DROPPED = "dropped"
    CLOSED = "closed"
    """The sync's audiences are deleted: no change set is computed any more."""

    ATTACHED = "attached"
    """A destination begins here, knowing nobody (``enter_all``) or everybody (``baseline``)."""
    SNAPSHOT = "snapshot"
    """The change set in which everybody enters, for this destination alone."""
    PROFILES = "profiles"
    """The profiles that a change set is about, for this destination alone."""
    SENDING = "sending"
    """An attempt is about to put records of this change set."""
    UNSENT = "unsent"
    """That attempt ended, and nothing of it can have been taken: what it was to send may still be changed."""
    CHECKPOINT = _CHECKPOINT
    REJECTED = "rejected"
    """The table of the members of whom the destination could not be told, for this destination alone."""
    DELIVERED = "delivered"
    DETACHED = "detached"
    """The delivery is at its end, and needs nothing any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One row of the ledger.

    :param recorded_at: when it was written, by the clock of the worker that wrote it; it decides nothing.
    """

    log: str
    sequence: int
    event: Event
    as_of: datetime
    detail: Mapping[str, Any]
    recorded_at: str = ""


class Ledger:
    """The rows of one sync.

    :param warehouse: where the state is.
    :param schema: the state's schema.
    :param sync_id: the sync.
    :param rows: where the rows are kept, by default in a table of the schema.
    """

    def __init__(self, warehouse: Warehouse, schema: str, sync_id: str, rows: LedgerRows | None = None) -> None:
        self.warehouse = warehouse
        self.schema = schema
        self.sync_id = sync_id
        self.rows = rows or rows_in(warehouse, schema, sync_id)
        self._known: dict[str, dict[int, Entry]] = {}

    def prepare(self) -> None:
        """Create the place of the rows where it is missing.

        :raises LedgerUnreadable: if the ledger can be neither read nor created.
        """
        try:
            self.read()
        except LedgerUnreadable as unreadable:
            try:
                self.rows.create()
            except AudienceError as error:
                raise type(error)(f"{unreadable}; and it cannot be created: {error}") from None
            self.read()

    def read(self) -> list[Entry]:
        """Read what the sync's logs say, oldest first; of each log's checkpoints only a last row.

        Rows never change, so that only those are read that came since this object read last.

        :raises LedgerUnreadable: if it cannot be read; a retry may help.
        """
        try:
            rows = self.rows.read({log: max(entries) for log, entries in self._known.items()})
        except AudienceError as error:
            raise LedgerUnreadable(f"the ledger in schema {self.schema!r} cannot be read: {error}") from None
        known = {log: dict(entries) for log, entries in self._known.items()}
        tokens: dict[tuple[str, int], str] = {}
        for row in rows:
            # An engine without keys may have a row twice; it never has two of one number.
            if tokens.setdefault((row.log, int(row.sequence)), row.token) != row.token:
                raise self.unreadable("two rows of it have one number")
            known.setdefault(row.log, {})[int(row.sequence)] = self._entry(row)
        entries = [log[n] for _, log in sorted(known.items()) for n in sorted(log) if _counts(log, n)]
        # Only checkpoints are left out, and none is in the sync's own log.
        if any(e.sequence != n for n, e in enumerate((e for e in entries if e.log == SYNC_LOG), 1)):
            raise self.unreadable("rows of it are missing")
        self._known = known
        return entries

    def _entry(self, row: Row) -> Entry:
        try:
            return Entry(
                log=row.log,
                sequence=int(row.sequence),
                event=Event(row.event),
                as_of=instant(row.as_of),
                detail=json.loads(row.detail),
                recorded_at=row.recorded_at,
            )
        except (TypeError, ValueError):
            raise self.unreadable("a row of it is none that this program writes") from None

    def unreadable(self, found: str) -> LedgerUnreadable:
        """Make the error of a ledger that is there and makes no sense."""
        return LedgerUnreadable(
            f"the ledger of sync {self.sync_id!r} in schema {self.schema!r} cannot be understood: {found}. "
            "Restore it from a backup; nothing was computed or sent"
        )

    def append(self, log: str, after: int, event: Event, *, as_of: datetime, detail: Mapping[str, Any]) -> Entry:
        """Append the row that follows the row numbered ``after``.

        :raises LedgerConflict: if another run has appended to this log since; a retry sees its row.
        """
        row = Row(
            sync_id=self.sync_id,
            log=log,
            sequence=after + 1,
            event=event.value,
            as_of=instant_text(as_of),
            detail=json.dumps(detail, sort_keys=True),
            recorded_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            token=uuid.uuid4().hex,
        )
        try:
            self.rows.append(row)
        except LedgerConflict:
            raise LedgerConflict(
                f"another run has written to sync {self.sync_id!r} in the meantime; try again: "
                "the next attempt goes on from what it wrote"
            ) from None
        return Entry(log=log, sequence=row.sequence, event=event, as_of=as_of, detail=detail)

    def read_closed_audiences(self) -> dict[str, datetime]:
        """Read which audiences of any sync of the schema were deleted, and as of which instant last."""
        rows = self.rows.read_all(Event.CLOSED.value)
        return {a: instant(row.as_of) for row in rows for a in json.loads(row.detail)["audiences"]}


def _counts(log: Mapping[int, Entry], number: int) -> bool:
    return log[number].event is not Event.CHECKPOINT or number == max(log)


def misunderstood(entry: Entry) -> LedgerUnreadable:
    """Make the error of a row that does not fit those before it."""
    return LedgerUnreadable(
        f"row {entry.sequence} of the ledger's log {entry.log!r}, {entry.event.value} as of "
        f"{instant_text(entry.as_of)}, does not fit the rows before it: restore the ledger from a backup"
    )
