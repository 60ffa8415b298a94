"""An audience that is emptied in small steps is stopped by the exits of a day, which the ledger knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_kinesis_audience.core.changes import counts as counts_module
from airflow_kinesis_audience.core.changes.approval import approve_audiences
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.exceptions import GuardTripped
from tests.warehouses import LET_ALL_THROUGH, People, Watched, day

HOUR = 1 / 24
OF_A_DAY = Guards(max_exit_ratio_per_day=0.6)


def keep(people: People, count: int, audience: str = "vips") -> None:
    """Let the first so many users be the members."""
    people.warehouse.execute(f"DELETE FROM {people.table} WHERE audience = '{audience}'")
    people.put(*(f"u{n}" for n in range(count)), audience=audience)


@pytest.fixture
def people(warehouse) -> People:
    people = People(warehouse)
    keep(people, 400)
    people.run(0)
    return people


def test_an_audience_is_not_emptied_in_eight_runs_of_half_each(people):
    for number, left in enumerate([208, 109], 1):
        keep(people, left)
        if left == 208:
            assert people.run(number * HOUR, guards=OF_A_DAY)["exited"] == 192
    said = r"291 of 400 members would have exited within a day, 73% \(max_exit_ratio_per_day is 60%\)"
    plan = make_plan(people.ledger(), people.source, day(2 * HOUR), guards=OF_A_DAY)
    with pytest.raises(GuardTripped, match=said) as stopped:
        people.run(2 * HOUR, guards=OF_A_DAY)
    assert [str(b) for b in plan.stopped] == list(stopped.value.sentences)
    for number, left in enumerate([109, 57, 30], 2):
        keep(people, left)
        assert people.run(number * HOUR)["members"] == left, "without it each run is within its own bound"


def test_a_run_that_was_let_through_does_not_count_again_and_neither_does_yesterday(people):
    guards = replace(OF_A_DAY, max_exit_ratio=None)
    keep(people, 200)
    people.run(HOUR, guards=guards)
    keep(people, 180)
    assert people.run(HOUR, guards=guards)["exited"] == 220, "the same instant again counts once"
    keep(people, 140)
    passed = people.run(2 * HOUR, guards=guards, how={"permission": Permission(everything=True)})
    assert "260 of 400 members would have exited within a day, 65%" in passed["let_through"][0]
    keep(people, 70)
    assert people.run(3 * HOUR, guards=guards)["exited"] == 70
    keep(people, 40)
    with pytest.raises(GuardTripped, match="100 of 140 members"):
        people.run(1 + 2.5 * HOUR, guards=guards)
    assert people.run(1 + 3 * HOUR, guards=guards)["exited"] == 30, "it is a day since the other"


@pytest.mark.parametrize("few", [20, 1], ids=["each by itself", "as a whole"])
def test_each_of_few_audiences_is_looked_at_and_many_as_one(warehouse, monkeypatch, few):
    monkeypatch.setattr(counts_module, "FEW_AUDIENCES", few)
    people = People(warehouse, many=True)
    for number, (a, b) in enumerate([(400, 400), (250, 400), (130, 400)]):
        keep(people, a, "a")
        keep(people, b, "b")
        if number < 2:
            people.run(number * HOUR, guards=OF_A_DAY)
    if few == 1:
        assert people.run(2 * HOUR, guards=OF_A_DAY)["exited"] == 120
        keep(people, 100, "b")
        said = "all audiences together: 570 of 800 members"
    else:
        said = "audience 'a': 270 of 400 members"
    with pytest.raises(GuardTripped, match=said):
        people.run(3 * HOUR, guards=replace(LET_ALL_THROUGH, max_exit_ratio_per_day=0.6))


def test_it_takes_no_statement_of_the_warehouse(people):
    seen = []
    for number, guards in enumerate([Guards(), OF_A_DAY], 1):
        keep(people, 400 - number)
        watched = Watched(people.warehouse)
        statements: list[str] = []
        watched.before = statements.append
        people.sync(watched, guards=guards).run(day(number * HOUR))
        seen.append(len(statements))
    assert seen[0] == seen[1]


def test_a_permission_for_one_audience_is_none_for_another(warehouse):
    people = People(warehouse, many=True)
    sizes = [("a", 400), ("b", 400)], [("a", 100), ("b", 250)], [("a", 90), ("b", 130)]
    for number, of in enumerate(sizes[:2]):
        for audience, count in of:
            keep(people, count, audience)
        people.run(number * HOUR, guards=OF_A_DAY, how={"permission": Permission(audiences=["a"])})
    for audience, count in sizes[2]:
        keep(people, count, audience)
    with pytest.raises(GuardTripped) as stopped:
        people.run(2 * HOUR, guards=OF_A_DAY)
    [sentence] = stopped.value.sentences
    assert sentence.startswith("audience 'b': 270 of 400 members would have exited within a day")


def test_after_an_approval_what_an_audience_lost_before_no_longer_counts(warehouse):
    people = People(warehouse, many=True)
    hold = {"hold": True, "hold_audiences": True}
    for number, (a, b) in enumerate([(400, 400), (250, 250), (130, 240)]):
        keep(people, a, "a")
        keep(people, b, "b")
        found = people.run(number * HOUR, guards=OF_A_DAY, how=hold)
    assert list(found["held_audiences"]) == ["a"]
    ledger = people.ledger()
    held = ledger.read().timeline.held_audiences
    approve_audiences(ledger, held.table, ["a"])
    keep(people, 120, "a")
    keep(people, 130, "b")
    found = people.run(3 * HOUR, guards=OF_A_DAY, how=hold)
    assert list(found["held_audiences"]) == ["b"], "of the other audience nobody has approved anything"
    assert found["audiences"]["a"]["exited"] == 10


def test_an_inserted_and_a_corrected_day_count_once(people):
    keep(people, 300)
    people.run(2 * HOUR, guards=OF_A_DAY)
    keep(people, 280)
    assert people.run(HOUR, guards=OF_A_DAY, how={"insert": True})["inserted"]
    keep(people, 120)
    with pytest.raises(GuardTripped, match="280 of 400 members would have exited within a day"):
        people.run(3 * HOUR, guards=OF_A_DAY)
    keep(people, 200)
    assert people.run(3 * HOUR, guards=OF_A_DAY)["exited"] == 100
