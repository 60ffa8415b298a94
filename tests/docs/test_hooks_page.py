"""The page of hooks is run as it stands, against an emulated stream and a DuckDB file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import duckdb

from airflow_kinesis_audience.core.producer.records import Status
from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.contract.test_stream_faults import connection
from tests.docs.pages import blocks

if TYPE_CHECKING:
    import pytest


def run_block(number: int) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(blocks("python", "docs/hooks.md")[number].text, namespace)  # noqa: S102
    return namespace


def test_a_record_is_put_as_the_page_does() -> None:
    with emulator() as endpoint_url, connection(endpoint_url):
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "eu-west-1"}
        client = boto3.client("kinesis", endpoint_url=endpoint_url, **keys)
        client.create_stream(StreamName="audience-changes", ShardCount=1)
        assert run_block(0)["outcome"].status is Status.DELIVERED
        [shard] = client.list_shards(StreamName="audience-changes")["Shards"]
        where = {"StreamName": "audience-changes", "ShardId": shard["ShardId"]}
        iterator = client.get_shard_iterator(**where, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        [record] = client.get_records(ShardIterator=iterator)["Records"]
        assert json.loads(record["Data"]) == {"hello": "stream"}


def test_a_warehouse_is_read_as_the_page_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE TABLE members AS SELECT CAST(i AS VARCHAR) AS user_id FROM range(7) AS t(i)")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(path)}))
    found = run_block(1)
    assert (found["types"], found["count"], found["found"]) == ({"user_id": "VARCHAR"}, 7, [7])


def test_changes_are_computed_as_the_page_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE SCHEMA marts")
        database.execute("CREATE TABLE marts.lapsed AS SELECT 'u1' AS user_id, 'ada@example.com' AS email")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(path)}))
    frame = run_block(2)["frame"]
    assert frame[["user_id", "action", "Email"]].values.tolist() == [["u1", "entered", "ada@example.com"]]
