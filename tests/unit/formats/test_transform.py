"""A function of the author's makes other values of members; who they are and what happened it cannot change."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from airflow_kinesis_audience.core.model.messages import Envelope, Lifecycle, Notice
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.formats.transform import Transform, TransformedRenderer, load_transform, render_again
from tests.changes import AS_OF, Row, build_changes


def entered(user: str, **new: Any) -> Row:
    return Row("x", "entered", user, new=new)


def enrich(frame: pd.DataFrame) -> pd.DataFrame:
    frame["size"] = frame["city"].str.len()
    return frame.rename(columns={"city": "town"}).drop(columns="Email")


def of(call: Callable[[pd.DataFrame], Any]) -> Transform:
    return Transform(path="mine.call", code="", call=call)


def some() -> Any:
    return build_changes(
        [
            entered("a", city="Bern"),
            Row("x", "exited", "c", old={"city": "Oslo"}, old_identities={"Email": "c@example.com"}),
            Row("x", "updated", "b", new={"city": "Rome"}, old={"city": None}, updated="properties"),
        ]
    )


def test_values_are_made_of_what_they_are_and_of_what_they_were():
    made = of(enrich).apply(some())
    assert (made.user_id, made.action) == (some().user_id, some().action)
    assert {n: list(c) for n, c in made.new_properties.items()} == {
        "size": [4, None, 4],
        "town": ["Bern", None, "Rome"],
    }
    assert {n: list(c) for n, c in made.old_properties.items()} == {
        "size": [None, 4, None],
        "town": [None, "Oslo", None],
    }
    assert (dict(made.new_identities), dict(made.old_identities)) == ({}, {})


def test_what_is_left_out_of_a_change_leaves_the_change_itself():
    made = of(lambda frame: frame[["audience_id", "user_id"]]).apply(some())
    assert len(made) == 3
    assert (dict(made.new_properties), dict(made.old_identities)) == ({}, {})


def test_values_keep_their_types_and_nothing_becomes_nan():
    kept = {"big": 2**53 + 1, "exact": Decimal("1.50"), "when": datetime(2026, 1, 1, tzinfo=UTC), "yes": True}
    changes = build_changes([entered("a", **kept), Row("y", "entered", "b", new=dict.fromkeys(kept))])
    made = of(lambda frame: frame.assign(none=None, nan=float("nan"))).apply(changes)
    assert {n: list(c) for n, c in made.new_properties.items()} == {
        **{n: [value, None] for n, value in kept.items()},
        "none": [None, None],
        "nan": [None, None],
    }


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda frame: frame.head(1), "returns 1 rows for 2; it must not add or remove"),
        (lambda frame: pd.concat([frame, frame]), "returns 4 rows for 2"),
        (lambda frame: frame.iloc[::-1], "changes audience_id|changes user_id"),
        (lambda frame: frame.assign(user_id="x"), "changes user_id"),
        (lambda frame: frame.drop(columns="audience_id"), "changes audience_id"),
        (lambda frame: frame.assign(city=[1, "a"]), "several types in 'city'"),
        (lambda frame: frame.assign(Email=7), "returns int64 for the identity 'Email'"),
        (lambda frame: frame.rename(columns={"city": 7}), "without a unique name"),
        (lambda frame: {}, "returns a dict; expected the changed frame"),
        (
            lambda frame: frame.rename(columns={"city": "x"} if len(frame) == 2 else {}),
            "always return the same columns",
        ),
    ],
)
def test_what_cannot_be_sent_is_refused(call, said):
    gone = Row("z", "exited", "c", old={"city": "z"}, old_identities={"Email": "c@example.com"})
    changes = build_changes([entered("a", city="x"), entered("b", city="y"), gone])
    with pytest.raises(ValueError, match=said):
        of(call).apply(changes)


def test_a_failure_shows_no_value():
    with pytest.raises(ValueError, match="failed with ValueError") as refused:
        of(lambda frame: frame["city"].astype("int64")).apply(some())
    assert "Bern" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None


@pytest.fixture
def module(monkeypatch, tmp_path):
    """A module of the author's, whose text a test may change."""
    monkeypatch.syspath_prepend(str(tmp_path))
    # What Python keeps of a module it tells from its text by second and size, and a test is faster than that.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> str:
        (tmp_path / "my_audiences.py").write_text(text)
        sys.modules.pop("my_audiences", None)
        return "my_audiences.enrich"

    return write


def delivery(path: str) -> Delivery:
    options = {"user_properties": True}
    renderer = TransformedRenderer(load_renderer("amplitude_cohort", options), load_transform(path))
    return Delivery(
        destination="kinesis://eu-west-1/a",
        connection="aws_default",
        message_format="amplitude_cohort",
        options=options,
        renderer=renderer,
        limits=KINESIS_LIMITS,
    )


def test_the_text_of_the_function_is_one_of_the_terms(module):
    first = delivery(module("def enrich(frame):\n    return frame.assign(a=1)\n"))
    same = delivery(module("def enrich(frame):\n    return frame.assign(a=1)\n"))
    other = delivery(module("def enrich(frame):\n    return frame.assign(a=2)\n"))
    assert first.render_config == same.render_config != other.render_config
    envelope = other.envelope("sync", ("", "2026-01-01T00:00:00Z"))
    [message, *_] = other.renderer(some(), envelope)
    assert next(render_again(json.loads(other.render_config), some(), envelope)) == message
    assert list(render_again(json.loads(first.render_config), some(), envelope)) == []
    assert json.loads(message.document)["users"][0]["user_properties"] == {"a": 2, "city": "Bern"}


def test_what_else_a_format_has_it_keeps():
    plain = load_renderer("mparticle_audience", {})
    over = TransformedRenderer(plain, of(enrich))
    assert over.traits.transform == ("mine.call", "")
    assert replace(over.traits, transform=None) == plain.traits
    notice = Notice(
        kind=Lifecycle.DELETED, number=0, time=AS_OF, audience_id="a", audience_name="A", members=1, exits=1
    )
    envelope = Envelope(batch_id=UUID(int=1), partitions=1, message_bytes=1_000)
    assert over.render_notice(notice, envelope) == plain.render_notice(notice, envelope)


@pytest.mark.parametrize("path", ["", "enrich", "no.such.module", "json.nothing", "json.decoder", ".json.dumps"])
def test_a_path_that_names_no_function_is_refused(path):
    if path == "json.decoder":
        assert isinstance(json.decoder, types.ModuleType)
    with pytest.raises(ValueError, match="transform"):
        load_transform(path)
