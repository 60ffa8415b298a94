"""A replay gives a new consumer the past as it was: the membership of an instant, and every change set after it.

What the consumer is to believe is written down from the source while the days pass, and asked for at every
instant: the consumer has then read what is as old as that, or older.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.cli.status import describe, read_status
from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.core.exceptions import (
    AudienceDeleted,
    DeliveryIncomplete,
    DestinationReplaced,
    HistoryGone,
    LedgerConflict,
    MessageTooLarge,
    ReplayUnfinished,
)
from airflow_kinesis_audience.core.outbox import turns
from airflow_kinesis_audience.core.outbox.deletion import close
from airflow_kinesis_audience.core.outbox.detachment import choose_pins, detach
from airflow_kinesis_audience.core.outbox.replay import Span, replay
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state.status import find_pins
from tests.warehouses import (
    Fate,
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    small_delivery,
)

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.delivery import Delivery

LIVE, NEW = small_delivery("live"), small_delivery("new")
DAYS = 6


class Line:
    """A live sync, and what was true on each of its days."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.true: dict[int, dict[str, frozenset[str]]] = {}
        self.live = Stream()

    def run(self, number: int, **settings: Any) -> None:
        """Let a day pass: some enter, some leave, one comes back, and one changes."""
        self.people.put(f"n{number}", f"m{number}", audience="a", title="A", city="Bern")
        self.people.take(f"m{number - 1}", audience="a")
        if number % 2:
            self.people.take("back", audience="a")
        else:
            self.people.put("back", audience="a", title="A")
        self.people.change("stays", city=f"c{number}")
        self.people.run(number, **settings)
        self.true[number] = self.people.members()

    def publish(self, number: int, stream: Stream, delivery: Delivery) -> None:
        open_outbox(self.people.ledger(), stream, delivery).drain(day(number))


@pytest.fixture
def line(warehouse, monkeypatch) -> Line:
    monkeypatch.setattr(turns, "REPLAY_SECONDS", 0.0)
    people = People(warehouse, many=True)
    people.put("stays", audience="a", title="A", city="Bern")
    people.put("b1", "b2", audience="b", title="B")
    line = Line(people)
    for number in range(DAYS):
        line.run(number, compaction_share=0.3)
        line.publish(number, line.live, LIVE)
    return line


def again(
    line: Line,
    stream: Stream,
    since: int = 1,
    until: int | None = None,
    *,
    name: str = "first",
    warehouse: Any = None,
    delivery: Delivery = NEW,
    **more: Any,
) -> datetime:
    outbox = open_outbox(line.people.ledger(warehouse), stream, replace(delivery, replay=name))
    span = Span(since=day(since), until=None if until is None else day(until))
    return replay(outbox, delivery, span, **more)


def believed(stream: Stream, at: int) -> dict[str, frozenset[str]]:
    """Ask a consumer that has read what is of a day, or of one before."""
    consumer = AudienceConsumer()
    for message in stream.messages:
        if int(json.loads(message)["computed_time"]) <= int(day(at).timestamp()):
            consumer.apply(message)
    return members_of(consumer)


def times(stream: Stream) -> set[int]:
    return {int(json.loads(m)["computed_time"]) for m in stream.messages}


def ids(stream: Stream) -> list[str]:
    return [json.loads(m)["message_id"] for m in stream.messages]


def read(stream: Stream, at: int) -> list[dict[str, Any]]:
    """Read the messages of one day."""
    found = [json.loads(m) for m in stream.messages]
    return [m for m in found if m["computed_time"] == str(int(day(at).timestamp()))]


def check(line: Line, stream: Stream, since: int, until: int) -> None:
    """Check what a consumer believes at every instant, and that no record is there twice."""
    assert {at: believed(stream, at) for at in range(since, until + 1)} == {
        at: line.true[at] for at in range(since, until + 1)
    }
    assert times(stream) == {int(day(at).timestamp()) for at in range(since, until + 1)}
    assert len(ids(stream)) == len(set(ids(stream)))


@pytest.mark.parametrize(("since", "until"), [(0, None), (1, 4), (2, 2), (3, None)])
def test_a_new_consumer_believes_at_every_instant_what_was_true_then(line, since, until):
    stream = Stream()
    before = line.people.tables()
    assert again(line, stream, since, until) == day(DAYS - 1 if until is None else until)
    check(line, stream, since, DAYS - 1 if until is None else until)
    assert {m["in_cohort"] for m in read(stream, since)} == {True}
    assert line.people.tables() == before


def test_its_records_are_those_that_a_publisher_from_the_beginning_puts_there(line):
    late = Stream()
    again(line, late, 0)
    early = Stream()
    delivery = small_delivery("new", connection="another")
    for number in range(DAYS):
        line.publish(number, early, delivery)
    assert sorted(late.messages) == sorted(early.messages)
    assert sorted(r.partition_key for r in late.taken) == sorted(r.partition_key for r in early.taken)


