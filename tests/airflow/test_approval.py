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

from airflow_kinesis_audience.guards import Guards
from airflow_kinesis_audience.operators import AudienceApprovalOperator
from airflow_kinesis_audience.release import release
from tests.warehouses import People, day, open_duckdb, read_timeline

TIGHT = Guards(max_exits=1)


class Asked(BaseException):
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
    told: list[str] = []

    def ask(**question: Any) -> None:
        told.append(question["body"])
        raise Asked

    monkeypatch.setattr(hitl, "upsert_hitl_detail", ask)
    return told


def approval_of(people: People, summary: dict[str, Any]) -> AudienceApprovalOperator:
    # DuckDB lets one configuration at a time have a file open
    people.warehouse.close()
    where = {"warehouse_conn_id": "warehouse", "state_schema": people.schema}
    return AudienceApprovalOperator(task_id="approve", change_set={**summary, **where})


def context() -> Any:
    return {"task_instance": mock.Mock(id="1"), "ti": mock.Mock(), "task": mock.Mock()}


def answered(choice: str) -> dict[str, Any]:
    answer = {"chosen_options": [choice], "params_input": {}, "responded_at": datetime.now(UTC)}
    return {**answer, "responded_by_user": {"id": "1", "name": "somebody"}}


def hold(people: People) -> dict[str, Any]:
    return people.run(1, guards=TIGHT, how={"hold": True})


def test_a_person_sees_the_numbers_and_nobodys_data(people: People, shown: list[str]) -> None:
    with pytest.raises(Asked):
        approval_of(people, hold(people)).execute(context())
    [body] = shown
    assert "0 entered, 3 exited, 0 updated, 0 members" in body
    assert "3 members before, and no row in the source (on_empty is fail)" in body
    assert "secret" not in body


def test_nobody_is_asked_where_no_guard_tripped(people: People, shown: list[str]) -> None:
    people.put("secret-1", "secret-2", "secret-3")
    with pytest.raises(AirflowSkipException):
        approval_of(people, people.run(1)).execute(context())
    assert not shown


def test_approved_it_counts_and_rejected_it_does_not(people: People) -> None:
    held = hold(people)
    approval_of(people, held).execute_complete(context(), answered("Reject"))
    assert read_timeline(people.ledger()).find(day(1)) is None
    approval_of(people, held).execute_complete(context(), answered("Approve"))
    assert read_timeline(people.ledger()).find(day(1)) is not None


@pytest.mark.parametrize("again", [1, 2])
def test_a_task_that_died_after_the_release_does_not_ask_again(
    people: People, shown: list[str], again: int
) -> None:
    held = hold(people)
    release(people.ledger(), day(1), held["held_table"])
    for _ in range(again):
        approval_of(people, held).execute(context())
    assert not shown


def test_a_rejection_after_a_release_is_an_error_and_never_taken_for_one(people: People) -> None:
    held = hold(people)
    release(people.ledger(), day(1), held["held_table"])
    with pytest.raises(AirflowFailException, match="was approved before it was rejected"):
        approval_of(people, held).execute_complete(context(), answered("Reject"))


def test_an_approval_that_comes_too_late_fails_for_good(people: People) -> None:
    held = hold(people)
    people.put("secret-1", "secret-2", "secret-3")
    people.run(2)
    with pytest.raises(AirflowFailException, match="not held any more"):
        approval_of(people, held).execute_complete(context(), answered("Approve"))
