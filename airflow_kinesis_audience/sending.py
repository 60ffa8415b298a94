"""One attempt at one change set: where it goes, its records, and how far it got.

A change set's records are the same on every attempt, so that a number per record is all there is to remember.
What an earlier attempt had acknowledged is not put again, and whole cells of it are not even read.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import DestinationRefused
from airflow_kinesis_audience.feeds import WHOLE, Cell, CellReader, count_feeds, lay_out
from airflow_kinesis_audience.ledger import Event
from airflow_kinesis_audience.oversize import Oversized, Rejected
from airflow_kinesis_audience.profiling import ProfileSet
from airflow_kinesis_audience.settled import Settled
from airflow_kinesis_audience.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from airflow_kinesis_audience.event_rows import EventSet
    from airflow_kinesis_audience.messages import Message, Record
    from airflow_kinesis_audience.slices import ChangeSet
    from airflow_kinesis_audience.sql import Warehouse
    from airflow_kinesis_audience.terms import Delivery

CHECKPOINT_SHARE = 0.05
"""Most of a delivery's time that is spent on writing down how far it got."""

_LEFT_OUT = ("omitted", "excluded", "rejected")


@dataclass(slots=True)
class Report:
    """What draining did, filled while it runs: it can be told before an error is raised.

    :param concluded: changes of change sets of which the last part was missing, and is delivered now.
    :param retold: members who were rejected earlier, and of whom the destination is told now.
    :param still_rejected: members of whom the destination has still to be told: they are too large.
    :param rejected_users: names of some of them: the beginnings of the SHA-256 of their ids.
    """

    change_sets: list[str] = field(default_factory=list)
    messages: int = 0
    records: int = 0
    bytes: int = 0
    delivered: int = 0
    rejected: int = 0
    omitted: int = 0
    excluded: int = 0
    retried: int = 0
    seconds: float = 0.0
    concluded: int = 0
    retold: int = 0
    still_rejected: int = 0
    rejected_users: list[str] = field(default_factory=list)

    def add(self, tally: Tally, *, omitted: int = 0, excluded: int = 0, rejected: int = 0) -> None:
        """Count an attempt at one change set."""
        self.omitted += omitted
        self.excluded += excluded
        self.delivered += tally.changes_delivered
        self.rejected += tally.changes_rejected + rejected
        self.add_records(tally)

    def add_records(self, tally: Tally) -> None:
        """Count what was put, whatever it tells of."""
        self.messages += tally.messages_delivered
        self.records += tally.delivered
        self.bytes += tally.bytes_delivered
        self.retried += tally.retried
        self.seconds = round(self.seconds + tally.seconds, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the change set that is being sent has come; counts are changes."""

    as_of: datetime
    done: int
    total: int
    tally: Tally


class Sending:
    """One attempt at one change set, or at a part of it.

    :param resumed: detail of the last row of an earlier attempt's, or nothing.
    :param append: appends a row to the delivery's log.
    :param watch: told after every answer.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        delivery: Delivery,
        change_set: ChangeSet | EventSet | ProfileSet,
        resumed: Mapping[str, Any],
        *,
        append: Callable[[Event, Mapping[str, Any]], None],
        watch: Callable[[Progress], None],
    ) -> None:
        self._warehouse = warehouse
        self._delivery = delivery
        self.told = change_set
        self._append = append
        self._watch = watch
        self._resumed = bool(resumed)
        self._before = int(resumed.get("delivered", 0))
        self._left_out = Counter({n: int(resumed.get(n, 0)) for n in _LEFT_OUT})
        self._open: dict[Cell, Counter[str]] = {}
        self._next_row = 0.0
        self._unwritten = False
        self.settled = Settled.from_json(resumed["settled"]) if "settled" in resumed else Settled()
        self.oversized = Rejected.from_json(resumed["oversized"]) if "oversized" in resumed else Rejected()
        self.delivered = self._before
        self.total = change_set.rows
        self.tally = Tally()

    @property
    def left_out(self) -> dict[str, int]:
        """What is not told, as far as it was rendered.

        Changes that the format has nothing to say of (``omitted``), or that no record can hold (``rejected``), and
        profiles that it must not tell of (``excluded``).
        """
        return {n: sum((c[n] for c in self._open.values()), self._left_out[n]) for n in _LEFT_OUT}

    @property
    def missing(self) -> int:
        """Changes that are neither acknowledged nor left out."""
        left_out = self.left_out
        return self.total - self.delivered - left_out["omitted"] - left_out["rejected"]

    def feeds(self) -> list[Iterator[Record]]:
        """Render the records of each feed, but for cells that are done."""
        delivery = self._delivery
        reader = self.told.reader(self._warehouse)
        laid = lay_out(reader.counts, slices=self.told.slices, partitions=delivery.partitions, part=delivery.part)
        if delivery.part != WHOLE or isinstance(self.told, ProfileSet):
            self.total = sum(cell.changes for cells in laid for cell in cells)
        apart = getattr(delivery.renderer, "apart", False)
        read = CellReader(reader, partitions=delivery.partitions, apart=apart).read
        return [self._render_feed(cells, read) for cells in laid]

    def _render_feed(self, cells: Iterable[Cell], read: Callable[[Cell], Iterator[Any]]) -> Iterator[Record]:
        for cell in cells:
            if not self.settled.covers(cell.start, cell.stop):
                yield from self._render_cell(cell, read)

    def _render_cell(self, cell: Cell, read: Callable[[Cell], Iterator[Any]]) -> Iterator[Record]:
        envelope = self._delivery.envelope(self.told.sync_id, self.told.edge)
        renderer = self._delivery.renderer
        count_excluded = getattr(renderer, "count_excluded", lambda _: 0)
        counted: Counter[str] = Counter()

        def render() -> Iterator[Message]:
            for changes in read(cell):
                counted["omitted"] += changes.change_count
                counted["excluded"] += count_excluded(changes)
                for found in renderer(changes, envelope):
                    if isinstance(found, Oversized):
                        self._reject(found, counted)
                    else:
                        yield found

        end = cell.start
        for record in self._delivery.records(render(), cell.start):
            counted["omitted"] -= record.changes
            end = record.ordinal + 1
            yield record
        self._open[cell] = counted
        # There are no more: what is left of the numbers is done, so that the cell is, once its records are.
        self.settled.add_range(end, cell.stop)

    def _reject(self, found: Oversized, counted: Counter[str]) -> None:
        self.oversized.add(found)
        counted["omitted"] -= found.changes
        counted["rejected"] += found.changes

    def checkpoint(self, tally: Tally) -> None:
        """Count what is acknowledged, before anything more is put, and write it down.

        Not after every answer where the ledger is slow: writing takes a small share of the time. After a kill only
        what was acknowledged since the last row is put again.
        """
        self.tally = tally
        self.delivered = self._before + tally.changes_delivered
        self._unwritten = True
        began = time.monotonic()
        if began >= self._next_row:
            self.write(Event.CHECKPOINT)
            self._next_row = began + (time.monotonic() - began) / CHECKPOINT_SHARE
        done = self.total - self.missing
        self._watch(Progress(as_of=self.told.as_of, done=done, total=self.total, tally=tally))

    def stop(self) -> None:
        """Write down how far an attempt got that broke off.

        If nothing can have been taken, say so: the next attempt may then have other options.
        """
        refused = isinstance(self.tally.failure, DestinationRefused) and not self.tally.codes
        untouched = not self.tally.requests or (refused and not self.tally.delivered)
        if untouched and not self._resumed:
            self.write(Event.UNSENT)
        elif self._unwritten:
            self.write(Event.CHECKPOINT)

    def write(self, event: Event) -> None:
        """Append a row that tells how far the change set got; a resume reads the last one."""
        oversized = {"oversized": self.oversized.as_json()} if self.oversized else {}
        for cell in [c for c in self._open if self.settled.covers(c.start, c.stop)]:
            self._left_out += self._open.pop(cell)
        self._append(
            event,
            {
                "rendering": self._delivery.rendering,
                "table": self.told.table,
                "feeds": count_feeds(self._delivery.partitions),
                **{n: self._left_out[n] for n in _LEFT_OUT},
                "delivered": self.delivered,
                "settled": self.settled.as_json(),
                **oversized,
            },
        )
        self._unwritten = False
