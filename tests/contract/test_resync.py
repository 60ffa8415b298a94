"""A resync tells everything that is true and everything that is over, with numbers to check it by."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, HistoryGone
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.formats.own import OwnRenderer
from tests.warehouses import (
    Fate,
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_timeline,
    small_delivery,
)

SMALL = {"compaction_share": 0.0, "keep_history": timedelta(0)}


@pytest.fixture
def people(warehouse) -> People:
    people = People(warehouse, many=True)
    people.put("a1", "a2", "a3", audience="a", title="A", city="Bern")
    people.put("b1", "b2", audience="b", title="B")
    people.run(0)
    return people


def publish(people: People, stream: Stream, number: int, delivery=None) -> None:
    open_outbox(people.ledger(), stream, delivery or small_delivery()).drain(day(number))


def tell_again(people: People, stream: Stream, name: str = "first", *, warehouse=None, delivery=None) -> Stream:
    """Run a resync on the stream; gives a stream of what it put alone."""
    before = len(stream.taken)
    delivery = delivery or small_delivery()
    resync(open_outbox(people.ledger(warehouse), stream, replace(delivery, resync=name)), delivery)
    alone = Stream()
    alone.taken = stream.taken[before:]
    return alone


def told(stream: Stream) -> dict[str, set[tuple[str, bool]]]:
    """List what messages tell: audience to users and whether they are members."""
    found: dict[str, set[tuple[str, bool]]] = {}
    for message in map(json.loads, stream.messages):
        users = found.setdefault(message["cohort_id"], set())
        users |= {(user["user_id"], message["in_cohort"]) for user in message["users"]}
    return found


def test_all_members_enter_and_all_exit_who_are_known_to_have_left(people):
    stream = Stream()
    publish(people, stream, 0)
    people.take("a2", audience="a")
    people.run(1)
    people.put("a4", audience="a", title="A")
    people.take("b1", audience="b")
    people.run(2)
    people.put("a2", audience="a", title="A")
    people.take("a3", audience="a")
    people.run(3)
    publish(people, stream, 3)
    alone = tell_again(people, stream)
    assert told(alone) == {
        "a": {("a1", True), ("a2", True), ("a4", True), ("a3", False)},
        "b": {("b2", True), ("b1", False)},
    }
    times = {json.loads(m)["computed_time"] for m in alone.messages}
    assert times == {str(int(day(3).timestamp()))}
    assert members_of(alone.consume()) == members_of(stream.consume()) == people.members()
    assert {json.loads(m)["cohort_name"] for m in alone.messages} == {"A", "B"}


def test_a_consumer_can_check_that_everything_has_arrived(people):
    stream = Stream()
    people.take("b1", audience="b")
    publish(people, stream, 0)
    people.run(1)
    publish(people, stream, 1)
    alone = tell_again(people, stream)
    kinds = [json.loads(m).get("lifecycle", {}).get("event") for m in alone.messages]
    assert (kinds[:2], kinds[-2:]) == (["resync_begin"] * 2, ["resync_complete"] * 2)
    consumer = AudienceConsumer()
    arriving = [*alone.messages, *alone.messages]
    random.Random(7).shuffle(arriving)
    seen = set()
    for message in arriving:
        seen.add(message)
        consumer.apply(message)
        done = all(r.complete for r in consumer.resyncs()) and len(consumer.resyncs()) == 2
        assert done == (seen == set(alone.messages))
    assert [(r.audience_id, r.members, r.exits) for r in consumer.resyncs()] == [("a", 3, 0), ("b", 1, 1)]


def test_a_consumer_that_lost_messages_is_right_again(people):
    stream, lost = Stream(), random.Random(3)
    publish(people, stream, 0)
    for number in range(1, 7):
        people.put(f"n{number}", audience="a", title="A")
        people.take(f"n{number - 2}", audience="a")
        (people.take if number % 2 else people.put)("a1", audience="a")
        people.run(number)
        publish(people, stream, number)
    alone = tell_again(people, stream)
    for _ in range(20):
        consumer = AudienceConsumer()
        arriving = [m for m in stream.messages if m not in alone.messages and lost.random() < 0.5] + alone.messages
        lost.shuffle(arriving)
        for message in arriving:
            consumer.apply(message)
        assert members_of(consumer) == people.members()


def test_no_removal_is_forgotten_whatever_is_compacted_dropped_or_mapped_anew(people):
    stream = Stream()
    publish(people, stream, 0)
    gone = set()
    mapped = replace(people.source, properties={"city": "town"})
    update = Guards(max_exit_ratio=None, on_schema_change="update")
    for number in range(1, 8):
        user = ("a1", "a2", "b1")[number % 3]
        audience = user[0]
        if (user, audience) in gone:
            people.put(user, audience=audience, title=audience.upper())
            gone.remove((user, audience))
        else:
            people.take(user, audience=audience)
            gone.add((user, audience))
        people.put(f"n{number}", audience="a", title="A")
        people.take(f"n{number - 1}", audience="a")
        if number > 1:
            gone.add((f"n{number - 1}", "a"))
        people.run(number, source=mapped if number > 4 else people.source, guards=update, **SMALL)
        publish(people, stream, number)
    assert len(people.tables()) <= 3
    alone = tell_again(people, stream)
    exits = {(user, audience) for audience, users in told(alone).items() for user, member in users if not member}
    assert exits == gone
    assert members_of(alone.consume()) == people.members()


def test_who_left_is_forgotten_after_as_long_as_its_author_says(people):
    stream = Stream()
    publish(people, stream, 0)
    settings = {**SMALL, "keep_exits": timedelta(days=2)}
    for number, user in enumerate(("a1", "a2", "a3"), 1):
        people.take(user, audience="a")
        people.run(number, guards=Guards(max_exit_ratio=None, on_empty="exit_all"), **settings)
        publish(people, stream, number)
    people.run(4, **settings)
    publish(people, stream, 4)
    assert told(tell_again(people, stream))["a"] == {("a3", False)}


def test_it_speaks_for_what_the_destination_has_and_not_for_what_is_pending(people):
    stream = Stream()
    publish(people, stream, 0)
    people.put("a9", audience="a", title="A")
    people.run(1)
    alone = tell_again(people, stream)
    assert ("a9", True) not in told(alone)["a"]
    publish(people, stream, 1)
    assert members_of(stream.consume()) == people.members()


def test_one_attempt_after_the_other_puts_what_is_missing_and_ends(people):
    stream = Stream()
    publish(people, stream, 0)
    put = len(stream.puts)
    whole = tell_again(people, stream, "whole").messages
    assert len(whole) > 6
    for script in (
        lambda number, batch: [Fate.REJECTED if number % 3 == 2 else Fate.TAKEN] * len(batch),
        lambda number, batch: [Fate.LOST if number % 2 else Fate.TAKEN_UNHEARD] * len(batch),
    ):
        broken = Stream(script)
        broken.puts = stream.puts[:put]
        with pytest.raises(DeliveryIncomplete):
            tell_again(people, broken, "broken")
    done = tell_again(people, Stream(), "broken")
    first = json.loads(whole[0])["message_id"].partition("::")[0]
    other = json.loads(done.messages[0])["message_id"].partition("::")[0]
    assert first != other
    assert people.tables() == {e.table for e in read_timeline(people.ledger()).change_sets}


def test_killed_at_any_put_it_goes_on_and_every_message_has_arrived(people):
    stream = Stream()
    publish(people, stream, 0)
    for at in range(40):
        dying = Watched(people.warehouse)
        seen = []

        def die(number: int, batch, dying=dying, seen=seen, at=at):
            seen.append(number)
            if len(seen) > at:
                dying.dead = True
                raise Killed(taken=bool(at % 2))
            return [Fate.TAKEN] * len(batch)

        part = Stream(die)
        try:
            tell_again(people, part, f"kill {at}", warehouse=dying)
        except Killed:
            part.script = None
            tell_again(people, part, f"kill {at}")
        assert members_of(part.consume()) == people.members()
        assert all(r.complete for r in part.consume().resyncs())
        if not dying.dead:
            break
    assert at > 3


def test_killed_after_any_statement_it_goes_on_and_leaves_no_table(people):
    stream = Stream()
    publish(people, stream, 0)
    before = people.tables()
    for at in range(60):
        dying, seen = Watched(people.warehouse), []

        def die(sql: str, dying=dying, seen=seen, at=at) -> None:
            seen.append(sql)
            if len(seen) > at:
                dying.kill()

        dying.after = die
        part = Stream()
        try:
            tell_again(people, part, f"statement {at}", warehouse=dying)
        except Killed:
            tell_again(people, part, f"statement {at}")
        assert all(r.complete for r in part.consume().resyncs())
        assert members_of(part.consume()) == people.members()
        assert people.tables() == before
        if not dying.dead:
            break
    assert at > 8


def test_killed_after_any_statement_a_resync_of_profiles_leaves_no_table_either(people):
    delivery = small_delivery(message_format="adobe_profile", options={"message_ids": True})
    publish(people, Stream(), 0, delivery)
    before = people.tables()
    for at in range(60):
        dying, left = Watched(people.warehouse), [at]

        def die(_: str, dying=dying, left=left) -> None:
            left[0] -= 1
            if left[0] < 0:
                dying.kill()

        dying.after = die
        try:
            tell_again(people, Stream(), f"statement {at}", warehouse=dying, delivery=delivery)
        except Killed:
            tell_again(people, Stream(), f"statement {at}", delivery=delivery)
        assert people.tables() == before
        if not dying.dead:
            break
    assert at > 12


def test_a_destination_that_was_never_told_anything_has_nothing_to_be_told_again(people):
    with pytest.raises(HistoryGone, match="run its publish task first"):
        tell_again(people, Stream())


def test_a_finished_resync_holds_nothing_back(people):
    stream = Stream()
    publish(people, stream, 0)
    tell_again(people, stream)
    for number in range(1, 4):
        people.put(f"n{number}", audience="a", title="A")
        people.run(number, **SMALL)
        publish(people, stream, number)
    people.run(4, **SMALL)
    assert len(people.tables()) <= 2


def test_a_format_without_words_for_it_is_refused_before_anything_is_sent(people):
    def render(changes, envelope):
        return iter(())

    stream = Stream()
    delivery = replace(small_delivery(), renderer=OwnRenderer(render, "my.format"), message_format="my.format")
    with pytest.raises(ValueError, match="render_notice"):
        resync(open_outbox(people.ledger(), stream, replace(delivery, resync="x")), delivery)
    assert not stream.puts
