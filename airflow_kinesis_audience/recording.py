"""How a state table comes to count: announced before it is written, recorded after, dropped when not needed.

Whoever announced last is the writer: a table of anybody else can no longer be recorded, so that of two runs at
once one stops, whatever their order. Nothing here knows what is in a table.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.exceptions import LedgerConflict, WarehouseRefused
from airflow_kinesis_audience.ledger import SYNC_LOG, Event, Ledger
from airflow_kinesis_audience.sql import drop_table, table, table_name
from airflow_kinesis_audience.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    from airflow_kinesis_audience.ledger import Entry


class Recorder:
    """Announces, records and drops the tables of a sync.

    :param ledger: of the sync.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def read(self) -> Timeline:
        """Read the sync's line of time."""
        return Timeline.from_entries(self.ledger.read())

    def append(self, timeline: Timeline, event: Event, as_of: datetime, detail: Mapping[str, Any]) -> Entry:
        """Append a row to the sync's own log, if nobody has since the timeline was read."""
        return self.ledger.append(SYNC_LOG, timeline.sequence, event, as_of=as_of, detail=detail)

    def announce(self, timeline: Timeline, what: str, as_of: datetime) -> str:
        """Write down the name of a table before it is made, so that a later run can clear it away."""
        name = table_name(what, self.ledger.sync_id, as_of, uuid.uuid4().hex[:6])
        self.append(timeline, Event.STARTED, as_of, {"table": name})
        return name

    def record(self, name: str, event: Event, as_of: datetime, detail: Mapping[str, Any]) -> Timeline:
        """Make a written table count, unless another run has begun to write one since it was announced.

        :returns: the line of time up to this row and not up to now: whoever goes on from it misses no row unseen.
        :raises LedgerConflict: if so; the table is gone, and a retry goes on from what the other wrote.
        """
        while True:
            entries = self.ledger.read()
            timeline = Timeline.from_entries(entries)
            current = timeline.find(as_of)
            sealed = event is not Event.BASE and current is not None and current.sealed
            if timeline.writer != name or sealed:
                raise self._overtaken(timeline, name, as_of)
            with contextlib.suppress(LedgerConflict):
                return Timeline.from_entries([*entries, self.append(timeline, event, as_of, detail)])

    @contextlib.contextmanager
    def unless_overtaken(self, name: str, as_of: datetime) -> Iterator[None]:
        """Tell a failure over tables that another run cleared away, where a retry helps, from a wrong one."""
        try:
            yield
        except WarehouseRefused:
            if (timeline := self.read()).writer != name:
                raise self._overtaken(timeline, name, as_of) from None
            raise

    def retire(self, names: Collection[str], as_of: datetime) -> bool:
        """Write down that nothing relies on tables any more, before they go; false if somebody was faster."""
        try:
            if names:
                self.append(self.read(), Event.RETIRED, as_of, {"tables": sorted(names)})
        except LedgerConflict:
            return False
        return True

    def drop(self, names: Collection[str], as_of: datetime) -> None:
        """Drop tables that nothing relies on, and write down that they are gone.

        One that may not be dropped, because somebody's view stands on it, stays for a later run to try again.
        """
        gone = []
        for name in sorted(names):
            with contextlib.suppress(WarehouseRefused):
                drop_table(self.ledger.warehouse, table(self.ledger.schema, name))
                gone.append(name)
        # Where another run was faster the tables are gone all the same, and a later run drops them once more.
        with contextlib.suppress(LedgerConflict):
            self.append(self.read(), Event.DROPPED, as_of, {"tables": gone})

    def _overtaken(self, timeline: Timeline, name: str, as_of: datetime) -> LedgerConflict:
        if timeline.held is None or timeline.held.table != name:
            self.drop([name], as_of)
        return LedgerConflict(
            f"another run of sync {self.ledger.sync_id!r} has begun since this one did, or a delivery of "
            f"{instant_text(as_of)} has; try again: the next attempt goes on from what it wrote. "
            "To run one at a time, set max_active_tis_per_dag=1"
        )
