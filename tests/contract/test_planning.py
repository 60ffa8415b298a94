"""A plan is what a run would do, number by number, and leaves no trace; what is behind was not delivered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.plan import Plan, make_plan
from airflow_kinesis_audience.core.changes.planned_rows import PlannedRows
from airflow_kinesis_audience.core.exceptions import (
    AudienceDeleted,
    LedgerUnreadable,
    RunSuperseded,
    SchemaChanged,
    WarehouseRefused,
)
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.status import find_lags, is_there, read_state, read_syncs
from airflow_kinesis_audience.core.state.sync_details import SyncClosed
from airflow_kinesis_audience.core.state.sync_state import SyncState
from tests.warehouses import (
    LET_ALL_THROUGH,
    People,
    Stream,
    Watched,
    day,
    list_tables,
    open_outbox,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

COUNTED = ("entered", "exited", "updated", "members")


class ReadOnly(Watched):
    """A warehouse that takes no statement but those that give rows."""

    def execute(self, sql: str, parameters: Any = ()) -> None:
        raise AssertionError("a plan wanted to write")


def plan(people: People, number: int, **how: Any) -> Plan:
    warehouse = ReadOnly(people.warehouse)  # type: ignore[arg-type]
    source, guards = how.pop("source", people.source), how.pop("guards", LET_ALL_THROUGH)
    return make_plan(people.ledger(warehouse), source, day(number), guards=guards, **how)


def counts(found: Plan) -> dict[str, int]:
    return {n: found.total(n) for n in COUNTED}


def test_a_plan_before_the_first_run_says_that_everybody_enters_and_creates_nothing(
    warehouse: SqlWarehouse,
) -> None:
    people = People(warehouse)
    people.put("a", "b", "c", email="x@example.com")
    found = plan(people, 1, rows=PlannedRows(sample=2))
    assert counts(found) == {"entered": 3, "exited": 0, "updated": 0, "members": 3}
    assert (found.previous_as_of, found.stopped, found.recorded) == (None, [], None)
    assert [(s.action, s.user_id, s.values) for s in found.sample] == [
        ("entered", user, {"Email": (None, "x@example.com")}) for user in ("a", "b")
    ]
    assert not is_there(warehouse, people.schema)
    assert list_tables(warehouse, people.schema) == set()


def test_a_plan_counts_what_the_run_after_it_finds(warehouse: SqlWarehouse) -> None:
    people = People(warehouse, many=True)
    people.put("a", "b", "c", city="Oslo", audience="vips")
    people.put("a", "d", audience="late", title="Late")
    people.run(1)
    people.take("a", audience="vips")
    people.change("b", city="Bergen")
    people.put("e", "f", audience="late", title="Late")
    before = (people.tables(), people.ledger().read())
    found = plan(people, 2)
    assert (people.tables(), people.ledger().read()) == before
    run = people.run(2)
    assert counts(found) == {n: run[n] for n in COUNTED}
    assert {a.audience_id: {n: getattr(a, n) for n in COUNTED} for a in found.audiences} == run["audiences"]
    assert {(s.action, s.audience_id, s.user_id, s.updated) for s in found.sample} == {
        ("exited", "vips", "a", None),
        ("updated", "vips", "b", "properties"),
        ("entered", "late", "e", None),
        ("entered", "late", "f", None),
    }
    assert next(s.values for s in found.sample if s.action == "updated") == {"city": ("Oslo", "Bergen")}
    assert next(s.values for s in found.sample if s.action == "exited") == {"city": ("Oslo", None)}


def test_a_plan_shows_what_shares_a_label_apart_and_a_property_of_another_kind_once(
    warehouse: SqlWarehouse,
) -> None:
    people = People(warehouse)
    people.put("a", email="x@example.com", city="Oslo")
    people.run(1)
    both = replace(people.source, identities={"email": "plan"}, properties={"city": "plan"})
    update = replace(LET_ALL_THROUGH, on_schema_change="update")
    [found] = plan(people, 2, source=both, guards=update).sample
    assert found.values["identity plan"] == (None, "x@example.com")
    assert found.values["property plan"] == (None, "Oslo")
    longer = f"SELECT uid, email, CAST(LENGTH(city) AS BIGINT) AS city FROM {people.table}"
    [found] = plan(people, 2, source=replace(people.source, query=longer), guards=update).sample
    assert found.values["city"] == ("Oslo", "4")


def test_a_plan_over_several_change_sets_is_compared_with_the_newest_membership(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put("a", "b")
    people.run(1)
    people.put("c")
    people.run(2)
    people.take("b")
    found = plan(people, 3)
    assert found.previous_as_of == day(2)
    assert counts(found) == {"entered": 0, "exited": 1, "updated": 0, "members": 2}


def test_a_plan_says_what_would_stop_the_run(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put(*(f"u{n}" for n in range(120)))
    people.run(1)
    people.clear()
    people.put("u1", "u1", None, "u2")
    found = plan(people, 2, guards=Guards())
    assert counts(found)["exited"] == 118
    sentences = [str(b) for b in found.stopped]
    assert any("repeat a user id" in s for s in sentences)
    assert any("have no user id" in s for s in sentences)
    assert any("would exit" in s for s in sentences)
    dropping = plan(people, 2, guards=replace(LET_ALL_THROUGH, on_invalid_rows="drop"))
    [unsure] = dropping.stopped
    assert "no user id, and could belong to 118 of 120 members" in str(unsure)
    assert counts(dropping) == {"entered": 0, "exited": 118, "updated": 0, "members": 2}


def test_a_plan_with_another_mapping_is_made_without_writing_the_membership_anew(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put("a", "b", city="Oslo")
    people.put("c")
    people.run(1)
    source = replace(people.source, properties={"city": "town"})
    stopped = plan(people, 2, source=source, guards=Guards())
    assert [str(b) for b in stopped.stopped] != []
    guards = replace(LET_ALL_THROUGH, on_schema_change="update")
    found = plan(people, 2, source=source, guards=guards)
    assert found.stopped == []
    run = people.run(2, source=source, guards=guards)
    assert counts(found) == {n: run[n] for n in COUNTED}
    assert run["updated"] == 2


def test_a_plan_for_an_instant_that_is_settled_shows_what_is_there(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put("a")
    run = people.run(1)
    open_outbox(people.ledger(), Stream()).drain(day(1), on_first_run="enter_all")
    people.run(2)
    found = plan(people, 1)
    assert found.recorded == run
    with pytest.raises(RunSuperseded):
        make_plan(people.ledger(), people.source, day(1).replace(hour=1))


def test_a_plan_with_another_key_is_refused_as_the_run_would_be(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put("a", city="x")
    people.run(1)
    with pytest.raises(SchemaChanged, match="the key differs from the key"):
        plan(people, 2, source=replace(people.source, user_id="city", properties={}))


def test_a_plan_of_a_deleted_sync_is_refused(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put("a")
    people.run(1)
    ledger = people.ledger()
    ledger.read()
    ledger.append("", SyncClosed(exits=False, audiences={"vips": "VIPs"}), as_of=day(1))
    with pytest.raises(AudienceDeleted):
        plan(people, 2)


def test_a_ledger_that_cannot_be_read_is_none_that_is_not_there(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put("a")
    assert read_state(people.ledger()) == SyncState()
    people.run(1)

    def refuse(sql: str) -> None:
        if "ledger" in sql and "information_schema" not in sql:
            raise WarehouseRefused("no grant")

    with pytest.raises(LedgerUnreadable):
        read_state(Ledger(Watched(warehouse, before=refuse), people.schema, "dag.diff"))


def test_a_destination_is_behind_by_what_it_was_not_told(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put("a", "b")
    people.run(1)
    ledger, stream = people.ledger(), Stream()
    assert find_lags(ledger.read()) == []
    open_outbox(ledger, stream, small_delivery("one")).drain(day(1), on_first_run="enter_all")
    people.put("c", "d", "e")
    people.run(2)
    people.take("a")
    people.run(3)
    [behind] = find_lags(ledger.read())
    assert (behind.destination, behind.cursor) == ("kinesis://eu-west-1/one", day(1))
    assert (behind.change_sets, behind.changes, behind.under_way) == (2, 4, None)
    open_outbox(ledger, stream, small_delivery("one")).drain(day(3), on_first_run="enter_all")
    [behind] = find_lags(ledger.read())
    assert (behind.change_sets, behind.changes, behind.cursor) == (0, 0, day(3))
    assert read_syncs(warehouse, people.schema) == ["dag.diff"]
    assert read_syncs(warehouse, "nowhere") == []
