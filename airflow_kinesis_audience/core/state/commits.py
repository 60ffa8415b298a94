"""How a state table comes to count: announced before it is written, committed after, dropped when not needed.

Whoever announced last is the writer: a table of anybody else is fenced, it can no longer be committed, so that of
two runs at once one stops, whatever their order. Nothing here knows what is in a table.
"""

from __future__ import annotations

import contextlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import LedgerConflict, WarehouseRefused
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.names import delivered_view_name, table_name, view_name
from airflow_kinesis_audience.core.sql.statements import drop_table, drop_view, table
from airflow_kinesis_audience.core.state.sync_details import (
    SYNC_LOG,
    ChangeSetDetail,
    ChangeSetHeld,
    ChangeSetSealed,
    FirstBase,
    TablesDropped,
    TablesRetired,
    TableStarted,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractContextManager

    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.sync_details import Detail
    from airflow_kinesis_audience.core.state.timeline import Timeline


LATEST_END = timedelta(days=1)
"""So long after it was begun a server may finish a table whose task is gone: until then each run drops it."""


def draw_epoch() -> str:
    """Draw a text that no other state of a sync has."""
    return uuid.uuid4().hex


def begin_timeline(**of_change_set: Any) -> FirstBase:
    """Make the row with which a timeline begins, and an epoch."""
    return FirstBase(**of_change_set, epoch=draw_epoch())


class NothingBegun(LedgerConflict):
    """The ledger was another one before a table was begun: to read it again is all that is needed."""


class TableCommitter:
    """Announces, commits and drops the tables of a sync.

    :param ledger: of the sync; what it knows is what this goes on from.
    :ivar leaves: whether this attempt may end here, so that its next part has to see what was announced.
    :ivar left: a table that an earlier part of this attempt announced, and that is written by now or soon.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.left = ""
        self.leaves = False

    @property
    def timeline(self) -> Timeline:
        """The sync's timeline, as of the last reading or append."""
        return self.ledger.state.timeline

    def append(self, detail: Detail, as_of: datetime, *, lazy: bool = False) -> Timeline:
        """Append a row to the sync's own log, if nobody has since its rows were read."""
        return self.ledger.append(SYNC_LOG, detail, as_of=as_of, lazy=lazy).timeline

    def announce(self, what: str, as_of: datetime, *, lazy: bool = True) -> str:
        """Write down the name of a table before it is made, so that a later run can clear it away.

        One that was left is announced already. If another run has announced one since, it is not counted in the
        end, as that of any run that is overtaken; to announce another one would overtake that run in turn.

        :param lazy: other readers may see it later.
        :raises NothingBegun: if another run has written to the ledger since it was read.
        """
        if self.left.startswith(table_name(what, self.ledger.sync_id, as_of, "")):
            left, self.left = self.left, ""
            return left
        name = table_name(what, self.ledger.sync_id, as_of, uuid.uuid4().hex[:6])
        try:
            self.append(TableStarted(table=name), as_of, lazy=lazy and not self.leaves)
        except LedgerConflict as conflict:
            raise NothingBegun(str(conflict)) from None
        return name

    def seal_newest(self) -> None:
        """Make the newest change set immutable: another one is about to rely on its membership.

        :raises NothingBegun: if another run has written to the ledger since it was read.
        """
        newest = self.timeline.newest
        if newest is not None and not newest.sealed:
            try:
                self.append(ChangeSetSealed(), newest.as_of, lazy=True)
            except LedgerConflict as conflict:
                raise NothingBegun(str(conflict)) from None

    def commit(self, name: str, detail: Detail, as_of: datetime) -> Timeline:
        """Make a written table count, unless another run has begun to write one since it was announced.

        :returns: the timeline up to this row.
        :raises LedgerConflict: if so; a table that is not held is gone, and a retry goes on from what the other
            wrote.
        """
        while True:
            if not isinstance(detail, ChangeSetHeld) and self.timeline.is_committed(name):
                return self.timeline  # by another approval, or by this one, whose answer was lost
            current = self.timeline.find(as_of)
            sealed = isinstance(detail, ChangeSetDetail) and current is not None and current.sealed
            if self.timeline.writer != name or sealed:
                raise self._fenced(name, as_of)
            try:
                return self.append(detail, as_of)
            except LedgerConflict:
                self.ledger.read()

    def unless_fenced(self, name: str, as_of: datetime) -> AbstractContextManager[None]:
        """Raise ``LedgerConflict`` for a failure over tables that another run dropped since one was announced."""
        return self.ledger.unless_fenced(
            lambda _: self._fenced(name, as_of) if self.timeline.writer != name else None
        )

    def retire(self, names: Collection[str], as_of: datetime) -> bool:
        """Write down that nothing relies on tables any more, before they go; false if somebody was faster."""
        try:
            if names:
                self.append(TablesRetired(tables=tuple(sorted(names))), as_of)
        except LedgerConflict:
            return False
        return True

    def drop(self, names: Collection[str], as_of: datetime, *, ended: bool = False) -> None:
        """Drop tables that nothing relies on, and write down that they are gone.

        One that may not be dropped, because somebody's view stands on it, stays for a later run to try again; so
        does one that the server may still finish, though the task that began it was killed. A view of this package
        that is in the way goes first: where one is maintained, it was written over what stays.

        :param ended: the statements by which they were written have ended.
        """
        gone = []
        for name in sorted(names):
            with contextlib.suppress(WarehouseRefused):
                self._drop(name)
                if ended or not self._may_be_finished(name):
                    gone.append(name)
        # Where another run was faster the tables are gone all the same, and a later run drops them once more.
        with contextlib.suppress(LedgerConflict):
            if gone:
                self.append(TablesDropped(tables=tuple(gone)), as_of)

    def _drop(self, name: str) -> None:
        warehouse, schema = self.ledger.warehouse, self.ledger.schema
        try:
            drop_table(warehouse, table(schema, name))
        except WarehouseRefused:
            for view in (view_name(self.ledger.sync_id), delivered_view_name(self.ledger.sync_id)):
                drop_view(warehouse, table(schema, view))
            drop_table(warehouse, table(schema, name))

    def _may_be_finished(self, name: str) -> bool:
        began = self.timeline.unfinished.get(name)
        return began is not None and datetime.now(UTC) - datetime.fromisoformat(began) < LATEST_END

    def _fenced(self, name: str, as_of: datetime) -> LedgerConflict:
        if not self.timeline.is_committed(name) and name not in self.timeline.waiting:
            self.drop([name], as_of, ended=True)
        return LedgerConflict(
            f"another run of sync {self.ledger.sync_id!r} has started since this run started, or a delivery of "
            f"{instant_text(as_of)} has; retry: the next attempt continues from there. To run one at a time, set "
            "max_active_tis_per_dag=1"
        )
