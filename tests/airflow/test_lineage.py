"""What arrives at OpenLineage when a DAG runs: tables that were read, the sync, and the stream, with counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.airflow.running import DIFF, Airflow, day, deployed

if TYPE_CHECKING:
    from tests.airflow.conftest import Postgres, Stream

pytestmark = pytest.mark.slow

QUERY = """
WITH recent AS (SELECT user_id FROM marts.orders WHERE user_id <> 'anna-secret')
SELECT user_id, email, city FROM members JOIN recent USING (user_id)
"""


@pytest.fixture(scope="module")
def events_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lineage") / "events.json"


@pytest.fixture(scope="module")
def reporting(airflow_db: Path, events_file: Path) -> Iterator[Airflow]:
    transport = {"type": "file", "log_file_path": str(events_file), "append": True}
    settings = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "airflow",
        # The query is Airflow's own to tell, or not to.
        "AIRFLOW__OPENLINEAGE__DISABLE_SOURCE_CODE": "True",
    }
    with Airflow(airflow_db, settings) as airflow:
        yield airflow


def datasets(events: list[dict[str, Any]], task_id: str, kind: str) -> dict[str, Any]:
    """Return what the last event that tells of a task's datasets says: names to counts."""
    of_task = [e for e in events if e["job"]["name"].endswith(f".{task_id}") and e.get(kind)]
    return {
        f"{one['namespace']} {one['name']}": {
            name: count
            for name, count in one.get("outputFacets", {}).get("outputStatistics", {}).items()
            if not name.startswith("_")
        }
        for one in of_task[-1][kind]
    }


def test_a_stream_comes_from_a_sync_and_a_sync_from_its_tables(
    reporting: Airflow, events_file: Path, postgres_warehouse: Postgres, stream: Stream
) -> None:
    postgres_warehouse.members([("u1", "anna@x.example", "Ankara"), ("u2", "b@x.example", "Bonn")])
    postgres_warehouse.execute("CREATE SCHEMA marts")
    postgres_warehouse.execute("CREATE TABLE marts.orders AS SELECT user_id FROM members")
    diff, publish = {**DIFF, "sql": QUERY}, {"stream_name": stream.name}
    with deployed(reporting, postgres_warehouse.connection, stream.connection, diff, publish) as dag:
        run = dag.run(day(1), supervised=True)
    assert run.state == "success", run.log
    events = [json.loads(line) for line in events_file.read_text().splitlines()]
    address, _, database = postgres_warehouse.connection.rpartition("/")
    server = f"postgres://{address.rpartition('@')[2]}"
    sync = f"{server} {database}.airflow_audience.lapsed"
    sources = [f"{server} {database}.marts.orders", f"{server} {database}.public.members"]
    assert sorted(datasets(events, "diff", "inputs")) == sources
    assert datasets(events, "diff", "outputs") == {sync: {"rowCount": 2}}
    assert list(datasets(events, "publish", "inputs")) == [sync]
    delivered = {"rowCount": 2, "size": run["publish"].summary["bytes"]}
    assert datasets(events, "publish", "outputs") == {f"kinesis://us-east-1 {stream.name}": delivered}
    assert "anna@x.example" not in events_file.read_text()
