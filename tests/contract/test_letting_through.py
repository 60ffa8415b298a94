"""One run passes a guard, once: by a permission of its own, or held until a person releases what was seen."""

from __future__ import annotations

import pytest

from airflow_kinesis_audience.core.changes.approval import approve, is_approved
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.exceptions import (
    GuardTripped,
    HistoryGone,
    LedgerConflict,
    ReleaseRefused,
    RunSuperseded,
)
from airflow_kinesis_audience.core.state.sync_details import Event
from tests.warehouses import (
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_changes,
    read_membership,
    read_timeline,
)

TIGHT = Guards(max_exits=1)
ALL = {"permission": Permission(everything=True)}
HOLD = {"hold": True}


@pytest.fixture
def people(warehouse) -> People:
    """Give four members whom a stream has been told of, and then only one."""
    people = People(warehouse)
    people.put("u1", "u2", "u3", "u4", city="Bern")
    people.run(0)
    people.take("u2", "u3", "u4")
    return people


def users(people: People, number: int) -> set[str]:
    return {user for _, user in read_membership(people.ledger(), day(number))}


def test_a_stopped_run_may_pass_with_a_permission_and_the_next_one_may_not(people):
    with pytest.raises(GuardTripped, match=r"3 of 4 members would exit \(max_exits is 1\).*let_through"):
        people.run(1, guards=TIGHT)
    assert users(people, 0) == {"u1", "u2", "u3", "u4"}
    summary = people.run(1, guards=TIGHT, how=ALL)
    assert (summary["exited"], summary["let_through"]) == (
        3,
        ["audience 'vips': 3 of 4 members would exit (max_exits is 1)"],
    )
    people.put("v1", "v2")
    people.run(2)
    people.take("v1", "v2")
    with pytest.raises(GuardTripped):
        people.run(3, guards=TIGHT)


def test_a_permission_for_an_audience_that_is_none_is_named_where_it_would_have_been_needed(people):
    typo = {"permission": Permission(audiences=["vip", "vips-2"])}
    with pytest.raises(GuardTripped, match="let_through names 'vip', 'vips-2', which this sync does not have"):
        people.run(1, guards=TIGHT, how=typo)
    assert people.run(1, guards=TIGHT, how={"permission": Permission(audiences=["vips", "of another sync"])})
    people.put("u2")
    assert people.run(2, guards=TIGHT, how=typo)["entered"] == 1


def test_a_permission_is_used_up_by_the_change_set_that_passed_with_it(people):
    passed = people.run(1, guards=TIGHT, how=ALL)
    people.clear()
    assert people.run(1, guards=TIGHT, how=ALL) == {**passed, "recorded": True}
    with pytest.raises(GuardTripped):
        people.run(2, guards=TIGHT)


def test_a_run_that_needed_no_permission_is_computed_again_like_any(people):
    people.put("u2", "u3")
    people.run(1, guards=TIGHT, how=ALL)
    people.put("u5")
    assert people.run(1, guards=TIGHT)["entered"] == 1


def test_a_permission_for_one_audience_is_none_for_another(warehouse):
    people = People(warehouse, many=True)
    people.put("u1", "u2", audience="a")
    people.put("u1", "u2", "u3", audience="b")
    people.run(0)
    people.take("u1", "u2", audience="a")
    people.take("u1", "u2", audience="b")
    named = {"permission": Permission(audiences=["a"])}
    with pytest.raises(GuardTripped, match="audience 'b'") as stopped:
        people.run(1, guards=TIGHT, how=named)
    assert "audience 'a'" not in str(stopped.value)
    people.put("u1", audience="b")
    assert people.run(1, guards=TIGHT, how=named)["exited"] == 3


def test_what_is_held_is_not_there_until_it_is_released_and_then_it_is_the_very_one(people):
    stream = Stream()
    open_outbox(people.ledger(), stream).drain(day(0))
    held = people.run(1, guards=TIGHT, how=HOLD)
    assert (held["exited"], held["held"]) == (3, ["audience 'vips': 3 of 4 members would exit (max_exits is 1)"])
    assert read_timeline(people.ledger()).newest.as_of == day(0)
    with pytest.raises(HistoryGone, match="held for approval"):
        open_outbox(people.ledger(), stream).drain(day(1))
    people.clear()
    released = approve(people.ledger(), day(1), held["held_table"])
    assert released == approve(people.ledger(), day(1), held["held_table"])
    assert (released["exited"], released["let_through"]) == (3, held["held"])
    open_outbox(people.ledger(), stream).drain(day(1))
    assert members_of(stream.consume()) == {"vips": {"u1"}}
    assert people.run(1, guards=TIGHT)["members"] == 1


def test_a_first_run_can_be_held_and_released(warehouse):
    people, few = People(warehouse), Guards(min_members=2)
    people.put("u1")
    held = people.run(0, guards=few, how=HOLD)
    assert (held["held"], held["previous_as_of"]) == (
        ["audience 'vips': 1 members would remain (min_members is 2)"],
        None,
    )
    approve(people.ledger(), day(0), held["held_table"])
    assert users(people, 0) == {"u1"}


def test_where_no_guard_trips_nothing_is_held(people):
    people.put("u2", "u3")
    assert "held" not in people.run(1, guards=TIGHT, how=HOLD)
    assert read_timeline(people.ledger()).held is None


def test_an_approval_that_comes_after_the_next_run_is_refused_and_its_table_goes(people):
    held = people.run(1, guards=TIGHT, how=HOLD)
    people.put("u2", "u3")
    people.run(2, guards=TIGHT)
    with pytest.raises(ReleaseRefused, match="Clear the diff task"):
        approve(people.ledger(), day(1), held["held_table"])
    assert held["held_table"] not in people.tables()
    assert users(people, 2) == {"u1", "u2", "u3"}
    with pytest.raises(RunSuperseded):
        people.run(1)


