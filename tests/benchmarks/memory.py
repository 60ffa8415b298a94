"""How much memory a task needs above an Airflow task that does nothing: a million members, 2 % of them changed.

Every task runs in a fresh Airflow process, and its peak is that process's. The stream is an endpoint in another
process that takes everything at once. PostgreSQL is a server, so only the client counts; DuckDB works inside the
task, so all of it counts. The bound is for every day's runs, and for a DuckDB that nobody gave a limit of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from airflow_kinesis_audience.demo.local_airflow import point_airflow_to
from tests.airflow.running import Airflow, Run, audience_dag, aws, day
from tests.postgres import HOW_TO_INSTALL, find_programs, running_server
from tests.scripted_kinesis import ScriptedKinesis

MEMBERS = 1_000_000
BOUND_MIB = 300
EVERY_DAY = ("diff", "publish")

IDLE = """
from airflow.sdk import DAG, BaseOperator

class Idle(BaseOperator):
    def execute(self, context):
        return {}

with DAG("idle") as dag:
    Idle(task_id="idle")
"""
SOURCE = """
CREATE TABLE members AS SELECT
    md5(CAST(i AS VARCHAR)) AS user_id,
    concat('member', i, '@mail.example') AS email,
    concat('city ', i % 1000) AS city,
    CAST(i % 100000 AS DECIMAL(12, 2)) / 100 AS spend
FROM {numbers}
"""
CHANGES = (
    # 0.5 % leave, 0.5 % enter, 1 % change
    "DELETE FROM members WHERE user_id IN (SELECT md5(CAST(i AS VARCHAR)) FROM {leaving})",
    "INSERT INTO members SELECT md5(CAST(i AS VARCHAR)), concat('m', i, '@x.example'), 'new', i FROM {coming}",
    "UPDATE members SET spend = spend + 1 WHERE user_id IN (SELECT md5(CAST(i AS VARCHAR)) FROM {changing})",
)
DIFF = {
    "warehouse_conn_id": "warehouse",
    "table": "members",
    "audience_id": "everybody",
    "identities": {"email": "Email"},
    "properties": ["city", "spend"],
    "sync_id": "memory",
}
PUBLISH = {
    "stream_name": "changes",
    "message_format": "amplitude_cohort",
    "format_options": {"user_properties": True},
    "aws_conn_id": "aws",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A warehouse to measure.

    :param connection: its Airflow connection.
    :param execute: runs a statement there, as its owner.
    :param bounded: whether the bound is to hold here.
    :param numbers: gives SQL for a table of the column ``i``, from one number up to, without, another.
    """

    name: str
    connection: str
    execute: Callable[[str], None]
    numbers: Callable[[int, int], str]
    bounded: bool = True

    def make_source(self) -> None:
        self.execute(SOURCE.format(numbers=self.numbers(0, MEMBERS)))

    def change_source(self) -> None:
        half, whole = MEMBERS // 200, MEMBERS // 100
        for statement in CHANGES:
            self.execute(
                statement.format(
                    leaving=self.numbers(0, half),
                    coming=self.numbers(MEMBERS, MEMBERS + half),
                    changing=self.numbers(half, half + whole),
                )
            )


