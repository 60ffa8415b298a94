"""A delivery's own log: read with the line of time that it belongs to, and added to row by row.

Whoever has read an old state cannot write, so that of two publishers to one destination one stops. Where several
tasks share a delivery each writes to the log of its part, and the delivery's own cursor moves once all parts are
there.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import (
    DeliveryChanged,
    FirstRunRefused,
    LedgerConflict,
    WarehouseRefused,
)
from airflow_kinesis_audience.feeds import WHOLE
from airflow_kinesis_audience.ledger import SYNC_LOG, Event, Ledger
from airflow_kinesis_audience.standing import Standing, read_standings
from airflow_kinesis_audience.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.ledger import Entry
    from airflow_kinesis_audience.terms import Delivery


SNAPSHOT_SECONDS = 600.0
"""How long a part waits for another that writes a table for all, before it does so itself."""

_LOOK_SECONDS = 1.0


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
        if standing.log == self.delivery.log:
            entry = self.ledger.append(standing.log, standing.sequence, event, as_of=as_of, detail=detail)
            self._seen = (entry.sequence, self._seen[1])
        else:
            part = {**self.delivery.part._asdict(), "delivery": self.delivery.log}
            detail = {**detail, "part": part}
            entry = self.ledger.append(standing.log, standing.sequence, event, as_of=as_of, detail=detail)
        return replace(standing, sequence=entry.sequence)

    def look_at_part(self) -> tuple[Standing, Standing]:
        """Read how far the delivery has come, and how far the part that this task sends.

        :raises DeliveryChanged: if something is half sent in another number of parts.
        """
        entries = self.ledger.read()
        standings = {s.log: s for s in read_standings(entries)}
        whole = standings.get(self.delivery.log, Standing(log=self.delivery.log))
        own = standings.get(self.delivery.part_log, Standing(log=self.delivery.part_log))
        begun = {s.part["of"] for s in standings.values() if s.part and _is_ahead(s, s.part, whole)}
        begun |= {1} if whole.sending is not None else set()
        if other := sorted(begun - {self.delivery.part.of}):
            raise DeliveryChanged(
                f"a change set is half sent to {self.delivery.destination} in {other[0]} parts, and this task "
                f"sends one of {self.delivery.part.of}; put parts back until it is delivered"
            )
        return whole, own

    def conclude(self, as_of: datetime, before: Callable[[Standing, Sequence[Entry]], Standing]) -> int:
        """Move the delivery's cursor to an instant, if all parts are there and no other task has done so.

        :param before: called first, with the delivery's standing and the rows of the parts that have delivered
            what the cursor moves over; gives the standing after whatever it has written.
        :returns: the changes that all parts have delivered, if it was this task.
        """
        logs = self.delivery.part_logs
        while True:
            entries = self.ledger.read()
            standings = {s.log: s for s in read_standings(entries)}
            whole = standings[self.delivery.log]
            if whole.has(as_of) or not all(log in standings and standings[log].has(as_of) for log in logs):
                return 0
            ends = [
                e for e in entries if e.event is Event.DELIVERED and e.log in logs and not e.detail.get("resend")
            ]
            told = {"rendering": self.delivery.rendering, "parts": self.delivery.part.of}
            with contextlib.suppress(LedgerConflict):
                whole = before(whole, [e for e in ends if not whole.has(e.as_of)])
                self.append(whole, Event.DELIVERED, as_of, told)
                return sum(int(e.detail["delivered"]) for e in ends if e.as_of == as_of)

    def await_snapshot(self) -> Standing:
        """Wait while another part writes what the destination is told first, unless that takes too long.

        :returns: what shows that nobody does; whoever writes it now appends to just this.
        """
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while True:
            standing = self.read()[1]
            known = standing.snapshot or {}
            is_mine = known.get("by", self.delivery.part.number) == self.delivery.part.number
            if is_mine or known.get("written") or standing.cursor or time.monotonic() > deadline:
                return standing
            time.sleep(_LOOK_SECONDS)

    @contextlib.contextmanager
    def unless_another_part_was_faster(self) -> Iterator[None]:
        """Let a part look again where another has written what it was about to; a task alone stops."""
        try:
            yield
        except LedgerConflict:
            if self.delivery.part == WHOLE:
                raise

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

    def begin(self, as_of: datetime, on_first_run: str) -> None:
        """Attach the destination at an instant, and rely on its membership.

        :raises FirstRunRefused: if the author wants to be asked first.
        """
        if on_first_run == "fail":
            raise FirstRunRefused(
                f"{self.delivery.destination} was never sent anything of sync {self.ledger.sync_id!r}, and "
                'on_first_run is "fail". Choose "enter_all" to tell it of all members, or "baseline" if it knows '
                "them"
            )
        self.seal(as_of)
        while True:
            timeline, standing = self.read()
            if standing.attached is not None:
                return
            # Attached to a membership that is gone, it could never be told anything.
            timeline.tables(self.ledger.schema, as_of)
            with self.unless_another_part_was_faster():
                self.attach(standing, as_of, on_first_run)

    def seal(self, as_of: datetime) -> None:
        """Make a change set immutable: from here on a delivery relies on it."""
        while True:
            timeline, _ = self.read()
            edge = timeline.find(as_of)
            assert edge is not None  # noqa: S101
            if edge.sealed:
                return
            with contextlib.suppress(LedgerConflict):
                self.ledger.append(SYNC_LOG, timeline.sequence, Event.SEALED, as_of=as_of, detail={})

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


class Rows:
    """Appends one row after the other about one instant: a second publisher's row in between stops this one.

    :param standing: of the log that is written to.
    :param mark: what every row says besides.
    """

    def __init__(self, log: DeliveryLog, standing: Standing, as_of: datetime, mark: Mapping[str, Any]) -> None:
        self.standing = standing
        self._log, self._as_of, self._mark = log, as_of, mark

    def append(self, event: Event, detail: Mapping[str, Any]) -> None:
        """Append the next row."""
        self.standing = self._log.append(self.standing, event, self._as_of, {**detail, **self._mark})


def _is_ahead(standing: Standing, part: Mapping[str, Any], whole: Standing) -> bool:
    """Tell whether a part of a delivery has begun what the delivery is not at the end of."""
    reached = standing.sending or standing.cursor
    if part["delivery"] != whole.log or reached is None or whole.attached is None:
        return False
    return reached > whole.cursor if whole.cursor else reached >= whole.attached