def test_instants_between_two_change_sets_stand_for_the_one_before(line):
    stream = Stream()
    outbox = open_outbox(line.people.ledger(), stream, replace(NEW, replay="between"))
    half = timedelta(hours=12)
    assert replay(outbox, NEW, Span(since=day(1) + half, until=day(3) + half)) == day(3)
    check(line, stream, 1, 3)


def test_all_of_a_sync_that_began_later_than_asked_for_is_replayed(line):
    stream = Stream()
    outbox = open_outbox(line.people.ledger(), stream, replace(NEW, replay="early"))
    replay(outbox, NEW, Span(since=day(-30)))
    check(line, stream, 0, DAYS - 1)


def test_publishing_goes_on_right_after_it(line):
    stream = Stream()
    again(line, stream, 1, 3)
    line.run(DAYS)
    line.publish(DAYS, stream, NEW)
    check(line, stream, 1, DAYS)
    line.run(DAYS + 1)
    line.publish(DAYS + 1, stream, NEW)
    check(line, stream, 1, DAYS + 1)


def test_parts_go_on_right_after_it_too(line):
    stream = Stream()
    again(line, stream, 1, 3)
    line.run(DAYS)
    for number in (1, 0):
        line.publish(DAYS, stream, replace(NEW, part=Part(number, 2)))
    check(line, stream, 1, DAYS)


def test_the_live_destination_gets_nothing_of_it_and_misses_nothing(line):
    stream = half(line)
    line.run(DAYS)
    line.publish(DAYS, line.live, LIVE)
    check(line, line.live, 0, DAYS)
    again(line, stream)
    line.run(DAYS + 1)
    line.publish(DAYS + 1, line.live, LIVE)
    check(line, line.live, 0, DAYS + 1)


def test_killed_at_any_put_it_goes_on_and_repeats_only_what_was_under_way(line):
    again(line, whole := Stream(), 3, delivery=small_delivery("whole"))
    for at in range(200):
        dying, seen = Watched(line.people.warehouse), []

        def die(number: int, batch, dying=dying, seen=seen, at=at):
            seen.append(number)
            if len(seen) > at:
                dying.dead = True
                raise Killed(taken=False)
            return [Fate.TAKEN] * len(batch)

        stream, delivery = Stream(die), small_delivery(f"new {at}")
        try:
            again(line, stream, 3, warehouse=dying, delivery=delivery)
        except Killed:
            stream.script = None
            before = {r.data for r in stream.taken}
            acknowledged = len(stream.taken)
            again(line, stream, 3, delivery=delivery)
            repeated = {m["computed_time"] for m in map(json.loads, before & {*stream.messages[acknowledged:]})}
            assert len(repeated) <= 1, "nothing of a change set that was delivered"
        assert len(set(ids(stream))) == len(ids(whole))
        for number in range(3, DAYS):
            assert believed(stream, number) == line.true[number]
        if not dying.dead:
            break
    assert at > 4


