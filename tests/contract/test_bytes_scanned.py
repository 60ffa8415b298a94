"""What a task's statements have read, on Athena, which bills it: PyAthena itself, and moto over HTTP.

moto runs no SQL, and says of each statement that it has read nothing: here it says another number. The bytes of
BigQuery are in ``test_left_statements_bigquery.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto.athena.responses import AthenaResponse
from moto.server import ThreadedMotoServer

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.trino import AthenaWarehouse
from airflow_kinesis_audience.operators.run_context import count_statements
from tests.engines.environments import add_packages
from tests.warehouses import open_duckdb

AWS = {"region_name": "eu-west-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@pytest.fixture
def athena(monkeypatch: pytest.MonkeyPatch) -> Iterator[AthenaWarehouse]:
    add_packages("athena")
    from pyathena import connect

    answer = AthenaResponse.get_query_execution
    monkeypatch.setattr(
        AthenaResponse,
        "get_query_execution",
        lambda self: answer(self).replace('"DataScannedInBytes": 0', '"DataScannedInBytes": 10485760'),
    )
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        address, port = server.get_host_and_port()
        aws: dict[str, Any] = {**AWS, "endpoint_url": f"http://{address}:{port}"}
        boto3.client("s3", **aws).create_bucket(
            Bucket="results", CreateBucketConfiguration={"LocationConstraint": AWS["region_name"]}
        )
        with AthenaWarehouse(
            lambda: connect(s3_staging_dir="s3://results/", poll_interval=0.05, **aws), DIALECTS["athena"]
        ) as warehouse:
            yield warehouse
    finally:
        server.stop()


def test_a_summary_has_what_athena_has_scanned(athena: AthenaWarehouse) -> None:
    athena.execute("INSERT INTO audience.x VALUES (1)")
    athena.read_rows("SELECT 1")
    counted = count_statements(SimpleNamespace(warehouse=athena))  # type: ignore[arg-type]
    assert (counted["statements"], counted["bytes_scanned"]) == (2, 20 * 1024 * 1024)


def test_a_summary_has_no_bytes_where_the_engine_does_not_say_them(tmp_path: Path) -> None:
    with open_duckdb(tmp_path / "warehouse.duckdb") as warehouse:
        warehouse.read_rows("SELECT 1")
        counted = count_statements(SimpleNamespace(warehouse=warehouse))  # type: ignore[arg-type]
    assert counted.keys() == {"statements", "statement_seconds"}
