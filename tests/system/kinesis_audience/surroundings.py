"""What a system test puts around an example DAG: data and a stream before it, a look at the messages after it.

An example stays as it is, but reads and writes what carries the name of this environment alone: two people can run
the same test in one account and one database. Everything is removed in the end, also after a failure. Nothing here
runs while a DAG file is parsed. ``docs/testing.md`` has the variables.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook
from airflow.sdk import DAG, task

from airflow_kinesis_audience.demo import cdnow
from tests.system.kinesis_audience.local_aws import local_aws

ENV_ID = os.environ.get("SYSTEM_TESTS_ENV_ID", "local").lower()
MARTS, STATE = f"audience_system_marts_{ENV_ID}", f"audience_system_state_{ENV_ID}"
STREAM = f"audience-system-{ENV_ID}"
BUCKET = os.environ.get("SYSTEM_TESTS_BUCKET", "audience-system-tests")
ROLE = os.environ.get("SYSTEM_TESTS_FIREHOSE_ROLE_ARN", "arn:aws:iam::123456789012:role/firehose-to-bucket")
LOGICAL_DATE = datetime(1997, 9, 1, tzinfo=UTC)
EVERY_NTH_CUSTOMER = 20
MOST_SECONDS = 300
"""How long a message may take to the bucket: Firehose collects for a minute."""

_DAGS = Path(__file__).parents[3] / "dags"
_TABLES = {
    "purchases": "customer_id VARCHAR(16), purchased_on DATE, number_of_cds INTEGER, dollar_value DECIMAL(10, 2)",
    "customers": "customer_id VARCHAR(16), email VARCHAR(64)",
}
_ROWS_A_STATEMENT = 500

Check = Callable[[list[bytes], list[cdnow.Purchase], date], None]
"""Gets the messages, the purchases, and the day that the run speaks for; asserts."""


def load_example(name: str) -> DAG:
    """Load a DAG of ``dags/`` anew, with the names of this environment in the place of its own."""
    dag: DAG = runpy.run_path(str(_DAGS / f"{name}.py"))["dag"]
    for own in dag.tasks:
        renamed: dict[str, Any] = {"state_schema": STATE, "stream_name": STREAM, "delivery_stream_name": STREAM}
        for argument, value in renamed.items():
            if getattr(own, argument, None) is not None:
                setattr(own, argument, value)
        if (sql := getattr(own, "sql", None)) is not None:
            setattr(own, "sql", sql.replace("marts.", f"{MARTS}."))  # noqa: B010
        own.retry_delay = timedelta(seconds=1)
    return dag


def surround(dag: DAG, check: Check, *, firehose: bool = False) -> None:
    """Put the tasks of a system test around those of an example."""
    first, last = dag.roots, dag.leaves

    @task(task_id="set_up", retries=0)
    def set_up() -> None:
        create_destination(firehose=firehose)
        load_purchases()

    @task(task_id="check", retries=0)
    def check_messages(data_interval_end: Any = None, logical_date: Any = None) -> None:
        day = max(filter(None, (data_interval_end, logical_date))).date()
        check_until_right(check, day, firehose=firehose)

    @task(task_id="tear_down", trigger_rule="all_done", retries=0)
    def tear_down() -> None:
        with contextlib.ExitStack() as every_one:
            every_one.callback(drop_schemas)
            every_one.callback(delete_destination, firehose=firehose)

    @task(trigger_rule="one_failed", retries=0)
    def watcher() -> None:
        """Fail the run if any task has failed: the last one, which tears down, succeeds all the same."""
        raise AirflowFailException("a task of this system test has failed; its log says why")

    with dag:
        around = set_up(), check_messages(), tear_down()
        around[0] >> first
        last >> around[1] >> around[2]
        list(dag.tasks) >> watcher()


def create_destination(*, firehose: bool) -> None:
    """Create the stream and wait until it takes records."""
    if not firehose:
        kinesis = client("kinesis")
        kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        kinesis.get_waiter("stream_exists").wait(StreamName=STREAM)
        return
    client("firehose").create_delivery_stream(
        DeliveryStreamName=STREAM,
        ExtendedS3DestinationConfiguration={
            "RoleARN": ROLE,
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
            "Prefix": f"{STREAM}/",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
        },
    )
    described: Any = None
    for _ in range(MOST_SECONDS):
        described = client("firehose").describe_delivery_stream(DeliveryStreamName=STREAM)
        if described["DeliveryStreamDescription"]["DeliveryStreamStatus"] == "ACTIVE":
            return
        time.sleep(1)
    raise AirflowFailException(f"the delivery stream {STREAM} is not active after {MOST_SECONDS} seconds")


def delete_destination(*, firehose: bool) -> None:
    """Delete the stream, and what it wrote to the bucket."""
    if not firehose:
        client("kinesis").delete_stream(StreamName=STREAM)
        return
    client("firehose").delete_delivery_stream(DeliveryStreamName=STREAM)
    for key in object_keys():
        client("s3").delete_object(Bucket=BUCKET, Key=key)


def load_purchases() -> None:
    """Write the purchases of some customers to tables of this environment."""
    found = purchases()
    customers = sorted({p.customer_id for p in found})
    rows = {
        "purchases": [
            f"('{p.customer_id}', '{p.purchased_on}', {p.number_of_cds}, {p.dollar_value})" for p in found
        ],
        "customers": [f"('{c}', '{cdnow.email_of(c)}')" for c in customers],
    }
    statements = [f"CREATE SCHEMA {MARTS}"]
    for table, columns in _TABLES.items():
        statements.append(f"CREATE TABLE {MARTS}.{table} ({columns})")
        for at in range(0, len(rows[table]), _ROWS_A_STATEMENT):
            values = ", ".join(rows[table][at : at + _ROWS_A_STATEMENT])
            statements.append(f"INSERT INTO {MARTS}.{table} VALUES {values}")
    run_sql(statements)


def drop_schemas() -> None:
    """Drop the tables of this environment, and the state."""
    run_sql([f"DROP SCHEMA IF EXISTS {name} CASCADE" for name in (MARTS, STATE)])


def purchases() -> list[cdnow.Purchase]:
    """Return the purchases of every twentieth customer."""
    return [p for p in cdnow.read_purchases() if int(p.customer_id) % EVERY_NTH_CUSTOMER == 0]


def run_sql(statements: Sequence[str]) -> None:
    """Run statements in the warehouse, through Airflow's own hook."""
    hook: Any = BaseHook.get_connection("warehouse").get_hook()
    with contextlib.closing(hook.get_conn()) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        connection.commit()


