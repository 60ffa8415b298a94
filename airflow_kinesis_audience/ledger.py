"""The ledger: append-only rows that say what exists and how far it got.

Each sync has a log of its own and one per delivery. A row is written as the next number of its log or not at all
(the primary key decides), so whoever read an old state cannot write, and all readers see one order. It needs
INSERT and SELECT alone. A ledger that cannot be read raises; it never reads as "nothing there".
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
from airflow_kinesis_audience.sql import Warehouse, column, render, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEDGER_TABLE = "ledger"
SYNC_LOG = ""
"""Name of a sync's own log; a delivery's log has the delivery's id."""

_COLUMNS = ("sync_id", "log", "sequence", "event", "as_of", "detail", "recorded_at", "token")


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
    CHECKPOINT = "checkpoint"
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
    """

    def __init__(self, warehouse: Warehouse, schema: str, sync_id: str) -> None:
        self.warehouse = warehouse
        self.schema = schema
        self.sync_id = sync_id

    def prepare(self) -> None:
        """Create schema and table where they are missing.

        :raises LedgerUnreadable: if the ledger can be neither read nor created.
        """
        try:
            self.read()
        except LedgerUnreadable as unreadable:
            try:
                for statement in self._definitions():
                    self.warehouse.execute(statement)
            except AudienceError as error:
                raise type(error)(f"{unreadable}; and it cannot be created: {error}") from None
            self.read()

    def read(self) -> list[Entry]:
        """Read what the sync's logs say, oldest first; of each log's checkpoints only a last row.

        :raises LedgerUnreadable: if it cannot be read; a retry may help.
        """
        try:
            rows = self.warehouse.read_rows(self._select())
        except AudienceError as error:
            raise LedgerUnreadable(f"the ledger in schema {self.schema!r} cannot be read: {error}") from None
        try:
            entries = [
                Entry(
                    log=log,
                    sequence=int(sequence),
                    event=Event(event),
                    as_of=instant(as_of),
                    detail=json.loads(detail),
                    recorded_at=recorded_at,
                )
                for log, sequence, event, as_of, detail, recorded_at in rows
            ]
        except (TypeError, ValueError):
            raise self.unreadable("a row of it is none that this program writes") from None
        # Only checkpoints are left out, and none is in the sync's own log.
        if any(e.sequence != n for n, e in enumerate((e for e in entries if e.log == SYNC_LOG), 1)):
            raise self.unreadable("rows of it are missing")
        return entries

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
        entry = Entry(log=log, sequence=after + 1, event=event, as_of=as_of, detail=detail)
        token = uuid.uuid4().hex
        values = (
            self.sync_id,
            log,
            entry.sequence,
            event.value,
            instant_text(as_of),
            json.dumps(detail, sort_keys=True),
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            token,
        )
        try:
            self.warehouse.execute(self._insert(), values)
        except AudienceError:
            # Refused or not is told by the ledger itself: an answer can be lost after the row was taken.
            found = self._read_token(log, entry.sequence)
            if found is None:
                raise
            if found != token:
                raise LedgerConflict(
                    f"another run has written to sync {self.sync_id!r} in the meantime; try again: "
                    "the next attempt goes on from what it wrote"
                ) from None
        return entry

    def read_closed_audiences(self) -> dict[str, datetime]:
        """Read which audiences of any sync of the schema were deleted, and as of which instant last."""
        from sqlglot import exp

        query = (
            exp.select(column("as_of"), column("detail"))
            .from_(table(self.schema, LEDGER_TABLE))
            .where(column("event").eq(Event.CLOSED.value))
            .order_by(column("as_of"))
        )
        rows = self.warehouse.read_rows(render(query, self.warehouse.dialect))
        return {a: instant(as_of) for as_of, detail in rows for a in json.loads(detail)["audiences"]}

    def _table(self) -> str:
        return table(self.schema, LEDGER_TABLE).sql(dialect=self.warehouse.dialect.name, identify=True)

    def _select(self) -> str:
        from sqlglot import exp

        own = table(self.schema, LEDGER_TABLE)
        last = (
            exp.select(exp.Max(this=column("sequence", "later")))
            .from_(own.copy().as_("later", quoted=True))
            .where(*(column(n, "later").eq(column(n, "row")) for n in ("sync_id", "log")))
        )
        query = (
            exp.select(*(column(n, "row") for n in ("log", "sequence", "event", "as_of", "detail", "recorded_at")))
            .from_(own.as_("row", quoted=True))
            .where(
                column("sync_id", "row").eq(self.sync_id),
                exp.or_(
                    column("event", "row").neq(Event.CHECKPOINT.value),
                    column("sequence", "row").eq(last.subquery()),
                ),
            )
            .order_by(column("log", "row"), column("sequence", "row"))
        )
        return render(query, self.warehouse.dialect)

    def _insert(self) -> str:
        from sqlglot import exp

        marks = [exp.Var(this=self.warehouse.placeholder) for _ in _COLUMNS]
        return render(
            exp.insert(
                exp.values([tuple(marks)]),
                table(self.schema, LEDGER_TABLE),
                columns=[exp.to_identifier(n, quoted=True) for n in _COLUMNS],
            ),
            self.warehouse.dialect,
        )

    def _read_token(self, log: str, sequence: int) -> str | None:
        from sqlglot import exp

        query = (
            exp.select(column("token"))
            .from_(table(self.schema, LEDGER_TABLE))
            .where(column("sync_id").eq(self.sync_id), column("log").eq(log), column("sequence").eq(sequence))
        )
        rows = self.warehouse.read_rows(render(query, self.warehouse.dialect))
        return str(rows[0][0]) if rows else None

    def _definitions(self) -> Sequence[str]:
        import sqlglot

        where = table(self.schema, LEDGER_TABLE).sql(dialect="duckdb", identify=True)
        schema = where.rpartition(".")[0]
        columns = ", ".join(f'"{n}" {"BIGINT" if n == "sequence" else "TEXT"} NOT NULL' for n in _COLUMNS)
        statements = (
            f"CREATE SCHEMA IF NOT EXISTS {schema}",
            f'CREATE TABLE IF NOT EXISTS {where} ({columns}, PRIMARY KEY ("sync_id", "log", "sequence"))',
        )
        return [
            sqlglot.transpile(s, read="duckdb", write=self.warehouse.dialect.name, identify=True)[0]
            for s in statements
        ]


def misunderstood(entry: Entry) -> LedgerUnreadable:
    """Make the error of a row that does not fit those before it."""
    return LedgerUnreadable(
        f"row {entry.sequence} of the ledger's log {entry.log!r}, {entry.event.value} as of "
        f"{instant_text(entry.as_of)}, does not fit the rows before it: restore the ledger from a backup"
    )
