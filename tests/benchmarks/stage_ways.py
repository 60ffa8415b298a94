"""One stage of a run, or what it is compared with, measured in this process alone; see ``diff_ways.py``."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import duckdb
import orjson
import psycopg
import pyarrow as pa
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_kinesis_audience.core.outbox.attempt import DeliveryAttempt
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS, Record
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet, change_set_of
from airflow_kinesis_audience.core.readers.partitions import WHOLE, Part
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.sql.statements import render
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from tests.benchmarks.delivery import PER_CALL
from tests.benchmarks.diff import UNBOUNDED, day, new_column, open_duckdb, sync
from tests.warehouses import open_postgres, read_timeline

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

for _module in (
    "pandas",
    "pyarrow.compute",
    "pyarrow.csv",
    *(f"sqlglot.dialects.{d.name}" for d in DIALECTS.values()),
):
    # Before the clock starts, since nobody pays for it twice.
    importlib.import_module(_module)

ROWS = 20_000
PROPERTIES = ("city", "joined", "plan", "spend")


def open_warehouse(where: str) -> SqlWarehouse:
    kind, _, path = where.partition(":")
    return open_duckdb(path, UNBOUNDED) if kind == "duckdb" else open_postgres(where)


def find_change_set(warehouse: SqlWarehouse) -> ChangeSet:
    """Find the second day's."""
    ledger = sync(warehouse).ledger
    timeline = read_timeline(ledger)
    recorded = timeline.find(day(2))
    assert recorded is not None
    return change_set_of(ledger, timeline, recorded)


def make_delivery(name: str = "changes", message_format: str = "amplitude_cohort", part: Part = WHOLE) -> Delivery:
    options = {"user_properties": list(PROPERTIES)} if message_format == "amplitude_cohort" else {}
    return Delivery(
        destination=f"kinesis://us-east-1/{name}",
        connection="aws_default",
        message_format=message_format,
        options=options,
        renderer=load_renderer(message_format, options),
        limits=KINESIS_LIMITS,
        part=part,
    )


def diff_stage(where: str) -> int:
    with open_warehouse(where) as warehouse:
        summary = sync(warehouse).run(day(2))
    return int(sum(summary[n] for n in ("entered", "exited", "updated")))


def read_slices(where: str) -> int:
    """Read as a publishing task does, and render nothing."""
    with open_warehouse(where) as warehouse:
        change_set = find_change_set(warehouse)
        reader = change_set.reader(warehouse)
        return sum(rows.num_rows for rows in reader.read_each())


def records_of(warehouse: SqlWarehouse) -> Iterator[Record]:
    """Pull the records of all partition groups in turn, as a delivery does."""
    change_set = find_change_set(warehouse)
    ignored: dict[str, Any] = {"append": lambda *_: None, "watch": lambda _: None}
    groups = deque(DeliveryAttempt(warehouse, make_delivery(), change_set, None, **ignored).partition_groups())
    while groups:
        pulled = list(islice(group := groups.popleft(), 4))
        yield from pulled
        if pulled:
            groups.append(group)


def render_slices(where: str) -> int:
    """Read, render and pack as a publishing task does, and put nothing."""
    with open_warehouse(where) as warehouse:
        return sum(record.changes for record in records_of(warehouse))


def publish_stage(where: str, attempt: str) -> int:
    """Deliver as a publishing task does, to a destination that has received nothing."""
    return publish(where, f"changes-{attempt}")


def publish(where: str, name: str, message_format: str = "amplitude_cohort", part: Part = WHOLE) -> int:
    hook = KinesisStreamHook(name)
    with open_warehouse(where) as warehouse:
        delivery = make_delivery(name, message_format, part)
        outbox = Outbox(sync(warehouse).ledger, delivery, hook.put)
        # The first day is known there, so that the second alone is sent.
        outbox.drain(day(1), on_first_run="baseline")
        outbox.drain(day(2))
        return outbox.report.delivered


def publish_part(where: str, parts: str, number: str, name: str) -> int:
    return publish(where, name, "mparticle_audience", Part(int(number), int(parts)))


# -- what it is compared with


def duckdb_stream(where: str) -> int:
    """Read the table of changes in one stream of Arrow batches."""
    with open_warehouse(where) as warehouse:
        name = find_change_set(warehouse).table
    with duckdb.connect(where.partition(":")[2], config=UNBOUNDED) as database:
        query = f"SELECT * FROM state.\"{name}\" WHERE action <> 'audience'"
        return sum(batch.num_rows for batch in database.sql(query).to_arrow_reader(ROWS))


