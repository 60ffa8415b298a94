"""An Airflow that has something to show: twelve days of CDNOW, a run that a guard holds, and a thousand audiences.

CDNOW goes through the example DAG as it stands, out of a DuckDB file; the others read a PostgreSQL database. The
stream is one of an emulated AWS on this machine.
"""

from __future__ import annotations

import contextlib
import json
import threading
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3

from airflow_kinesis_audience.demo.cdnow import read_purchases, write_warehouse
from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.integration.running_airflow import ROOT, RunningAirflow, running_airflow
from tests.scripted_kinesis import ScriptedKinesis

if TYPE_CHECKING:
    from tests.postgres import Server

REGION = "us-east-1"
CDNOW, HELD, THOUSAND, SLOW = "lapsed_customers", "emptied", "thousand", "slow"
FIRST = datetime(1997, 4, 2, tzinfo=UTC)
DAY = timedelta(days=1)
THEN = datetime(2026, 1, 1, tzinfo=UTC)
FILL_SECONDS = 900

READER, OUTSIDER = "reader", "outsider"
_ANY = [("can_read", "Website"), ("can_read", "Plugins"), ("menu_access", "Plugins")]
_OF_RUNS = [("can_read", what) for what in ("Assets", "DAG Runs", "Task Instances", "XComs", f"DAG:{THOUSAND}")]
PERMISSIONS = {OUTSIDER: _ANY, READER: [*_ANY, *_OF_RUNS]}
"""Of who may see no DAG, and of who may see one."""

_BEGINS = "    start_date=datetime(1997, 1, 1, tzinfo=UTC),\n"
_HELD = """
from datetime import timedelta

from airflow.sdk import DAG
from airflow_kinesis_audience.operators import audience_sync

with DAG("emptied", default_args={"retries": 1, "retry_delay": timedelta(seconds=1)}):
    audience_sync(
        group_id="vip",
        warehouse_conn_id="postgres",
        sql="SELECT n AS user_id FROM generate_series(1, {{ 200 if ds == '2026-01-01' else 20 }}) AS n",
        audience_id="vip",
        audience_name="VIP <b>customers</b>",
        stream_name="audience-changes",
        message_format="amplitude_cohort",
    )
"""
_THOUSAND = '''
from datetime import timedelta

from airflow.sdk import DAG
from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

with DAG("thousand", default_args={"retries": 1, "retry_delay": timedelta(seconds=1)}):
    diff = AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="postgres",
        sql="""
            SELECT 'a' || a AS audience, 'Audience ' || a AS called, u AS user_id
            FROM generate_series(1, 1000) AS a, generate_series(1, 1 + (a + {{ logical_date.day }}) % 5) AS u
        """,
        audience_id_column="audience",
        audience_name_column="called",
    )
    AudienceToKinesisOperator(
        task_id="publish",
        change_set=diff.output,
        stream_name="audience-changes",
        message_format="amplitude_cohort",
    )
'''
_SLOW = """
from airflow.sdk import DAG
from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

with DAG("slow"):
    diff = AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="postgres",
        sql="SELECT n AS user_id FROM generate_series(1, 30000) AS n",
        audience_id="many",
    )
    # One partition key: each message waits for the one before it.
    AudienceToKinesisOperator(
        task_id="publish",
        change_set=diff.output,
        stream_name="s",
        aws_conn_id="slow",
        partitions=1,
        message_format="amplitude_cohort",
    )
"""


class SlowKinesis(ScriptedKinesis):
    """An endpoint that takes everything, and thinks before each answer until ``hurry`` is set."""

    def __enter__(self) -> Self:
        self.hurry = threading.Event()
        return super().__enter__()

    def decide(self, entries: Any) -> Any:
        self.hurry.wait(1)
        return super().decide(entries)


@contextlib.contextmanager
def watched_airflow(
    server: Server, folder: Path, slow: SlowKinesis | None = None, dags: Mapping[str, str] | None = None
) -> Iterator[RunningAirflow]:
    """Start it, with nothing run yet.

    :param folder: where the DuckDB file is made.
    :param slow: where the DAG ``SLOW`` delivers to.
    :param dags: texts of DAGs in the place of those of their name here.
    """
    names = ("watched_airflow", "watched_warehouse")
    for name in names:
        server.execute(f"CREATE DATABASE {name}")
    folder.mkdir(exist_ok=True)
    warehouse = folder / "warehouse.duckdb"
    write_warehouse(warehouse, read_purchases())
    text = (ROOT / "dags" / f"{CDNOW}.py").read_text()
    assert _BEGINS in text
    # else there would be a run as of today
    ends = f"{_BEGINS}    end_date=datetime(1998, 7, 1, tzinfo=UTC),\n"
    dags = {CDNOW: text.replace(_BEGINS, ends), HELD: _HELD, THOUSAND: _THOUSAND, SLOW: _SLOW, **(dags or {})}
    with emulator() as endpoint_url:
        where = {"endpoint_url": endpoint_url, "region_name": REGION}
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        boto3.client("kinesis", **where, **keys).create_stream(StreamName="audience-changes", ShardCount=4)
        aws = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": where}
        connections = {
            "warehouse": json.dumps({"conn_type": "duckdb", "host": str(warehouse)}),
            "postgres": server.dsn(names[1]),
            "aws_default": json.dumps(aws),
        }
        if slow is not None:
            where = {"endpoint_url": slow.endpoint_url, "region_name": REGION}
            connections["slow"] = json.dumps({**aws, "extra": where})
        with running_airflow(server.dsn(names[0]), dags=dags, connections=connections, auth="fab") as airflow:
            yield airflow
    for name in names:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def fill(airflow: RunningAirflow, *, days: int) -> str:
    """Have everything run that is to be shown; gives the id of the run that is held."""
    until = FIRST + (days - 1) * DAY
    dates = ("--from-date", FIRST.isoformat(), "--to-date", until.isoformat())
    airflow.command("backfill", "create", "--dag-id", CDNOW, *dates, "--max-active-runs", "1")
    for dag_id, day in ((THOUSAND, THEN), (THOUSAND, THEN + DAY), (HELD, THEN)):
        run_id = start(airflow, dag_id, day)
        airflow.expect("success", dag_id, run_id)
        if any(task["try_number"] > 1 for task in airflow.tasks(dag_id, run_id).values()):
            warnings.warn(f"{dag_id} was retried:\n{airflow.logs_of(run_id)}", stacklevel=2)
    held = start(airflow, HELD, THEN + DAY)
    airflow.wait_for_question(HELD, held, "vip.approve")

    def ended() -> bool:
        runs = airflow.runs(CDNOW)
        return len(runs) == days and all(run["state"] == "success" for run in runs)

    airflow.wait_for("end of the backfill", ended, FILL_SECONDS)
    for name, permissions in PERMISSIONS.items():
        airflow.add_user(name, permissions)
    return held


def start(airflow: RunningAirflow, dag_id: str, logical_date: datetime) -> str:
    """Have a DAG run; gives the run's id."""
    body = {"logical_date": logical_date.isoformat()}
    return str(airflow.ask("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])
