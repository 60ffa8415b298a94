"""Events from a table to mParticle's batches: each that arrived in an interval once, whatever happens."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock
from zoneinfo import ZoneInfo

import pytest

from airflow_kinesis_audience.core.changes.authors import Author
from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, GuardTripped, StateTaken
from airflow_kinesis_audience.core.model.events import EventSource, Interval, subtract_intervals
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.outbox import event_forwarding as forwarding
from airflow_kinesis_audience.core.outbox.detachment import detach
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.readers import events as event_rows_module
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.ledger import Ledger
from tests.warehouses import (
    DiesAt,
    Fate,
    Killed,
    People,
    Stream,
    day,
    fresh_schema,
    insert_rows,
    list_tables,
    open_outbox,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

Row = tuple[str | None, str | None, str | None, str | None, str]
"""Event id, user, device, e-mail, and when it arrived, as text."""


def at(number: float) -> str:
    """Return an instant, in days, as text."""
    return (day(0) + timedelta(days=number)).isoformat()


def rows(*numbers: float, user: str = "u") -> list[Row]:
    return [(f"e{n}", user, None, None, at(n)) for n in numbers]


@dataclass
class Line:
    """A table of events and a stream that is told of them."""

    warehouse: SqlWarehouse
    options: Mapping[str, Any] = field(default_factory=dict)
    type_name: str = "TIMESTAMPTZ"
    rules: Mapping[str, IdentityRule] = field(default_factory=dict)
    stream: Stream = field(default_factory=Stream)
    schema: str = field(default_factory=fresh_schema)

    def __post_init__(self) -> None:
        self.table = f"events_of_{self.schema}"
        self.warehouse.execute(
            f"CREATE TABLE {self.table} (id TEXT, uid TEXT, device TEXT, email TEXT, came {self.type_name})"
        )

    def put(self, given: Sequence[Row]) -> None:
        insert_rows(self.warehouse, self.table, given)

    def source(self, **changed: Any) -> EventSource:
        return EventSource(
            **{
                "query": f"SELECT *, 'click' AS name FROM {self.table}",
                "event_id": "id",
                "arrived_at": "came",
                "user_id": "uid",
                "device_id": "device",
                "identities": {"email": "Email"},
                "identity_rules": self.rules,
                "fields": {"name": "data.event_name"},
                **changed,
            }
        )

    def ledger(self, warehouse: Any = None) -> Ledger:
        return Ledger(warehouse or self.warehouse, self.schema, "events")

    def delivery(self) -> Delivery:
        return small_delivery(message_format="mparticle_events", options=self.options)

    def run(
        self, start: float | None, end: float, warehouse: Any = None, source: EventSource | None = None, **how: Any
    ) -> dict[str, Any]:
        outbox = open_outbox(self.ledger(warehouse), self.stream, self.delivery())
        first = day(0) + timedelta(days=start) if start is not None else None
        return forward(outbox, source or self.source(), first, day(0) + timedelta(days=end), **how)

    def told(self, start: float | None, end: float, **how: Any) -> list[str]:
        """Run; gives the ids of the events that were put, in the table's words."""
        before = len(self.stream.taken)
        self.run(start, end, **how)
        return self.ids(self.stream.messages[before:])

    def ids(self, messages: Sequence[bytes]) -> list[str]:
        named = {
            str(uuid.uuid5(uuid.UUID("3e0d5c0f-6a1b-5d57-9d0b-0f6f5b7f8f11"), f"events/{event_id}")): event_id
            for (event_id,) in self.warehouse.read_rows(f"SELECT id FROM {self.table}")
        }
        return sorted(
            named[event["data"]["source_message_id"]]
            for message in messages
            for event in json.loads(message)["events"]
        )


@pytest.mark.parametrize(
    ("covered", "left"),
    [
        ([], [(0, 10)]),
        ([(0, 10)], []),
        ([(2, 4)], [(0, 2), (4, 10)]),
        ([(5, 6), (2, 4), (3, 5)], [(0, 2), (6, 10)]),
        ([(-5, 1), (9, 20)], [(1, 9)]),
        ([(20, 30), (-9, -1)], [(0, 10)]),
        ([(-1, 0), (10, 11)], [(0, 10)]),
    ],
)
def test_what_no_interval_covers_is_left(covered: list[tuple[int, int]], left: list[tuple[int, int]]) -> None:
    def interval(pair: tuple[int, int]) -> Interval:
        return Interval(*(day(n + 20) for n in pair))

    assert subtract_intervals(interval((0, 10)), map(interval, covered)) == list(map(interval, left))


