"""Deliveries over a real warehouse: whatever is killed, retried or attached late, the stream tells the membership.

A change set's records have the same bytes, ids and keys on every attempt, so tests compare bytes. A kill ends the
process between two statements or inside a put: nothing is written afterwards, and nobody knows what was taken.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.core.exceptions import (
    DeliveryChanged,
    DeliveryIncomplete,
    DestinationRefused,
    FirstRunRefused,
    HistoryGone,
    LedgerConflict,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.model.instants import epoch_seconds, instant_text
from airflow_kinesis_audience.core.outbox import attempt as sending_module
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.in_flight import MAX_IN_FLIGHT_REQUESTS
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.formats.amplitude import AmplitudeCohort
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.warehouses import (
    Fate,
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_membership,
    read_standing,
    read_timeline,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery


pytestmark = pytest.mark.usefixtures("no_epoch")


@pytest.fixture
def people(warehouse, monkeypatch) -> People:
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 7)
    # A row after every answer, however long it takes: then a kill leaves unknown what was on its way, and no more.
    monkeypatch.setattr(sending_module, "CHECKPOINT_SHARE", math.inf)
    return People(warehouse)


def drain(people: People, stream: Stream, number: int, name: str = "a", warehouse: Any = None, **asked: Any):
    """Publish up to a day to a destination, and return the report."""
    delivery = asked.pop("delivery", None) or small_delivery(name)
    outbox = open_outbox(people.ledger(warehouse), stream, delivery)
    outbox.drain(day(number), **asked)
    return outbox.report


def times(stream: Stream) -> list[str]:
    """List the instants on the wire in their order, each once in a row."""
    told = [json.loads(m)["computed_time"] for m in stream.messages]
    return [t for n, t in enumerate(told) if n == 0 or t != told[n - 1]]


def ids(stream: Stream) -> list[str]:
    return [json.loads(m)["message_id"] for m in stream.messages]


def as_sent(stream: Stream) -> Counter[tuple[bytes, str, int]]:
    """Count what was taken by bytes, partition key and hash key."""
    return Counter((r.data, r.partition_key, r.hash_key) for r in stream.taken)


def reject(user: str):
    """Make a script that rejects whatever tells of a user and takes all else."""
    told = f'"{user}"'.encode()
    return lambda _, batch: [Fate.REJECTED if told in record.data else Fate.TAKEN for record in batch]


def week(people: People, days: int = 5) -> None:
    """Run some days on which users enter, leave and change."""
    people.put(*(f"u{n}" for n in range(20)))
    for number in range(days):
        people.run(number)
        if number + 1 < days:
            next_day(people, number)


def next_day(people: People, number: int) -> None:
    people.put(*(f"n{number}-{n}" for n in range(9)), city="Bern")
    people.take(f"u{number}", f"u{number + 9}", *(f"n{number - 1}-{n}" for n in range(4)))
    people.change(f"n{number - 1}-8", city="Rome")


def test_every_destination_has_a_cursor_of_its_own(people):
    one, two = Stream(), Stream()
    week(people, 2)
    drain(people, one, 0)
    drain(people, two, 1, "b")
    next_day(people, 2)
    people.run(2)
    drain(people, one, 2)
    assert times(one) == [epoch_seconds(day(n)) for n in range(3)]
    assert read_standing(people.ledger(), small_delivery("b")).cursor == day(1)
    drain(people, two, 2, "b")
    assert times(two) == [epoch_seconds(day(n)) for n in (1, 2)]
    assert members_of(one.consume()) == members_of(two.consume()) == people.members()


def test_streams_of_one_name_in_two_accounts_are_two_destinations(people):
    one, two = Stream(), Stream()
    week(people, 1)
    drain(people, one, 0)
    drain(people, two, 0, delivery=small_delivery("a", connection="other_account"))
    assert members_of(two.consume()) == people.members()


def test_what_failed_half_way_yesterday_is_finished_before_today_goes_out(people):
    week(people, 2)
    stream = Stream()
    drain(people, stream, 0)
    stream.script = reject("n0-1")
    with pytest.raises(DeliveryIncomplete, match="only what is missing"):
        drain(people, stream, 1)
    next_day(people, 2)
    people.run(2)
    with pytest.raises(DeliveryIncomplete):
        drain(people, stream, 2)
    assert epoch_seconds(day(2)) not in times(stream)
    stream.script = None
    report = drain(people, stream, 2)
    assert report.change_sets == [instant_text(day(1)), instant_text(day(2))]
    assert times(stream) == [epoch_seconds(day(n)) for n in range(3)]
    assert len(ids(stream)) == len(set(ids(stream))), "nothing that was acknowledged went out twice"
    assert members_of(stream.consume()) == people.members()


@pytest.mark.parametrize("number", [0, 2], ids=["with the first run", "later"])
def test_a_destination_that_knows_nobody_is_told_of_everybody(people, number):
    week(people, number + 1)
    stream = Stream()
    report = drain(people, stream, number)
    assert members_of(stream.consume()) == people.members()
    assert report.delivered == len(people.members()["vips"])
    assert not any(b'"in_cohort":false' in m for m in stream.messages)
    assert not any(name.startswith("snapshot") for name in people.tables())


def test_a_destination_that_knows_the_baseline_is_told_of_what_follows(people):
    week(people, 2)
    stream = Stream()
    report = drain(people, stream, 1, on_first_run="baseline")
    assert (stream.puts, report.delivered) == ([], 0)
    next_day(people, 2)
    people.run(2)
    drain(people, stream, 2, on_first_run="baseline")
    assert times(stream) == [epoch_seconds(day(2))]


def test_a_destination_whose_author_wants_to_be_asked_is_sent_nothing(people):
    week(people, 1)
    stream = Stream()
    with pytest.raises(FirstRunRefused, match=r"enter_all.*baseline"):
        drain(people, stream, 0, on_first_run="fail")
    assert stream.puts == []
    drain(people, stream, 0, on_first_run="enter_all")
    next_day(people, 1)
    people.run(1)
    drain(people, stream, 1, on_first_run="fail")
    assert members_of(stream.consume()) == people.members()


def test_an_instant_without_a_change_set_is_not_delivered(people):
    week(people, 1)
    with pytest.raises(HistoryGone, match="run its diff task first"):
        drain(people, Stream(), 1)


def test_what_is_delivered_is_not_sent_again(people):
    week(people, 3)
    stream = Stream()
    drain(people, stream, 2)
    taken = len(stream.taken)
    for number in (2, 1, 0, 2):
        assert drain(people, stream, number).records == 0
    assert len(stream.taken) == taken


@pytest.mark.parametrize("number", [0, 1, 2], ids=["everybody", "an earlier one", "the newest"])
def test_what_is_sent_again_has_the_same_bytes_ids_and_keys(people, number):
    week(people, 3)
    stream, again = Stream(), Stream()
    for n in range(3):
        drain(people, stream, n)
    sent = {k: n for k, n in as_sent(stream).items() if epoch_seconds(day(number)).encode() in k[0]}
    standing = read_standing(people.ledger())
    drain(people, again, number, resend=True)
    assert as_sent(again) == sent
    assert read_standing(people.ledger()).cursor == standing.cursor
    assert not any(name.startswith("snapshot") for name in people.tables())


def test_what_half_was_sent_again_leaves_the_cursor_and_the_next_run_alone(people):
    week(people, 3)
    stream = Stream()
    for number in range(2):
        drain(people, stream, number)
    stream.script = lambda _, batch: [Fate.REJECTED] * len(batch)
    with pytest.raises(DeliveryIncomplete):
        drain(people, stream, 1, resend=True)
    stream.script = None
    drain(people, stream, 2)
    assert times(stream) == [epoch_seconds(day(n)) for n in range(3)]
    assert members_of(stream.consume()) == people.members()


def test_a_change_set_from_before_a_destination_was_attached_is_never_sent_to_it(people):
    """It would tell of users who had left by then, and whose leaving the destination was never told."""
    people.put("stays")
    people.run(0)
    people.put("comes and goes")
    people.run(1)
    people.take("comes and goes")
    people.run(2)
    for first in ("enter_all", "baseline"):
        stream = Stream()
        drain(people, stream, 2, first, on_first_run=first)
        with pytest.raises(HistoryGone, match="attached"):
            drain(people, stream, 1, first, resend=True)
        assert "comes and goes" not in stream.consume().members("vips")


def test_a_destination_is_not_attached_to_a_membership_that_is_gone(people):
    people.put("u0")
    for number in range(6):
        people.run(number, compaction_share=0.0, keep_history=timedelta(0))
        people.put(f"u{number + 1}")
    people.take("u6")
    for first in ("enter_all", "baseline"):
        stream = Stream()
        with pytest.raises(HistoryGone):
            drain(people, stream, 0, first, on_first_run=first)
        drain(people, stream, 5, first, on_first_run=first)
        assert members_of(stream.consume()) == (people.members() if first == "enter_all" else {})


CHANGED = {
    "options": {"options": {"max_users": 5}, "renderer": AmplitudeCohort(max_users=5)},
    "partitions": {"partitions": 8},
    "record end": {"record_end": b"\n"},
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_half_sent_change_set_is_finished_as_it_was_begun_or_not_at_all(people, what):
    week(people, 2)
    stream = Stream()
    drain(people, stream, 0)
    changed = small_delivery(**CHANGED[what])
    stream.script = reject("n0-1")
    with pytest.raises(DeliveryIncomplete):
        drain(people, stream, 1)
    stream.script = None
    puts = len(stream.puts)
    with pytest.raises(DeliveryChanged, match="partly delivered"):
        drain(people, stream, 1, delivery=changed)
    assert len(stream.puts) == puts
    drain(people, stream, 1)
    next_day(people, 2)
    people.run(2)
    drain(people, stream, 2, delivery=changed)
    assert members_of(stream.consume()) == people.members()


def test_options_may_change_while_nothing_was_begun(people):
    week(people, 1)
    watched, stream = Watched(people.warehouse), Stream()
    watched.after = lambda sql: watched.kill() if sql.startswith("CREATE TABLE") else None
    with pytest.raises(Killed):
        drain(people, stream, 0, warehouse=watched)
    drain(people, stream, 0, delivery=small_delivery(**CHANGED["options"]))
    assert members_of(stream.consume()) == people.members()


def test_options_may_be_put_right_when_nothing_can_have_been_taken(people):
    week(people, 1)
    unknown = {"max_users": 2, "user_properties": ["no such property"]}
    with pytest.raises(ValueError, match="no such property"):
        drain(people, Stream(), 0, delivery=small_delivery(options=unknown))

    def refuse(number, batch):
        raise DestinationRefused("no permission")

    with pytest.raises(DestinationRefused):
        drain(people, Stream(refuse), 0)
    stream = Stream()
    drain(people, stream, 0, delivery=small_delivery(**CHANGED["options"]))
    assert members_of(stream.consume()) == people.members()


def test_options_may_not_change_once_one_answer_was_lost(people):
    week(people, 1)
    with pytest.raises(DeliveryIncomplete):
        drain(people, Stream(lambda number, batch: [Fate.LOST] * len(batch)), 0)
    with pytest.raises(DeliveryChanged):
        drain(people, Stream(), 0, delivery=small_delivery(**CHANGED["options"]))


def test_two_copies_of_one_history_give_the_same_bytes(warehouse, monkeypatch):
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 7)
    sent = []
    for shuffled in (False, True):
        people = People(warehouse)
        week(people, 3)
        if shuffled:  # the warehouse may give rows in another order
            order = f"SELECT * FROM {people.table} ORDER BY md5(uid)"
            warehouse.execute(f"CREATE TABLE copied_{people.table} AS {order}")
            warehouse.execute(f"DROP TABLE {people.table}")
            warehouse.execute(f"ALTER TABLE copied_{people.table} RENAME TO {people.table}")
        next_day(people, 3)
        people.run(3, compaction_share=0.0 if shuffled else 99.0)
        stream = Stream()
        for number in range(4):
            drain(people, stream, number)
        sent.append(as_sent(stream))
    assert sent[0] == sent[1]


def undisturbed(people: People, days: int, name: str = "a") -> Counter[tuple[bytes, str, int]]:
    """Give what a destination of that name is sent when nothing goes wrong, from a copy of everything."""
    copy = People(people.warehouse)
    week(copy, days)
    return sent_undisturbed(copy, days, name)


def sent_undisturbed(copy: People, days: int, name: str) -> Counter[tuple[bytes, str, int]]:
    stream = Stream()
    for number in range(days):
        drain(copy, stream, number, name)
    assert set(as_sent(stream).values()) == {1}
    return as_sent(stream)


def check_finished(people: People, copy: People, stream: Stream, name: str) -> None:
    """Finish a delivery that was killed: nothing is missing, and what was known to be taken is not put again."""
    standing = read_standing(people.ledger(), small_delivery(name))
    checkpoint = standing.checkpoint
    known = AcknowledgedOrdinals.of(checkpoint.acknowledged) if checkpoint else AcknowledgedOrdinals()
    puts = len(stream.puts)
    reports = [drain(people, stream, number, name) for number in range(2)]
    again = [r for batch in stream.puts[puts:] for r in batch]
    if standing.sending:
        resumed = [r for r in again if epoch_seconds(standing.sending).encode() in r.data]
        assert not any(r.ordinal in known for r in resumed)
    assert sum(report.delivered for report in reports) == sum(r.changes for r in again)
    assert (
        len(stream.taken) - len(as_sent(stream))
        <= MAX_IN_FLIGHT_REQUESTS * small_delivery().limits.records_per_request
    )
    assert len(set(ids(stream))) == len(as_sent(stream)), "no id has two contents"
    assert set(as_sent(stream)) == set(sent_undisturbed(copy, 2, name))
    assert members_of(stream.consume()) == people.members()


@pytest.mark.slow
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_a_delivery_killed_in_any_put_is_finished_by_the_next_attempt(people, taken):
    copy = People(people.warehouse)
    week(people, 2)
    week(copy, 2)
    for at in itertools.count():
        stream, watched, name = Stream(), Watched(people.warehouse), f"k{at}"

        def die(number, batch, watched=watched, at=at):
            if number == at:
                watched.dead = True
                raise Killed(taken=taken)
            return [Fate.TAKEN] * len(batch)

        stream.script = die
        try:
            drain(people, stream, 0, name, watched)
            drain(people, stream, 1, name, watched)
        except Killed:
            stream.script = None
            check_finished(people, copy, stream, name)
        else:
            break
    assert at > 6


@pytest.mark.slow
def test_a_delivery_killed_after_any_statement_is_finished_by_the_next_attempt(people):
    copy = People(people.warehouse)
    week(people, 2)
    week(copy, 2)
    for at in itertools.count():
        stream, watched, name = Stream(), Watched(people.warehouse), f"s{at}"
        statements = itertools.count()
        watched.after = lambda _, watched=watched, at=at, statements=statements: (
            watched.kill() if next(statements) == at else None
        )
        try:
            drain(people, stream, 0, name, watched)
            drain(people, stream, 1, name, watched)
        except Killed:
            check_finished(people, copy, stream, name)
        else:
            break
    assert at > 12
    assert not any(name.startswith("snapshot") for name in people.tables())


def test_throttled_and_unheard_records_are_put_again_alike_until_they_are_acknowledged(people):
    week(people, 3)
    stream = Stream()
    fates = (Fate.TAKEN, Fate.THROTTLED, Fate.TAKEN_UNHEARD, Fate.LOST)
    tried: Counter[bytes] = Counter()

    def fail_once_or_twice(_number, batch):
        tried.update(record.data for record in batch)
        return [fates[r.ordinal % 4] if tried[r.data] < 3 else Fate.TAKEN for r in batch]

    stream.script = fail_once_or_twice
    for number in range(3):
        drain(people, stream, number)
    assert set(as_sent(stream)) == set(undisturbed(people, 3))
    assert members_of(stream.consume()) == people.members()


def test_a_publisher_whose_ledger_answers_are_lost_delivers_all_the_same(people):
    week(people, 2)

    def lose_answers(sql: str) -> None:
        if sql.startswith("INSERT INTO"):
            raise WarehouseUnavailable("the connection broke after the row was taken")

    stream, watched = Stream(), Watched(people.warehouse, after=lose_answers)
    drain(people, stream, 0, warehouse=watched)
    drain(people, stream, 1, warehouse=watched)
    assert as_sent(stream) == undisturbed(people, 2)


@pytest.mark.parametrize("number", [0, 1], ids=["first", "later"])
def test_of_two_publishers_of_one_delivery_the_overtaken_one_stops(people, reopen, number):
    week(people, 2)
    stream = Stream()
    if number:
        drain(people, stream, 0)
    first, other, overtaken = len(stream.puts), reopen(), Stream()

    def be_overtaken(at, batch):
        if at == 1:
            drain(people, stream, number, warehouse=other)
        return [Fate.TAKEN] * len(batch)

    overtaken.script = be_overtaken
    with pytest.raises(LedgerConflict, match="retry"):
        drain(people, overtaken, number)
    assert len(stream.puts) > first
    stream.taken += overtaken.taken
    assert drain(people, stream, 1).rejected == 0
    assert set(as_sent(stream)) == set(undisturbed(people, 2))
    assert len(overtaken.puts) <= 2 + MAX_IN_FLIGHT_REQUESTS
    assert members_of(stream.consume()) == people.members()


def test_whatever_a_publisher_is_doing_another_one_stops_it_so_that_a_retry_helps(people, reopen):
    """A first delivery is overtaken before each of its statements: its snapshot is sent and dropped by then."""
    people.put("u1", "u2", "u3")
    people.run(0)
    for at in range(60):
        stream, watched, seen = Stream(), Watched(people.warehouse), []
        delivery = small_delivery(f"to {at}")

        def overtake(sql: str, seen=seen, at=at, delivery=delivery, stream=stream) -> None:
            seen.append(sql)
            if len(seen) == at + 1:
                open_outbox(people.ledger(reopen()), stream, delivery).drain(day(0))

        watched.before = overtake
        with contextlib.suppress(LedgerConflict):
            open_outbox(people.ledger(watched), stream, delivery).drain(day(0))
        open_outbox(people.ledger(), stream, delivery).drain(day(0))
        assert members_of(stream.consume()) == people.members()
        if len(seen) <= at:
            break
    assert at > 8


@pytest.mark.parametrize("sealing", [True, False], ids=["while it looks", "when it begins"])
def test_a_publisher_that_is_overtaken_before_its_first_record_sends_nothing(people, reopen, sealing):
    week(people, 4)
    stream, overtaken, other = Stream(), Stream(), reopen()
    drain(people, stream, 0)
    watched = Watched(people.warehouse)

    def overtake(sql: str) -> None:
        appends = sql.startswith("INSERT INTO") and read_standing(people.ledger(other)).cursor == day(0)
        if appends and (sealing or read_timeline(people.ledger(other)).change_sets[1].sealed):
            drain(people, stream, 3, warehouse=other)

    watched.before = overtake
    with contextlib.nullcontext() if sealing else pytest.raises(LedgerConflict):
        drain(people, overtaken, 1, warehouse=watched)
    assert overtaken.puts == []
    assert as_sent(stream) == undisturbed(people, 4)
    assert read_standing(people.ledger()).cursor == day(3), "a cursor never goes back"


def names_told(stream: Stream, number: int) -> set[tuple[str, str, bool]]:
    told = [json.loads(m) for m in stream.messages]
    return {
        (m["cohort_id"], m["cohort_name"], m["in_cohort"])
        for m in told
        if m["computed_time"] == epoch_seconds(day(number))
    }


def test_a_renamed_audience_is_the_same_audience_under_its_new_name(warehouse):
    people, stream = People(warehouse, many=True), Stream()
    people.put("u1", "u2", audience="a", title="Old")
    people.run(0)
    drain(people, stream, 0)
    warehouse.execute(f"UPDATE {people.table} SET title = 'New'")
    assert people.run(1)["updated"] == 0
    people.take("u1", audience="a")
    people.put("u3", audience="a", title="New")
    people.run(2)
    drain(people, stream, 2)
    assert names_told(stream, 0) == {("a", "Old", True)}
    assert names_told(stream, 1) == set()
    assert names_told(stream, 2) == {("a", "New", True), ("a", "New", False)}


@pytest.mark.parametrize("compaction_share", [0.0, 99.0])
def test_the_exits_of_an_audience_that_vanished_carry_its_name(warehouse, compaction_share):
    people, stream = People(warehouse, many=True), Stream()
    people.put("u1", audience="a", title="Audience A")
    people.put("u1", audience="b", title="Audience B")
    upkeep = {"compaction_share": compaction_share, "keep_history": timedelta(0)}
    people.run(0, **upkeep)
    drain(people, stream, 0)
    people.put("u2", audience="a", title="Audience A")
    people.run(1, **upkeep)
    drain(people, stream, 1)
    people.take("u1", "u2", audience="a")
    people.run(2, **upkeep)
    people.run(3, **upkeep)
    drain(people, stream, 3)
    assert names_told(stream, 2) == {("a", "Audience A", False)}
    assert members_of(stream.consume()) == people.members() == {"b": {"u1"}}


def test_changes_that_the_format_has_no_words_for_are_counted_and_no_failure(people):
    week(people, 1)
    stream = Stream()
    drain(people, stream, 0)
    for number in range(9):
        people.change(f"u{number}", email=f"{number}@x")
    people.put("u99")
    people.run(1)
    report = drain(people, stream, 1)
    assert (report.delivered, report.omitted, report.records) == (1, 9, 1)
    assert drain(people, stream, 1).records == 0


def test_a_report_counts_what_is_on_the_wire_even_where_the_delivery_fails(people):
    week(people, 2)
    stream = Stream()
    drain(people, stream, 0)
    taken = len(stream.taken)
    outbox = open_outbox(people.ledger(), stream)
    stream.script = reject("n0-1")
    with pytest.raises(DeliveryIncomplete):
        outbox.drain(day(1))
    new = stream.taken[taken:]
    report = outbox.report
    assert (report.records, report.delivered, report.bytes) == (
        len(new),
        sum(r.changes for r in new),
        sum(r.size for r in new),
    )
    assert report.rejected > 0
    assert report.change_sets == []


USERS = tuple(f"u{n}" for n in range(12))
edits = st.tuples(
    st.just("edit"),
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(USERS), st.sampled_from((None, "Bern", "Rome"))),
        min_size=1,
        max_size=12,
    ),
)
ends = st.none() | st.tuples(st.sampled_from(("put", "unheard put", "statement")), st.integers(0, 12))
runs = st.tuples(st.just("run"), st.booleans(), st.none() | st.integers(0, 9))
publishes = st.tuples(st.just("publish"), st.sampled_from("xy"), st.integers(0, 5), ends)
histories = st.lists(st.one_of(edits, edits, runs, runs, publishes, publishes), min_size=4, max_size=12)


def telling(name: str) -> Delivery:
    """Make a delivery that tells properties, too."""
    options = {"max_users": 2, "user_properties": True}
    return small_delivery(name, options=options, partitions=2)


class World:
    """A source, its runs and two destinations, to which anything may happen."""

    def __init__(self, warehouse, upkeep: dict[str, Any]) -> None:
        self.people = People(warehouse, many=True)
        self.upkeep = upkeep
        self.number = 0
        self.streams = {"x": Stream(), "y": Stream()}

    def edit(self, changes) -> None:
        for audience, user, city in changes:
            self.people.take(user, audience=audience)
            if city is not None:
                self.people.put(user, audience=audience, city=city)

    def run(self, later: bool, dies_after: int | None) -> None:
        self.number += later
        with contextlib.suppress(Killed):
            self.people.sync(self._watched(dies_after), **self.upkeep).run(day(self.number))

    def publish(self, name: str, seed: int, end) -> None:
        edges = read_timeline_or_none(self.people)
        if not edges:
            return
        stream, chance = self.streams[name], random.Random(seed)
        watched = self._watched(end[1] if end and end[0] == "statement" else None)
        first = len(stream.puts)
        weights = (90, 4, 3, 3, 1) if seed else (1, 0, 0, 0, 0)
        kinds = (Fate.TAKEN, Fate.THROTTLED, Fate.TAKEN_UNHEARD, Fate.LOST, Fate.REJECTED)

        def script(number, batch):
            if end and end[0] != "statement" and number - first == end[1]:
                watched.dead = True
                raise Killed(taken=end[0] == "put")
            return chance.choices(kinds, weights, k=len(batch))

        stream.script = script
        try:
            open_outbox(self.people.ledger(watched), stream, telling(name)).drain(edges[-1].as_of)
        except (Killed, DeliveryIncomplete):
            return
        self.check(name, chance)

    def check(self, name: str, chance: random.Random) -> None:
        """Compare what a consumer makes of the wire, shuffled and with repetitions, with what was published."""
        messages = self.streams[name].messages
        messages = [*messages, *chance.choices(messages, k=len(messages) // 2)] if messages else []
        chance.shuffle(messages)
        consumer = AudienceConsumer()
        for message in messages:
            consumer.apply(message)
        edge = read_timeline(self.people.ledger()).change_sets[-1]
        published = read_membership(self.people.ledger(), edge.as_of)
        assert {(a, u) for a, users in members_of(consumer).items() for u in users} == set(published)
        for (audience, user), (_, _, city) in published.items():
            assert consumer.properties(audience, user) == {"city": city}

    def _watched(self, dies_after: int | None) -> Watched:
        watched, statements = Watched(self.people.warehouse), itertools.count()
        watched.after = lambda _: watched.kill() if next(statements) == dies_after else None
        return watched


def read_timeline_or_none(people: People):
    """Read the change sets that there are; none before the first run."""
    if not people.warehouse.read_rows(
        f"SELECT 1 FROM information_schema.tables WHERE table_schema = '{people.schema}' AND table_name = 'ledger'"
    ):
        return ()
    return read_timeline(people.ledger()).change_sets


def check_convergence(warehouse, history, compaction_share: float, kept_days: int) -> None:
    world = World(warehouse, {"compaction_share": compaction_share, "keep_history": timedelta(days=kept_days)})
    for name, *arguments in history:
        getattr(world, name)(*arguments)
    world.run(True, None)
    for name in world.streams:
        world.publish(name, 0, None)
        assert world.streams[name].messages or not world.people.members()
    published = read_membership(world.people.ledger(), day(world.number))
    assert set(published) == {(a, u) for a, users in world.people.members().items() for u in users}
    timeline = read_timeline(world.people.ledger())
    known = {e.table for e in timeline.change_sets if not e.dropped} | {b.table for b in timeline.bases}
    assert world.people.tables() == known
    warehouse.execute(f"DROP SCHEMA {world.people.schema} CASCADE")
    warehouse.execute(f"DROP TABLE {world.people.table}")


any_history = given(
    history=histories, compaction_share=st.sampled_from((0.0, 0.25, 99.0)), kept_days=st.sampled_from((0, 2, 99))
)


@pytest.mark.slow
@pytest.mark.parametrize("reopen", ["duckdb"], indirect=True)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@any_history
def test_whatever_happens_a_consumer_ends_with_what_was_published_in_duckdb(
    warehouse, history, compaction_share, kept_days
):
    check_convergence(warehouse, history, compaction_share, kept_days)


@pytest.mark.slow
@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@any_history
def test_whatever_happens_a_consumer_ends_with_what_was_published_in_postgresql(
    warehouse, history, compaction_share, kept_days
):
    check_convergence(warehouse, history, compaction_share, kept_days)


@pytest.mark.slow
def test_a_run_that_drops_old_tables_beside_a_publish_lets_it_end_well_or_be_tried_again(tmp_path):
    database = duckdb.connect(":memory:")
    warehouse, another = (DuckDbWarehouse(database.cursor, DIALECTS["duckdb"]) for _ in range(2))
    folded = {"compaction_share": 0.0, "keep_history": timedelta(0)}
    overtaken = 0
    for at in range(200):
        people, stream = People(warehouse, schema=f"beside_{at}"), Stream()
        for number in range(3):
            people.put(f"u{number}")
            people.run(number, **folded)
            if number == 0:
                open_outbox(people.ledger(), stream).drain(day(0))
        statements = itertools.count()

        def meanwhile(_, people=people, statements=statements, at=at):
            if next(statements) == at:
                people.put("late")
                people.run(3, warehouse=another, **folded)

        try:
            open_outbox(people.ledger(Watched(warehouse, before=meanwhile)), stream).drain(day(2))
        except LedgerConflict:
            overtaken += 1
            open_outbox(people.ledger(), stream).drain(day(2))
        assert stream.consume().members("vips") == {"u0", "u1", "u2"}
        if next(statements) <= at:
            break
    assert at > 5
    assert overtaken < at
