"""A function of the author's makes other values of members; who they are and what happened it cannot change."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from airflow_kinesis_audience.core.model.messages import Envelope, Lifecycle, Notice
from airflow_kinesis_audience.core.model.profiles import Profiles
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.formats.transform import Transform, load_transform
from airflow_kinesis_audience.formats.transformed import TransformedRenderer, render_again
from tests.changes import AS_OF, Row, build_changes


def entered(user: str, **new: Any) -> Row:
    return Row("x", "entered", user, new=new)


def enrich(frame: pd.DataFrame) -> pd.DataFrame:
    frame["size"] = frame["city"].str.len()
    return frame.rename(columns={"city": "town"}).drop(columns="Email")


MIXED = [datetime(2026, 1, 1, 12), datetime(2026, 1, 1, 17, tzinfo=timezone(timedelta(hours=5))), None]
"""Times with a zone and without: Arrow alone would take the first for UTC, too."""


def one_profile() -> Profiles:
    nothing: dict[str, Any] = {
        f"{side}_{role}": {} for side in ("new", "old") for role in ("identities", "properties")
    }
    rows = {"position": [0], "user_id": ["a"], "bucket": ["000"], "changes": [1], "known": [False]}
    known = {"sync_id": "s", "as_of": AS_OF, "previous_as_of": None, "audience_names": {}, "rules": {}}
    return Profiles(**known, **rows, memberships=[""], **nothing)


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
        (
            lambda frame: frame.head(1),
            "returns 1 rows for 2; if it is to leave members out, set transform",
        ),
        (lambda frame: pd.concat([frame, frame]), "returns 4 rows for 2; it must not return a member twice"),
        (lambda frame: frame.assign(user_id="x"), "returns members that it did not get"),
        (lambda frame: frame.assign(user_id=7), "returns members that it did not get"),
        (
            lambda frame: frame.drop(columns="audience_id"),
            "removes audience_id; it must keep audience_id and",
        ),
        (lambda frame: frame.assign(at=datetime(2026, 1, 1)), "times without a time zone in 'at'; add the zone"),
        (lambda frame: frame.assign(at=pd.Series(MIXED[: len(frame)], dtype=object)), "times without a time zone"),
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


def test_its_rows_may_be_in_any_order():
    changes = build_changes([entered("a", city="x"), entered("b", city="y"), entered("c", city="z")])
    for ascending in (True, False):
        made = of(lambda frame, way=ascending: frame.sort_values("city", ascending=way)).apply(changes)
        assert (made.user_id, made.new_properties) == (changes.user_id, changes.new_properties)


def test_times_without_a_zone_are_utc_if_the_author_says_so():
    changes = build_changes([entered("a"), entered("b"), entered("c")])
    made = replace(of(lambda frame: frame.assign(at=MIXED, then=MIXED[0])), naive_times="utc").apply(changes)
    utc = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert {n: list(c) for n, c in made.new_properties.items()} == {"at": [utc, utc, None], "then": [utc] * 3}


def test_whom_it_leaves_out_was_never_there():
    """One row per way in which a member can be let through now, and before."""
    rows = [
        entered("enters", city="yes"),
        entered("hidden", city="no"),
        Row("x", "exited", "exits", old={"city": "yes"}),
        Row("x", "exited", "unseen", old={"city": "no"}),
        Row("x", "updated", "appears", old={"city": "no"}, new={"city": "yes"}, updated="properties"),
        Row("x", "updated", "stays", old={"city": "yes"}, new={"city": "yes!"}, updated="properties"),
        Row("x", "updated", "vanishes", old={"city": "yes"}, new={"city": "no"}, updated="properties"),
        Row("x", "updated", "never", old={"city": "no"}, new={"city": None}, updated="properties"),
    ]
    filtering = replace(of(lambda frame: frame[frame["city"].fillna("no") != "no"]), filters=True)
    given, made = build_changes(rows), filtering.apply(build_changes(rows))
    cities = made.old_properties["city"], made.new_properties["city"]
    assert sorted(zip(made.user_id, made.action, made.updated, *cities, strict=True)) == [
        ("appears", "entered", None, None, "yes"),
        ("enters", "entered", None, None, "yes"),
        ("exits", "exited", None, "yes", None),
        ("stays", "updated", "properties", "yes", "yes!"),
        ("vanishes", "exited", None, "yes", None),
    ]
    assert list(made.position) == [n for n, user in enumerate(given.user_id) if user in made.user_id]
    renderer = TransformedRenderer(load_renderer("mparticle_audience", {}), filtering)
    assert renderer.traits.removes_by_update
    assert renderer.count_removed(build_changes([row for row in rows if row.action == "updated"])) == {"x": 1}


def test_profiles_are_not_left_out():
    with pytest.raises(ValueError, match="leaves members out; a format of profiles needs them all"):
        replace(of(lambda frame: frame.head(0)), filters=True).apply(one_profile())


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


def test_naive_times_has_two_values():
    with pytest.raises(ValueError, match="naive_times is 'local'; expected fail or utc"):
        load_transform("json.dumps", naive_times="local")


@pytest.mark.parametrize("path", ["", "enrich", "no.such.module", "json.nothing", "json.decoder", ".json.dumps"])
def test_a_path_that_names_no_function_is_refused(path):
    if path == "json.decoder":
        assert isinstance(json.decoder, types.ModuleType)
    with pytest.raises(ValueError, match="transform"):
        load_transform(path)
