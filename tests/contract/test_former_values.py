"""``status`` names the oldest value that is kept and not true any more, and what keeps it there."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_kinesis_audience.cli.status import describe, read_status
from airflow_kinesis_audience.core.model.instants import instant_text
from tests.warehouses import People, Stream, day, open_outbox, small_delivery

PAST = "x" * 20_000


def former(people: People) -> tuple[str, str] | None:
    found = read_status(people.ledger(), 1)["oldest_former_value"]
    return found and (found["since"], found["sentence"])


def holders(people: People, value: str) -> set[str]:
    """List the tables of the state that have a value anywhere, by looking at every row."""
    return {
        name
        for name in people.tables()
        if any(
            value in map(str, row) for row in people.warehouse.read_rows(f'SELECT * FROM {people.schema}."{name}"')
        )
    }


@pytest.fixture
def people(warehouse) -> People:
    return People(warehouse)


def test_the_oldest_value_is_where_it_is_said_to_be_until_it_is_gone(people):
    short = {"keep_history": timedelta(days=2), "keep_exits": timedelta(days=4)}
    people.put("u", "v", email="gone@example.org", city="Bern")
    people.run(0, **short)
    assert former(people) is None
    assert "former value" not in "\n".join(describe(read_status(people.ledger(), 1)))
    people.take("u", "v")
    people.put("w", email="w@example.org")
    seen = set()
    for number in range(1, 9):
        people.change("w", city=f"c{number}")
        people.run(number, **short)
        found, held = former(people), holders(people, "gone@example.org")
        assert found is not None
        since, sentence = found
        assert not held or any(name in sentence for name in held)
        seen.add("keep_exits" if "keep_exits" in sentence else "keep_history")
        if held:
            assert since <= instant_text(day(1))
        else:
            assert since > instant_text(day(1))
    assert not held, "what nobody needs is gone"
    assert seen == {"keep_history", "keep_exits"}


def test_a_destination_that_lacks_changes_is_named_as_what_keeps_them(people):
    people.put("u", email="u@example.org")
    people.run(0, keep_history=timedelta(days=1))
    open_outbox(people.ledger(), Stream(), small_delivery("slow")).drain(day(0))
    for number in range(1, 5):
        people.change("u", city=f"c{number}")
        people.run(number, keep_history=timedelta(days=1), compaction_share=0.0)
    since, sentence = former(people)
    assert since == instant_text(day(0))
    assert "slow" in sentence
    assert "has not received" in sentence


def test_dead_letters_are_counted_as_values_that_can_be_older(people):
    people.put("u", city=PAST)
    people.put("v")
    people.run(0)
    open_outbox(people.ledger(), Stream(), small_delivery(options={"user_properties": True})).drain(
        day(0), on_rejected="skip"
    )
    assert "dead letters: 1; the oldest dead letter is kept since" in "\n".join(
        describe(read_status(people.ledger(), 1))
    )
