"""The ledger: append-only rows that say what exists and how far it got.

Each sync has a log of its own and one per delivery. A row is appended as the next of its log or not at all, so
whoever knows an old state cannot write, and all readers see one order. The ledger is read once, from its last fold
on; each append gives the next state, and a conflict is the signal to read again. A ledger that cannot be read
raises; it never reads as "nothing there".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    LedgerConflict,
    LedgerUnreadable,
    WarehouseRefused,
)
from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.core.state.entries import Entry, decode_detail, encode_detail, event_of
from airflow_kinesis_audience.core.state.fold import fold_state, is_due, unfold_state
from airflow_kinesis_audience.core.state.ledger_compaction import open_ledger_table
from airflow_kinesis_audience.core.state.ledger_rows import Fold, Row
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, Event
from airflow_kinesis_audience.core.state.sync_state import SyncState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from airflow_kinesis_audience.core.sql.warehouse import Warehouse
    from airflow_kinesis_audience.core.state.ledger_tables import LedgerTable
    from airflow_kinesis_audience.core.state.sync_details import Detail


class Ledger:
    """The rows of one sync.

    :param warehouse: where the state is.
    :param schema: the state's schema.
    :param sync_id: the sync.
    :param rows: where the rows are kept, by default in a table of the schema.
    :ivar state: what the rows add up to, as of the last reading or append.
    """

    def __init__(self, warehouse: Warehouse, schema: str, sync_id: str, rows: LedgerTable | None = None) -> None:
        self.warehouse = warehouse
        self.schema = schema
        self.sync_id = sync_id
        self.rows = rows or open_ledger_table(warehouse, schema, sync_id)
        self.state = SyncState()
        self._begins_anew = True
        self._fold = ""
        self._unfolded: list[Row] = []

    def prepare(self) -> SyncState:
        """Read the ledger, and create the place of its rows where it is missing; fold them if they are many.

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
        if is_due(self._unfolded, self._fold):
            # All that the state knows was read, and nothing of it is still to be written. The next run does what
            # this one cannot.
            with contextlib.suppress(AudienceError):
                self.rows.write_fold(fold_state(self.state), self.state.last_rows)
        return self.state

    def read(self) -> SyncState:
        """Read what the sync's logs say.

        Rows never change, so that only those are read that came since the last fold, or since this object read or
        appended last.

        :raises LedgerUnreadable: if it cannot be read, where a retry may help, or not be understood.
        """
        try:
            state, fold = self.state, Fold(self._fold)
            if self._begins_anew:
                fold = self.rows.read_fold()
                state = unfold_state(fold.text) or SyncState()
            self._fold, last = fold.text, state.last_rows
            rows = fold.rows
            if rows is None or any(number > last.get(log, 0) for log, number in fold.after.items()):
                rows = self.rows.read(last)
        except LedgerConflict:
            self._begins_anew = True
            return self.read()
        except LedgerUnreadable:
            raise
        except AudienceError as error:
            raise LedgerUnreadable(f"the ledger in schema {self.schema!r} cannot be read: {error}") from None
        new: dict[tuple[str, int], Row] = {}
        for row in rows:
            # An engine without keys may have a row twice; it never has two of one number.
            if new.setdefault((row.log, int(row.sequence)), row).token != row.token:
                raise self._unreadable("two rows have one number")
        entries = [self._entry(new[key]) for key in sorted(new) if key[1] > last.get(key[0], 0)]
        own = [e.sequence for e in entries if e.log == SYNC_LOG]
        # Only checkpoints are left out, and none is in the sync's own log.
        if own != list(range(last.get(SYNC_LOG, 0) + 1, last.get(SYNC_LOG, 0) + 1 + len(own))):
            raise self._unreadable("rows are missing")
        self.state = state.with_entries(entries)
        if self._begins_anew:
            self._begins_anew, self._unfolded = False, rows
        return self.state

    def entries(self, since: datetime | None = None) -> list[Entry]:
        """Read rows, log by log and oldest first; of each log's checkpoints only a last row.

        :param since: leave out those that speak for an earlier instant.
        """
        rows = {(row.log, int(row.sequence)): row for row in self.rows.read({}, since=since)}
        return [self._entry(rows[key]) for key in sorted(rows)]

    def append(self, log: str, detail: Detail, *, as_of: datetime, lazy: bool = False) -> SyncState:
        """Append the next row of a log; gives the state after it.

        :param lazy: other readers may see the row later, though nobody can append one in its place. Whoever
            appends to its log sees it.
        :raises LedgerConflict: if another run has appended to this log since this object read it; a retry sees
            its row.
        """
        detail = replace(detail, before=self.state.last_digest(log))
        row = Row(
            sync_id=self.sync_id,
            log=log,
            sequence=self.state.last_row(log) + 1,
            event=event_of(detail).value,
            as_of=instant_text(as_of),
            detail=encode_detail(detail),
            recorded_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            token=uuid.uuid4().hex,
        )
        try:
            # First, so that nothing is written that nobody could read.
            entry = _decode(row)
        except ValueError as error:
            raise AudienceError(
                f"a row {row.event!r} of the ledger of sync {self.sync_id!r} cannot be written: {error}. Check "
                "the types of the task's arguments"
            ) from None
        try:
            self.rows.append(row, lazy=lazy)
        except LedgerConflict as conflict:
            self._begins_anew = True  # what was appended lazily may have come too late: all is read again
            raise type(conflict)(
                f"another run has written to sync {self.sync_id!r} in the meantime; retry: the next attempt "
                "continues from there"
            ) from None
        self.state = self.state.with_entries([entry])
        return self.state

    @contextlib.contextmanager
    def unless_fenced(self, find_conflict: Callable[[SyncState], LedgerConflict | None]) -> Iterator[None]:
        """Separate a failure over a table that another run dropped, where a retry helps, from a wrong statement.

        :param find_conflict: gets the state as it was known, after the ledger was read again.
        """
        try:
            yield
        except WarehouseRefused:
            known = self.state
            self.read()
            if (conflict := find_conflict(known)) is None:
                raise
            raise conflict from None

    def read_closed_audiences(self) -> dict[str, datetime]:
        """Read which audiences of any sync of the schema were deleted, and as of which instant last."""
        rows = self.rows.read_all(Event.CLOSED.value)
        return {a: instant(row.as_of) for row in rows for a in json.loads(row.detail)["audiences"]}

    def read_others(self, log: str, events: Collection[Event]) -> dict[str, list[Entry]]:
        """Read what other syncs of the schema say in a delivery's log, and in their own; see ``LedgerTable``.

        :returns: by sync, the newest row of each of the events that it has.
        :raises LedgerUnreadable: if it cannot be read, or not be understood.
        """
        try:
            rows = self.rows.read_others(log, events)
        except LedgerUnreadable:
            raise
        except AudienceError as error:
            raise LedgerUnreadable(f"the ledger in schema {self.schema!r} cannot be read: {error}") from None
        found: dict[str, list[Entry]] = {}
        for row in rows:
            found.setdefault(row.sync_id, []).append(self.of_sync(row.sync_id)._entry(row))
        return found

    def of_sync(self, sync_id: str) -> Ledger:
        """Give the ledger of another sync of the schema, of which nothing is read yet."""
        return Ledger(self.warehouse, self.schema, sync_id, self.rows.of_sync(sync_id))

    def _entry(self, row: Row) -> Entry:
        try:
            return _decode(row)
        except (TypeError, ValueError):
            raise self._unreadable(f"row {row.sequence} has an unknown event or a malformed detail") from None

    def _unreadable(self, found: str) -> LedgerUnreadable:
        """Make the error of a ledger that is there and makes no sense."""
        return LedgerUnreadable(
            f"the ledger of sync {self.sync_id!r} in schema {self.schema!r} is not valid: {found}. "
            "Restore it from a backup; nothing was computed or sent"
        )


def _decode(row: Row) -> Entry:
    return Entry(
        log=row.log,
        sequence=int(row.sequence),
        as_of=instant(row.as_of),
        detail=decode_detail(row.event, row.detail),
        recorded_at=row.recorded_at,
        digest=_digest_of(row),
    )


def _digest_of(row: Row) -> str:
    said = [row.sync_id, row.log, int(row.sequence), row.event, row.as_of, row.detail]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()
