"""A task that is ended leaves nothing at work in the warehouse, says so, and the next one finds all in order.

Each engine has a process of its own with a statement that takes for ever. The server itself is asked what is at
work; of DuckDB, which works in the process, the process alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_kinesis_audience.core.exceptions import TaskEnded
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.signals import ending_with_task
from airflow_kinesis_audience.hooks.state import open_ledger
from airflow_kinesis_audience.hooks.warehouse import warehouse_class
from airflow_kinesis_audience.operators.killing import end_task, under_way
from tests.contract.ended_process import ENDLESS, NUMBERS, SCHEMA, STATE, TAG, open_engine, source_of
from tests.engines.mysql import DRIVER_HOME
from tests.warehouses import People, open_duckdb

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 60
"""For a process to begin, on a machine that is busy; what is at work takes ten times as long."""

KILL_SECONDS = 20
"""Airflow waits for 5 s; a busy machine gets more."""


@dataclass(frozen=True)
class Place:
    """Where a process works.

    :param count: how many of its long statements are at work.
    """

    engine: str
    address: str
    count: Callable[[], int]

    def start(self, what: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), str(DRIVER_HOME)])
        return subprocess.Popen(
            [sys.executable, "-m", "tests.contract.ended_process", self.engine, self.address, what],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


CASES = (
    *(("duckdb", "write", signal.SIGTERM), ("duckdb", "read", signal.SIGINT)),
    *(("postgres", "write", signal.SIGTERM), ("postgres", "read", signal.SIGTERM)),
    ("postgres", "write", signal.SIGINT),
    *(("psycopg2", "write", signal.SIGTERM), ("psycopg2", "read", signal.SIGTERM)),
    *(("redshift", "write", signal.SIGTERM), ("redshift", "read", signal.SIGTERM)),
    *(("mysql", "write", signal.SIGTERM), ("mysql", "read", signal.SIGINT)),
)
"""What is at work on which engine, and what ends it."""


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    engine = request.param
    if engine == "duckdb":
        yield Place(engine, str(tmp_path / "warehouse.duckdb"), lambda: -1)
    elif engine == "mysql":
        server, database = (request.getfixturevalue(f"mysql_{n}") for n in ("server", "database"))

        def count_in_mariadb() -> int:
            listed = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%seq\\_1\\_to%'"
            with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
                cursor.execute(listed + " AND id <> CONNECTION_ID()")
                [(found,)] = cursor.fetchall()
            return int(found)

        yield Place(engine, f"{server.port} {database}", count_in_mariadb)
        if count_in_mariadb():  # or the database could not be dropped
            server.execute("KILL USER root")
    else:
        dsn = request.getfixturevalue("postgres_database")
        with contextlib.ExitStack() as stack:
            address = dsn
            if engine == "redshift":
                from tests.engines.redshift import relay_to

                port = stack.enter_context(relay_to(request.getfixturevalue("postgres_server").port))
                address = f"{port} {dsn}"
            yield Place(engine, address, lambda: count_in_postgres(dsn))


def count_in_postgres(dsn: str) -> int:
    import psycopg

    # Of a cursor on the server its text says no more than FETCH.
    listed = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    with psycopg.connect(dsn) as connection:
        [(found,)] = connection.execute(listed).fetchall()
    return int(found)


def wait_until(holds: Callable[[], bool], seconds: float, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)


def computes(process: subprocess.Popen[str]) -> Callable[[], bool]:
    """Wait until a process begins its work; gives whether it has computed for long since then."""

    def seconds() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")

    assert process.stdout is not None
    if process.stdout.readline() != "begins\n":
        return lambda: False  # it ended, which whoever waits sees
    began = seconds()
    return lambda: seconds() > began + 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "what", "how"), CASES, indirect=["place"], ids=[f"{e}-{w}-{h.name}" for e, w, h in CASES]
)
def test_a_task_that_is_ended_leaves_nothing_at_work(place: Place, what: str, how: signal.Signals) -> None:
    with open_engine(place.engine, place.address) as warehouse:
        people = People(warehouse, schema=SCHEMA)
        people.put("ann", "bob")
        people.source = source_of(f"SELECT uid, email, city FROM {people.table}")
        people.run(0)
        before = people.tables()
        warehouse.execute("CREATE TABLE noted (n INT)")
    process = place.start(what)
    try:
        wait_until(computes(process) if place.count() < 0 else place.count, WAIT_SECONDS, process)
        began = time.monotonic()
        process.send_signal(how)
        said = process.communicate(timeout=KILL_SECONDS)[1]
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - began < KILL_SECONDS
    assert place.count() <= 0, "the server works on"
    last = said.rstrip().splitlines()[-1]
    assert re.match("KeyboardInterrupt" if how is signal.SIGINT else r"[\w.]+\.TaskEnded: ", last), said
    with open_engine(place.engine, place.address) as warehouse:
        assert warehouse.read_rows("SELECT COUNT(*) FROM noted") == [(1,)], (
            "what is at work ends, what ends it not"
        )
        people.warehouse = warehouse
        people.put("cem")
        assert people.run(1)["entered"] == 1
        made = {name for name in people.tables() - before if not name.startswith("claim_")}
        assert len(made) <= 1, "the change set of the second run"


KILLED = (
    ("postgres", "write"),
    ("postgres", "read"),
    ("psycopg2", "write"),
    ("redshift", "write"),
    ("redshift", "read"),
    ("mysql", "write"),
    ("mysql", "read"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "what"), KILLED, indirect=["place"], ids=["-".join(k) for k in KILLED])
def test_the_next_attempt_ends_what_a_killed_one_left_at_work_and_no_other_statement(
    place: Place, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_engine(place.engine, place.address) as warehouse:
        people = People(warehouse, schema=SCHEMA)
        people.put("ann", "bob")
        people.source = source_of(f"SELECT uid, email, city FROM {people.table}")
        people.run(0)
        before = people.tables()
        warehouse.execute("CREATE TABLE noted (n INT)")
    connect_airflow(monkeypatch, place)
    process = place.start(what)
    try:
        wait_until(place.count, WAIT_SECONDS, process)
    finally:
        process.kill()
        process.wait()
    time.sleep(1)
    assert place.count() == 1, "the server works on, or this shows nothing"
    retry = replace(TAG, attempt=2)
    elsewhere = replace(STATE, state_schema="another_deployment")
    for state, other in ((STATE, TAG), (STATE, replace(retry, task="other")), (elsewhere, retry)):
        with open_ledger(state, "dag.diff", tag=other) as ledger:
            ledger.warehouse.read_rows("SELECT 1")
        time.sleep(1)
        assert place.count() == 1, "of another task or deployment, or by a first attempt"
    with open_ledger(STATE, "dag.diff", tag=retry) as ledger:
        ledger.warehouse.read_rows("SELECT 1")
        wait_for(lambda: place.count() == 0, seconds=5)
    with open_engine(place.engine, place.address) as warehouse:
        people.warehouse = warehouse
        people.put("cem")
        assert people.run(1)["entered"] == 1
        made = {name for name in people.tables() - before if not name.startswith("claim_")}
        assert len(made) <= 1, "the change set of the second run"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["redshift"], indirect=True)
def test_a_retry_that_cannot_look_works_on(
    place: Place, postgres_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connect_airflow(monkeypatch, place)
    with open_ledger(STATE, "dag.diff", tag=replace(TAG, attempt=2)) as ledger:
        assert ledger.warehouse.read_rows("SELECT 1") == [(1,)]
    assert "Not looked for statements that an earlier attempt" in caplog.text


def connect_airflow(patch: pytest.MonkeyPatch, place: Place) -> None:
    """Give Airflow a connection to the place."""
    if place.engine == "mysql":
        port, database = place.address.split(" ")
        fields = {
            "conn_type": "mysql",
            "host": "127.0.0.1",
            "port": int(port),
            "login": "root",
            "schema": database,
        }
        patch.setenv("AIRFLOW_CONN_KILLED", json.dumps(fields))
    elif place.engine == "redshift":
        port, dsn = place.address.split(" ")
        where = {"host": "127.0.0.1", "port": int(port), "schema": urlsplit(dsn).path.lstrip("/")}
        login = {"conn_type": "redshift", "login": "postgres", "password": "none", "extra": {"ssl": False}}
        patch.setenv("AIRFLOW_CONN_KILLED", json.dumps({**login, **where}))
    else:
        patch.setenv("AIRFLOW_CONN_KILLED", place.address.replace("postgresql://", "postgres://"))


def test_a_tag_cannot_end_its_comment_and_is_no_place_for_a_value() -> None:
    assert not set("*/%?'\\$;{}") & set(str(TAG))
    long = replace(TAG, sync_id="s" * 500, run_id="é" * 500)
    assert len(str(long)) < 350
    assert all(re.fullmatch(r"[a-z0-9_-]{1,63}", value) for value in long.labels().values())
    assert TAG.job == replace(TAG, attempt=9, run_id="x").job != replace(TAG, sync_id="other").job


def test_each_engine_has_the_tag_in_its_own_place() -> None:
    placed = {}
    for kind, dialect in DIALECTS.items():
        with warehouse_class(kind)(lambda: None, dialect) as warehouse:
            warehouse.tag = TAG
            placed[kind] = warehouse._tagged("SELECT 1").removesuffix("SELECT 1")
    elsewhere = {
        "duckdb": "",
        "snowflake": "",
        "gcpbigquery": "SELECT 1",
        "clickhouse": "",
        "athena": f"-- {TAG}\n",
    }
    bracketed = {kind: f"/* {TAG} */ " for kind in placed if kind not in elsewhere}
    assert {**placed, "gcpbigquery": "SELECT 1"} == {**elsewhere, **bracketed}
    assert {"postgres", "mysql", "redshift", "trino", "hiveserver2", "databricks"} <= bracketed.keys()


def test_a_signal_wakes_whoever_was_woken_by_it_before(tmp_path: Path) -> None:
    here, there = os.pipe()
    os.set_blocking(there, False)
    handler = signal.signal(signal.SIGALRM, lambda *_: None)
    before = signal.set_wakeup_fd(there)
    try:
        with open_duckdb(tmp_path / "warehouse.duckdb") as warehouse, ending_with_task(warehouse):
            os.kill(os.getpid(), signal.SIGALRM)
            assert os.read(here, 1) == bytes([signal.SIGALRM])
        assert signal.set_wakeup_fd(-1) == there
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGALRM, handler)
        os.close(here)
        os.close(there)


def test_a_task_is_ended_once_and_only_while_it_is_at_work() -> None:
    end_task()
    with under_way():
        with pytest.raises(TaskEnded):
            end_task()
        end_task()


def test_what_is_at_work_is_cancelled_from_another_thread(postgres_database: str) -> None:
    warehouse = open_engine("postgres", postgres_database)
    raised: list[BaseException] = []

    def read() -> None:
        try:
            warehouse.read_rows(ENDLESS["postgres"])
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    wait_for(lambda: count_in_postgres(postgres_database) == 1)
    warehouse.cancel()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [TaskEnded]
    assert not count_in_postgres(postgres_database)
    warehouse.close()


def test_who_closes_while_somebody_is_still_reading_ends_that_too(postgres_database: str) -> None:
    warehouse = open_engine("postgres", postgres_database)
    sleeping = "SELECT n FROM generate_series(1, 10000) AS n WHERE n < 9000 OR pg_sleep(600) IS NOT NULL"
    reading = warehouse.read_batches(sleeping, NUMBERS, rows=10)
    next(reading)
    wait_for(lambda: count_in_postgres(postgres_database) == 1)
    warehouse.close()
    wait_for(lambda: count_in_postgres(postgres_database) == 0)
    reading.close()


def wait_for(holds: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
