"""The approving task by itself: it asks once, shows numbers and nobody's data, and never undoes an answer.

A person's answer over a running Airflow is in the integration tests; here the task's two halves are called as
Airflow calls them, where it is killed in between or asked twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.providers.standard.operators import hitl

from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import GuardTripped
from airflow_kinesis_audience.operators import AudienceApprovalOperator
from tests.airflow.test_reported import Outlets
from tests.warehouses import People, Stream, day, open_duckdb, open_outbox, read_timeline, small_delivery

TIGHT = Guards(max_exits=1)


class DescribedSource(BaseException):
    """The task waits for a person now."""


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    path = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(path)}))
    warehouse = open_duckdb(path)
    people = People(warehouse)
    people.put("secret-1", "secret-2", "secret-3", email="secret@x.example")
    people.run(0)
    people.clear()
    yield people
    warehouse.close()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was shown to a person; the task stops there, as it does where it waits."""
    bodies: list[str] = []

    def ask(**question: Any) -> None:
        bodies.append(question["body"])
        raise DescribedSource

    monkeypatch.setattr(hitl, "upsert_hitl_detail", ask)
    return bodies


def approval_of(people: People, summary: dict[str, Any]) -> AudienceApprovalOperator:
    # DuckDB lets one configuration at a time have a file open
    people.warehouse.close()
    where = {"warehouse_conn_id": "warehouse", "state_schema": people.schema}
    return AudienceApprovalOperator(task_id="approve", change_set={**summary, **where})


class TaskInstance:
    """As much of a task instance as the task asks for: its XComs stay until it is answered."""

    id = "1"
    dag_id, task_id, map_index = "dag", "approve", -1
    run_id, try_number = "a run", 1

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, key: str) -> Any:
        return self.pushed.get(key)


def context() -> Any:
    ti = TaskInstance()
    return {"task_instance": ti, "ti": ti, "task": mock.Mock(), "outlet_events": Outlets()}


def answered(choice: str) -> dict[str, Any]:
    answer = {"chosen_options": [choice], "params_input": {}, "responded_at": datetime.now(UTC)}
    return {**answer, "responded_by_user": {"id": "1", "name": "somebody"}}


def hold(people: People) -> dict[str, Any]:
    return people.run(1, guards=TIGHT, how={"hold": True})


def test_a_person_sees_the_numbers_and_nobodys_data(people: People, shown: list[str]) -> None:
    with pytest.raises(DescribedSource):
        approval_of(people, hold(people)).execute(context())
    [body] = shown
    assert "0 entered, 3 exited, 0 updated, 0 members" in body
    assert "3 members before, and the source has no row (on_empty is fail)" in body
    assert "secret" not in body


def test_nobody_is_asked_where_no_guard_tripped(people: People, shown: list[str]) -> None:
    people.put("secret-1", "secret-2", "secret-3")
    with pytest.raises(AirflowSkipException):
        approval_of(people, people.run(1)).execute(context())
    assert not shown


def test_approved_it_counts_and_rejected_it_does_not(people: People) -> None:
    held = hold(people)
    run = context()
    approval_of(people, held).execute_complete(run, answered("Reject"))
    assert read_timeline(people.ledger()).find(day(1)) is None
    assert not run["outlet_events"]
    approval_of(people, {**held, "audience_names": {"vips": "VIPs"}}).execute_complete(run, answered("Approve"))
    assert read_timeline(people.ledger()).find(day(1)) is not None
    check_reported(run)


def check_reported(run: Any) -> None:
    """Check that the asset of the sync got the event of a change set, as if no guard had stopped it."""
    name, event = run["outlet_events"]["reported"]
    assert name == "audience://dag.diff"
    assert {n: event[n] for n in ("kind", "as_of", "entered", "exited", "updated", "members")} == {
        "kind": "change_set",
        "as_of": "2026-01-02T00:00:00Z",
        "entered": 0,
        "exited": 3,
        "updated": 0,
        "members": 0,
    }
    assert event["guards"]["min_members"] == TIGHT.min_members
    assert "on_empty is fail" in event["let_through"][0]
    assert event["audiences"]["exited"] == [3]


