"""``python -m tests.contract.ended_process ENGINE PLACE WHAT``: a process whose statement takes for ever.

It is ended by a signal as Airflow ends a task: the handler calls ``on_kill`` and returns. What becomes of it
stands on its standard error.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_kinesis_audience.hooks.signals import ending_with_task
from airflow_kinesis_audience.hooks.state import State
from airflow_kinesis_audience.hooks.statement_tags import StatementTag
from airflow_kinesis_audience.operators.killing import end_task, under_way
from tests.engines import mysql
from tests.warehouses import DIALECTS, People, open_duckdb, open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

SCHEMA = "state"
STATE = State(warehouse_conn_id="killed", state_schema=SCHEMA)
TAG = StatementTag(
    sync_id="a sync */ -- %s ?",
    run_id="manual__2026-01-01T00:00:00+00:00",
    task="killed",
    attempt=1,
    state=STATE.location,
)
NUMBERS = pa.schema([("n", pa.int64())])
_PAIRS = "SELECT COUNT(*) FROM {numbers} AS a, {numbers} AS b WHERE a.{n} + b.{n} < 0"
_IN_DUCKDB = _PAIRS.format(numbers="range(1000000)", n="range")
_IN_MARIADB = _PAIRS.format(numbers="seq_1_to_1000000", n="seq")
ENDLESS = {
    "duckdb": _IN_DUCKDB,
    "postgres": "SELECT COUNT(pg_sleep(600))",
    "psycopg2": "SELECT COUNT(pg_sleep(600))",
    "redshift": "SELECT COUNT(pg_sleep(600))",
    "mysql": _IN_MARIADB,
}
"""By engine, a query of one number, which comes long after every test has given up."""


def open_engine(engine: str, place: str) -> SqlWarehouse:
    """Open a warehouse.

    :param place: a path, a URI, or a port and a database.
    """
    if engine == "duckdb":
        return open_duckdb(Path(place))
    if engine == "psycopg2":
        import psycopg2

        from airflow_kinesis_audience.hooks.warehouses.postgres import PostgresWarehouse

        return PostgresWarehouse(lambda: psycopg2.connect(place), DIALECTS["postgres"])
    if engine == "redshift":
        from tests.engines.redshift import open_redshift

        port, dsn = place.split(" ")
        return open_redshift(int(port), dsn)
    if engine == "mysql":
        mysql.find_driver()
        port, database = place.split(" ")
        return mysql.Server(port=int(port)).open(database, sql_mode="ANSI_QUOTES,PIPES_AS_CONCAT")
    return open_postgres(place)


def write(warehouse: SqlWarehouse, engine: str) -> Any:
    """Compute a change set of a source that takes for ever, as a diff task does."""
    people = People.__new__(People)
    people.warehouse, people.schema = warehouse, SCHEMA
    query = f"SELECT uid, email, city FROM people_{SCHEMA} WHERE ({ENDLESS[engine]}) >= 0"
    people.source = source_of(query)
    people.run(1)


def source_of(query: str) -> Any:
    """Make the source of a query over the people."""
    from airflow_kinesis_audience.core.model.audience import Source

    return Source(
        query=query,
        user_id="uid",
        identities={"email": "Email"},
        properties={"city": "city"},
        audience_id="vips",
        audience_name="VIPs",
    )


def read(warehouse: SqlWarehouse, engine: str) -> None:
    """Read a large result, as a publishing task does, on a connection that others do not use."""
    for _ in warehouse.read_batches(ENDLESS[engine], NUMBERS, rows=10):
        pass


def main(engine: str, place: str, what: str) -> None:
    """Do it, and note how far it got, as a delivery does."""

    def on_term(*_: object) -> None:
        end_task()

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with under_way(), open_engine(engine, place) as warehouse, ending_with_task(warehouse):
        warehouse.tag = TAG
        print("begins", flush=True)
        try:
            (write if what == "write" else read)(warehouse, engine)
        except BaseException:
            warehouse.execute("INSERT INTO noted VALUES (1)")
            raise


if __name__ == "__main__":
    main(*sys.argv[1:])
