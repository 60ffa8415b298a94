"""Forwards the events that arrived in an interval, each once: what is to be read, read, sent, and over.

An interval that an earlier attempt has begun to send is finished first, from what that attempt has written down.
What was forwarded is known by the intervals in the delivery's log; only what no interval covers is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience import sync
from airflow_kinesis_audience.audience import instant, instant_text
from airflow_kinesis_audience.event_layout import EventLayout, event_layout
from airflow_kinesis_audience.event_rows import PROBLEMS, EventSet, count_events, read_events, select_events
from airflow_kinesis_audience.events import EventSource, Interval, without
from airflow_kinesis_audience.exceptions import GuardTripped
from airflow_kinesis_audience.layout import in_given_letters
from airflow_kinesis_audience.ledger import Event
from airflow_kinesis_audience.snapshot import drop_kept, find_or_write
from airflow_kinesis_audience.sql import check_query, drop_table, table, write_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from airflow_kinesis_audience.ledger import Entry
    from airflow_kinesis_audience.outbox import Outbox

FORWARDED = "events"
"""What a delivery of events says that it tells first: nothing but what arrives."""


def forward(
    outbox: Outbox,
    source: EventSource,
    start: datetime | None,
    end: datetime,
    *,
    on_invalid_rows: str = "fail",
    resend: bool = False,
) -> dict[str, Any]:
    """Forward the events that arrived from one instant up to another and were not forwarded before.

    :param start: none for where the last interval ended.
    :param on_invalid_rows: what rows that are no events do: ``fail``, or they are left out and counted (``drop``).
    :param resend: forward the whole interval again, read anew; ids are the same.
    :returns: ``sync_id``, ``as_of`` (the end), ``start``, ``events``, ``intervals`` that were forwarded now,
        ``not_forwarded``: gaps between the first interval and this one; ``dropped_rows`` where there are any.
    :raises ValueError: if there is no start, or the interval is empty.
    :raises GuardTripped: if rows are no events; nothing of their interval was sent.
    :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
    """
    if on_invalid_rows not in ("fail", "drop"):
        raise ValueError(f"on_invalid_rows is {on_invalid_rows!r}; expected fail or drop")
    forwarder = _Forwarder(outbox, source, drop=on_invalid_rows == "drop")
    return forwarder.run(start, end, resend=resend)


def read_forwarded(log: str, entries: Iterable[Entry]) -> list[Interval]:
    """Read which intervals a delivery has forwarded completely."""
    written: dict[str, Interval] = {}
    found = []
    for entry in entries:
        if entry.log != log:
            continue
        if entry.event is Event.SNAPSHOT and entry.detail.get("written"):
            written[entry.detail["table"]] = _interval_of(entry.detail)
        elif entry.event is Event.DELIVERED:
            found.append(written[entry.detail["table"]])
    return found


class _Forwarder:
    def __init__(self, outbox: Outbox, source: EventSource, *, drop: bool) -> None:
        self.outbox, self._drop = outbox, drop
        self.ledger, self.log = outbox.ledger, outbox.log
        warehouse = self.ledger.warehouse
        self._query = check_query(source.query, warehouse.origin.dialect)
        types = warehouse.origin.read_types(self._query)
        self.source = in_given_letters(source, types, warehouse.origin.dialect)
        self._layout = event_layout(self.source, types, warehouse.origin.dialect)
        self.counts = {"events": 0, "dropped_rows": 0}

    def run(self, start: datetime | None, end: datetime, *, resend: bool) -> dict[str, Any]:
        self.ledger.prepare()
        _, standing = self.log.read()
        if standing.attached is None:
            self.log.attach(standing, end, FORWARDED)
        with self.log.unless_overtaken():
            begun = self._finish()
            covered = self._forwarded()
            wanted = self._wanted(start, end, covered)
            pieces = [wanted] if resend else without(wanted, covered)
            for piece in pieces:
                self._forward(piece, resend=resend)
        whole = Interval(min(i.start for i in (*covered, wanted)), end)
        summary: dict[str, Any] = {
            "sync_id": self.ledger.sync_id,
            "as_of": instant_text(end),
            "start": instant_text(wanted.start),
            "events": self.counts["events"],
            "intervals": [str(i) for i in (*begun, *pieces)],
            "not_forwarded": [str(i) for i in without(whole, [*covered, wanted])],
        }
        if self.counts["dropped_rows"]:
            summary["dropped_rows"] = self.counts["dropped_rows"]
        return summary

    def _forwarded(self) -> list[Interval]:
        return read_forwarded(self.log.delivery.log, self.ledger.read())

    def _wanted(self, start: datetime | None, end: datetime, covered: list[Interval]) -> Interval:
        if start is None and not covered:
            raise ValueError(
                "the run has no data interval and nothing was forwarded before, so nothing says where to begin; "
                "give start, an instant such as 2026-01-31T00:00:00Z"
            )
        start = start or max(i.end for i in covered)
        if start > end:
            raise ValueError(f"the interval is {Interval(start, end)}; it ends before it starts")
        return Interval(start, end)

    def _finish(self) -> list[Interval]:
        """Finish what an earlier attempt had written down and not delivered."""
        _, standing = self.log.read()
        known = standing.snapshot or {}
        if not known.get("written"):
            return []
        interval = _interval_of(known)
        begun = standing.sending is not None or interval not in self._forwarded()
        if begun:
            self._send(known)
        drop_kept(self.log, Event.SNAPSHOT, known, interval.end)
        return [interval] if begun else []

    def _forward(self, interval: Interval, *, resend: bool) -> None:
        _, standing = self.log.read()
        known = standing.snapshot or {}
        about = {"start": instant_text(interval.start), "end": instant_text(interval.end)}
        found = find_or_write(
            self.log,
            Event.SNAPSHOT,
            known,
            interval.end,
            about,
            lambda name: self._write(name, interval),
            "events",
        )
        self._send(found, resend=resend)
        drop_kept(self.log, Event.SNAPSHOT, found, interval.end)

    def _write(self, name: str, interval: Interval) -> Mapping[str, Any]:
        warehouse, schema = self.ledger.warehouse, self.ledger.schema
        read, within = read_events(warehouse, self.source, self._layout, interval, self._query)
        query = select_events(read, self._layout, slice_rows=sync.SLICE_ROWS)
        write_table(warehouse, table(schema, name), query, source_query=within, sliced_by="slice")
        rows, slices, problems = count_events(warehouse, schema, name)
        if problems and not self._drop:
            drop_table(warehouse, table(schema, name))
            told = "; ".join(f"{count:,} rows {PROBLEMS[name]}" for name, count in sorted(problems.items()))
            raise GuardTripped(
                f"of what arrived in {interval} {told}. Nothing of it was sent. Correct the source or the query "
                'and clear this task, or say on_invalid_rows="drop" to leave such rows out',
                [f"events that arrived in {interval}: {told}"],
            )
        return {
            "rows": rows,
            "slices": slices,
            "layout": self._layout.as_json(),
            "dropped_rows": sum(problems.values()),
        }

    def _send(self, known: Mapping[str, Any], *, resend: bool = False) -> None:
        events = EventSet(
            sync_id=self.ledger.sync_id,
            interval=_interval_of(known),
            schema=self.ledger.schema,
            table=known["table"],
            rows=known["rows"],
            slices=known["slices"],
            layout=EventLayout.from_json(known["layout"]),
        )
        self.outbox.send(events, resend=resend)
        self.counts["events"] += events.rows
        self.counts["dropped_rows"] += known["dropped_rows"]


def _interval_of(detail: Mapping[str, Any]) -> Interval:
    return Interval(instant(detail["start"]), instant(detail["end"]))
