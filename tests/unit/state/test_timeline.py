"""A ledger's rows add up to one timeline and one state per delivery, or to an error."""

from __future__ import annotations

import contextlib
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import ValidationError

from airflow_kinesis_audience.core.exceptions import HistoryGone, LedgerUnreadable
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedRanges
from airflow_kinesis_audience.core.source.layout import layout_of
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state.delivery_details import (
    AttemptCheckpoint,
    AttemptStarted,
    ChangeSetDelivered,
    DestinationAttached,
    DestinationDetached,
    SnapshotTable,
)
from airflow_kinesis_audience.core.state.entries import Entry, decode_detail, encode_detail, event_of
from airflow_kinesis_audience.core.state.sync_details import (
    SYNC_LOG,
    BaseWritten,
    ChangeSetCommitted,
    ChangeSetHeld,
    ChangeSetSealed,
    Event,
    FirstBase,
    SyncClosed,
    TablesDropped,
    TableStarted,
    TotalCounts,
)
from airflow_kinesis_audience.core.state.sync_state import SyncState
from airflow_kinesis_audience.core.state.timeline import Timeline

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.delivery_details import AttemptDetail
    from airflow_kinesis_audience.core.state.sync_details import ChangeSetDetail, Detail


def day(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


SOURCE = Source(query="q", user_id="u", identities={}, properties={"city": "city"}, audience_id="a")
LAYOUT = layout_of(SOURCE, {"u": "TEXT", "city": "TEXT"}, DIALECTS["duckdb"])
OTHER = layout_of(SOURCE, {"u": "TEXT", "city": "BIGINT"}, DIALECTS["duckdb"])


def tables(timeline: Timeline, at: datetime, layout: TableLayout | None = None) -> tuple[str, list[str]]:
    """Name a membership's base and its change sets."""
    found = timeline.tables("state", at, layout)
    return found.base, [name for name, _ in found.changes]


class Log:
    """Rows of a ledger, numbered as they are written; each goes through the JSON that is kept of it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._numbers: dict[str, itertools.count[int]] = {}

    def write(self, detail: Detail, number: int, *, log: str = SYNC_LOG) -> None:
        sequence = next(self._numbers.setdefault(log, itertools.count(1)))
        kept = decode_detail(event_of(detail), encode_detail(detail))
        assert kept == detail
        self.entries.append(Entry(log=log, sequence=sequence, as_of=day(number), detail=kept))

    def edge(
        self,
        number: int,
        table: str,
        previous: int | None = None,
        kind: type[ChangeSetDetail] | None = None,
        **detail: Any,
    ) -> None:
        self.write(TableStarted(table=table), number)
        kind = kind or (FirstBase if previous is None else ChangeSetCommitted)
        made = kind(
            table=table,
            previous_as_of=None if previous is None else day(previous),
            rows=3,
            slice_rows=2,
            counts=TotalCounts(entered=3, exited=0, updated=0, members=3, changes=3),
            **{"layout": LAYOUT, **detail},
        )
        self.write(made, number)

    def base(self, number: int, table: str, layout: TableLayout = LAYOUT) -> None:
        self.write(TableStarted(table=table), number)
        self.write(BaseWritten(table=table, layout=layout), number)

    @property
    def timeline(self) -> Timeline:
        """Add the rows up, all together and one by one, which is the same."""
        found = Timeline.from_entries(self.entries)
        step = Timeline()
        for entry in self.entries:
            step = step.with_entries([entry])
        assert step == found
        return found

    @property
    def delivery(self) -> DeliveryState:
        return SyncState().with_entries(self.entries).delivery("d")


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


def test_what_is_held_is_no_orphan_until_any_run_is_recorded_or_held():
    log = line(1)
    log.edge(1, "held", 0, ChangeSetHeld)
    assert (log.timeline.held.table, log.timeline.newest.table) == ("held", "b0")
    assert log.timeline.orphans == frozenset()
    log.edge(2, "newer", 0, ChangeSetHeld)
    assert (log.timeline.held.table, log.timeline.orphans) == ("newer", {"held"})
    log.edge(1, "c1", 0)
    assert (log.timeline.held, log.timeline.orphans) == (None, {"held", "newer"})


def test_what_was_let_through_is_never_computed_again():
    log = line(1)
    log.edge(1, "c1", 0, let_through=("100 of 100 members would exit",))
    assert log.timeline.find_final(day(1)).table == "c1"
    assert line(2).timeline.find_final(day(1)) is None


def test_an_end_stops_whoever_writes_and_a_new_beginning_forgets_the_old_timeline():
    log = line(2)
    log.write(TableStarted(table="c2"), 2)
    log.write(SyncClosed(exits=False, audiences={"a": "A"}), 3)
    timeline = log.timeline
    assert (timeline.writer, timeline.closed) == ("", day(3))
    log.edge(4, "anew")
    timeline = log.timeline
    assert (timeline.closed, [e.table for e in timeline.change_sets]) == (None, ["anew"])
    assert tables(timeline, day(4)) == ("anew", [])
    assert timeline.orphans == {"b0", "c1", "c2"}


def test_no_rows_are_no_timeline():
    assert (Timeline.from_entries([]).newest, Timeline.from_entries([]).sequence) == (None, 0)


def test_what_was_begun_and_never_counted_is_an_orphan_until_it_is_dropped():
    log = line(1)
    log.write(TableStarted(table="killed"), 1)
    assert (log.timeline.orphans, log.timeline.writer) == ({"killed"}, "killed")
    log.edge(1, "c1", 0)
    assert (log.timeline.orphans, log.timeline.writer) == ({"killed"}, "c1")
    log.write(TablesDropped(tables=("killed",)), 1)
    assert log.timeline.orphans == frozenset()


def test_a_change_set_computed_again_replaces_the_first_and_the_base_made_from_it():
    log = line(3)
    log.base(2, "b2")
    log.edge(2, "again", 1)
    timeline = log.timeline
    assert tables(timeline, day(2)) == ("b0", ["c1", "again"])
    assert timeline.orphans == {"c2", "b2"}
    assert [e.as_of for e in timeline.change_sets] == [day(0), day(1), day(2)]


def test_a_first_run_computed_again_replaces_its_base():
    log = line(1)
    log.edge(0, "again")
    assert tables(log.timeline, day(0)) == ("again", [])
    assert log.timeline.orphans == {"b0"}


def test_a_change_set_is_sealed_once_a_delivery_relies_on_it():
    log = line(2)
    log.write(ChangeSetSealed(), 1)
    assert [e.sealed for e in log.timeline.change_sets] == [False, True]


def test_what_was_dropped_is_gone_and_what_stayed_is_still_there():
    log = line()
    log.base(2, "b2")
    log.write(TablesDropped(tables=("b0", "c1", "c2")), 3)
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
    "detail",
    [ChangeSetSealed(), BaseWritten(table="b9"), DestinationDetached()],
    ids=["of no change set", "a base of no change set", "of a delivery"],
)
def test_a_row_that_does_not_fit_is_an_error_and_never_passed_over(detail):
    log = line(2)
    log.write(detail, 9)
    with pytest.raises(LedgerUnreadable, match=f"row 5 .*{event_of(detail).value} as of 2026-01-10"):
        _ = log.timeline


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        ("invented", {}),
        ("sealed", {"version": 2}),
        ("sealed", []),
        ("change_set", {"table": "c9"}),
        ("change_set", {"table": "c9", "previous_as_of": "yesterday"}),
        ("started", {}),
        ("started", {"table": 7}),
        ("dropped", {}),
        ("dropped", {"tables": "c1"}),
        ("delivered", {}),
        ("sending", {"rendering": "{}", "table": "c1", "settled": {"below": 3, "above": [[2, 5]]}}),
        ("rejected", {"rows": 3}),
    ],
)
def test_what_is_unknown_or_missing_cannot_be_read(event, detail):
    with pytest.raises(ValueError, match=r"."):
        decode_detail(event, json.dumps(detail))


def test_every_event_has_a_struct_that_reads_what_it_writes():
    for event in Event:
        with contextlib.suppress(ValidationError):
            found = decode_detail(event, "{}")
            assert (event_of(found), json.loads(encode_detail(found))) == (event, {"version": 1})
    assert {event_of(decode_detail(e, "{}")) for e in ("sealed", "snapshot", "detached")} == {
        Event.SEALED,
        Event.SNAPSHOT,
        Event.DETACHED,
    }


def attached(on_first_run: str, snapshot: str = "") -> DestinationAttached:
    return DestinationAttached(
        on_first_run=on_first_run, destination="d", connection="c", message_format="f", snapshot=snapshot
    )


def attempt(kind: type[AttemptDetail], done: int = 0, *, resend: bool = False) -> AttemptDetail:
    ranges = AcknowledgedRanges(below=done, above=())
    return kind(render_config="r", table="t", delivered=done, acknowledged=ranges, resend=resend)


def test_a_delivery_comes_from_attached_to_delivered_step_by_step():
    log = Log()
    assert (log.delivery.attached, log.delivery.cursor, log.delivery.needs_after) == (None, None, None)
    log.write(attached("enter_all", "s"), 0, log="d")
    assert (log.delivery.attached, log.delivery.cursor, log.delivery.needs_after) == (day(0), None, day(0))
    assert log.delivery.snapshot == SnapshotTable(table="s")
    log.write(SnapshotTable(table="s", written=True), 0, log="d")
    log.write(attempt(AttemptStarted), 0, log="d")
    log.write(attempt(AttemptCheckpoint, 1), 0, log="d")
    found = log.delivery
    assert (found.sending, found.checkpoint, found.cursor) == (day(0), attempt(AttemptCheckpoint, 1), None)
    log.write(attempt(ChangeSetDelivered, 2), 0, log="d")
    assert (log.delivery.sending, log.delivery.checkpoint, log.delivery.cursor) == (None, None, day(0))
    log.write(SnapshotTable(), 0, log="d")
    assert log.delivery.snapshot is None
    log.write(attempt(AttemptStarted), 1, log="d")
    log.write(attempt(ChangeSetDelivered, 1), 1, log="d")
    log.write(attempt(AttemptStarted, resend=True), 0, log="d")
    log.write(attempt(ChangeSetDelivered, resend=True), 0, log="d")
    found = log.delivery
    assert (found.cursor, found.sending, found.needs_after) == (day(1), None, day(1))
    assert found.sequence == len(log.entries)


def test_a_destination_that_knows_the_baseline_has_its_cursor_there():
    log = Log()
    log.write(attached("baseline"), 2, log="d")
    assert log.delivery.cursor == day(2)


def test_every_delivery_of_a_sync_has_a_state_of_its_own():
    log = line(2)
    log.write(attached("enter_all"), 0, log="d")
    log.write(attached("baseline"), 1, log="e")
    state = SyncState().with_entries(log.entries)
    assert {name: s.attached for name, s in state.deliveries.items()} == {"d": day(0), "e": day(1)}
    assert state.timeline.sequence == state.last_row(SYNC_LOG) == 4


def test_a_deliverys_row_that_does_not_fit_is_an_error():
    log = Log()
    log.write(ChangeSetSealed(), 0, log="d")
    with pytest.raises(LedgerUnreadable, match="log 'd'"):
        _ = log.delivery
