"""A process that publishes a DuckDB's change sets to Kinesis once, as a task does; a test kills it midway.

    python publish_once.py FILE SCHEMA AS_OF...

Where the stream is stands in the environment, as an Airflow connection.
"""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path

import duckdb

from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.core.outbox import attempt as sending
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.records import Limits
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_audience.hooks.signals import ending_with_task
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from airflow_kinesis_audience.operators.killing import end_task, under_way

BATCH = 5
LIMITS = Limits(records_per_request=BATCH, record_bytes=100_000, request_bytes=1_000_000)
OPTIONS = {"max_users": 4, "user_properties": True}


def delivery_to(destination: str) -> Delivery:
    """Make the delivery that the process sends."""
    renderer = load_renderer("amplitude_cohort", OPTIONS)
    return Delivery(
        destination=destination,
        connection="aws_default",
        message_format="amplitude_cohort",
        options=OPTIONS,
        renderer=renderer,
        limits=LIMITS,
    )


def main(file: str, schema: str, *instants: str) -> None:
    """Publish everything up to each instant in turn, with a row in the ledger after every answer."""
    sending.CHECKPOINT_SHARE = math.inf
    stream = KinesisStreamHook("audience-changes")
    stream.check()
    # As Airflow does, and as its operators answer.
    signal.signal(signal.SIGTERM, lambda *_: end_task())
    with (
        under_way(),
        DuckDbWarehouse(lambda: duckdb.connect(str(Path(file))), DIALECTS["duckdb"]) as warehouse,
        ending_with_task(warehouse),
    ):
        outbox = Outbox(Ledger(warehouse, schema, "dag.diff"), delivery_to(stream.destination), stream.put)
        for as_of in instants:
            outbox.drain(instant(as_of))


if __name__ == "__main__":
    main(*sys.argv[1:])
