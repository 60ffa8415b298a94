"""A throttled delivery on a running Airflow with one worker slot: it is deferred, and another task has the slot.

The stream takes a part and then nothing until it is let; what it took is looked at in the end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.integration.running_airflow import running_airflow
from tests.scripted_kinesis import TAKE, THROTTLE, Arrived, ScriptedKinesis

if TYPE_CHECKING:
    from tests.postgres import Server

pytestmark = pytest.mark.slow

MEMBERS = 40
BUSY, OTHER = "busy_stream", "beside_it"
BUSY_FILE = """
from airflow.sdk import DAG
from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

with DAG("busy_stream", schedule=None):
    diff = AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="warehouse",
        sql="SELECT user_id FROM members",
        audience_id="a1",
        sync_id="busy",
    )
    AudienceToKinesisOperator(
        task_id="publish",
        change_set=diff.output,
        stream_name="changes",
        message_format="amplitude_cohort",
        format_options={"max_users": 2},
        deferrable=True,
    )
"""
OTHER_FILE = """
from airflow.sdk import DAG, task

with DAG("beside_it", schedule=None):
    @task
    def short():
        return 1

    short()
"""


class Gate:
    """Lets the stream take a third of the first request, and then nothing until it is open."""

    is_open = False

    def __call__(self, request: int, records: Sequence[Arrived]) -> list[str]:
        taken = [self.is_open or (request == 0 and number % 3 == 0) for number in range(len(records))]
        return [TAKE if found else THROTTLE for found in taken]


@pytest.mark.long_story
def test_a_throttled_delivery_holds_no_worker_slot_and_puts_each_record_once(
    tmp_path: Path, postgres_server: Server
) -> None:
    users = {f"u{number}" for number in range(MEMBERS)}
    warehouse = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE TABLE members (user_id VARCHAR)")
        connection.executemany("INSERT INTO members VALUES (?)", [(user,) for user in sorted(users)])
    postgres_server.execute("CREATE DATABASE deferring_airflow")
    gate = Gate()
    with ScriptedKinesis(gate) as kinesis:
        extra = {"endpoint_url": kinesis.endpoint_url, "region_name": "eu-west-1"}
        aws = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        with running_airflow(
            postgres_server.dsn("deferring_airflow"),
            dags={BUSY: BUSY_FILE, OTHER: OTHER_FILE},
            connections={
                "warehouse": json.dumps({"conn_type": "duckdb", "host": str(warehouse)}),
                "aws_default": json.dumps(aws),
            },
            triggerer=True,
            parallelism=1,
        ) as airflow:
            body = {"logical_date": None}
            run_id = airflow.ask("POST", f"dags/{BUSY}/dagRuns", json=body)["dag_run_id"]
            airflow.wait_for("deferred task", lambda: airflow.states(BUSY, run_id)["publish"] == "deferred")
            part = airflow.xcom(BUSY, run_id, "publish", "delivery")
            assert 0 < part["delivered"] < MEMBERS
            pool = airflow.ask("GET", "pools/default_pool")
            assert (pool["deferred_slots"], pool["running_slots"]) == (1, 0)

            other = airflow.ask("POST", f"dags/{OTHER}/dagRuns", json=body)["dag_run_id"]
            airflow.expect("success", OTHER, other)
            gate.is_open = True
            airflow.expect("success", BUSY, run_id)
            published = airflow.tasks(BUSY, run_id)["publish"]
            summary = airflow.xcom(BUSY, run_id, "publish")
    assert published["try_number"] == 1
    sent = [record.data for record in kinesis.taken]
    assert len(sent) == len(set(sent)) == summary["records"], "each record once, and all are counted"
    assert (summary["delivered"], summary["rejected"]) == (MEMBERS, 0)
    assert len(summary["change_sets"]) == 1
    consumer = AudienceConsumer()
    for document in sent:
        consumer.apply(document)
    assert consumer.members("a1") == users
