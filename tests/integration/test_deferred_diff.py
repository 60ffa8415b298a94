"""A diff on a running Airflow with one worker slot: deferred while its statement runs in Snowflake's stand-in.

The stand-in holds the statement until it is let, and another task has the slot meanwhile. The triggerer finds the
end, and a worker continues. Airflow's own hook and Snowflake's connector speak to it over TLS.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engines.environments import packages
from tests.engines.snowflake import SESSION, open_fakesnow, running_fakesnow, write_certificate
from tests.integration.running_airflow import running_airflow
from tests.integration.test_deferred import OTHER, OTHER_FILE

if TYPE_CHECKING:
    from tests.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.long_story]

LONG = "long_diff"
LONG_FILE = """
from airflow.sdk import DAG
from airflow_kinesis_audience.hooks.warehouses import left_statements
from airflow_kinesis_audience.operators import AudienceDiffOperator

left_statements.PATIENCE_SECONDS = 1.0
with DAG("long_diff", schedule=None):
    AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="warehouse",
        sql="SELECT user_id FROM members",
        audience_id="a1",
        sync_id="long",
        deferrable=True,
    )
"""


def test_a_diff_holds_no_worker_slot_while_its_statement_runs(
    tmp_path: Path, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = write_certificate(tmp_path)
    held = tmp_path / "held"
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(certificate))
    monkeypatch.setenv("FAKESNOW_HOLDS", str(held))
    monkeypatch.setenv("PYTHONPATH", str(packages("snowflake")))
    postgres_server.execute("CREATE DATABASE deferring_diff_airflow")
    with running_fakesnow(certificate, key) as port:
        with open_fakesnow(port, "ANALYTICS", protocol="https") as people:
            people.execute("CREATE TABLE members (user_id TEXT)")
            people.execute("INSERT INTO members VALUES ('ann'), ('bob')")
        extra = {"account": "fake", "database": "ANALYTICS", "host": "127.0.0.1", "port": port}
        extra |= {"insecure_mode": True, "session_parameters": SESSION}
        login = {"conn_type": "snowflake", "login": "test", "password": "test", "schema": "PUBLIC"}
        with running_airflow(
            postgres_server.dsn("deferring_diff_airflow"),
            dags={LONG: LONG_FILE, OTHER: OTHER_FILE},
            connections={"warehouse": json.dumps({**login, "extra": extra})},
            triggerer=True,
            parallelism=1,
        ) as airflow:
            held.touch()
            body = {"logical_date": None}
            run_id = airflow.ask("POST", f"dags/{LONG}/dagRuns", json=body)["dag_run_id"]
            airflow.wait_for("deferred task", lambda: airflow.states(LONG, run_id)["diff"] == "deferred")
            pool = airflow.ask("GET", "pools/default_pool")
            assert (pool["deferred_slots"], pool["running_slots"]) == (1, 0)

            other = airflow.ask("POST", f"dags/{OTHER}/dagRuns", json=body)["dag_run_id"]
            airflow.expect("success", OTHER, other)
            assert airflow.states(LONG, run_id)["diff"] == "deferred"
            held.unlink()
            airflow.expect("success", LONG, run_id)
            diff = airflow.tasks(LONG, run_id)["diff"]
            summary = airflow.xcom(LONG, run_id, "diff")
            assert (diff["try_number"], summary["entered"], summary["members"]) == (1, 2, 2)
