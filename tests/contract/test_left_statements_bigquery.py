"""A statement that is left to BigQuery: its job outlives whoever began it, and anybody finds it by its id.

What speaks here is Google's own client, over HTTP, to a stand-in that lets jobs begin and end as a script says. On
request there is a whole diff, whose statements an emulator runs. What they take is no proof that BigQuery does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from airflow_kinesis_audience.core.exceptions import TaskEnded, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks import warehouse as warehouse_module
from airflow_kinesis_audience.hooks.state import State, name_task
from airflow_kinesis_audience.hooks.statement_tags import StatementTag
from airflow_kinesis_audience.hooks.warehouses import left_statements
from airflow_kinesis_audience.hooks.warehouses.left_statements import LeftStatement, StatementLeft
from airflow_kinesis_audience.operators.statement_trigger import StatementTrigger
from tests.engines.bigquery import client_of, open_bigquery
from tests.scripted_bigquery import LOCATION, ScriptedBigQuery
from tests.warehouses import People, day, read_timeline

CREATE = "CREATE TABLE `state`.`changes_x` AS SELECT 1 AS n"


def tag(attempt: int = 1, task: str = "dag/diff/-1/run") -> StatementTag:
    return StatementTag(sync_id="lapsed.diff", run_id="run", task=task, attempt=attempt)


@pytest.fixture
def bigquery(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedBigQuery]:
    monkeypatch.setattr(left_statements, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(left_statements, "LOOK_SECONDS", 0.02)
    with ScriptedBigQuery() as server:
        yield server


@pytest.fixture
def warehouse(bigquery: ScriptedBigQuery) -> Iterator[Any]:
    with client_of(bigquery.port) as opened:
        opened.tag = tag()
        yield opened


def leave(warehouse: Any) -> LeftStatement:
    warehouse.may_leave = True
    with pytest.raises(StatementLeft) as found:
        warehouse.write_table_apart("`state`.`changes_x`", "SELECT 1 AS n")
    return found.value.statement


def test_a_job_is_named_after_its_task_and_found_where_bigquery_runs_it(
    bigquery: ScriptedBigQuery, warehouse: Any
) -> None:
    bigquery.held = "changes_x"
    left = leave(warehouse)
    assert left.table == "changes_x"
    [(name, job)] = bigquery.jobs.items()
    assert left.statement_id == f"test:{LOCATION}.{name}"
    own = tag().job.removeprefix("job=")
    assert name.startswith(f"airflow_kinesis_audience-{own}-1-")
    assert job["configuration"]["labels"] == tag().labels()
    assert job["configuration"]["query"]["connectionProperties"] == [{"key": "time_zone", "value": "UTC"}]
    with client_of(bigquery.port) as other:
        assert not other.has_ended(left.statement_id)
        bigquery.held = None
        assert other.has_ended(left.statement_id)
    assert bigquery.requests[-1].endswith(f"/jobs/{name} {LOCATION}")


def test_a_job_whose_answer_is_lost_is_begun_once(bigquery: ScriptedBigQuery, warehouse: Any) -> None:
    bigquery.held, bigquery.loses_answers = "changes_x", 1
    left = leave(warehouse)
    assert [f"test:{LOCATION}.{name}" for name in bigquery.jobs] == [left.statement_id]
    assert sum(r.startswith("POST") for r in bigquery.requests) == 2


def test_without_the_right_to_list_jobs_a_lost_answer_is_retried_and_an_old_job_is_said_to_be_left(
    bigquery: ScriptedBigQuery, warehouse: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bigquery.held, bigquery.loses_answers, bigquery.may_list = "changes_x", 1, False
    with pytest.raises(WarehouseUnavailable, match="does not list it"):
        warehouse.submit(CREATE)
    name_task(warehouse, tag(2), State(warehouse_conn_id="bigquery", state_schema="state"))
    assert "Not looked for statements that an earlier attempt" in caplog.text
    assert "roles/bigquery.user" in caplog.text


def test_another_deployment_of_a_dag_has_other_jobs() -> None:
    places = [State(warehouse_conn_id="bigquery", state_schema=name) for name in ("state", "staging")]
    one, other, again = (SimpleNamespace(end_earlier_attempts=int) for _ in range(3))
    for warehouse, place in ((one, places[0]), (other, places[1]), (again, places[0])):
        name_task(warehouse, tag(), place)
    assert one.tag.job == again.tag.job != other.tag.job


def test_another_task_continues_after_the_job_and_begins_no_other(
    bigquery: ScriptedBigQuery, warehouse: Any
) -> None:
    bigquery.held = "changes_x"
    left = leave(warehouse)
    for _ in range(2):
        with client_of(bigquery.port) as other:
            other.left = left
            assert leave(other) == left, "it is under way still"
    bigquery.held = None
    with client_of(bigquery.port) as other:
        other.may_leave, other.left = True, left
        other.write_table_apart("`state`.`changes_x`", "SELECT 1 AS n")
    assert len(bigquery.jobs) == 1


def test_a_query_that_was_changed_meanwhile_cancels_the_job(bigquery: ScriptedBigQuery, warehouse: Any) -> None:
    bigquery.held = "changes_x"
    warehouse.left = leave(warehouse)
    with pytest.raises(WarehouseUnavailable, match="the query was changed"):
        warehouse.write_table_apart("`state`.`changes_x`", "SELECT 2 AS n")
    [job] = bigquery.jobs.values()
    assert job["status"]["errorResult"]["reason"] == "stopped"


@pytest.mark.parametrize(
    ("reason", "error", "says"),
    [
        ("invalidQuery", WarehouseRefused, r"rejected the statement \(400\)"),
        ("notFound", WarehouseRefused, r"rejected the statement \(404\)"),
        ("accessDenied", WarehouseRefused, "denies access"),
        ("quotaExceeded", WarehouseUnavailable, r"ended the statement \(quotaExceeded\)"),
        ("rateLimitExceeded", WarehouseUnavailable, r"ended the statement \(rateLimitExceeded\)"),
        ("stopped", WarehouseUnavailable, r"ended the statement \(stopped\)"),
        ("backendError", WarehouseUnavailable, r"ended the statement \(backendError\)"),
    ],
)
def test_a_job_that_fails_says_why_and_nothing_of_a_row(
    bigquery: ScriptedBigQuery, warehouse: Any, reason: str, error: type[Exception], says: str
) -> None:
    bigquery.failure = reason
    with pytest.raises(error, match=says) as found:
        warehouse.await_statement(warehouse.submit(CREATE), 5.0)
    assert "ann@example.com" not in str(found.value)


def test_a_job_that_is_nowhere_is_begun_by_the_next_attempt(warehouse: Any) -> None:
    with pytest.raises(WarehouseUnavailable, match=r"has no job test:EU\.gone"):
        warehouse.has_ended("test:EU.gone")


def test_a_job_of_a_project_with_a_domain_is_found(bigquery: ScriptedBigQuery, warehouse: Any) -> None:
    name = warehouse.submit(CREATE).rpartition(".")[2]
    assert warehouse.has_ended(f"example.com:shop:{LOCATION}.{name}")
    assert f"/projects/example.com:shop/jobs/{name} " in bigquery.requests[-1]


def test_who_breaks_off_while_a_job_is_waited_for_cancels_it(bigquery: ScriptedBigQuery, warehouse: Any) -> None:
    def end(*_: object) -> None:
        raise TaskEnded

    bigquery.held = "changes_x"
    before = signal.signal(signal.SIGUSR1, end)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(TaskEnded):
            warehouse.await_statement(warehouse.submit(CREATE), 60.0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    [job] = bigquery.jobs.values()
    assert job["status"]["errorResult"]["reason"] == "stopped"


def test_an_attempt_ends_the_jobs_of_those_before_it_and_no_others(
    bigquery: ScriptedBigQuery, warehouse: Any
) -> None:
    bigquery.held = "changes_x"
    ids = {}
    for name, own in (("first", tag()), ("second", tag(2)), ("other", tag(task="dag/diff/-1/run2"))):
        warehouse.tag = own
        ids[name] = warehouse.submit(CREATE)
    assert not any(warehouse.has_ended(found) for found in ids.values())
    warehouse.tag = tag(2)
    assert warehouse.end_earlier_attempts() == 1
    ended = {n for n, found in ids.items() if bigquery.jobs[found.rpartition(".")[2]]["status"]["state"] == "DONE"}
    assert ended == {"first"}
    warehouse.cancel_statement(ids["first"])
    warehouse.cancel_statement("test:EU.gone")


def test_a_trigger_fires_when_the_job_has_ended_and_cancels_one_that_takes_too_long(
    bigquery: ScriptedBigQuery, warehouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse_module, "open_warehouse", lambda _: client_of(bigquery.port))
    bigquery.held = "changes_x"
    left = leave(warehouse)

    async def fires(seconds: float, until: timedelta) -> bool:
        trigger = StatementTrigger(
            warehouse_conn_id="warehouse",
            statement=asdict(left),
            until=(datetime.now(UTC) + until).isoformat(),
            poll_seconds=0.05,
        )
        try:
            event = await asyncio.wait_for(anext(trigger.run()), seconds)
        except TimeoutError:
            return False
        return bool(event.payload == asdict(left))

    assert not asyncio.run(fires(1, timedelta(hours=1))), "the job is at work"
    assert asyncio.run(fires(30, timedelta(0)))
    [job] = bigquery.jobs.values()
    assert job["status"]["errorResult"]["reason"] == "stopped"
    assert asyncio.run(fires(30, timedelta(hours=1))), "whatever it ended with is for the task to say"


def test_statements_are_written_to_the_log_where_the_deployment_says_so(
    warehouse: Any, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse.logs_sql = True
    with caplog.at_level("INFO"):
        warehouse.submit(CREATE)
    assert f"Statement: {CREATE}" in caplog.text


def test_what_the_jobs_have_read_is_counted_also_that_of_one_that_another_task_began(
    bigquery: ScriptedBigQuery, warehouse: Any
) -> None:
    assert warehouse.bytes_scanned is None, "nothing was run"
    bigquery.bytes_processed = 1000
    warehouse.execute("DELETE FROM `state`.`x` WHERE TRUE")
    warehouse.read_rows("SELECT 1")
    list(warehouse.read_batches("SELECT 1", pa.schema([]), rows=10))
    assert warehouse.bytes_scanned == 3000
    begun = warehouse.submit(CREATE)
    with client_of(bigquery.port) as other:
        other.await_statement(begun, 5.0)
        assert other.bytes_scanned == 1000
    assert warehouse.bytes_scanned == 3000


@pytest.mark.slow
def test_a_whole_diff_continues_after_a_job_that_an_emulator_runs(
    request: pytest.FixtureRequest, bigquery: ScriptedBigQuery
) -> None:
    if "bigquery" not in os.environ.get("AUDIENCE_ENGINES", "").split(","):
        pytest.skip("BigQuery's emulator is half a gigabyte, so it runs on request: AUDIENCE_ENGINES=bigquery")
    bigquery.emulator = request.getfixturevalue("bigquery_port")
    with open_bigquery(bigquery.emulator) as direct:
        people = People(direct)
        people.put("ann", "bob")
        people.run(0)
        people.put("cem")
        people.take("ann")

    def run(left: LeftStatement | None) -> dict[str, Any]:
        with client_of(bigquery.port) as opened:
            opened.tag, opened.may_leave, opened.left = tag(), True, left
            sync = people.sync(opened)
            sync.committer.leaves, sync.committer.left = True, left.table if left else ""
            return sync.run(day(1))

    bigquery.held = f"CREATE TABLE `{people.schema}`.`changes_"
    began = time.monotonic()
    with pytest.raises(StatementLeft) as found:
        run(None)
    left = found.value.statement
    with pytest.raises(StatementLeft) as again:
        run(left)
    assert again.value.statement == left
    bigquery.held = None
    summary = run(left)
    assert (summary["entered"], summary["exited"], summary["members"]) == (1, 1, 2)
    assert read_timeline(people.ledger()).newest.table == left.table
    print(f"{time.monotonic() - began:.1f} s for three parts")