@pytest.mark.parametrize("again", [1, 2])
def test_a_task_that_died_after_the_release_does_not_ask_again(
    people: People, shown: list[str], again: int
) -> None:
    held = hold(people)
    approve(people.ledger(), day(1), held["held_table"])
    for _ in range(again):
        run = context()
        approval_of(people, held).execute(run)
        check_reported(run)  # it died before it could report
    assert not shown


def test_a_rejection_after_a_release_is_an_error_and_never_taken_for_one(people: People) -> None:
    held = hold(people)
    approve(people.ledger(), day(1), held["held_table"])
    with pytest.raises(AirflowFailException, match="was approved before it was rejected"):
        approval_of(people, held).execute_complete(context(), answered("Reject"))


def test_an_approval_that_comes_too_late_fails_for_good(people: People) -> None:
    held = hold(people)
    people.put("secret-1", "secret-2", "secret-3")
    people.run(2)
    with pytest.raises(AirflowFailException, match="no longer held"):
        approval_of(people, held).execute_complete(context(), answered("Approve"))


def publish(people: People, stream: Stream, number: int) -> None:
    """Publish by e-mail alone, as a task does."""
    by_email = {"message_format": "mparticle_audience", "options": {"forward_customer_ids": False}}
    open_outbox(people.ledger(), stream, small_delivery(**by_email)).drain(day(number))


@pytest.fixture
def nameless(people: People) -> tuple[People, Stream, dict[str, Any]]:
    """Give members who all lose their e-mail, by which alone a stream knows them, and what the run found."""
    stream = Stream()
    publish(people, stream, 0)
    people.put("secret-1", "secret-2", "secret-3")
    found = people.run(1, guards=TIGHT)
    with pytest.raises(GuardTripped):
        publish(people, stream, 1)
    return people, stream, found


@pytest.mark.parametrize("number", [1, 2], ids=["the run's own task, cleared", "the task of the next run"])
def test_what_is_stopped_at_a_destination_is_asked_about_and_let_through(
    nameless: tuple[People, Stream, dict[str, Any]], shown: list[str], number: int
) -> None:
    people, stream, found = nameless
    begun = len(stream.taken)
    found = found if number == 1 else people.run(number, guards=TIGHT)
    task, run = approval_of(people, found), context()
    with pytest.raises(DescribedSource):
        task.execute(run)
    [body] = shown
    assert "`kinesis://eu-west-1/a` has received nothing of the change set as of 2026-01-02T00:00:00Z" in body
    assert "3 of 3 members would exit (max_exits is 1): 3 of them are still in the source" in body
    assert run["ti"].pushed["state"]["state"] == "held"
    assert "secret" not in body + json.dumps(run["ti"].pushed)
    task.execute_complete(run, answered("Reject"))
    with pytest.raises(GuardTripped):
        publish(people, stream, number)
    people.warehouse.close()
    task.execute_complete(run, answered("Approve"))
    publish(people, stream, number)
    gone = [json.loads(m)["IsMember"] for m in stream.messages[begun:]]
    assert gone == [False] * 3
    with pytest.raises(AirflowSkipException):
        approval_of(people, people.run(number + 1, guards=TIGHT)).execute(context())


def test_an_approval_of_what_was_corrected_meanwhile_fails_for_good(
    nameless: tuple[People, Stream, dict[str, Any]], shown: list[str]
) -> None:
    people, stream, found = nameless
    task, run = approval_of(people, found), context()
    with pytest.raises(DescribedSource):
        task.execute(run)
    people.clear()
    people.put("secret-1", "secret-2", "secret-3", email="other@x.example")
    people.run(1, guards=TIGHT)
    people.warehouse.close()
    with pytest.raises(AirflowFailException, match="is no longer the one that is stopped at its destination"):
        task.execute_complete(run, answered("Approve"))
    publish(people, stream, 1)
