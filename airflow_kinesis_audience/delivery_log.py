"""A delivery's own log: read with the line of time that it belongs to, and added to row by row.

Whoever has read an old state cannot write, so that of two publishers to one destination one stops.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import LedgerConflict, WarehouseRefused
from airflow_kinesis_audience.ledger import Event, Ledger
from airflow_kinesis_audience.standing import Standing
from airflow_kinesis_audience.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from airflow_kinesis_audience.sending import Delivery


class DeliveryLog:
    """The rows of one delivery.

    :param ledger: of the sync.
    :param delivery: where to and how.
    """

    def __init__(self, ledger: Ledger, delivery: Delivery) -> None:
        self.ledger = ledger
        self.delivery = delivery
        self._seen = (0, 0)

    def read(self) -> tuple[Timeline, Standing]:
        """Read the line of time, and how far the delivery has come on it: what goes on relies on its tables."""
        timeline, standing = self.look()
        self._seen = (standing.sequence, timeline.sequence)
        return timeline, standing

    def look(self) -> tuple[Timeline, Standing]:
        """Read the same while the tables of an earlier reading are relied on: that they are gone is noticed."""
        entries = self.ledger.read()
        return Timeline.from_entries(entries), Standing.from_entries(self.delivery.log, entries)

    def append(self, standing: Standing, event: Event, as_of: datetime, detail: Mapping[str, Any]) -> Standing:
        """Append the next row.

        :returns: the standing with the number of that row, and nothing else of it.
        """
        entry = self.ledger.append(self.delivery.log, standing.sequence, event, as_of=as_of, detail=detail)
        self._seen = (entry.sequence, self._seen[1])
        return replace(standing, sequence=entry.sequence)

    @contextlib.contextmanager
    def unless_overtaken(self) -> Iterator[None]:
        """Tell a failure over a table that another publisher, or a run, has dropped from a wrong statement."""
        try:
            yield
        except WarehouseRefused:
            timeline, standing = self.look()
            if self._seen == (standing.sequence, timeline.sequence):
                raise
            raise LedgerConflict(
                f"another publisher has gone on with the delivery to {self.delivery.destination} in the meantime, "
                "or a run has cleared up; try again: the next attempt goes on from what it wrote"
            ) from None

    def attach(self, standing: Standing, as_of: datetime, told: str) -> Standing:
        """Let the delivery begin at an instant.

        :param told: what the destination is told first.
        """
        detail = {
            "on_first_run": told,
            "destination": self.delivery.destination,
            "connection": self.delivery.connection,
            "message_format": self.delivery.message_format,
        }
        self.append(standing, Event.ATTACHED, as_of, detail)
        return self.read()[1]