def test_an_approval_is_for_the_numbers_that_were_seen_and_not_for_others(people):
    seen = people.run(1, guards=TIGHT, how=HOLD)
    people.clear()
    anew = people.run(1, guards=TIGHT, how=HOLD)
    with pytest.raises(ReleaseRefused):
        approve(people.ledger(), day(1), seen["held_table"])
    assert not is_approved(people.ledger(), day(1), anew["held_table"])
    assert approve(people.ledger(), day(1), anew["held_table"])["exited"] == 4
    people.run(2)
    assert seen["held_table"] not in people.tables()


def test_a_held_table_outlives_runs_that_fail_and_a_stopped_run(people):
    held = people.run(1, guards=TIGHT, how=HOLD)
    with pytest.raises(GuardTripped):
        people.run(2, guards=TIGHT)
    assert approve(people.ledger(), day(1), held["held_table"])["exited"] == 3


def test_a_run_that_is_computing_while_a_person_approves_stops_and_goes_on_from_what_was_approved(people, reopen):
    held = people.run(1, guards=TIGHT, how=HOLD)
    people.put("u7")
    watched = Watched(people.warehouse)
    done = []

    def approve_meanwhile(sql: str) -> None:
        if sql.startswith("CREATE TABLE") and not done:
            done.append(approve(people.ledger(reopen()), day(1), held["held_table"]))

    watched.after = approve_meanwhile
    with pytest.raises(LedgerConflict):
        people.sync(watched).run(day(2))
    assert people.run(2)["previous_as_of"] == done[0]["as_of"]
    assert users(people, 2) == {"u1", "u7"}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_approval_that_dies_half_way_is_done_by_its_retry(people, moment):
    held = people.run(1, guards=TIGHT, how=HOLD)
    for at in range(10):
        watched, seen = Watched(people.warehouse), []

        def die(sql: str, watched: Watched = watched, seen: list[str] = seen, at: int = at) -> None:
            seen.append(sql)
            if len(seen) > at:
                watched.kill()

        setattr(watched, moment, die)
        try:
            approve(people.ledger(watched), day(1), held["held_table"])
            break
        except Killed:
            assert read_timeline(people.ledger()).find(day(1)) or held["held_table"] in people.tables()
    assert approve(people.ledger(), day(1), held["held_table"])["exited"] == 3
    assert users(people, 1) == {"u1"}


def test_a_held_change_set_is_on_the_line_once(people):
    held = people.run(1, guards=TIGHT, how=HOLD)
    approve(people.ledger(), day(1), held["held_table"])
    ledger = people.ledger()
    ledger.read()
    events = [e.event for e in ledger.entries() if e.as_of == day(1) and e.event is not Event.DROPPED]
    assert events == [Event.STARTED, Event.HELD, Event.STARTED, Event.CHANGE_SET]
    [changes] = read_changes(people.ledger(), day(1))
    assert list(changes.action) == ["exited"] * 3


DROP = Guards(max_exit_ratio=None, on_empty="exit_all", on_invalid_rows="drop")


@pytest.mark.parametrize("number", [0, 1], ids=["first run", "later run"])
def test_rows_that_name_nobody_or_repeat_a_user_are_dropped_and_counted(warehouse, number):
    people = People(warehouse, many=True)
    if number:
        people.put("u1", audience="a", city="Bern")
        people.run(0)
        people.clear()
    people.put("u1", audience="a", city="Bern")
    people.put("u1", audience="a", city="Aarau")
    people.put("u1", audience="a", city=None)
    people.put("u1", audience="b", city="Rome")
    people.put(None, "", "u2", "u2", audience="b")
    people.put("u9", audience=None)
    for again in range(2):
        summary = people.run(number + again, guards=DROP)
        assert summary["dropped_rows"] == 6
        assert {a: c["members"] for a, c in summary["audiences"].items()} == {"a": 1, "b": 2}
        found = {key: values[-1] for key, values in read_membership(people.ledger(), day(number + again)).items()}
        assert found == {("a", "u1"): "Aarau", ("b", "u1"): "Rome", ("b", "u2"): None}
    assert [summary[n] for n in ("entered", "exited", "updated")] == [0, 0, 0]
    with pytest.raises(GuardTripped, match=r"1 rows have no audience id.*2 of 5 rows have no user id"):
        people.run(3, guards=Guards())


def test_which_of_two_rows_of_a_user_is_kept_does_not_depend_on_their_order(warehouse):
    people = People(warehouse)
    kept = []
    for number, rows in enumerate([("Rome", "Bern"), ("Bern", "Rome")]):
        people.clear()
        for city in rows:
            people.put("u1", city=city)
        people.run(number, guards=DROP)
        kept.append([v[-1] for v in read_membership(people.ledger(), day(number)).values()])
    assert kept == [["Bern"], ["Bern"]]


def test_a_permission_lets_rows_in_disorder_through_without_them(people):
    people.put("u1", city="Rome")
    with pytest.raises(GuardTripped, match=r"1 of 2 rows repeat a user id \(on_invalid_rows is fail; drop leaves"):
        people.run(1)
    summary = people.run(1, how=ALL)
    assert (summary["dropped_rows"], summary["members"]) == (1, 1)
    held = people.run(2, how=HOLD)
    assert "repeat a user id" in held["held"][0]
    assert approve(people.ledger(), day(2), held["held_table"])["members"] == 1
