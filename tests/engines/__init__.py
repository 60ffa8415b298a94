"""The engines that tests run on: how each is started, and what it is called in the documentation.

An engine is real, starts by itself on this machine and is ended by whoever started it; where it can't be had it
says so in one sentence, which stands at the end of a test run. A place is an empty part of it, for one test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlglot import exp

from airflow_kinesis_audience.core.state.ledger import Ledger
from tests.warehouses import Watched, WatchedRows, fresh_schema, open_duckdb, open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

REQUEST = pytest.FixtureRequest

QUICK = (
    "test_what_differs_is_found",
    "test_values_come_out_as_they_are",
    "test_users_are_told_apart_by_their_bytes",
    "test_of_two_writers_one_is_refused",
    "test_a_column_may_hold_several_identities",
    "test_errors_show_no_value",
)
"""Tests of the state model that run on slow engines, too, without being asked for."""


@dataclass(kw_only=True)
class Place:
    """An empty place for the tables of one test.

    :param warehouse: where the state is.
    :param source: where the author's tables are, by default the same.
    :param open_ledger: opens a ledger of a schema and a sync, over one more connection.
    :param only_defined: how a table's definition writes types that no expression has, by DuckDB's name.
    :param types: the engine's own names of types that sqlglot makes lesser ones of.
    """

    warehouse: SqlWarehouse
    source: SqlWarehouse
    open_ledger: Callable[[str, str], Ledger]
    only_defined: Mapping[str, str] = field(default_factory=dict)

    def ledger_on(self, watched: Watched, ledger: Ledger) -> Ledger:
        """Give the same ledger, everything of which is watched."""
        rows = WatchedRows(ledger.rows, watched) if self.source is not self.warehouse else None
        return Ledger(watched, ledger.schema, ledger.sync_id, rows)  # type: ignore[arg-type]

    types: Mapping[str, str] = field(default_factory=dict)

    def type_of(self, name: str) -> exp.DataType:
        """Give a type of the author's table, by DuckDB's name of it."""
        if name in self.types:
            return exp.DataType.build(self.types[name], dialect=self.source.dialect.name)
        return exp.DataType.build(name)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine.

    :param title: what the documentation calls it.
    :param open_place: makes an empty place; skips the test where the engine can't be had.
    :param lists: SQL of a list of two texts, with ``{a}`` and ``{b}`` for their literals, if it has lists.
    :param slow: every statement takes long, so that most tests run only when they are asked for.
    """

    title: str
    open_place: Callable[[REQUEST, Path], AbstractContextManager[Place]]
    lists: str | None = None
    slow: bool = False
    quick: tuple[str, ...] = QUICK


@contextmanager
def place_of(connect: Callable[[], SqlWarehouse], types: Mapping[str, str] | None = None) -> Iterator[Place]:
    """Make a place of a warehouse whose connections are opened so."""
    opened: list[SqlWarehouse] = []

    def open_one() -> SqlWarehouse:
        opened.append(connect())
        return opened[-1]

    try:
        warehouse = open_one()
        yield Place(
            warehouse=warehouse,
            source=warehouse,
            types=types or {},
            open_ledger=lambda schema, sync_id: Ledger(open_one(), schema, sync_id),
        )
    finally:
        for one in opened:
            one.close()


def _duckdb(_: REQUEST, directory: Path) -> Any:
    path = directory / f"{fresh_schema()}.duckdb"
    return place_of(lambda: open_duckdb(path))


@contextmanager
def _duckdb_without_keys(_: REQUEST, directory: Path) -> Iterator[Place]:
    from dataclasses import replace

    def connect() -> SqlWarehouse:
        warehouse = open_duckdb(path)
        warehouse.dialect = replace(warehouse.dialect, enforces_keys=False)
        return warehouse

    path = directory / f"{fresh_schema()}.duckdb"
    with place_of(connect) as place:
        yield place


def _postgres(request: REQUEST, _: Path) -> Any:
    dsn = request.getfixturevalue("postgres_database")
    return place_of(lambda: open_postgres(dsn))