def test_an_interval_has_its_start_and_not_its_end(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put(rows(0, 0.5, 1, 1.5, 2))
    assert line.told(0, 1) == ["e0", "e0.5"]
    assert line.told(1, 2) == ["e1", "e1.5"]


def test_each_event_is_told_once_whatever_the_intervals(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put(rows(*range(10)))
    assert line.told(4, 6) == ["e4", "e5"]
    assert line.told(4, 6) == []
    assert line.told(3, 7) == ["e3", "e6"]
    assert line.told(0, 2) == ["e0", "e1"], "a backfill of before"
    assert line.run(8, 9)["not_forwarded"] == [
        f"{at(2)}/{at(3)}".replace("+00:00", "Z"),
        "2026-01-08T00:00:00Z/2026-01-09T00:00:00Z",
    ]
    assert line.told(0, 10) == ["e2", "e7", "e9"]
    assert Counter(line.ids(line.stream.messages)) == Counter(f"e{n}" for n in range(10))


def test_a_run_without_an_interval_goes_on_where_the_last_one_ended(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put(rows(0, 1, 2))
    with pytest.raises(ValueError, match="set start"):
        line.run(None, 1)
    assert line.told(0, 1) == ["e0"]
    assert line.told(None, 3) == ["e1", "e2"]
    assert line.told(None, 3) == []


def test_a_run_without_an_interval_that_is_cleared_after_later_ones_finds_all_forwarded(
    warehouse: SqlWarehouse,
) -> None:
    line = Line(warehouse)
    line.put(rows(0, 1, 2, 3))
    line.run(0, 1)
    line.run(None, 3)
    last = line.run(None, 4)
    again = line.run(None, 3)
    assert again["as_of"] == last["start"]
    assert (again["events"], again["intervals"], again["not_forwarded"]) == (0, [], [])
    assert line.run(None, 1)["events"] == 0
    assert line.run(None, 2)["events"] == 0, "an end that no run had"
    with pytest.raises(ValueError, match=r"nothing was forwarded before 2025-12-31T00:00:00Z.*set start"):
        line.run(None, -1)
    assert Counter(line.ids(line.stream.messages)) == Counter(["e0", "e1", "e2", "e3"])


def test_what_arrives_between_a_run_and_an_end_that_is_ahead_of_the_clock_is_of_the_next_run(
    warehouse: SqlWarehouse,
) -> None:
    """No clock but the database's own is asked, and it is not told what it shows."""
    line = Line(warehouse)
    now = datetime.now(UTC)
    end = (now - day(0)) / timedelta(days=1) + 0.01
    line.put([("first", "u", None, None, (now - timedelta(minutes=5)).isoformat())])
    assert line.told(0, end) == ["first"]
    moment = datetime.now(UTC)
    line.put([("between", "u", None, None, moment.isoformat())])
    while datetime.now(UTC) < moment + timedelta(seconds=1.5):
        time.sleep(0.1)
    assert line.told(0, end) == ["between"]


def test_a_row_that_came_late_is_told_by_when_it_came(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    happened = "CAST('2025-12-24 00:00:00+00' AS TIMESTAMPTZ) AS happened"
    query = f"SELECT *, {happened}, 'click' AS name FROM {line.table}"
    source = line.source(query=query, occurred_at="happened")
    line.put(rows(0.5))
    assert line.told(0, 1, source=source) == ["e0.5"]
    [event] = json.loads(line.stream.messages[-1])["events"]
    assert event["data"]["timestamp_unixtime_ms"] == "1766534400000"


def dated(*days: int) -> list[Row]:
    """Make events that arrived on days of January 2026."""
    return [(f"e{n}", "u", None, None, f"2026-01-{n:02}") for n in days]


def test_the_dates_of_a_day_are_forwarded_when_it_is_over(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse, type_name="DATE")
    line.put(dated(1, 2, 3))
    source = line.source(arrived_at_timezone="UTC")
    assert line.told(0, 0.5, source=source) == []
    assert line.told(0.5, 1, source=source) == ["e1"]
    assert line.told(1, 1.5, source=source) == []
    assert line.told(1.5, 3, source=source) == ["e2", "e3"]


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Tokyo", "UTC"])
def test_dates_of_a_zone_are_all_in_the_interval_of_their_day(warehouse: SqlWarehouse, zone: str) -> None:
    line = Line(warehouse, type_name="DATE")
    line.put([(f"e{n}", "u", None, None, "2026-01-05") for n in range(15)])
    hours = datetime(2026, 1, 5, tzinfo=ZoneInfo(zone)).astimezone(UTC) - day(0)
    start = hours / timedelta(days=1)
    source = line.source(arrived_at_timezone=zone)
    assert len(line.told(start, start + 1, source=source)) == 15
    events = [e for m in line.stream.messages for e in json.loads(m)["events"]]
    midnight = datetime(2026, 1, 5, tzinfo=ZoneInfo(zone)).timestamp()
    assert {e["data"]["timestamp_unixtime_ms"] for e in events} == {str(int(midnight * 1000))}


def test_a_date_whose_zone_nobody_names_is_refused_and_so_is_a_zone_that_nothing_needs(
    warehouse: SqlWarehouse,
) -> None:
    line = Line(warehouse, type_name="DATE")
    line.put(dated(1))
    with pytest.raises(ValueError, match=r"column 'came' is a date, .* Set arrived_at_timezone"):
        line.run(0, 1)
    for nowhere in ("Mars/Olympus", "", "../etc", "America", "x\0y"):
        with pytest.raises(ValueError, match="expected the IANA name of a time zone"):
            line.source(arrived_at_timezone=nowhere)
    line = Line(warehouse)
    with pytest.raises(ValueError, match="already has a time zone; remove arrived_at_timezone"):
        line.run(0, 1, source=line.source(arrived_at_timezone="UTC"))


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "America/Santiago"])
def test_dates_are_forwarded_once_and_never_before_their_day_is_over_wherever_intervals_end(
    duckdb_in_memory: SqlWarehouse, zone: str
) -> None:
    rnd = random.Random(zone)
    line = Line(duckdb_in_memory, {"batch": False}, type_name="DATE")
    days = [datetime(2026, 3, 1, tzinfo=UTC).date() + timedelta(days=n) for n in range(25)]
    line.put([(str(d), "u", None, None, d.isoformat()) for d in days])
    source = line.source(arrived_at_timezone=zone)
    ends = sorted({rnd.randrange(55 * 24, 95 * 24) / 24 for _ in range(40)})
    told: list[str] = []
    for start, end in itertools.pairwise([55.0, *ends, 100.0]):
        now = line.told(start, end, source=source)
        until = (day(0) + timedelta(days=end)).astimezone(ZoneInfo(zone))
        assert all(datetime.fromisoformat(each).date() < until.date() for each in now)
        told += now
    assert told == [str(d) for d in days]


@contextmanager
def clock(at: float) -> Iterator[None]:
    """Let the warehouse's clock show an instant, in days."""
    with mock.patch.object(forwarding, "read_clock", return_value=day(0) + timedelta(days=at)):
        yield


def test_a_run_whose_end_the_clock_has_not_reached_leaves_the_rest_to_the_next_one(
    warehouse: SqlWarehouse,
) -> None:
    line = Line(warehouse)
    line.put(rows(0.2, 0.8))
    with clock(0.5):
        early = line.run(0, 1)
    assert (early["events"], early["left_for_next_run"], early["not_forwarded"]) == (
        1,
        ["2026-01-01T12:00:00Z/2026-01-02T00:00:00Z"],
        [],
    )
    with clock(2):
        later = line.run(1, 2)
    assert later["intervals"] == ["2026-01-01T12:00:00Z/2026-01-03T00:00:00Z"]
    assert line.run(0, 1)["intervals"] == []
    assert "left_for_next_run" not in later
    assert line.ids(line.stream.messages) == ["e0.2", "e0.8"]


def test_an_interval_that_the_clock_has_not_reached_at_all_is_of_the_next_run(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put(rows(1.5, 2.5))
    for _ in range(2):
        with clock(0.5):
            found = line.run(1, 2)
        assert (found["events"], found["intervals"]) == (0, [])
        assert found["left_for_next_run"] == ["2026-01-02T00:00:00Z/2026-01-03T00:00:00Z"]
    assert line.told(None, 3) == ["e1.5", "e2.5"]
    assert list_tables(warehouse, line.schema) == set()


def test_the_margin_is_taken_off_the_clock_and_never_negative(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put(rows(0.4, 0.6))
    with clock(0.7):
        assert line.told(0, 1, margin=timedelta(days=0.2)) == ["e0.4"]
    assert line.told(0, 1) == ["e0.6"]
    for wrong in (timedelta(seconds=-1), 60):
        with pytest.raises(ValueError, match="arrival_margin is"):
            line.run(0, 1, margin=wrong)


@pytest.mark.parametrize("seed", range(6))
def test_each_event_is_forwarded_once_whatever_the_clock_the_runs_and_the_clears(
    duckdb_in_memory: SqlWarehouse, seed: int
) -> None:
    """Rows come late by less than the margin; runs come early, late, twice, with and without an interval."""
    rnd = random.Random(seed)
    margin = 0.25
    line = Line(duckdb_in_memory, {"batch": False})
    moment, done, put = 0.3, [0.0], 0
    line.run(-1, 0)
    for _ in range(20):
        moment += rnd.choice([0.1, 0.5, 1.2])
        for _ in range(rnd.randrange(4)):
            put += 1
            arrived = (day(0) + timedelta(days=moment - rnd.random() * margin * 0.99)).isoformat()
            line.put([(f"e{put}", f"u{put}", None, None, arrived)])
        with clock(moment):
            if rnd.random() < 0.4:
                again = rnd.choice(done)
                line.run(rnd.choice([None, again - 0.5]), again, margin=timedelta(days=margin))
            else:
                end = max(done) + rnd.choice([0.3, 1.0])
                line.run(rnd.choice([None, max(done)]), end, margin=timedelta(days=margin))
                done.append(end)
    line.run(-1, moment + 50)
    assert Counter(line.ids(line.stream.messages)) == Counter(f"e{n}" for n in range(1, put + 1))


@pytest.mark.parametrize("type_name", ["TIMESTAMP", "TEXT", "INTEGER"])
def test_what_tells_no_instant_is_refused_with_what_to_do(warehouse: SqlWarehouse, type_name: str) -> None:
    line = Line(warehouse, type_name=type_name)
    with pytest.raises(ValueError, match="time zone"):
        line.run(0, 1)
    with pytest.raises(ValueError, match="returns no column 'nope'"):
        line.run(0, 1, source=line.source(event_id="nope"))


def test_events_of_one_user_or_device_are_one_batch_and_of_another_another(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put([*rows(0.1, 0.2, user="a"), *rows(0.3, user="b"), ("d1", None, "a", None, at(0.4))])
    line.run(0, 1)
    batches = [json.loads(message) for message in line.stream.messages]
    assert sorted(len(batch["events"]) for batch in batches) == [1, 1, 2]
    assert len({batch["message_id"] for batch in batches}) == 3
    line = Line(warehouse, {"batch": False})
    line.put(rows(0.1, 0.2, 0.3))
    line.run(0, 1)
    assert [len(json.loads(message)["events"]) for message in line.stream.messages] == [1, 1, 1]


def test_a_slice_never_cuts_a_batch_and_a_batch_has_a_bound(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse, {"max_events": 1_000})
    line.put([*rows(*(n / 100 for n in range(25)), user="busy"), *rows(0.5, 0.6, 0.7, user="calm")])
    with mock.patch.object(rows_module, "SLICE_ROWS", 4), mock.patch.object(event_rows_module, "BATCH_ROWS", 10):
        line.run(0, 1)
    sizes = sorted(len(json.loads(message)["events"]) for message in line.stream.messages)
    assert sizes == [3, 5, 10, 10]


def test_a_resend_tells_the_same_ids_and_bytes(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put([*rows(0, 0.5), *rows(0.25, user="v")])
    line.run(0, 1)
    first = line.stream.messages
    again = line.run(0, 1, resend=True)
    assert line.stream.messages == first * 2
    assert again["events"] == 3
    assert list_tables(warehouse, line.schema) == set()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (("", "u", None, None, at(0)), "have no event id"),
        (("x", None, None, None, at(0)), "have neither a user id nor a device id"),
        (("e0.5", "v", None, None, at(0.6)), "repeat the event id"),
        (("x", "u", None, "5d41402abc4b2a76b9719d911017c592", at(0)), "breaks its rule"),
    ],
)
def test_a_row_that_is_no_event_stops_its_interval_or_is_left_out(
    warehouse: SqlWarehouse, bad: Row, why: str
) -> None:
    line = Line(warehouse, rules={"email": IdentityRule(normalize="email", hash="sha256")})
    line.put([*rows(0.5), bad])
    with pytest.raises(GuardTripped, match=why) as raised:
        line.run(0, 1)
    assert "5d41402" not in str(raised.value)
    assert not line.stream.puts
    summary = line.run(0, 1, on_invalid_rows="drop")
    assert (summary["events"], summary["dropped_rows"]) == (1, 1)
    assert line.ids(line.stream.messages) == ["e0.5"]
    with pytest.raises(ValueError, match="expected fail or drop"):
        line.run(0, 1, on_invalid_rows="keep")


def test_an_identity_leaves_as_its_digest(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse, rules={"email": IdentityRule(normalize="email", hash="md5")})
    line.put([("e", "u", None, " A@X ", at(0))])
    line.run(0, 1)
    [batch] = [json.loads(message) for message in line.stream.messages]
    named = {i["identity_type"]: i["identity"] for i in batch["user_identities"]}
    assert named == {"customer_id": "u", "email": hashlib.md5(b"a@x", usedforsecurity=False).hexdigest()}


def test_what_failed_is_finished_first_by_whichever_run_comes_next(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse, {"batch": False})
    line.put([row for n in range(8) for row in rows(n / 10, user=f"u{n}")])
    line.stream.script = lambda number, batch: [Fate.TAKEN if number < 2 else Fate.REJECTED for _ in batch]
    with pytest.raises(DeliveryIncomplete):
        line.run(0, 1)
    line.stream.script = None
    line.put(
        rows(0.99, 1.5)
    )  # the first of them came while the interval was being sent: it is not of this attempt
    summary = line.run(1, 2)
    assert summary["intervals"] == [
        "2026-01-01T00:00:00Z/2026-01-02T00:00:00Z",
        "2026-01-02T00:00:00Z/2026-01-03T00:00:00Z",
    ]
    assert Counter(line.ids(line.stream.messages)) == Counter([f"e{n / 10}" for n in range(8)] + ["e1.5"])
    assert list_tables(warehouse, line.schema) == set()


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("same", [True, False])
def test_a_run_that_dies_anywhere_loses_nothing_and_leaves_no_table(
    duckdb_in_memory: SqlWarehouse, side: str, same: bool
) -> None:
    for number in range(200):
        line = Line(duckdb_in_memory, {"batch": False}, schema=f"dies_{side}_{same}_{number}")
        line.put([row for n in range(5) for row in rows(n / 10, user=f"u{n}")])
        line.put(rows(1.5))
        dies = DiesAt(duckdb_in_memory, number, side)
        try:
            line.run(0, 1, dies)
        except Killed:
            line.run(0, 1 if same else 2)
        line.run(0, 2)
        documents = set(line.stream.messages)
        assert Counter(line.ids(list(documents))) == Counter([f"e{n / 10}" for n in range(5)] + ["e1.5"])
        assert list_tables(duckdb_in_memory, line.schema) == set()
        if not dies.dead:
            return
    pytest.fail("there was no end of statements")


def test_neither_user_nor_device_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="a batch is about a user or a device"):
        EventSource(query="SELECT 1", event_id="a", arrived_at="b")


def test_the_instant_of_an_event_is_exact_to_the_millisecond(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    when = datetime(1969, 12, 31, 23, 59, 59, 250_000, tzinfo=UTC)
    line.put([("old", "u", None, None, when.isoformat())])
    line.run((when - day(0)).days - 1, 1)
    [event] = json.loads(line.stream.messages[0])["events"]
    assert event["data"]["timestamp_unixtime_ms"] == "-750"


@pytest.mark.parametrize("rule", [IdentityRule(normalize="email"), IdentityRule(hashed="sha256")], ids=str)
def test_placeholders_are_counted_apart_from_what_is_wrong_and_from_what_is_empty(
    warehouse: SqlWarehouse, rule: IdentityRule
) -> None:
    line, digest = Line(warehouse, rules={"email": rule}), "ab" * 32
    emails = {"null": None, "empty": "", "none": "N/A", "blank": " \u00a0", "right": digest, "dash": "-"}
    line.put([(event_id, "u", None, email, at(0)) for event_id, email in emails.items()])
    found = line.run(0, 1, on_invalid_rows="drop")
    assert (found["events"], found["placeholders"], found.get("dropped_rows")) == (6, {"Email": 3}, None)
    # Of a row that is no event nothing is counted but that it is none.
    line.put(
        [(None, "u", None, "null", at(1)), ("e1", "u", None, "null", at(1)), ("e2", "u", None, digest, at(2))]
    )
    found = line.run(1, 2, on_invalid_rows="drop")
    assert (found["events"], found["placeholders"], found["dropped_rows"]) == (1, {"Email": 1}, 1)
    assert "placeholders" not in line.run(2, 3)


def test_placeholders_of_what_an_earlier_attempt_has_read_are_counted_by_who_finishes_it(
    warehouse: SqlWarehouse,
) -> None:
    line = Line(warehouse, rules={"email": IdentityRule(normalize="email")})
    line.put([("e0", "u", None, "n/a", at(0))])
    line.stream.script = lambda number, batch: [Fate.LOST] * len(batch)
    with pytest.raises(DeliveryIncomplete):
        line.run(0, 1)
    line.stream.script = None
    assert line.run(1, 2)["placeholders"] == {"Email": 1}


def test_a_second_task_that_forwards_by_the_same_sync_id_stops_before_it_sends(warehouse: SqlWarehouse) -> None:
    line, shop, outlet = Line(warehouse), Author(task="shop.forward"), Author(task="outlet.forward")
    line.put(rows(0, 1, 2, 3))
    assert line.told(0, 1, author=shop) == ["e0"]
    for start in (0, 1):
        with pytest.raises(StateTaken, match=r"task shop\.forward, last up to .*this is outlet\.forward"):
            line.run(start, start + 1, author=outlet)
    assert line.told(1, 2, author=shop) == ["e1"]
    adopting = replace(outlet, adopts="shop.forward")
    assert line.told(2, 3, author=adopting) == ["e2"]
    with pytest.raises(StateTaken, match=r"task outlet\.forward.*adopt_state_of='outlet\.forward'"):
        line.run(3, 4, author=shop)
    assert line.told(3, 4, author=outlet) == ["e3"]


def test_change_sets_and_events_of_one_sync_id_are_refused_whichever_came_first(warehouse: SqlWarehouse) -> None:
    line, people = Line(warehouse), People(warehouse)
    line.put(rows(0, 1, 2))
    people.put("ann", email="ann@example.org")
    forwards = Author(task="shop.forward")
    sync = people.sync(ledger=line.ledger())
    sync.author = Author(task="shop.diff")
    assert line.told(0, 1, author=forwards) == ["e0"]
    with pytest.raises(StateTaken, match=r"events of sync 'events' are forwarded by the task shop\.forward"):
        sync.run(day(1))
    assert line.told(1, 2, author=forwards) == ["e1"]
    detach(line.ledger(), [line.delivery().log])
    assert sync.run(day(1))["members"] == 1
    with pytest.raises(StateTaken, match=r"change sets of sync 'events' are computed by the task shop\.diff"):
        line.run(2, 3, author=forwards)


def test_a_task_with_another_destination_may_have_the_same_sync_id(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put(rows(0, 1))
    line.run(0, 1, author=Author(task="shop.forward"))
    elsewhere = small_delivery("b", message_format="mparticle_events", options=line.options)
    outbox = open_outbox(line.ledger(), line.stream, elsewhere)
    found = forward(outbox, line.source(), day(0), day(1), author=Author(task="shop.forward_to_b"))
    assert found["events"] == 1


def test_instances_of_a_mapped_task_with_one_sync_id_are_found_by_their_queries(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    line.put(rows(0, 1, 2))
    first, second = (Author(task="shop.forward", map_index=index) for index in (0, 1))
    other = line.source(query=f"{line.source().query} WHERE 1 = 1")
    line.run(0, 1, author=first)
    with pytest.raises(StateTaken, match=r"instance 0 of the mapped task shop\.forward.*of instance 1"):
        line.run(0, 1, source=other, author=second)
    assert line.told(0, 1, author=second) == []
    assert line.told(1, 2, author=second) == ["e1"], "mapped over intervals"


def test_who_has_left_an_interval_for_the_next_run_has_signed_it(warehouse: SqlWarehouse) -> None:
    line = Line(warehouse)
    late = (datetime.now(UTC) - day(0)) / timedelta(days=1)
    line.run(late + 1, late + 2, author=Author(task="shop.forward"))
    with pytest.raises(StateTaken, match=r"task shop\.forward"):
        line.run(late + 1, late + 2, author=Author(task="outlet.forward"))
