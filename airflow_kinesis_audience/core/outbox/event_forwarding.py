"""Forwards the events that arrived in an interval, each once: what is to be read, read, sent, and over.

An interval that an earlier attempt has begun to send is finished first, from what that attempt has written down.
What was forwarded is known by the intervals in the delivery's log; only what no interval covers is read, and
nothing that the warehouse's clock has not left behind: that is of the next run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_kinesis_audience.core.exceptions import GuardTripped, LedgerConflict, WarehouseRefused
from airflow_kinesis_audience.core.model.events import (
    EventSource,
    Interval,
    subtract_intervals,
    unite_intervals,
)
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.option_check import mapped_of
from airflow_kinesis_audience.core.outbox.report import ForwardedEvents
from airflow_kinesis_audience.core.outbox.tables import drop_litter, drop_superseded, name_table
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.readers.event_counts import count_events
from airflow_kinesis_audience.core.readers.events import (
    INVALID_EVENT_REASONS,
    EventSet,
    keys_of_events,
    read_events,
    select_events,
)
from airflow_kinesis_audience.core.source.arrival import read_clock
from airflow_kinesis_audience.core.source.event_layout import event_layout
from airflow_kinesis_audience.core.source.flags import describe_numbers
from airflow_kinesis_audience.core.source.query import describe_query
from airflow_kinesis_audience.core.sql.statements import drop_table, has_table, table, write_table
from airflow_kinesis_audience.core.state import rows as state_rows
from airflow_kinesis_audience.core.state.commits import TableCommitter
from airflow_kinesis_audience.core.state.delivery_details import AttemptUnsent, SnapshotTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.authors import Author
    from airflow_kinesis_audience.core.outbox.outbox import Outbox
    from airflow_kinesis_audience.core.state.sync_details import ChangeSetAuthor

FORWARDED = "events"
"""``on_first_run`` of a delivery of events, which gets nothing but what arrives."""


def forward(
    outbox: Outbox,
    source: EventSource,
    start: datetime | None,
    end: datetime,
    *,
    on_invalid_rows: str = "fail",
    resend: bool = False,
    margin: timedelta = timedelta(0),
    author: Author | None = None,
) -> dict[str, Any]:
    """Forward the events that arrived from one instant up to another and were not forwarded before.

    :param start: none for where the last interval up to this end ended.
    :param on_invalid_rows: what rows that are no events do: ``fail``, or they are left out and counted (``drop``).
    :param resend: forward the whole interval again, read anew; ids are the same.
    :param margin: how long before the warehouse's own time an interval ends at the latest.
    :param author: which task it is that forwards.
    :returns: ``sync_id``, ``as_of`` (the end), ``start``, ``events``, ``intervals`` that were forwarded now,
        ``not_forwarded``: gaps between the first interval and this one; ``left_for_next_run``, what the clock was
        too early for, ``dropped_rows``, and ``placeholders``, by identity the events whose value stands for none,
        where there are any.
    :raises ValueError: if there is no start, the interval is empty, or an option of the format names what is not
        there.
    :raises StateTaken: if another task forwards events of this sync to the same destination.
    :raises GuardTripped: if rows are no events; nothing of their interval was sent.
    :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
    """
    if on_invalid_rows not in ("fail", "drop"):
        raise ValueError(f"on_invalid_rows is {on_invalid_rows!r}; expected fail or drop")
    if not isinstance(margin, timedelta) or margin < timedelta(0):
        raise ValueError(f"arrival_margin is {margin!r}; expected a timedelta of zero or more")
    forwarder = _Forwarder(outbox, source, author, drop=on_invalid_rows == "drop")
    return outbox.in_turn(lambda: forwarder.run(start, end, resend=resend, margin=margin), prepare=True)


class _Forwarder:
    def __init__(self, outbox: Outbox, source: EventSource, author: Author | None, *, drop: bool) -> None:
        self.outbox, self._drop_invalid, self._author = outbox, drop, author
        self.ledger, self.log = outbox.ledger, outbox.log
        warehouse = self.ledger.warehouse
        self._given_query = source.query
        self.source, self._query, types = describe_query(warehouse.origin, source)
        self._layout = event_layout(self.source, types, warehouse.origin.dialect)
        self.forwarded = outbox.forwarded = ForwardedEvents()

    def run(self, start: datetime | None, end: datetime, *, resend: bool, margin: timedelta) -> dict[str, Any]:
        self._begin(end)
        with self.log.unless_fenced():
            self._finish()
            covered, left = self.log.whole.forwarded, self.log.whole.left
            wanted = self._wanted(start, end, [*covered, *left])
            self.forwarded.start = instant_text(wanted.start)
            again = [wanted] if resend and wanted.start < end else []
            missing = [
                piece
                for asked in unite_intervals([wanted, *left])
                for piece in subtract_intervals(asked, [*covered, *again])
            ]
            pieces = [*again, *missing]
            # The clock is looked at before the rows are, or what arrives in between would count as read.
            until = read_clock(self.ledger.warehouse) - margin if pieces else end
            for piece in pieces:
                if piece.start < until:
                    self._forward(piece, min(piece.end, until), resend=piece in again)
                elif subtract_intervals(piece, left):
                    self._leave(piece)
            drop_litter(self.log)
        if left_behind := self.ledger.state.timeline.orphans:
            TableCommitter(self.ledger).drop(left_behind, end)
        whole = Interval(min(i.start for i in (*covered, *left, wanted)), end)
        summary: dict[str, Any] = {
            "sync_id": self.ledger.sync_id,
            "as_of": instant_text(end),
            **self.forwarded.summary(),
            "not_forwarded": [str(i) for i in subtract_intervals(whole, [*covered, *left, wanted])],
        }
        if later := [str(Interval(max(i.start, until), i.end)) for i in pieces if i.end > until]:
            summary["left_for_next_run"] = later
        return summary

    def _begin(self, end: datetime) -> None:
        """Check that this task may forward what it has, and attach the destination where that is to be done."""
        if self._author is not None:
            self._author.check_kind(self.ledger.state, self.ledger.sync_id, events=True)
            self._author.check_events(self.log.whole, self.ledger.sync_id, end, self._given_query)
        self.outbox.delivery.renderer.check_options(mapped_of(self._layout.columns, events=True))
        if self.log.whole.attached is None:
            self.log.attach(end, FORWARDED)
        elif replaced := self.log.find_replaced():
            if self.log.delivery.on_new_stream == "fail":
                self.log.refuse_replaced(replaced, of_events=True)
            self.log.accept_stream()

    def _wanted(self, start: datetime | None, end: datetime, known: Sequence[Interval]) -> Interval:
        if start is None:
            # Of a run that is cleared after later ones, where itself ended: all of it is forwarded.
            begun = [min(i.end, end) for i in known if i.start < end]
            if not begun:
                when = f" {instant_text(end)}" if known else ""
                raise ValueError(
                    f"the run has no data interval and nothing was forwarded before{when}, so the start is "
                    "unknown; set start to an instant such as 2026-01-31T00:00:00Z"
                )
            start = max(begun)
        if start > end:
            raise ValueError(f"the interval is {Interval(start, end)}; expected an end after the start")
        return Interval(start, end)

    def _finish(self) -> None:
        """Finish what an earlier attempt had written down and not delivered."""
        known = self.log.whole.snapshot
        if known is None or not known.written:
            return
        interval = _interval_of(known)
        begun = self.log.whole.sending is not None or interval not in self.log.whole.forwarded
        if begun and not has_table(self.ledger.warehouse, table(self.ledger.schema, known.table)):
            self._read_again(known)
        else:
            if begun:
                self._send(known)
            self._drop(known)

    def _read_again(self, known: SnapshotTable) -> None:
        """Forward an interval anew whose table is gone before all of it was sent; events keep their ids."""
        interval = _interval_of(known)
        # Other rows may be there by now, so that no number of a record means the same.
        unsent = AttemptUnsent(
            render_config=self.outbox.delivery.render_config,
            table=known.table,
            acknowledged=AcknowledgedOrdinals().ranges,
        )
        self.log.append(unsent, interval.end)
        self._forward(Interval(interval.start, known.wanted_end or interval.end), interval.end, resend=False)

    def _leave(self, interval: Interval) -> None:
        """Note that the whole of an interval is left for the next run."""
        known, (start, end) = self.log.whole.snapshot, interval
        self.log.append(SnapshotTable(start=start, end=start, wanted_end=end, author=self._sign()), end)
        if known is not None:
            drop_superseded(self.log, known, end)

    def _forward(self, wanted: Interval, end: datetime, *, resend: bool) -> None:
        """Announce a table of an interval up to some end, write it, send it and drop it."""
        interval = Interval(wanted.start, end)
        known, name = self.log.whole.snapshot, name_table(self.log, "events", interval.end)
        self.log.append(SnapshotTable(table=name, start=interval.start, end=interval.end), interval.end)
        if known is not None:
            drop_superseded(self.log, known, interval.end)
        written = self._write(name, interval)
        if end < wanted.end:
            written = replace(written, wanted_end=wanted.end)
        try:
            self.log.append(written, interval.end)
        except LedgerConflict:
            drop_table(self.ledger.warehouse, table(self.ledger.schema, name))
            raise
        self._send(written, resend=resend)
        self._drop(written)

    def _write(self, name: str, interval: Interval) -> SnapshotTable:
        warehouse, schema = self.ledger.warehouse, self.ledger.schema
        read = read_events(warehouse, self.source, self._layout, interval, self._query)
        query = select_events(read.select, self._layout, slice_rows=state_rows.SLICE_ROWS)
        write_table(warehouse, table(schema, name), query, source_query=read.query, sliced_by="slice")
        try:
            counted = count_events(warehouse, schema, name, self._layout, keys_of_events(self.source))
        except WarehouseRefused:
            drop_table(warehouse, table(schema, name))
            raise
        reasons = counted.invalid
        if numbers := [*read.numbers, *counted.numbers]:
            drop_table(warehouse, table(schema, name))
            raise ValueError(describe_numbers(numbers))
        if reasons and not self._drop_invalid:
            drop_table(warehouse, table(schema, name))
            found = "; ".join(
                f"{count:,} rows {INVALID_EVENT_REASONS[reason]}" for reason, count in sorted(reasons.items())
            )
            raise GuardTripped(
                f"events that arrived in {interval} are invalid: {found}. None of them was sent. Correct the "
                'source or the query and clear this task, or set on_invalid_rows="drop" to skip such rows',
                [f"events that arrived in {interval}: {found}"],
            )
        return SnapshotTable(
            table=name,
            written=True,
            start=interval.start,
            end=interval.end,
            rows=counted.events,
            slices=counted.slices,
            layout=self._layout,
            dropped_rows=sum(reasons.values()),
            placeholders=counted.placeholders,
            author=self._sign(),
        )

    def _sign(self) -> ChangeSetAuthor | None:
        return None if self._author is None else self._author.sign(self._given_query)

    def _send(self, known: SnapshotTable, *, resend: bool = False) -> None:
        assert known.layout is not None  # noqa: S101
        events = EventSet(
            sync_id=self.ledger.sync_id,
            interval=_interval_of(known),
            schema=self.ledger.schema,
            table=known.table,
            rows=known.rows,
            slices=known.slices,
            layout=known.layout,
        )
        self.outbox.send(events, resend=resend)
        self.forwarded.intervals.append(str(events.interval))
        self.forwarded.events += events.rows
        self.forwarded.dropped_rows += known.dropped_rows
        self.forwarded.placeholders.update(known.placeholders)

    def _drop(self, known: SnapshotTable) -> None:
        """Drop the table; before it goes the log says that it cannot be relied on, and after that it is gone."""
        as_of = _interval_of(known).end
        self.log.append(SnapshotTable(table=known.table), as_of)
        drop_table(self.ledger.warehouse, table(self.ledger.schema, known.table))
        self.log.append(SnapshotTable(), as_of)


def _interval_of(detail: SnapshotTable) -> Interval:
    assert detail.start is not None  # noqa: S101
    assert detail.end is not None  # noqa: S101
    return Interval(detail.start, detail.end)
