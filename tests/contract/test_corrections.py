"""A membership that was published is computed once more: what differs by now goes out a second later, and once."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import GuardTripped
from airflow_kinesis_audience.core.model.instants import instant_text
from tests.warehouses import (
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_membership,
    read_timeline,
)

CORRECT = {"correct": True}
SECOND = timedelta(seconds=1)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def people(warehouse, stream) -> People:
    return corrected_people(warehouse, stream)


def corrected_people(warehouse, stream) -> People:
    """Give a sync of two days that are published, whose second one was wrong."""
    people = People(warehouse)
    people.put("u1", "u2", city="Bern")
    people.run(0)
    people.put("u3", city="Bern")
    people.run(1)
    publish(people, stream, 1)
    people.take("u2", "u3")
    people.put("u4", city="Bern")
    return people


def publish(people: People, stream: Stream, number: int, *, seconds: int = 0) -> None:
    open_outbox(people.ledger(), stream).drain(day(number) + seconds * SECOND)


def believed(stream: Stream) -> set[str]:
    """Name the members that a consumer has."""
    consumer = AudienceConsumer()
    for record in stream.taken:
        consumer.apply(record.data)
    return set(members_of(consumer).get("vips", ()))


def users(people: People, number: int, *, seconds: int = 0) -> set[str]:
    return {user for _, user in read_membership(people.ledger(), day(number) + seconds * SECOND)}


def change_tables(people: People) -> set[str]:
    return {name for name in people.tables() if name.startswith("changes")}


def test_without_being_asked_nothing_is_computed_again_and_the_summary_says_so(people, stream):
    before = list(stream.taken)
    summary = people.run(1)
    assert summary["recorded"] is True
    assert (summary["entered"], summary["members"]) == (1, 3)
    publish(people, stream, 1)
    assert stream.taken == before


def test_what_differs_goes_out_a_second_later(people, stream):
    summary = people.run(1, how=CORRECT)
    assert summary["as_of"] == instant_text(day(1) + SECOND)
    assert (summary["corrects"], summary["previous_as_of"]) == (instant_text(day(1)), instant_text(day(1)))
    assert (summary["entered"], summary["exited"], summary["members"]) == (1, 2, 2)
    publish(people, stream, 1, seconds=1)
    assert believed(stream) == {"u1", "u4"}
    assert users(people, 1) == {"u1", "u2", "u3"}
    assert users(people, 1, seconds=1) == {"u1", "u4"}
    people.take("u1")
    assert people.run(2)["exited"] == 1
    publish(people, stream, 2)
    assert believed(stream) == {"u4"}


def test_where_nothing_differs_nothing_is_added_and_the_summary_says_so(people, stream):
    people.run(1, how=CORRECT)
    publish(people, stream, 1, seconds=1)
    before = (list(stream.taken), change_tables(people), read_timeline(people.ledger()).change_sets)
    summary = people.run(1, how=CORRECT)
    assert (summary["confirmed"], summary["as_of"]) == (True, instant_text(day(1) + SECOND))
    assert (summary["corrects"], summary["members"]) == (instant_text(day(1)), 2)
    assert "recorded" not in summary
    publish(people, stream, 1, seconds=1)
    assert (list(stream.taken), change_tables(people), read_timeline(people.ledger()).change_sets) == before
    with pytest.raises(GuardTripped, match="min_members"):
        people.run(1, how=CORRECT, guards=Guards(min_members=3))
    people.put("u5")
    assert people.run(1, how=CORRECT)["as_of"] == instant_text(day(1) + 2 * SECOND)


def test_a_correction_of_what_was_never_corrected_confirms_it(people, stream):
    people.put("u2", "u3", city="Bern")
    people.take("u4")
    summary = people.run(1, how=CORRECT)
    assert (summary["confirmed"], summary["as_of"], summary["entered"]) == (True, instant_text(day(1)), 1)
    assert "corrects" not in summary


def test_a_correction_that_nobody_has_got_is_computed_again_in_its_place(people, stream):
    people.run(1, how=CORRECT)
    people.put("u5")
    summary = people.run(1, how=CORRECT)
    assert (summary["as_of"], summary["entered"]) == (instant_text(day(1) + SECOND), 2)
    publish(people, stream, 1, seconds=1)
    people.take("u5")
    summary = people.run(1, how=CORRECT)
    assert (summary["as_of"], summary["exited"]) == (instant_text(day(1) + 2 * SECOND), 1)
    publish(people, stream, 1, seconds=2)
    assert believed(stream) == {"u1", "u4"}


def test_a_membership_that_nobody_has_got_is_computed_again_under_its_own_time(warehouse):
    people = People(warehouse)
    people.put("u1")
    people.run(0)
    summary = people.run(0, how=CORRECT)
    assert summary["as_of"] == instant_text(day(0))
    assert "corrects" not in summary


def test_guards_look_at_a_correction_too(people):
    with pytest.raises(GuardTripped, match="2 of 3 members would exit"):
        people.run(1, how=CORRECT, guards=Guards(max_exits=1))
    assert people.run(1)["recorded"] is True


def test_a_correction_that_is_killed_anywhere_is_made_once(warehouse):
    for statements in itertools.count():
        stream = Stream()
        people = corrected_people(warehouse, stream)
        ended = ends_within(people, statements)
        assert people.run(1, how=CORRECT)["entered"] == 1
        publish(people, stream, 1, seconds=1)
        assert believed(stream) == {"u1", "u4"}
        assert people.run(1, how=CORRECT)["confirmed"] is True
        if ended:
            break
    assert 3 < statements < 30


def ends_within(people: People, statements: int) -> bool:
    """Make the correction in a process that is killed after so many statements."""
    done: list[str] = []

    def kill(sql: str) -> None:
        done.append(sql)
        if len(done) > statements:
            watched.kill()

    watched = Watched(people.warehouse, after=kill)
    try:
        people.run(1, how=CORRECT, warehouse=watched)
    except Killed:
        return False
    return True