@contextmanager
def _parquet(_: REQUEST, directory: Path) -> Iterator[Place]:
    from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
    from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
    from airflow_kinesis_audience.hooks.state import open_files

    files = open_files(str(directory / "state"))
    opened: list[SqlWarehouse] = []

    def open_ledger(schema: str, sync_id: str) -> Ledger:
        opened.append(DuckDbParquetWarehouse(files, open_duckdb(path)))
        return Ledger(opened[-1], schema, sync_id, FileLedgerTable(files, schema, sync_id))

    path = directory / f"{fresh_schema()}.duckdb"
    with open_duckdb(path) as source:
        # The warehouse where nothing of the state is.
        yield Place(warehouse=open_ledger("none", "none").warehouse, source=source, open_ledger=open_ledger)
        for one in opened:
            one.close()


@contextmanager
def _mysql(request: REQUEST, _: Path) -> Iterator[Place]:
    server, database = (request.getfixturevalue(f"mysql_{n}") for n in ("server", "database"))
    with place_of(lambda: server.open(database)) as place:
        place.only_defined = {"BOOLEAN": "BOOLEAN", "TIMESTAMPTZ": "TIMESTAMP(6) NULL"}
        yield place


def _spark(request: REQUEST, _: Path) -> Any:
    return place_of(request.getfixturevalue("spark_server").open)


def _databricks_on_spark(request: REQUEST, _: Path) -> Any:
    return place_of(request.getfixturevalue("spark_server").open_as_databricks)


def _snowflake(request: REQUEST, _: Path) -> Any:
    from tests.engines.snowflake import fresh_database, open_fakesnow

    port, database = request.getfixturevalue("fakesnow_port"), fresh_database()
    return place_of(lambda: open_fakesnow(port, database))


@contextmanager
def _redshift(request: REQUEST, _: Path) -> Iterator[Place]:
    from tests.engines.redshift import open_redshift, relay_to

    dsn, server = request.getfixturevalue("postgres_database"), request.getfixturevalue("postgres_server")
    with relay_to(server.port) as port, place_of(lambda: open_redshift(port, dsn)) as place:
        yield place


def _bigquery(request: REQUEST, _: Path) -> Any:
    from tests.engines.bigquery import open_bigquery

    if "bigquery" not in os.environ.get("AUDIENCE_ENGINES", "").split(","):
        pytest.skip("BigQuery's emulator is half a gigabyte, so it runs on request: AUDIENCE_ENGINES=bigquery")
    port = request.getfixturevalue("bigquery_port")
    return place_of(lambda: open_bigquery(port))


def _clickhouse(_: REQUEST, __: Path) -> Any:
    from tests.engines.clickhouse import open_clickhouse

    if "clickhouse" not in os.environ.get("AUDIENCE_ENGINES", "").split(","):
        pytest.skip("ClickHouse is half a gigabyte, so it runs on request: AUDIENCE_ENGINES=clickhouse")
    types = {"TIMESTAMPTZ": "Nullable(DateTime64(6, 'UTC'))", "DATE": "Nullable(Date32)"}
    return place_of(open_clickhouse, types)


ENGINES: dict[str, Engine] = {
    "duckdb": Engine(title="DuckDB", open_place=_duckdb, lists="[{a}, {b}]"),
    "duckdb without keys": Engine(title="", open_place=_duckdb_without_keys, lists="[{a}, {b}]"),
    "parquet": Engine(title="Parquet files (`state_path`)", open_place=_parquet, lists="[{a}, {b}]"),
    "postgres": Engine(title="PostgreSQL", open_place=_postgres, lists="ARRAY[{a}, {b}]"),
    "mysql": Engine(title="MariaDB", open_place=_mysql),
    "spark": Engine(title="Spark SQL", open_place=_spark, lists="ARRAY({a}, {b})", slow=True, quick=QUICK[1:]),
    "databricks on spark": Engine(
        title="", open_place=_databricks_on_spark, lists="ARRAY({a}, {b})", slow=True, quick=QUICK[1:2]
    ),
    "snowflake": Engine(title="Snowflake (fakesnow)", open_place=_snowflake, slow=True),
    "redshift": Engine(title="Redshift (its hook on PostgreSQL)", open_place=_redshift, slow=True),
    "bigquery": Engine(title="", open_place=_bigquery, lists="[{a}, {b}]", slow=True),
    "clickhouse": Engine(title="ClickHouse (chDB)", open_place=_clickhouse, lists="[{a}, {b}]", slow=True),
}
"""By a short name. What has no title is no engine of its own, and not in the documentation."""
