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

from airflow_kinesis_audience.ledger import Ledger
from tests.warehouses import fresh_schema, open_duckdb, open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.dbapi import SqlWarehouse

REQUEST = pytest.FixtureRequest


@dataclass(kw_only=True)
class Place:
    """An empty place for the tables of one test.

    :param warehouse: where the state is.
    :param source: where the author's tables are, by default the same.
    :param open_ledger: opens a ledger of a schema and a sync, over one more connection.
    :param types: the engine's own names of types that sqlglot makes lesser ones of.
    """

    warehouse: SqlWarehouse
    source: SqlWarehouse
    open_ledger: Callable[[str, str], Ledger]
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


def _clickhouse(_: REQUEST, __: Path) -> Any:
    from tests.engines.clickhouse import open_clickhouse

    if "clickhouse" not in os.environ.get("AUDIENCE_ENGINES", "").split(","):
        pytest.skip("ClickHouse is half a gigabyte, so it runs on request: AUDIENCE_ENGINES=clickhouse")
    types = {"TIMESTAMPTZ": "Nullable(DateTime64(6, 'UTC'))", "DATE": "Nullable(Date32)"}
    return place_of(open_clickhouse, types)


ENGINES: dict[str, Engine] = {
    "duckdb": Engine(title="DuckDB", open_place=_duckdb, lists="[{a}, {b}]"),
    "duckdb without keys": Engine(title="", open_place=_duckdb_without_keys, lists="[{a}, {b}]"),
    "postgres": Engine(title="PostgreSQL", open_place=_postgres, lists="ARRAY[{a}, {b}]"),
    "snowflake": Engine(title="Snowflake (fakesnow)", open_place=_snowflake, slow=True),
    "redshift": Engine(title="Redshift (its door on PostgreSQL)", open_place=_redshift, slow=True),
    "clickhouse": Engine(title="ClickHouse (chDB)", open_place=_clickhouse, lists="[{a}, {b}]", slow=True),
}
"""By a short name. What has no title is no engine of its own, and not in the documentation."""
