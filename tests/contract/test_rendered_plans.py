"""A plan renders what a delivery then puts: the same documents, with masks in place of values."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from airflow_kinesis_audience.cli.rendering import render_for
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.changes.planned_rows import PlannedRows
from airflow_kinesis_audience.core.readers.masked_sample import MASK
from airflow_kinesis_audience.schemas import load_schema
from tests.warehouses import KINESIS_LIMITS, People, Stream, day, open_outbox, small_delivery

OPTIONS: dict[str, dict[str, Any]] = {
    "amplitude_cohort": {"user_properties": True, "max_users": 1},
    "mparticle_audience": {},
    "adobe_profile": {},
}
PRIVATE = ("u1", "u2", "u3", "u4", "u5", "example.com", "Oslo", "Bergen", "Rome")


def shape_of(found: Any) -> Any:
    """Give what of a message does not depend on its user: names, types, and which of them have something."""
    if isinstance(found, dict):
        return {name: shape_of(value) for name, value in found.items()}
    return [shape_of(value) for value in found] if isinstance(found, list) else type(found).__name__


def shapes_of(messages: list[Any]) -> list[str]:
    return sorted(json.dumps(shape_of(m), sort_keys=True) for m in messages)


@pytest.mark.parametrize("message_format", OPTIONS)
def test_what_a_plan_renders_is_what_is_put_then(duckdb_in_memory, message_format):
    people, stream = People(duckdb_in_memory, many=True), Stream()
    delivery = small_delivery(
        message_format=message_format, options=OPTIONS[message_format], limits=KINESIS_LIMITS
    )
    for user, city in (("u1", "Oslo"), ("u2", None), ("u3", "Bergen")):
        people.put(user, audience="a", city=city, email=f"{user}@example.com")
        people.put(f"{user}b", audience="b", city=city, email=f"{user}b@example.com")
    people.run(0)
    open_outbox(people.ledger(), stream, delivery).drain(day(0))
    people.take("u1", audience="a")
    people.change("u3", city="Rome")
    people.change("u3b", email=None)
    people.put("u4", audience="a", email="u4@example.com")
    people.put("u5", audience="a", city="Oslo")
    found = make_plan(people.ledger(), people.source, day(1), rows=PlannedRows(leading=9))
    rendered = render_for(found, delivery)
    first = render_for(
        make_plan(people.ledger(), people.source, day(1), rows=PlannedRows(leading=2)), delivery
    ).changes
    before = len(stream.messages)
    people.run(1)
    open_outbox(people.ledger(), stream, delivery).drain(day(1))
    put = [json.loads(m) for m in stream.messages[before:]]

    assert [(c.audience_id, c.action) for c, _ in rendered.changes] == [
        ("a", "entered"),
        ("a", "entered"),
        ("a", "exited"),
        ("a", "updated"),
        ("b", "updated"),
    ]
    assert [(c.audience_id, c.action) for c, _ in first] == [("a", "entered"), ("a", "entered"), ("b", "updated")]
    masked = [json.loads(m) for _, messages in rendered.changes for m in messages]
    assert shapes_of(masked) == shapes_of(put)
    for message in masked:
        jsonschema.validate(message, load_schema(message_format))
    text = json.dumps(masked, ensure_ascii=False)
    assert MASK in text
    assert [value for value in PRIVATE if value in text] == []


def test_an_own_format_is_not_rendered(duckdb_in_memory):
    people = People(duckdb_in_memory)
    people.put("u1", email="u1@example.com")
    found = make_plan(people.ledger(), people.source, day(0), rows=PlannedRows(leading=3))
    delivery = small_delivery(message_format="amplitude_cohort", options={"max_users": 2})
    assert [len(messages) for _, messages in render_for(found, delivery).changes] == [1]
    object.__setattr__(delivery, "message_format", "mine.render")
    rendered = render_for(found, delivery)
    assert rendered.changes == ()
    assert "your own format or transform" in rendered.missing