class Bench:
    """Runs tasks, each in an Airflow process of its own, and prints a line for each."""

    def __init__(self, home: Path, endpoint_url: str) -> None:
        self._home = home
        self._aws = aws(endpoint_url)
        self.idle_mib = self._measure("idle", IDLE, {}).peak_mib
        self.beyond: list[str] = []
        self._first_diff: dict[str, str] = {}

    def run(self, place: Place, label: str, number: int, diff: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a diff, or the publishing of what a diff returned, and print what it took."""
        publish = {**PUBLISH, "change_set": diff} if diff else None
        # Each run is a DAG of its own, which goes on with the state of the first one's task.
        before = self._first_diff.get(place.name)
        dag_id, text = audience_dag(None if publish else {**DIFF, "adopt_state_of": before}, publish)
        if not publish:
            self._first_diff.setdefault(place.name, f"{dag_id}.diff")
        run = self._measure(dag_id, text, {"warehouse": place.connection, "aws": self._aws}, number)
        (task,) = run.tasks.values()
        changes = sum(task.summary[n] for n in ("entered", "exited", "updated"))
        above = run.peak_mib - self.idle_mib
        if place.bounded and label in EVERY_DAY and above > BOUND_MIB:
            self.beyond.append(f"{place.name}: {label} needs {above:.0f} MiB")
        print_line(place.name, label, task.summary["members"], changes, task.seconds or 0.0, above, run.peak_mib)
        return task.summary

    def _measure(self, dag_id: str, text: str, connections: Mapping[str, str], number: int = 1) -> Run:
        with Airflow(self._home) as airflow, airflow.dag_file(dag_id, text) as file:
            run = airflow.run(file, connections=connections, logical_date=day(number))
        if run.state != "success":
            raise RuntimeError(f"a task that was to be measured failed:\n{run.log[-6000:]}")
        return run


def print_line(
    place: str, task: str, members: int, changes: int, seconds: float, above: float, peak: float
) -> None:
    print(f"{place:24}{task:16}{members:>11,}{changes:>11,}{seconds:>9.1f}{above:>17.0f}{peak:>10.0f}", flush=True)


def main() -> bool:
    """Measure, print, and return whether the bound is kept."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audience-benchmark-")))
        prepare_airflow(home)
        bench = Bench(home, stack.enter_context(endpoint()))
        print(f"an Airflow task that does nothing: {bench.idle_mib:.0f} MiB")
        titles = ("members", "changes", "seconds", "MiB above idle", "MiB peak")
        print(
            f"{'warehouse':24}{'task':16}{titles[0]:>11}{titles[1]:>11}{titles[2]:>9}{titles[3]:>17}{titles[4]:>10}"
        )
        for place in places(stack, home):
            place.make_source()
            bench.run(place, "first publish", 1, bench.run(place, "first diff", 1))
            place.change_source()
            bench.run(place, "publish", 2, bench.run(place, "diff", 2))
    kept = not bench.beyond
    print(f"{' and '.join(EVERY_DAY)} stay under {BOUND_MIB} MiB above idle: {'yes' if kept else 'NO'}")
    for sentence in bench.beyond:
        print(sentence)
    return kept


def places(stack: ExitStack, home: Path) -> Iterator[Place]:
    """Give the warehouses one after the other, so that only one takes up the machine."""
    for name, extra in (("DuckDB", {}), ("DuckDB, limit of 256 MB", {"memory_limit": "256MB"})):
        path = home / f"{len(extra)}.duckdb"
        connection = json.dumps({"conn_type": "duckdb", "host": str(path), "extra": extra})
        yield Place(
            name=name,
            connection=connection,
            execute=partial(_execute_in_duckdb, path),
            numbers=lambda first, last: f"(SELECT range AS i FROM range({first}, {last})) AS numbers",
            bounded=not extra,
        )
        path.unlink()
    programs = find_programs()
    if programs is None:
        print(f"PostgreSQL was not measured: {HOW_TO_INSTALL}")
        return
    dsn = stack.enter_context(running_server(programs)).dsn()
    yield Place(
        name="PostgreSQL",
        connection=dsn,
        execute=partial(_execute_in_postgres, dsn),
        numbers=lambda first, last: f"generate_series({first}, {last - 1}) AS numbers(i)",
    )


def _execute_in_duckdb(path: Path, sql: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql)


def _execute_in_postgres(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.encode())


def prepare_airflow(home: Path) -> None:
    """Point Airflow to an empty home, and the SDK to no account, for the processes that are started later."""
    point_airflow_to(home)
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_DEFAULT_REGION="us-east-1")
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


@contextmanager
def endpoint() -> Iterator[str]:
    """Serve a Kinesis endpoint from a process of its own; gives its URL."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve_kinesis, args=(theirs,), daemon=True)
    process.start()
    yield str(ours.recv())
    ours.send("enough")
    process.join(30)


def _serve_kinesis(tests: Connection) -> None:
    with ScriptedKinesis() as kinesis:
        tests.send(kinesis.endpoint_url)
        tests.recv()