def test_killed_before_or_after_any_statement_it_goes_on_and_leaves_no_table(line):
    before, begin = line.people.tables(), DAYS - 2
    again(line, whole := Stream(), begin, delivery=small_delivery("whole"))
    for side in ("before", "after"):
        for at in range(0, 400, 2):  # after one statement is before the next one
            dying, left = Watched(line.people.warehouse), [at]

            def die(_: str, dying=dying, left=left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    dying.kill()

            setattr(dying, side, die)
            stream, delivery = Stream(), small_delivery(f"{side} {at}")
            try:
                again(line, stream, begin, warehouse=dying, delivery=delivery)
            except Killed:
                again(line, stream, begin, delivery=delivery)
            assert len(set(ids(stream))) == len(ids(whole))
            for number in range(begin, DAYS):
                assert believed(stream, number) == line.true[number]
            assert line.people.tables() == before
            assert line.people.ledger().read().delivery(delivery.log).cursor == day(DAYS - 1)
            detach(line.people.ledger(), {delivery.log})
            if not dying.dead:
                break
        assert at > 8


def test_records_that_are_refused_are_put_again_and_no_others(line):
    broken = Stream(lambda number, batch: [Fate.REJECTED if number > 6 else Fate.TAKEN] * len(batch))
    with pytest.raises(DeliveryIncomplete):
        again(line, broken)
    assert broken.taken
    broken.script = None
    again(line, broken)
    check(line, broken, 1, DAYS - 1)


def test_a_replay_that_is_done_puts_nothing_when_it_is_cleared_and_another_one_all_again(line):
    stream = Stream()
    again(line, stream)
    put = len(stream.puts)
    assert again(line, stream) == day(DAYS - 1)
    assert len(stream.puts) == put
    again(line, stream, name="second")
    assert len(stream.taken) == 2 * len(set(ids(stream)))
    for number in range(1, DAYS):
        assert believed(stream, number) == line.true[number]


def half(line: Line, **more: Any) -> Stream:
    """Begin a replay that fails on its way."""
    broken = Stream(lambda number, batch: [Fate.REJECTED if number > 6 else Fate.TAKEN] * len(batch))
    with pytest.raises(DeliveryIncomplete):
        again(line, broken, **more)
    broken.script = None
    return broken


def test_whoever_publishes_to_its_destination_waits_until_it_is_done(line):
    stream = half(line)
    taken = len(stream.taken)
    line.run(DAYS)
    for delivery in (NEW, replace(NEW, part=Part(0, 2))):
        with pytest.raises(ReplayUnfinished, match="is not finished"):
            line.publish(DAYS, stream, delivery)
    with pytest.raises(ReplayUnfinished):
        again(line, stream, name="another")
    assert len(stream.taken) == taken
    again(line, stream)
    line.publish(DAYS, stream, NEW)
    check(line, stream, 1, DAYS)


def test_a_publisher_that_began_before_it_and_has_put_nothing_cannot_overtake_it(line):
    stream, begun = Stream(), Watched(line.people.warehouse)
    ledger = line.people.ledger(begun)
    outbox = open_outbox(ledger, stream, NEW)
    steps: list[str] = []

    def replay_meanwhile(_: str) -> None:
        # The publisher has read the ledger, and is about to write its first row.
        if not steps and ledger.state.timeline.newest is not None:
            steps.append("replayed")
            half(line)

    begun.before = replay_meanwhile
    with pytest.raises((LedgerConflict, ReplayUnfinished)):
        outbox.drain(day(DAYS - 1))
    assert steps
    assert stream.taken == []


def test_it_keeps_the_history_that_it_needs_until_it_is_done(line):
    stream = half(line)
    short = {"keep_history": timedelta(0), "compaction_share": 0.0}
    for number in range(DAYS, DAYS + 4):
        line.run(number, **short)
        line.publish(number, line.live, LIVE)
    [pin] = [p for p in find_pins(line.people.ledger().read()) if p.is_replay]
    assert (pin.destination, pin.since) in {(NEW.destination, day(n)) for n in (1, 2, 3)}
    shown = "\n".join(describe(read_status(line.people.ledger(), 5)))
    assert "a replay that is not finished" in shown
    assert "change sets, " not in shown, "it is not a destination that lags behind"
    kept = line.people.tables()
    again(line, stream)
    check(line, stream, 1, DAYS - 1)
    line.publish(DAYS + 3, stream, NEW)
    check(line, stream, 1, DAYS + 3)
    line.run(DAYS + 4, **short)
    assert len(line.people.tables()) < len(kept) - 3


def test_a_replay_that_nobody_finishes_is_detached_alone(line):
    stream = half(line)
    before = line.people.tables()
    ledger = line.people.ledger()
    ledger.read()
    assert choose_pins(ledger, LIVE.destination, only_replays=True) == []
    [pin] = choose_pins(ledger, NEW.destination, only_replays=True)
    detach(line.people.ledger(), {pin.log})
    assert not {name for name in line.people.tables() if name.startswith("snapshot_")}
    assert not [p for p in find_pins(line.people.ledger().read()) if p.is_replay]
    assert len(line.people.tables()) <= len(before)
    # As the refusal of a publisher says: it enters all, and a resync makes the rest right.
    line.publish(DAYS - 1, stream, NEW)
    resync(open_outbox(line.people.ledger(), stream, replace(NEW, resync="once")), NEW)
    assert members_of(stream.consume()) == line.true[DAYS - 1]


def test_beyond_what_is_kept_it_fails_before_anything_is_put_and_says_from_when_on_it_can(line):
    for number in range(DAYS, DAYS + 6):
        line.run(number, keep_history=timedelta(days=3), compaction_share=0.0)
        line.publish(number, line.live, LIVE)
    stream = Stream()
    with pytest.raises(HistoryGone, match=r"can start at (2026\S+)") as refused:
        again(line, stream, 2)
    assert (stream.puts, line.people.ledger().read().delivery(NEW.log).sequence) == ([], 0)
    first = next(n for n in range(20) if f"start at {day(n):%Y-%m-%dT%H:%M:%SZ}" in str(refused.value))
    assert 2 < first <= DAYS + 2
    with pytest.raises(HistoryGone):
        again(line, stream, first - 1)
    with pytest.raises(HistoryGone, match=f"up to {day(DAYS + 5):%Y-%m-%dT%H:%M:%SZ} can start"):
        again(line, stream, 1, 2)
    assert stream.puts == []
    again(line, stream, first)
    check(line, stream, first, DAYS + 5)


def test_what_is_dropped_while_it_begins_stops_it_before_anything_is_put(line):
    stream = Stream()
    outbox = open_outbox(line.people.ledger(), stream, replace(NEW, replay="late"))
    attach = outbox.log.attach

    def attach_late(*given: Any, **more: Any) -> None:
        for number in range(DAYS, DAYS + 3):
            line.run(number, keep_history=timedelta(0), compaction_share=0.0)
            line.publish(number, line.live, LIVE)
        attach(*given, **more)

    outbox.log.attach = attach_late
    with pytest.raises(HistoryGone, match="can start at"):
        replay(outbox, NEW, Span(since=day(1), until=day(3)))
    assert stream.puts == []
    assert not [p for p in find_pins(line.people.ledger().read()) if p.is_replay]


def test_a_destination_that_has_more_than_the_replay_would_give_it_is_refused(line):
    with pytest.raises(ValueError, match="would miss the changes in between"):
        again(line, line.live, 1, 3, delivery=LIVE)
    taken = len(line.live.taken)
    again(line, line.live, 1, delivery=LIVE)
    assert len(line.live.taken) > taken
    line.run(DAYS)
    line.publish(DAYS, line.live, LIVE)
    consumer = AudienceConsumer()
    for record in line.live.taken[taken:]:
        consumer.apply(record.data)
    assert members_of(consumer) == line.true[DAYS] == members_of(line.live.consume())


def test_what_a_publisher_has_half_sent_is_in_the_replay(line):
    stream = Stream(lambda number, batch: [Fate.REJECTED if number > 0 else Fate.TAKEN] * len(batch))
    with pytest.raises(DeliveryIncomplete):
        line.publish(3, stream, NEW)
    with pytest.raises(ValueError, match="would miss the changes in between"):
        again(line, stream, 1, 2)
    stream.script = None
    again(line, stream, 1)
    line.run(DAYS)
    line.publish(DAYS, stream, NEW)
    assert members_of(stream.consume()) == line.true[DAYS]
    assert all(believed(stream, n) == line.true[n] for n in range(3, DAYS + 1))


def test_members_that_are_too_large_are_tried_again_by_whoever_publishes_next(line):
    line.people.change("n1", city="x" * 3_000)
    line.run(DAYS)
    options = {"max_users": 2, "user_properties": True}
    limits = replace(NEW.limits, record_bytes=1_000)
    small = small_delivery("new", options=options, limits=limits)
    stream = Stream()
    for _ in range(2):
        with pytest.raises(MessageTooLarge):
            again(line, stream, delivery=small)
    assert believed(stream, DAYS)["a"] == line.true[DAYS]["a"]
    again(line, stream, delivery=small, on_rejected="skip")
    line.people.change("n1", city="short")
    line.run(DAYS + 1)
    line.publish(DAYS + 1, stream, small)
    assert members_of(stream.consume()) == line.true[DAYS + 1]
    assert stream.consume().properties("a", "n1") == {"city": "short"}


@pytest.mark.parametrize(
    "delivery",
    [
        small_delivery("new", message_format="mparticle_audience", options={"message_ids": True}),
        small_delivery("new", message_format="adobe_profile", options={"message_ids": True}),
    ],
    ids=lambda d: d.message_format,
)
def test_formats_of_other_vendors_are_replayed_and_go_on(line, delivery):
    stream, early = Stream(), Stream()
    again(line, stream, 0, 3, delivery=delivery)
    line.run(DAYS)
    line.publish(DAYS, stream, delivery)
    # All that is between is kept, so that another name of the same destination gets the same from the beginning.
    other = replace(delivery, connection="another")
    for number in range(DAYS + 1):
        line.publish(number, early, other)
    assert stream.messages
    assert sorted(stream.messages) == sorted(early.messages)


def test_a_stream_that_was_created_anew_meanwhile_stops_it_and_another_replay_fills_it(line):
    half(line, delivery=replace(NEW, stream="arn one"))
    new = Stream()
    with pytest.raises(DestinationReplaced, match="again during the replay"):
        again(line, new, delivery=replace(NEW, stream="arn two"))
    assert new.puts == []
    again(line, new, name="second", delivery=replace(NEW, stream="arn two"))
    check(line, new, 1, DAYS - 1)


def test_a_deleted_sync_or_one_without_a_run_has_nothing_to_replay(line, warehouse):
    with pytest.raises(ValueError, match="at or after since"):
        Span(since=day(2), until=day(1))
    close(line.people.ledger(), day(DAYS), exits=True)
    stream = Stream()
    with pytest.raises(AudienceDeleted):
        again(line, stream)
    assert stream.puts == []
