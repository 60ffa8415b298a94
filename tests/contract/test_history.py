"""What was true at an instant, and what became of one user, is found again from the state alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_kinesis_audience.core.exceptions import HistoryGone
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.names import view_name
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.formats.own import OwnRenderer
from airflow_kinesis_audience.history import changes_frame, find_user, members_frame, read_members
from tests.warehouses import Killed, People, Stream, day, open_outbox, small_delivery

PROPERTIES = {"max_users": 2, "user_properties": True}


@pytest.fixture
def people(warehouse) -> People:
    people = People(warehouse, many=True)
    people.put(*(f"m{n}" for n in range(9)), audience="a", title="A", city="Bern")
    people.put("u", audience="a", title="A", city="Bern")
    people.put("u", audience="b", title="B")
    people.run(0)
    return people


def detailed_delivery() -> object:
    return small_delivery(options=PROPERTIES)


def messages_about(stream: Stream, user: str) -> list[tuple[str, str, bool, str]]:
    """List time, audience, direction and id of all messages on the stream that hold a user, in order."""
    found = []
    for message in map(json.loads, stream.messages):
        if any(u["user_id"] == user for u in message["users"]):
            time = int(message["computed_time"]) - int(day(0).timestamp())
            found.append((time // 86400, message["cohort_id"], message["in_cohort"], message["message_id"]))
    return found


def test_the_members_at_any_instant_are_those_of_the_newest_membership_before_it(people):
    true = {}
    for number in range(6):
        people.put(f"n{number}", audience="b", title="B")
        people.take(f"m{number}", audience="a")
        people.run(number + 1, compaction_share=0.1)
        true[number + 1] = {(a, u) for a, users in people.members().items() for u in users}
    for number, expected in true.items():
        for at in (day(number), day(number) + timedelta(hours=23, minutes=59)):
            assert {(m.audience_id, m.user_id) for m in read_members(people.ledger(), at)} == expected
    since = {m.user_id: m.member_since for m in read_members(people.ledger(), day(6)) if m.audience_id == "b"}
    assert since == {"u": instant_text(day(0)), **{f"n{n}": instant_text(day(n + 1)) for n in range(6)}}
    with pytest.raises(HistoryGone, match="had no membership at 2025-12-31"):
        list(read_members(people.ledger(), day(-1)))


def test_what_the_retention_dropped_is_said_to_be_gone(people):
    for number in range(1, 5):
        people.put(f"n{number}", audience="b", title="B")
        people.run(number, compaction_share=0.0, keep_history=timedelta(days=1))
    with pytest.raises(HistoryGone, match="no longer kept"):
        list(read_members(people.ledger(), day(0)))
    assert list(read_members(people.ledger(), day(4)))


def test_of_a_user_every_change_is_found_with_the_very_message_that_holds_it(people):
    stream = Stream()
    open_outbox(people.ledger(), stream, detailed_delivery()).drain(day(0))
    people.change("u", city="Rome")
    people.run(1)
    people.take("u", audience="a")
    people.run(2)
    open_outbox(people.ledger(), stream, detailed_delivery()).drain(day(2))
    people.put("u", audience="a", title="A", city="Oslo")
    people.run(3)
    open_outbox(people.ledger(), stream, detailed_delivery()).drain(day(3))
    found = find_user(people.ledger(), "u")
    assert [(m.audience_id, m.member_since) for m in found.memberships] == [
        ("a", instant_text(day(3))),
        ("b", instant_text(day(0))),
    ]
    changes = [(c.as_of, c.audience_id, c.action) for c in found.changes]
    assert changes == [
        (instant_text(day(0)), "a", "member"),
        (instant_text(day(0)), "b", "member"),
        (instant_text(day(0)), "a", "entered"),
        (instant_text(day(0)), "b", "entered"),
        (instant_text(day(1)), "a", "updated"),
        (instant_text(day(1)), "b", "updated"),
        (instant_text(day(2)), "a", "exited"),
        (instant_text(day(3)), "a", "entered"),
    ]
    ids = [t.message_id for c in found.changes for t in c.deliveries if t.message_id]
    assert sorted(ids) == sorted(message_id for *_, message_id in messages_about(stream, "u"))
    assert len(ids) == 6
    states = [[t.state for t in c.deliveries] for c in found.changes]
    assert states == [["delivered"]] * 2 + [["before attachment"]] * 2 + [["delivered"]] * 4
    assert all(t.recorded_at for c in found.changes for t in c.deliveries if t.state == "delivered")


def test_what_is_under_way_or_pending_is_found_so(people):
    stream = Stream()
    open_outbox(people.ledger(), stream, detailed_delivery()).drain(day(0))
    people.take("u", audience="a")
    people.run(1)
    people.take("u", audience="b")
    people.run(2)

    def die(number, batch):
        raise Killed(taken=False)

    stream.script = die
    with pytest.raises(Killed):
        open_outbox(people.ledger(), stream, detailed_delivery()).drain(day(1))
    exits = [c for c in find_user(people.ledger(), "u").changes if c.action == "exited"]
    assert [(c.audience_id, c.deliveries[0].state, bool(c.deliveries[0].message_id)) for c in exits] == [
        ("a", "under way", True),
        ("b", "pending", False),
    ]
    assert find_user(people.ledger(), "u").memberships == []


def test_each_destination_has_a_status_of_its_own(people):
    early, late = Stream(), Stream()
    open_outbox(people.ledger(), early).drain(day(0))
    people.take("u", audience="a")
    people.run(1)
    outbox = open_outbox(people.ledger(), late, small_delivery("late"))
    outbox.drain(day(1), on_first_run="baseline")
    people.put("u", audience="a", title="A")
    people.run(2)
    for stream, name in ((early, "a"), (late, "late")):
        open_outbox(people.ledger(), stream, small_delivery(name)).drain(day(2))
    states = {
        (c.as_of[:10], c.action, t.destination[-4:]): t.state for c in found_of(people) for t in c.deliveries
    }
    assert {how for how, state in states.items() if state == "known before"} == {
        ("2026-01-01", "entered", "late"),
        ("2026-01-02", "exited", "late"),
    }
    assert [how for how, state in states.items() if state == "before attachment"] == [
        ("2026-01-01", "entered", "st-1/a"[-4:])
    ]
    ids = {
        (c.action, t.destination[-4:]): t.message_id
        for c in find_user(people.ledger(), "u").changes
        for t in c.deliveries
        if c.audience_id == "a"
    }
    assert ids["exited", "late"] is None
    assert ids["entered", "late"] == messages_about(late, "u")[-1][-1]
    assert ids["entered", "st-1/a"[-4:]] == messages_about(early, "u")[-1][-1]


def found_of(people):
    return [c for c in find_user(people.ledger(), "u").changes if c.audience_id == "a"]


def test_nobody_is_found_where_nothing_is_and_nothing_of_somebody_unknown(people):
    found = find_user(people.ledger(), "nobody' OR '1'='1")
    assert (found.memberships, found.changes) == ([], [])
    other = people.sync(ledger=replace_sync(people, "never.run")).ledger
    assert find_user(other, "u").memberships == []


def replace_sync(people: People, sync_id: str):
    ledger = people.ledger()
    return type(ledger)(ledger.warehouse, ledger.schema, sync_id)


def test_a_format_of_the_authors_own_has_a_state_but_no_ids(people):
    delivery = replace(detailed_delivery(), message_format="tests.contract.test_history.WordOfMouth", options={})
    delivery = replace(delivery, renderer=OwnRenderer(WordOfMouth(), delivery.message_format))
    open_outbox(people.ledger(), Stream(), delivery).drain(day(0))
    [first, *_] = find_user(people.ledger(), "u").changes
    assert (first.deliveries[0].state, first.deliveries[0].message_id) == ("delivered", None)


class WordOfMouth:
    """A format that nothing here can read."""

    def __call__(self, changes, envelope):
        for message in load_renderer("amplitude_cohort", {})(changes, envelope):
            yield message._replace(document=b'"psst"')


def test_a_view_shows_every_change_that_is_kept_and_follows_what_is_dropped(people):
    settings = {"history_view": True, "compaction_share": 0.0, "keep_history": timedelta(days=2)}
    view = f'{people.schema}."{view_name("dag.diff")}"'
    for number in range(1, 8):
        people.take("u", audience="b") if number % 2 else people.put("u", audience="b", title="B")
        people.run(number, **settings)
        rows = people.warehouse.read_rows(
            f"SELECT as_of, action FROM {view} WHERE user_id = 'u' AND audience_id = 'b' ORDER BY as_of"
        )
        assert rows[-1] == (instant_text(day(number)), "exited" if number % 2 else "entered")
    assert len(rows) == 3
    assert len(people.tables() - {view_name("dag.diff")}) <= 7


def test_a_table_that_somebodys_view_stands_on_stops_no_run(people):
    for number in range(1, 5):
        people.put(f"n{number}", audience="b", title="B")
        people.run(number, compaction_share=0.0, keep_history=timedelta(0))
        for name in people.tables():
            if name.startswith(("base", "changes")):
                select = f'SELECT * FROM {people.schema}."{name}"'
                people.warehouse.execute(f'CREATE OR REPLACE VIEW {people.schema}."v_{name[-6:]}" AS {select}')
    assert people.run(5, compaction_share=0.0, keep_history=timedelta(0))["members"] == 15


def test_what_was_told_by_profiles_has_no_message_of_one_change(people):
    delivery = small_delivery(message_format="adobe_profile", options={})
    open_outbox(people.ledger(), Stream(), delivery).drain(day(0))
    people.take("u", audience="b")
    people.run(1)
    open_outbox(people.ledger(), Stream(), delivery).drain(day(1))
    [gone] = [h for h in find_user(people.ledger(), "u").changes if h.action == "exited"]
    assert [(t.message_format, t.state, t.message_id) for t in gone.deliveries] == [
        ("adobe_profile", "delivered", None)
    ]


def test_frames_hold_the_members_at_an_instant_and_what_a_run_has_found(people):
    people.take("u", audience="b")
    people.put("u", audience="b", title="B", city="Oslo")
    people.take("m0", audience="a")
    people.put("n", audience="b", title="B", city="Rome")
    people.run(1)
    ledger = people.ledger()
    first, second = members_frame(ledger, day(0)), members_frame(ledger, instant_text(day(1)))
    for number, frame in ((0, first), (1, second)):
        expected = {(m.audience_id, m.user_id, m.member_since) for m in read_members(ledger, day(number))}
        assert set(zip(frame["audience_id"], frame["user_id"], frame["member_since"], strict=True)) == expected
        assert len(frame) == len(expected)
    assert {(r.user_id, r.city) for r in second.itertuples() if r.audience_id == "b"} == {
        ("u", "Oslo"),
        ("n", "Rome"),
    }
    frame = changes_frame(ledger, day(1)).set_index("user_id").astype(object)
    frame = frame.where(frame.notna(), None)
    shown = frame[["audience_id", "action", "city", "old city"]].to_dict("index")
    assert shown == {
        "m0": {"audience_id": "a", "action": "exited", "city": None, "old city": "Bern"},
        "n": {"audience_id": "b", "action": "entered", "city": "Rome", "old city": None},
        "u": {"audience_id": "b", "action": "updated", "city": "Oslo", "old city": None},
    }


def test_a_frame_of_what_is_not_there_says_why(people):
    people.run(1)
    ledger = people.ledger()
    with pytest.raises(HistoryGone, match="so there is no change set: all members entered"):
        changes_frame(ledger, day(0))
    with pytest.raises(HistoryGone, match="as of 2026-01-10T00:00:00Z does not exist"):
        changes_frame(ledger, day(9))
    with pytest.raises(HistoryGone, match="had no membership"):
        members_frame(ledger, day(-1))
    assert changes_frame(ledger, day(1)).empty
