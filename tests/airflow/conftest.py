"""What the tests of whole DAGs stand on: an Airflow process, warehouses, and streams on this machine.

The Airflow process and the emulated AWS are made once, all else is fresh for each test. A warehouse is looked at
from outside, with the engine's own driver; never through what is tested.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
import psycopg
import pytest

from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.airflow.canaries import assert_unseen, plant
from tests.airflow.running import Airflow, aws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.engines.mysql import Server as MariaDb

_numbers = itertools.count()


class Warehouse(ABC):
    """A warehouse as its owner sees it.

    :ivar connection: its Airflow connection, as JSON or a URI.
    """

    connection: str

    @abstractmethod
    def execute(self, sql: str, rows: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
        """Run a statement, once per row of parameters if there are any; gives what it returns."""

    def members(self, rows: Sequence[tuple[str | None, str, str]]) -> None:
        """Make ``members`` hold these user ids, e-mails and cities, and nobody else."""
        plant(email for _, email, _ in rows)
        self.execute("DROP TABLE IF EXISTS members")
        self.execute("CREATE TABLE members (user_id VARCHAR, email VARCHAR, city VARCHAR)")
        self.execute("INSERT INTO members VALUES ($1, $2, $3)", rows)

    def newest_edge(self) -> str | None:
        """Return the instant up to which the ledger says that a change set exists."""
        newest = "SELECT max(as_of) FROM airflow_audience.ledger WHERE event IN ('first', 'change_set')"
        return str(self.execute(newest)[0][0])


@dataclass
class DuckDb(Warehouse):
    path: Path

    def __post_init__(self) -> None:
        self.connection = json.dumps({"conn_type": "duckdb", "host": str(self.path)})

    def execute(self, sql: str, rows: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.path)) as connection:
            if rows:
                connection.executemany(sql, rows)
                return []
            return connection.execute(sql).fetchall()


@dataclass
class Postgres(Warehouse):
    connection: str

    def execute(self, sql: str, rows: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.connection, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
            cursor = connection.cursor()
            if rows:
                cursor.executemany(sql, rows)
                return []
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


@dataclass
class MySql(Warehouse):
    """A database of a MariaDB server; what the tests say in the words of two engines is put into its own.

    :param server: whose database it is.
    """

    server: MariaDb
    database: str

    def __post_init__(self) -> None:
        where = {"host": "127.0.0.1", "port": self.server.port, "login": "root", "schema": self.database}
        self.connection = json.dumps({"conn_type": "mysql", **where})

    def execute(self, sql: str, rows: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
        sql = re.sub(r"\bVARCHAR\b", "VARCHAR(99)", re.sub(r"\$\d", "%s", sql))
        with contextlib.closing(self.server.connect(self.database, autocommit=True)) as connection:
            cursor = connection.cursor()
            for row in rows:
                cursor.execute(sql, row)
            if rows:
                return []
            cursor.execute(sql)
            return list(cursor.fetchall())


class Stream:
    """A Kinesis data stream of one shard in the emulated AWS.

    :param name: by default one that no other has.
    :ivar connection: the Airflow connection to AWS.
    """

    def __init__(self, endpoint_url: str, name: str | None = None) -> None:
        self.name = name or f"audience-changes-{next(_numbers)}"
        self.connection = aws(endpoint_url)
        self._client = boto3.client("kinesis", endpoint_url=endpoint_url)
        self._client.create_stream(StreamName=self.name, ShardCount=1)

    @property
    def arn(self) -> str:
        return str(
            self._client.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]["StreamARN"]
        )

    def delete(self) -> None:
        self._client.delete_stream(StreamName=self.name)

    def records(self) -> list[bytes]:
        """Return the bytes of every record on the stream, in order."""
        shard = {"StreamName": self.name, "ShardId": "shardId-000000000000"}
        iterator = self._client.get_shard_iterator(**shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        found: list[bytes] = []
        while records := (answer := self._client.get_records(ShardIterator=iterator))["Records"]:
            found += [record["Data"] for record in records]
            iterator = answer["NextShardIterator"]
        return found


@pytest.fixture(scope="session")
def airflow(airflow_db: Path) -> Iterator[Airflow]:
    with Airflow(airflow_db) as process:
        yield process
        output = process.output()
    assert_unseen(airflow_db, output)


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    with emulator() as endpoint_url:
        yield endpoint_url


@pytest.fixture
def stream(aws_endpoint: str) -> Stream:
    return Stream(aws_endpoint)


@pytest.fixture
def duckdb_warehouse(tmp_path: Path) -> DuckDb:
    return DuckDb(tmp_path / "warehouse.duckdb")


@pytest.fixture
def postgres_warehouse(postgres_database: str) -> Postgres:
    return Postgres(postgres_database)


@pytest.fixture
def mysql_warehouse(mysql_server: MariaDb, mysql_database: str) -> MySql:
    return MySql(mysql_server, mysql_database)


@pytest.fixture(params=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest) -> Warehouse:
    found: Warehouse = request.getfixturevalue(f"{request.param}_warehouse")
    return found