def operator_and_loop(where: str, attempt: str) -> int:
    """Publish the same changes by Airflow's operator and boto3, as it is written in an afternoon.

    All rows come back from the operator at once; each becomes a record, and what a response refuses is put again.
    """
    with open_warehouse(where) as warehouse:
        query = whole_query(warehouse)
    if where.startswith("duckdb:"):
        connection = {"conn_type": "duckdb", "host": where.partition(":")[2]}
        os.environ["AIRFLOW_CONN_BENCHMARK"] = json.dumps(connection)
    else:
        os.environ["AIRFLOW_CONN_BENCHMARK"] = where
    names = PROPERTIES
    operator = SQLExecuteQueryOperator(
        task_id="changes",
        conn_id="benchmark",
        sql=query,
        handler=lambda cursor: ([column[0] for column in cursor.description], cursor.fetchall()),
    )
    described, rows = operator.execute({})
    places = {name: described.index(name) for name in ("user_id", "action", *map(new_column, names))}
    client, put = AwsBaseHook(client_type="kinesis").conn, 0
    for start in range(0, len(rows), PER_CALL):
        records = [
            {
                "Data": json.dumps(
                    {
                        "user_id": row[places["user_id"]],
                        "in_cohort": row[places["action"]] != "exited",
                        "user_properties": {name: row[places[new_column(name)]] for name in names},
                    },
                    default=str,
                ).encode(),
                "PartitionKey": row[places["user_id"]],
            }
            for row in rows[start : start + PER_CALL]
        ]
        while records:
            answer = client.put_records(StreamName=f"loop-{attempt}", Records=records)
            put += len(records) - answer["FailedRecordCount"]
            results = zip(records, answer["Records"], strict=True)
            records = [entry for entry, result in results if "ErrorCode" in result]
    return put


def whole_query(warehouse: SqlWarehouse) -> str:
    """Return the query of all slices at once, with the columns that a slice has."""
    from airflow_kinesis_audience.core.readers import change_sets

    change_set = find_change_set(warehouse)
    query = change_sets._select(change_set, range(1), change_sets.ALL_DIGITS)
    query.set("where", None)
    return render(query.where("action <> 'audience'"), warehouse.dialect)


def psycopg_stream(where: str) -> int:
    with open_postgres(where) as warehouse:
        query = whole_query(warehouse)
    with psycopg.connect(where) as connection:
        return sum(1 for _ in connection.cursor().stream(query.encode(), size=1_000))


def psycopg_stream_as_arrow(where: str) -> int:
    """Read the same stream into Arrow tables of as many rows as a slice has."""
    with open_postgres(where) as warehouse:
        query = whole_query(warehouse)
    found = 0
    with psycopg.connect(where) as connection, contextlib.closing(connection.cursor()) as cursor:
        rows = cursor.stream(query.encode(), size=1_000)
        while part := list(islice(rows, ROWS)):
            names = [column.name for column in cursor.description or ()]
            found += pa.table(dict(zip(names, map(pa.array, zip(*part, strict=True)), strict=True))).num_rows
    return found


def named_cursor(where: str) -> int:
    with open_postgres(where) as warehouse:
        query = whole_query(warehouse)
    with psycopg.connect(where) as connection, connection.cursor(name="benchmark") as cursor:
        cursor.execute(query.encode())
        return sum(len(rows) for rows in iter(lambda: cursor.fetchmany(ROWS), []))


def frames_by_chunks(where: str) -> int:
    with open_postgres(where) as warehouse:
        query = whole_query(warehouse)
    os.environ["AIRFLOW_CONN_BENCHMARK"] = where
    return sum(len(f) for f in PostgresHook("benchmark").get_df_by_chunks(query, chunksize=ROWS, df_type="pandas"))


def orjson_per_user(where: str) -> int:
    """Make each user's JSON of columns that are lists; not packed into messages."""
    made = 0
    for rows in tables(where):
        columns = [rows[n].to_pylist() for n in ("user_id", *(new_column(p) for p in PROPERTIES))]
        for user_id, *values in zip(*columns, strict=True):
            document = {"user_id": user_id, "user_properties": dict(zip(PROPERTIES, values, strict=True))}
            orjson.dumps(document, default=str)
            made += 1
    return made


def pandas_to_dict(where: str) -> int:
    """Make each user's JSON of a frame's dicts, as is often done; not packed into messages."""
    made = 0
    for rows in tables(where):
        for row in rows.to_pandas().to_dict("records"):
            document = {"user_id": row["user_id"], "user_properties": {p: row[new_column(p)] for p in PROPERTIES}}
            json.dumps(document, default=str)
            made += 1
    return made


def tables(where: str) -> Iterator[Any]:
    with open_warehouse(where) as warehouse:
        change_set = find_change_set(warehouse)
        reader = change_set.reader(warehouse)
        yield from reader.read_each()


WAYS = {
    way.__name__: way
    for way in (
        *(diff_stage, read_slices, render_slices, publish_stage, publish_part, operator_and_loop),
        *(duckdb_stream, psycopg_stream, psycopg_stream_as_arrow, named_cursor, frames_by_chunks),
        *(orjson_per_user, pandas_to_dict),
    )
}
"""By name."""
