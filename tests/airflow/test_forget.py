"""The task and the command that forget users: on a real file of DuckDB, through Airflow's connection."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_kinesis_audience.cli import commands
from airflow_kinesis_audience.operators import AudienceForgetOperator
from tests.warehouses import People, Stream, day, open_duckdb, open_outbox, read_timeline

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "leaver@example.org"


class TaskInstance:
    dag_id, task_id, map_index = "dag", "forget", -1
    run_id, try_number = "a run", 1

    def __init__(self) -> None:
        self.pushed: list[Any] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed.append(json.dumps([key, value]))


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    """A run with a user whose number is on a list, delivered to one destination."""
    path = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(path)}))
    people = People(open_duckdb(path))
    people.put("4711", "stays", email=SECRET)
    people.change("stays", email="stays@example.org")
    people.run(0)
    open_outbox(people.ledger(), Stream()).drain(day(0))
    people.warehouse.execute("CREATE TABLE requests (customer DECIMAL(18, 2))")
    people.warehouse.execute("INSERT INTO requests VALUES (4711), (NULL)")
    return people


def forget(people: People, **more: Any) -> tuple[Any, TaskInstance]:
    # DuckDB lets one configuration at a time have a file open
    people.warehouse.close()
    given = {"table": "requests", "user_id_column": "customer", "state_schema": people.schema}
    task = AudienceForgetOperator(task_id="forget", warehouse_conn_id="warehouse", **{**given, **more})
    instance = TaskInstance()
    return task.poke({"ti": instance}), instance


def drain(people: People, stream: Stream) -> None:
    newest = read_timeline(people.ledger()).newest
    assert newest is not None
    open_outbox(people.ledger(), stream).drain(newest.as_of)


def rows(people: People) -> str:
    names = [*people.tables(), "ledger"]
    found = [people.warehouse.read_rows(f'SELECT * FROM {people.schema}."{name}"') for name in names]
    people.warehouse.close()
    return str(found)


def test_the_task_waits_for_the_destination_and_then_nothing_is_left(people, caplog):
    caplog.set_level("INFO")
    found, instance = forget(people)
    assert not found.is_done
    assert "has not received the exits" in found.xcom_value["syncs"][0]["waits_for"][0]
    drain(people, stream := Stream())
    assert [json.loads(m)["users"] for m in stream.messages] == [[{"user_id": "4711"}]]
    found, again = forget(people)
    assert found.is_done
    assert [sync["erased"] for sync in found.xcom_value["syncs"]] == [True]
    said = json.dumps([found.xcom_value, instance.pushed, again.pushed]) + caplog.text
    for value in ("4711", SECRET):
        assert value not in rows(people)
        assert value not in said


def test_a_recalled_user_enters_again(people):
    forget(people)
    drain(people, Stream())
    forget(people)
    found, _ = forget(people, recall="true")
    assert found.is_done
    assert [sync["recalled"] for sync in found.xcom_value["syncs"]] == [1]
    assert people.run(1)["entered"] == 1


@pytest.mark.parametrize("recall", ["true", "false"])
def test_a_schema_without_a_sync_is_refused_whether_users_are_forgotten_or_recalled(people, recall):
    people.warehouse.execute("CREATE SCHEMA elsewhere")
    with pytest.raises(AirflowFailException, match="schema 'elsewhere' has no sync; correct state_schema"):
        forget(people, recall=recall, state_schema="elsewhere")


def test_a_task_without_a_list_of_users_says_so(people):
    with pytest.raises(AirflowFailException, match="set either sql or table: the ids of the users are"):
        forget(people, table=None)
    with pytest.raises(AirflowFailException, match="returns no column 'nobody'"):
        forget(people, user_id_column="nobody")


def test_the_command_takes_ids_from_standard_input_and_waits_as_the_task_does(people, monkeypatch, capsys):
    people.warehouse.close()

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO("4711\n\n"))
        code = commands.main(["forget", "-", "--state-schema", people.schema, *arguments])
        return code, capsys.readouterr().out

    code, said = run()
    assert (code, "1 users would leave every audience of 1 syncs: dag.diff" in said) == (0, True)
    assert read_timeline(people.ledger()).tombstones is None
    people.warehouse.close()
    code, said = run("--yes")
    assert (code, "has not received the exits" in said) == (1, True)
    drain(people, Stream())
    people.warehouse.close()
    code, said = run("--yes", "--sync", "dag.diff")
    assert (code, "the state has no row of them" in said) == (0, True)
    assert "4711" not in rows(people)
    code, said = run("--recall", "--yes")
    assert (code, "1 of these users can enter again" in said) == (0, True)


def test_it_waits_without_a_slot_by_default():
    task = AudienceForgetOperator(task_id="forget", warehouse_conn_id="warehouse", table="requests")
    assert (task.mode, task.poke_interval) == ("reschedule", 300.0)
    assert SimpleNamespace(reschedule=task.reschedule).reschedule