def client(service: str) -> Any:
    """Make a client of AWS from the connection that the examples name."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    return AwsBaseHook(aws_conn_id="aws_default", client_type=service).get_conn()


def check_until_right(check: Check, day: date, *, firehose: bool) -> None:
    """Check the messages; what is on its way to a bucket is waited for."""
    until = time.monotonic() + MOST_SECONDS
    while True:
        found = list(read_bucket() if firehose else read_stream())
        try:
            return check(found, purchases(), day)
        except AssertionError:
            if not firehose or time.monotonic() > until:
                raise
        time.sleep(5)


def read_stream() -> Iterator[bytes]:
    """Read all records of the stream."""
    kinesis = client("kinesis")
    for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]:
        where = {"StreamName": STREAM, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = kinesis.get_shard_iterator(**where)["ShardIterator"]
        behind = 1
        while behind and iterator:
            answer = kinesis.get_records(ShardIterator=iterator)
            yield from (record["Data"] for record in answer["Records"])
            iterator, behind = answer.get("NextShardIterator"), answer["MillisBehindLatest"]
            time.sleep(0.2 if behind else 0)  # five reads a second and shard


def read_bucket() -> Iterator[bytes]:
    """Read all lines that Firehose wrote to the bucket."""
    for key in object_keys():
        yield from client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read().splitlines()


def object_keys() -> list[str]:
    """List what Firehose wrote to the bucket for this environment."""
    pages = client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{STREAM}/")
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def get_test_run(dag: DAG) -> Callable[[], None]:
    """Return the test that pytest finds in an example: it runs the DAG once, and all of it must succeed."""

    def test_run() -> None:
        with stand_ins():
            run = dag.test(logical_date=LOGICAL_DATE)
        states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
        assert str(run.state) == "success", states
        assert states["check"] == "success", states

    return test_run


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Set each connection that is not set to a stand-in on this machine: a DuckDB file, an emulated AWS."""
    before = dict(os.environ)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        if "AIRFLOW_CONN_WAREHOUSE" not in os.environ:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="audience-system-"))
            duckdb = {"conn_type": "duckdb", "host": str(Path(folder) / "warehouse.duckdb")}
            os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps(duckdb)
        if "AIRFLOW_CONN_AWS_DEFAULT" not in os.environ:
            os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(stack.enter_context(local_aws(BUCKET)))
        yield
