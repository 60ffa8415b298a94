"""A login that may only read: whole DAG runs whose state is Parquet files on a disk and in S3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import psycopg
import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.airflow.running import Airflow, day, deployed, one_task_dag

if TYPE_CHECKING:
    from tests.airflow.conftest import Postgres, Stream

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(postgres_warehouse: Postgres) -> str:
    """A login that may read ``members`` and nothing else."""
    with psycopg.connect(postgres_warehouse.connection, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    return postgres_warehouse.connection.replace("//postgres@", "//reader@")


def members_on(stream: Stream) -> frozenset[str]:
    consumer = AudienceConsumer()
    for record in stream.records():
        consumer.apply(record)
    return consumer.members("gs72ns")


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_a_read_only_login_keeps_its_state_in_files(
    airflow: Airflow, postgres_warehouse: Postgres, reader: str, stream: Stream, tmp_path: Path, where: str
) -> None:
    endpoint = json.loads(stream.connection)["extra"]["endpoint_url"]
    client = boto3.client("s3", endpoint_url=endpoint)
    bucket = f"state-{stream.name}"
    client.create_bucket(Bucket=bucket)
    path = str(tmp_path / "state") if where == "disk" else f"s3://aws@{bucket}/audiences"
    diff = {
        "warehouse_conn_id": "warehouse",
        "table": "public.members",
        "audience_id": "gs72ns",
        "identities": {"email": "Email"},
        "hash_identities": {"email": "sha256"},
        "properties": ["city"],
        "sync_id": "lapsed",
        "state_path": path,
        "state_memory": "128MB",
        "max_exit_ratio": None,
    }
    publish = {"stream_name": stream.name, "format_options": {"user_properties": True}}
    with deployed(airflow, reader, stream.connection, diff, publish) as dag:
        postgres_warehouse.members([("u1", "anna@x.example", "Ankara"), ("u2", "bora@x.example", "Bonn")])
        first = dag.run(day(1))
        assert first.state == "success", first.log
        assert members_on(stream) == {"u1", "u2"}
        postgres_warehouse.members([("u2", "bora@x.example", "Berlin"), ("u3", "cem@x.example", "Cork")])
        second = dag.run(day(2))
        assert second.state == "success", second.log
        again = dag.run(day(2, hour=1))
    summary = second["diff"].summary
    assert [summary[n] for n in ("entered", "exited", "updated", "state_path")] == [1, 1, 1, path]
    assert [again["diff"].summary[n] for n in ("entered", "exited", "updated")] == [0, 0, 0]
    assert members_on(stream) == {"u2", "u3"}
    for private in ("anna@x.example", "bora@x.example", "Berlin"):
        assert private not in first.log + second.log + again.log
    schemas = postgres_warehouse.execute("SELECT schema_name FROM information_schema.schemata")
    assert ("airflow_audience",) not in schemas, "nothing was written to the warehouse"
    arguments = {
        **{n: diff[n] for n in ("warehouse_conn_id", "sync_id", "state_path")},
        **{"stream_name": stream.name, "message_format": "amplitude_cohort", "aws_conn_id": "aws"},
    }
    connections = {"warehouse": reader, "aws": stream.connection}
    dag_id, text = one_task_dag("AudienceDeleteOperator", "delete", arguments)
    with airflow.dag_file(dag_id, text) as file:
        ended = airflow.run(file, connections=connections, logical_date=day(3))
    assert ended.state == "success", ended.log
    assert members_on(stream) == frozenset()
    if where == "disk":
        assert not list(Path(path).rglob("*.parquet")), "the tables go with the last destination"
    else:
        found = client.list_objects_v2(Bucket=bucket)["Contents"]
        assert found
        assert not [f["Key"] for f in found if f["Key"].endswith(".parquet")]
