"""A ledger's rows add up to one line of time and one standing per delivery, or to an error."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_kinesis_audience.audience import Source, instant_text
from airflow_kinesis_audience.dialects import DIALECTS
from airflow_kinesis_audience.exceptions import HistoryGone, LedgerUnreadable
from airflow_kinesis_audience.layout import Layout, layout_of
from airflow_kinesis_audience.ledger import SYNC_LOG, Entry, Event
from airflow_kinesis_audience.standing import Standing, read_standings
from airflow_kinesis_audience.timeline import Timeline


def day(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


SOURCE = Source(query="q", user_id="u", identities={}, properties={"city": "city"}, audience_id="a")
LAYOUT = layout_of(SOURCE, {"u": "TEXT", "city": "TEXT"}, DIALECTS["duckdb"]).as_json()
OTHER = layout_of(SOURCE, {"u": "TEXT", "city": "BIGINT"}, DIALECTS["duckdb"]).as_json()


def tables(timeline: Timeline, at: datetime, layout: Any = None) -> tuple[str, list[str]]:
    """Name a membership's base and its change sets."""
    found = timeline.tables("state", at, layout and Layout.from_json(layout))
    return found.base, [name for name, _ in found.changes]


class Log:
    """Rows of a ledger, numbered as they are written."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._numbers: dict[str, itertools.count[int]] = {}

    def write(self, event: Event, number: int, *, log: str = SYNC_LOG, **detail: Any) -> None:
        sequence = next(self._numbers.setdefault(log, itertools.count(1)))
        self.entries.append(Entry(log=log, sequence=sequence, event=event, as_of=day(number), detail=detail))

    def edge(
        self, number: int, table: str, previous: int | None = None, event: Event | None = None, **detail: Any
    ) -> None:
        self.write(Event.STARTED, number, table=table)
        self.write(
            event or (Event.FIRST if previous is None else Event.CHANGE_SET),
            number,
            table=table,
            previous_as_of=None if previous is None else instant_text(day(previous)),
            rows=3,
            slice_rows=2,
            counts={"members": 3},
            **{"layout": LAYOUT, **detail},
        )

    def base(self, number: int, table: str, layout: Any = LAYOUT) -> None:
        self.write(Event.STARTED, number, table=table)
        self.write(Event.BASE, number, table=table, layout=layout)

    @property
    def timeline(self) -> Timeline:
        return Timeline.from_entries(self.entries)


def line(days: int = 4) -> Log:
    """Write a base and change sets, a day apart."""
    log = Log()
    log.edge(0, "b0")
    for number in range(1, days):
        log.edge(number, f"c{number}", number - 1)
    return log


def test_a_membership_is_the_newest_base_and_the_change_sets_after_it():
    log = line()
    assert tables(log.timeline, day(0)) == ("b0", [])
    assert tables(log.timeline, day(2)) == ("b0", ["c1", "c2"])
    log.base(2, "b2")
    assert tables(log.timeline, day(1)) == ("b0", ["c1"])
    assert tables(log.timeline, day(2)) == ("b2", [])
    assert tables(log.timeline, day(3)) == ("b2", ["c3"])


def test_a_membership_is_read_in_one_layout_from_base_to_newest_change_set():
    log = line(3)
    log.base(2, "b2", OTHER)
    assert tables(log.timeline, day(2)) == ("b0", ["c1", "c2"])
    assert tables(log.timeline, day(2), OTHER) == ("b2", [])
    log.edge(3, "c3", 2, layout=OTHER)
    assert tables(log.timeline, day(3)) == ("b2", ["c3"])
    with pytest.raises(HistoryGone):
        tables(log.timeline, day(3), LAYOUT)
    log.base(3, "b3")
    assert tables(log.timeline, day(3), LAYOUT) == ("b3", [])
    assert tables(log.timeline, day(1)) == ("b0", ["c1"])


def test_what_is_held_is_no_stray_until_any_run_is_recorded_or_held():
    log = line(1)
    log.edge(1, "held", 0, Event.HELD)
    assert (log.timeline.held.table, log.timeline.newest.table) == ("held", "b0")
    assert log.timeline.strays == frozenset()
    log.edge(2, "newer", 0, Event.HELD)
    assert (log.timeline.held.table, log.timeline.strays) == ("newer", {"held"})
    log.edge(1, "c1", 0)
    assert (log.timeline.held, log.timeline.strays) == (None, {"held", "newer"})


def test_what_was_let_through_is_never_computed_again():
    log = line(1)
    log.edge(1, "c1", 0, let_through=["100 of 100 members would exit"])
    assert log.timeline.find_settled(day(1)).table == "c1"
    assert line(2).timeline.find_settled(day(1)) is None


def test_an_end_stops_whoever_writes_and_a_new_beginning_forgets_the_old_line():
    log = line(2)
    log.write(Event.STARTED, 2, table="c2")
    log.write(Event.CLOSED, 3, exits=False, audiences={"a": "A"})
    timeline = log.timeline
    assert (timeline.writer, timeline.closed) == ("", day(3))
    log.edge(4, "anew")
    timeline = log.timeline
    assert (timeline.closed, [e.table for e in timeline.edges]) == (None, ["anew"])
    assert tables(timeline, day(4)) == ("anew", [])
    assert timeline.strays == {"b0", "c1", "c2"}


def test_no_rows_are_no_line_of_time():
    assert (Timeline.from_entries([]).newest, Timeline.from_entries([]).sequence) == (None, 0)


def test_what_was_begun_and_never_counted_is_a_stray_until_it_is_dropped():
    log = line(1)
    log.write(Event.STARTED, 1, table="killed")
    assert (log.timeline.strays, log.timeline.writer) == ({"killed"}, "killed")
    log.edge(1, "c1", 0)
    assert (log.timeline.strays, log.timeline.writer) == ({"killed"}, "c1")
    log.write(Event.DROPPED, 1, tables=["killed"])
    assert log.timeline.strays == frozenset()


def test_a_change_set_computed_again_replaces_the_first_and_the_base_made_from_it():
    log = line(3)
    log.base(2, "b2")
    log.edge(2, "again", 1)
    timeline = log.timeline
    assert tables(timeline, day(2)) == ("b0", ["c1", "again"])
    assert timeline.strays == {"c2", "b2"}
    assert [e.as_of for e in timeline.edges] == [day(0), day(1), day(2)]


def test_a_first_run_computed_again_replaces_its_base():
    log = line(1)
    log.edge(0, "again")
    assert tables(log.timeline, day(0)) == ("again", [])
    assert log.timeline.strays == {"b0"}


def test_a_change_set_is_sealed_once_a_delivery_relies_on_it():
    log = line(2)
    log.write(Event.SEALED, 1)
    assert [e.sealed for e in log.timeline.edges] == [False, True]


def test_what_was_dropped_is_gone_and_what_stayed_is_still_there():
    log = line()
    log.base(2, "b2")
    log.write(Event.DROPPED, 3, tables=["b0", "c1", "c2"])
    timeline = log.timeline
    assert tables(timeline, day(3)) == ("b2", ["c3"])
    assert timeline.after(day(2), day(3)) == [timeline.find(day(3))]
    with pytest.raises(HistoryGone, match="2026-01-02"):
        tables(timeline, day(1))
    with pytest.raises(HistoryGone, match=r"2026-01-02.*2026-01-03.*keep_history"):
        timeline.after(day(0), day(3))
    assert timeline.audiences_table(timeline.find(day(2))) == "b2"
    assert timeline.audiences_table(timeline.find(day(3))) == "c3"
    assert timeline.audiences_table(timeline.find(day(1))) is None


def test_an_instant_between_change_sets_has_no_membership_of_its_own():
    with pytest.raises(HistoryGone):
        tables(line().timeline, day(1) + timedelta(hours=1))


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        (Event.SEALED, {}),
        (Event.CHANGE_SET, {"table": "c9"}),
        (Event.CHANGE_SET, {"table": "c9", "previous_as_of": "yesterday"}),
        (Event.STARTED, {}),
        (Event.DROPPED, {}),
        (Event.DELIVERED, {}),
    ],
)
def test_a_row_that_does_not_fit_is_an_error_and_never_passed_over(event, detail):
    log = line(2)
    log.write(event, 9, **detail)
    with pytest.raises(LedgerUnreadable, match=f"row 5 .*{event.value} as of 2026-01-10"):
        _ = log.timeline


def test_a_delivery_comes_from_attached_to_delivered_step_by_step():
    log = Log()

    def standing() -> Standing:
        return Standing.from_entries("d", log.entries)

    assert (standing().attached, standing().cursor, standing().needs_after) == (None, None, None)
    log.write(Event.ATTACHED, 0, log="d", on_first_run="enter_all")
    assert (standing().attached, standing().cursor, standing().needs_after) == (day(0), None, day(0))
    log.write(Event.SNAPSHOT, 0, log="d", table="s", written=True)
    log.write(Event.SENDING, 0, log="d", slice=0)
    log.write(Event.CHECKPOINT, 0, log="d", slice=1)
    assert (standing().sending, standing().progress, standing().cursor) == (day(0), {"slice": 1}, None)
    log.write(Event.DELIVERED, 0, log="d", slice=2)
    assert (standing().sending, standing().progress, standing().cursor) == (None, {}, day(0))
    log.write(Event.SENDING, 1, log="d", slice=0)
    log.write(Event.DELIVERED, 1, log="d", slice=1)
    log.write(Event.SENDING, 0, log="d", resend=True)
    log.write(Event.DELIVERED, 0, log="d", resend=True)
    assert (standing().cursor, standing().sending, standing().needs_after) == (day(1), None, day(1))
    assert standing().sequence == len(log.entries)


def test_a_destination_that_knows_the_baseline_has_its_cursor_there():
    log = Log()
    log.write(Event.ATTACHED, 2, log="d", on_first_run="baseline")
    assert Standing.from_entries("d", log.entries).cursor == day(2)


def test_every_delivery_of_a_sync_has_a_standing_of_its_own():
    log = line(2)
    log.write(Event.ATTACHED, 0, log="d", on_first_run="enter_all")
    log.write(Event.ATTACHED, 1, log="e", on_first_run="baseline")
    assert [(s.log, s.attached) for s in read_standings(log.entries)] == [("d", day(0)), ("e", day(1))]
    assert log.timeline.sequence == 4


def test_a_deliverys_row_that_does_not_fit_is_an_error():
    log = Log()
    log.write(Event.ATTACHED, 0, log="d")
    with pytest.raises(LedgerUnreadable, match="log 'd'"):
        Standing.from_entries("d", log.entries)
