"""An audience that alone is held, as people see it: by its task, the approval, the commands and a message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG

from airflow_kinesis_audience.cli.commands import main
from airflow_kinesis_audience.notifications import _message
from airflow_kinesis_audience.operators import AudienceApprovalOperator, AudienceDiffOperator, audience_sync
from tests.warehouses import People, day, open_duckdb, read_membership, read_timeline

SENTENCE = "audience 'b': 2 members before, and the source has no row (on_empty is fail)"


class TaskInstance:
    dag_id, task_id, map_index = "dag", "diff", -1
    run_id, try_number, log_url = "run", 1, "https://airflow.example/log"

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))


class Events:
    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def __getitem__(self, _: object) -> Events:
        return self

    def add(self, asset: Any, extra: dict[str, Any]) -> None:
        self.taken.append(json.loads(json.dumps({"asset": asset.name, **extra})))


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    """Two audiences of two, and then nobody is in one."""
    path = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(path)}))
    warehouse = open_duckdb(path)
    people = People(warehouse, many=True)
    people.put("secret-1", "secret-2", audience="a", title="A")
    people.put("secret-1", "secret-2", audience="b", title="B")
    diff(people, 0)
    people.take("secret-1", "secret-2", audience="b")
    people.put("secret-3", audience="a", title="A")
    yield people
    warehouse.close()


def diff(people: People, number: int, **more: Any) -> tuple[dict[str, Any], TaskInstance, list[dict[str, Any]]]:
    people.warehouse.close()
    where = {"warehouse_conn_id": "warehouse", "state_schema": people.schema, "sync_id": "dag.diff"}
    mapped = {"user_id_column": "uid", "identities": {"email": "Email"}, "properties": ["city"]}
    audiences = {"audience_id_column": "audience", "audience_name_column": "title"}
    how = {"on_guard": "hold_audience", **more}
    task = AudienceDiffOperator(
        task_id="diff", table=people.table, as_of=day(number), **where, **mapped, **audiences, **how
    )
    ti, events, dag_run = TaskInstance(), Events(), SimpleNamespace(run_type="manual", conf={})
    summary = task.execute({"ti": ti, "dag_run": dag_run, "outlet_events": events})
    return json.loads(json.dumps(summary)), ti, events.taken


def command(people: People, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    people.warehouse.close()
    where = ["--warehouse", "warehouse", "--state-schema", people.schema]
    code = main([words[0], *words[1:], *where])
    said = capsys.readouterr()
    return said.out if code == 0 else said.err


def test_the_task_succeeds_and_its_summary_event_and_state_name_the_held_audience(people: People) -> None:
    summary, ti, [event] = diff(people, 1)
    assert summary["held_audiences"] == {"b": [SENTENCE]}
    assert (summary["entered"], summary["exited"], summary["members"]) == (1, 0, 5)
    assert event["held_audiences"] == {"b": [SENTENCE]}
    assert event["audiences"]["members"] == [3, 2]
    state = ti.pushed["state"]
    assert (state["state"], state["audiences"], state["sentences"][1:]) == ("held", ["b"], [SENTENCE])
    assert "approve dag.diff --audience ID --yes" in state["sentences"][0]
    assert "secret" not in json.dumps([summary, event, state])
    people.put("secret-2", audience="b", title="B")
    summary, ti, [event] = diff(people, 2)
    assert (ti.pushed, "held_audiences" in summary, "held_audiences" in event) == ({}, False, False)


def test_the_approval_waits_for_nobody_and_says_how_to_approve(people: People) -> None:
    summary, ti, _ = diff(people, 1)
    approval = AudienceApprovalOperator(task_id="approve", change_set=summary)
    with pytest.raises(
        AirflowSkipException, match=r"holds 1 of the audiences, and all others are publ.*`approve`"
    ):
        approval.execute({"ti": ti, "task_instance": ti})


def test_the_commands_list_and_approve_it(people: People, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No audience of this sync is held" in command(people, capsys, "approve", "dag.diff")
    diff(people, 1)
    assert f"held alone, see `approve`: {SENTENCE}" in command(people, capsys, "status", "dag.diff")
    [shown] = json.loads(command(people, capsys, "status", "dag.diff", "--json"))
    assert shown["held_audiences"] == {"b": [SENTENCE]}
    for words in ([], ["--yes"], ["--audience", "b"]):
        said = command(people, capsys, "approve", "dag.diff", *words)
        assert said.splitlines()[0] == SENTENCE
        assert "Nothing was changed" in said
    assert "these are not held: 'a'" in command(people, capsys, "approve", "dag.diff", "--audience", "a", "--yes")
    said = command(people, capsys, "approve", "dag.diff", "--audience", "b", "--yes")
    assert said.splitlines()[-1] == (
        "Approved: 0 entered, 2 exited, 0 updated, 3 members. The next run publishes it."
    )
    newest = read_timeline(people.ledger()).newest
    assert newest is not None
    assert {audience for audience, _ in read_membership(people.ledger(), newest.as_of)} == {"a"}


def test_the_message_to_people_says_that_all_others_are_published(people: People) -> None:
    _, ti, _ = diff(people, 1)
    message = _message({"ti": ti}, ti.pushed["state"], "held")  # type: ignore[typeddict-item]
    assert message["title"] == "dag.diff: 1 audience is held by a guard, all others are published"
    assert SENTENCE in message["text"]


def test_the_ready_group_holds_audiences_alone_unless_its_author_wants_another(people: People) -> None:
    given = {"warehouse_conn_id": "w", "table": "t", "audience_id_column": "a", "stream_name": "s"}
    for more, expected in (({}, "hold_audience"), ({"on_guard": "hold"}, "hold")):
        with DAG("group"):
            group = audience_sync(message_format="amplitude_cohort", **given, **more)
        assert group.children["audience.diff"].on_guard == expected  # type: ignore[attr-defined]
    with pytest.raises(AirflowFailException, match="expected fail, hold or hold_audience"):
        diff(people, 1, on_guard="ask")
