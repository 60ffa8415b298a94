"""Amplitude's messages: their bytes, the users they carry, and the bounds they keep."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from airflow_kinesis_audience.core.model.messages import (
    Envelope,
    Lifecycle,
    Message,
    Notice,
    Oversized,
    derive_batch_id,
)
from airflow_kinesis_audience.formats.amplitude import AmplitudeCohort
from tests.changes import Row, build_changes

GOLDEN = Path(__file__).parents[2] / "golden" / "amplitude_cohort.ndjson"
JOB = derive_batch_id(
    sync_id="demo.diff",
    previous_as_of="2026-01-30T00:00:00Z",
    as_of="2026-01-31T00:00:00Z",
    destination="audience-changes",
    render_config="amplitude_cohort 1 {}",
)
ENVELOPE = Envelope(batch_id=JOB, partitions=1, message_bytes=1_000_000)

VENDOR_EXAMPLE = """
{"cohort_name": "Test Cohort", "cohort_id": "gs72ns", "in_cohort": true, "computed_time": "1685748245",
 "message_id": "some-message-id:54", "users": [
  {"user_id": "user1@amplitude.com", "user_properties": {"city": "San Francisco", "fav_animal": "Bat"}},
  {"user_id": "user2@amplitude.com", "user_properties": {"city": "Seattle", "fav_animal": "Cat"}}]}
