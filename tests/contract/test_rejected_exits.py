"""An exit that does not fit is said to be missing, whatever the destination may have got of the member before.

Each story ends with a user who has exited and is a member at the destination: no task may be green then.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.exceptions import MessageTooLarge
from airflow_kinesis_audience.core.outbox.replay import Span, replay
from tests.warehouses import (
    DiesAt,
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
    from airflow_kinesis_audience.core.outbox.delivery import Delivery

BIG = {"email": "x" * 10_000, "city": "x" * 10_000}
SMALL = {"email": "p@example.org", "city": "Bern"}
MPARTICLE = small_delivery(message_format="mparticle_audience", options={"message_ids": True})
ADOBE = small_delivery(message_format="adobe_profile", options={"message_ids": True})


@pytest.fixture
def people(warehouse: Any) -> People:
    people = People(warehouse)
    people.put("stays", "poison", **SMALL)
    return people


def publish(people: People, stream: Stream, number: int, delivery: Delivery, warehouse: Any = None) -> bool:
    """Publish a day; gives whether it said that something does not fit."""
    try:
        open_outbox(people.ledger(warehouse), stream, delivery).drain(day(number))
    except MessageTooLarge:
        return True
    return False


def change(people: People, number: int, values: dict[str, str]) -> None:
    people.change("poison", **values)
    people.run(number)


def check_exit(people: People, stream: Stream, number: int, delivery: Delivery) -> None:
    people.take("poison")
    people.run(number)
    is_refused = publish(people, stream, number, delivery)
    assert is_refused or "poison" not in members_of(stream.consume())["vips"]


@pytest.mark.parametrize("delivery", [MPARTICLE, ADOBE], ids=["mparticle", "adobe"])
def test_after_a_replay_to_a_destination_that_had_the_member(people: People, delivery: Delivery) -> None:
    stream = Stream()
    people.run(0)
    assert not publish(people, stream, 0, delivery)
    change(people, 1, BIG)
    assert publish(people, stream, 1, delivery)
    again = open_outbox(people.ledger(), stream, replace(delivery, replay="one"))
    replay(again, delivery, Span(since=day(1)), on_rejected="skip")
    check_exit(people, stream, 2, delivery)


@pytest.mark.parametrize("delivery", [MPARTICLE, ADOBE], ids=["mparticle", "adobe"])
def test_after_a_kill_when_the_member_was_taken(people: People, delivery: Delivery) -> None:
    stream, late = Stream(), Watched(people.warehouse)
    change(people, 0, BIG)
    assert publish(people, stream, 0, delivery)
    change(people, 1, SMALL)

    def take_and_die(_: int, batch: Any) -> Any:
        if any(b"poison" in record.data for record in batch):
            late.dead = True
            raise Killed(taken=True)
        return [Fate.TAKEN] * len(batch)

    stream.script = take_and_die
    with pytest.raises(Killed):
        publish(people, stream, 1, delivery, late)
    stream.script = None
    change(people, 2, BIG)
    assert publish(people, stream, 2, delivery)
    check_exit(people, stream, 3, delivery)


@pytest.mark.parametrize("delivery", [MPARTICLE, ADOBE], ids=["mparticle", "adobe"])
def test_after_two_change_sets_one_of_which_fits(people: People, delivery: Delivery) -> None:
    stream = Stream()
    change(people, 0, BIG)
    assert publish(people, stream, 0, delivery)
    change(people, 1, SMALL)
    change(people, 2, BIG)
    assert publish(people, stream, 2, delivery)
    check_exit(people, stream, 3, delivery)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_kill_adds_nothing_twice_of_a_member_who_was_never_there(warehouse: Any, side: str) -> None:
    """A member who never fitted exits, and enters again with the same values: that is missing, or said to be."""
    for at in range(60):
        people, stream = People(warehouse), Stream()
        people.put("stays", **SMALL)
        people.put("poison", **BIG)
        people.run(0)
        assert publish(people, stream, 0, MPARTICLE)
        people.take("poison")
        people.run(1)
        dying = DiesAt(warehouse, at, side)
        with contextlib.suppress(Killed):
            publish(people, stream, 1, MPARTICLE, dying)
        assert not publish(people, stream, 1, MPARTICLE), f"killed {side} statement {at}"
        people.put("poison", **BIG)
        people.run(2)
        assert publish(people, stream, 2, MPARTICLE), f"killed {side} statement {at}"
        if not dying.dead:
            return
    pytest.fail("a publish has more statements than this looks at")
