"""A task killed as Airflow kills one: the warehouse is free of it at once, and the next try finds all in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.airflow.running import DIFF, Airflow, Run, day, deployed

if TYPE_CHECKING:
    from tests.airflow.conftest import Postgres

SLOW = "SELECT m.* FROM members AS m WHERE (SELECT COUNT(pg_sleep(s.seconds)) FROM slow AS s) >= 0"
WAIT_SECONDS = 240
KILL_SECONDS = 20
"""Airflow waits for 5 s; a busy machine gets more."""

SLEEPING = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'airflow_audience'"


def at_work(warehouse: Postgres) -> int:
    return int(warehouse.execute(f"SELECT count(*) {SLEEPING}")[0][0])


def wait_until(holds: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def task_processes(airflow: Airflow) -> list[int]:
    """List the processes that run a task now."""
    parent = airflow._process.pid
    found = []
    for thread in Path(f"/proc/{parent}/task").iterdir():
        found += [int(pid) for pid in (thread / "children").read_text().split()]
    return found


def read_log(home: Path, dag_id: str) -> str:
    return "".join(file.read_text() for file in home.rglob("1.log") if dag_id in str(file))


@pytest.fixture
def slow_source(postgres_warehouse: Postgres) -> Postgres:
    postgres_warehouse.members([("u1", "ann@x.org", "Bern"), ("u2", "bob@x.org", "Rome")])
    postgres_warehouse.execute("CREATE TABLE slow (seconds INT)")
    postgres_warehouse.execute("INSERT INTO slow VALUES (600)")
    return postgres_warehouse


def assert_next_try_is_right(dag: Any, warehouse: Postgres) -> None:
    warehouse.execute("DELETE FROM slow")
    assert dag.run(day(2), supervised=True)["diff"].summary["members"] == 2
    first = warehouse.execute(TABLES)[0][0]
    assert dag.run(day(3), supervised=True).state == "success"
    assert warehouse.execute(TABLES)[0][0] - first <= 1, "nothing is left of the killed try"


def test_a_task_that_airflow_kills_leaves_nothing_at_work(
    airflow: Airflow, airflow_db: Path, slow_source: Postgres
) -> None:
    ran: list[Run] = []
    with deployed(airflow, slow_source.connection, None, {**DIFF, "sql": SLOW}) as dag:
        running = threading.Thread(target=lambda: ran.append(dag.run(day(1), supervised=True)))
        running.start()
        wait_until(lambda: at_work(slow_source), WAIT_SECONDS)
        try:
            os.kill(task_processes(airflow)[-1], signal.SIGTERM)
            wait_until(lambda: not at_work(slow_source), KILL_SECONDS)
        finally:
            slow_source.execute(f"SELECT pg_terminate_backend(pid) {SLEEPING}")
            running.join(WAIT_SECONDS)
        [run] = ran
        assert run["diff"].state == "failed"
        assert "the task was ended from outside" in read_log(airflow_db, dag.file.stem)
        assert run["diff"].xcom["state"]["sentences"][0].startswith("the task was ended from outside")
        assert_next_try_is_right(dag, slow_source)


def test_a_task_that_takes_too_long_leaves_nothing_at_work(
    airflow: Airflow, airflow_db: Path, slow_source: Postgres
) -> None:
    limited = {**DIFF, "sql": SLOW, "execution_timeout": timedelta(seconds=15)}
    with deployed(airflow, slow_source.connection, None, limited) as dag:
        run = dag.run(day(1), supervised=True)
        assert run["diff"].state == "failed"
        assert not at_work(slow_source)
        assert "AirflowTaskTimeout" in read_log(airflow_db, dag.file.stem)
        assert_next_try_is_right(dag, slow_source)