"""

ROWS = [
    Row("gs72ns", "entered", "u1@example.com", new={"city": "Zürich", "visits": 3, "spent": Decimal("10.50")}),
    Row("gs72ns", "entered", "u2@example.com", new={"city": 'O"Fallon', "visits": None, "score": 0.5}),
    Row("gs72ns", "entered", "u3@example.com", new={"visits": 2**60, "vip": True, "score": float("nan")}),
    Row("gs72ns", "exited", "u4@example.com", old={"city": "Lyon", "visits": 1}),
    Row("gs72ns", "updated", "u5@example.com", new={"city": "Bern"}, old={"city": "Rome"}, updated="properties"),
    Row("gs72ns", "updated", "u6@example.com", updated="identities", new={"city": "Oslo"}, old={"city": "Oslo"}),
    Row("gs72ns", "updated", "u7@example.com", updated="both", new={"visits": 2}, old={"visits": 1}),
    Row("lapsed-90", "entered", "u1@example.com", new={"born": date(1990, 2, 28)}),
    Row("lapsed-90", "exited", "u8@example.com"),
    Row("lapsed-90", "exited", "Ünï\n\u2028", old={"city": "\U0001f987"}),
    Row(
        "lapsed-90",
        "entered",
        "u9@example.com",
        new={"seen": datetime(2026, 1, 30, 1, 2, 3, 45, tzinfo=timezone(timedelta(hours=1)))},
    ),
]


def small_changes():
    return build_changes(ROWS, audience_names={"lapsed-90": 'Lapsed "90" days'})


def render(renderer, changes, envelope=ENVELOPE):
    return list(renderer(changes, envelope))


def read(messages):
    return [json.loads(message.document, parse_constant=pytest.fail) for message in messages]


def user_ids(documents):
    return [user["user_id"] for document in documents for user in document["users"]]


def test_the_bytes_are_the_golden_ones():
    renderers = [
        AmplitudeCohort(),
        AmplitudeCohort(max_users=2),
        AmplitudeCohort(user_properties=True),
        AmplitudeCohort(user_properties=["visits", "city"]),
    ]
    rendered = [m.document + b"\n" for renderer in renderers for m in render(renderer, small_changes())]
    assert b"".join(rendered) == GOLDEN.read_bytes()


def test_the_vendors_example_comes_out_given_its_values():
    example = json.loads(VENDOR_EXAMPLE)
    rows = [
        Row("gs72ns", "entered", user["user_id"], new=user["user_properties"], bucket=f"00{place}")
        for place, user in enumerate(example["users"])
    ]
    changes = build_changes(
        rows, audience_names={"gs72ns": "Test Cohort"}, as_of=datetime.fromtimestamp(1685748245, UTC)
    )
    (message,) = render(AmplitudeCohort(user_properties=True), changes)
    ours = json.loads(message.document)
    assert type(ours["message_id"]) is type(example["message_id"])
    ours["message_id"] = example["message_id"]
    # As text, so that the order of the keys counts, too.
    assert json.dumps(ours) == json.dumps(example)


def test_a_message_id_is_derived_from_the_job_the_direction_and_the_first_changes_position():
    documents = read(render(AmplitudeCohort(max_users=2), small_changes()))
    assert [document["message_id"] for document in documents] == [
        f"{JOB}::{kind}" for kind in ("enter::0", "enter::2", "exit::3", "enter::7", "exit::9")
    ]


def test_exits_carry_user_ids_alone_and_without_being_asked_entries_do_too():
    for document in read(render(AmplitudeCohort(), small_changes())):
        assert all(list(user) == ["user_id"] for user in document["users"])
    for document in read(render(AmplitudeCohort(user_properties=True), small_changes())):
        assert all(("user_properties" in user) == document["in_cohort"] for user in document["users"])


def test_null_properties_are_null_and_a_list_sends_exactly_those_in_its_order():
    renderer = AmplitudeCohort(user_properties=["visits", "city"])
    users = {u["user_id"]: u for d in read(render(renderer, small_changes())) for u in d["users"]}
    properties = users["u2@example.com"]["user_properties"]
    assert list(properties.items()) == [("visits", None), ("city", 'O"Fallon')]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (False, set()),
        ([], set()),
        (True, {"u5@example.com", "u7@example.com"}),
        (["city"], {"u5@example.com"}),
        (["visits"], {"u7@example.com"}),
        (["vip"], set()),
        (["city", "visits"], {"u5@example.com", "u7@example.com"}),
    ],
)
def test_an_update_is_sent_only_if_it_touches_a_property_that_is_sent(asked, sent):
    documents = read(render(AmplitudeCohort(user_properties=asked), small_changes()))
    updated = {row.user_id for row in ROWS if row.action == "updated"}
    assert {user_id for user_id in user_ids(documents) if user_id in updated} == sent
    assert all(d["in_cohort"] for d in documents if updated & set(user_ids([d])))


def test_what_is_not_a_number_before_and_after_is_no_difference():
    nan = float("nan")
    rows = [Row("a", "updated", "u", new={"x": nan, "y": 1}, old={"x": nan, "y": 2}, updated="properties")]
    assert render(AmplitudeCohort(user_properties=["x"]), build_changes(rows)) == []
    assert len(render(AmplitudeCohort(user_properties=["y"]), build_changes(rows))) == 1


def test_a_change_set_without_changes_has_no_messages():
    assert render(AmplitudeCohort(user_properties=True), build_changes([])) == []


@pytest.mark.parametrize("max_users", [0, -1, True, "10", 1.0, None])
def test_max_users_must_be_a_whole_number_from_one_on(max_users):
    with pytest.raises(ValueError, match=r"^max_users is .*; expected a whole number of 1 or more"):
        AmplitudeCohort(max_users=max_users)


@pytest.mark.parametrize("asked", ["city", b"city", None, 1, {"city"}, [1], ["city", "city"]])
def test_user_properties_must_be_a_choice_or_a_list_of_different_names(asked):
    with pytest.raises(ValueError, match=r"^user_properties"):
        AmplitudeCohort(user_properties=asked)


def test_an_unknown_property_is_refused_with_the_mapped_ones():
    changes = build_changes([Row("a", "entered", "u", new={"city": "x", "age": 1})])
    with pytest.raises(ValueError, match=r"^user_properties names 'town'; the mapped properties are age, city$"):
        render(AmplitudeCohort(user_properties=["city", "town"]), changes)


def test_more_properties_than_the_vendor_takes_are_refused_and_fifty_are_not():
    names = [f"p{number}" for number in range(51)]
    changes = build_changes([Row("a", "entered", "u")], properties=names)
    with pytest.raises(ValueError, match="are 51; Amplitude takes at most 50"):
        AmplitudeCohort(user_properties=names)
    with pytest.raises(ValueError, match="are 51; Amplitude takes at most 50"):
        render(AmplitudeCohort(user_properties=True), changes)
    (document,) = read(render(AmplitudeCohort(user_properties=names[:50]), changes))
    assert list(document["users"][0]["user_properties"]) == names[:50]


def test_one_user_who_does_not_fit_is_named_by_a_digest_and_the_audience_alone():
    rows = [
        Row("gs72ns", "entered", "ann@example.com", new={"notes": "private " * 50}),
        Row("gs72ns", "entered", "b"),
    ]
    changes = build_changes(rows)
    (whole,) = render(AmplitudeCohort(user_properties=True), build_changes(rows[:1]))
    size = len(whole.document)
    exact = replace(ENVELOPE, message_bytes=size)
    assert sum(m.changes for m in render(AmplitudeCohort(user_properties=True), changes, exact)) == 2
    tight = replace(ENVELOPE, message_bytes=size - 1)
    sent = render(AmplitudeCohort(user_properties=True), changes, tight)
    digest = hashlib.sha256(b"ann@example.com").hexdigest()[:12]
    position = changes.user_id.index("ann@example.com")
    assert [t for t in sent if isinstance(t, Oversized)] == [Oversized(position, 1, digest, size)]
    assert sum(t.changes for t in sent if isinstance(t, Message)) == 1


@pytest.mark.parametrize("asked", [False, True])
def test_a_message_is_filled_to_the_last_byte_and_not_beyond(asked):
    changes = build_changes([Row("a", "entered", f"user {n}", new={"city": "é" * n}) for n in range(9)])
    renderer = AmplitudeCohort(user_properties=asked)
    (whole,) = render(renderer, changes)
    exact, short = (
        [m.changes for m in render(renderer, changes, replace(ENVELOPE, message_bytes=len(whole.document) - less))]
        for less in (0, 1)
    )
    assert exact == [9]
    assert short == [8, 1]


def test_a_value_without_exact_json_is_named_by_its_property():
    changes = build_changes([Row("a", "entered", "u", new={"tags": ["private"]})])
    with pytest.raises(ValueError, match=r"^property tags has list") as caught:
        render(AmplitudeCohort(user_properties=True), changes)
    assert "private" not in str(caught.value)
    assert len(render(AmplitudeCohort(), changes)) == 1


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (Lifecycle.RESYNC_BEGIN, {"event": "resync_begin", "members": 3, "exits": 2}),
        (Lifecycle.RESYNC_COMPLETE, {"event": "resync_complete", "members": 3, "exits": 2}),
        (Lifecycle.DELETED, {"event": "deleted"}),
    ],
)
def test_a_notice_is_a_batch_of_no_users_with_a_key_of_its_own(kind, sent):
    notice = Notice(
        kind=kind,
        number=4,
        time=datetime(2026, 1, 31, tzinfo=UTC),
        audience_id="gs72ns",
        audience_name='Lapsed "90" days',
        members=3,
        exits=2,
    )
    message = AmplitudeCohort().render_notice(notice, ENVELOPE)
    assert json.loads(message.document) == {
        "cohort_name": 'Lapsed "90" days',
        "cohort_id": "gs72ns",
        "in_cohort": kind is not Lifecycle.DELETED,
        "computed_time": "1769817600",
        "message_id": f"{JOB}::{kind}::4",
        "users": [],
        "lifecycle": sent,
    }
    assert (message.changes, b"\n" in message.document) == (0, False)
    assert json.loads(message.document).keys() - {"lifecycle"} == json.loads(VENDOR_EXAMPLE).keys()
