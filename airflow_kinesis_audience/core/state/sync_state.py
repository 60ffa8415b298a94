"""All that the rows of a ledger add up to: a sync's timeline, and how far each of its deliveries is.

Pure and frozen: a row more gives the next state. Nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.state.cursors import DeliveryState
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG
from airflow_kinesis_audience.core.state.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_kinesis_audience.core.state.entries import Entry


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncState:
    """The state of a sync.

    :param deliveries: by the name of their log; those of parts, too.
    """

    timeline: Timeline = field(default_factory=Timeline)
    deliveries: Mapping[str, DeliveryState] = field(default_factory=dict)

    def delivery(self, log: str) -> DeliveryState:
        """Return how far a delivery is; one without a row is at its beginning."""
        return self.deliveries.get(log) or DeliveryState(log=log)

    def last_row(self, log: str) -> int:
        """Return the number of a log's last row, 0 if it has none."""
        return self.timeline.sequence if log == SYNC_LOG else self.delivery(log).sequence

    @property
    def last_rows(self) -> dict[str, int]:
        """The number of the last row of each log that has one."""
        own = {SYNC_LOG: self.timeline.sequence} if self.timeline.sequence else {}
        return own | {log: state.sequence for log, state in self.deliveries.items()}

    def without_what_is_gone(self) -> SyncState:
        """Return the state without most of what is no longer kept, so that it does not grow with its age."""
        timeline = self.timeline.without_what_is_gone()
        deliveries = {log: s.without_what_is_gone(timeline) for log, s in self.deliveries.items()}
        return SyncState(timeline=timeline, deliveries=deliveries)

    def last_digest(self, log: str) -> str:
        """Return the digest of a log's last row that is no checkpoint; empty if it has none."""
        return self.timeline.digest if log == SYNC_LOG else self.delivery(log).digest

    def with_entries(self, entries: Iterable[Entry]) -> SyncState:
        """Return the state after further rows, those of each log in their order.

        :raises LedgerUnreadable: if a row does not fit those before it.
        """
        own, deliveries = [], dict(self.deliveries)
        for entry in entries:
            if entry.log == SYNC_LOG:
                own.append(entry)
            else:
                state = deliveries.get(entry.log) or DeliveryState(log=entry.log)
                deliveries[entry.log] = state.with_entry(entry)
        return SyncState(timeline=self.timeline.with_entries(own) if own else self.timeline, deliveries=deliveries)
