"""Real warehouses for tests of the state model, and the two doubles that stand around them.

The warehouse is always a real engine: a DuckDB file or a database of the PostgreSQL server. What is doubled is
the stream, which keeps the bytes that it takes and fails as a script says, and the moment: :class:`Watched` lets
a test step in before or after any statement, and end a process there as SIGKILL would, with nothing written
afterwards.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Changes, Source
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.backoff import RetryPolicy
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS, Limits, Outcome, Record, Status
from airflow_kinesis_audience.core.readers.change_sets import change_set_of, read_slice
from airflow_kinesis_audience.core.readers.outline import read_audience_names
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.sql.statements import render
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.membership import select_membership
from airflow_kinesis_audience.core.state.retention import Retention
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from airflow_kinesis_audience.hooks.warehouses.postgres import PostgresWarehouse

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.entries import Entry
    from airflow_kinesis_audience.core.state.ledger_rows import Fold, Row
    from airflow_kinesis_audience.core.state.ledger_tables import LedgerTable
    from airflow_kinesis_audience.core.state.timeline import Timeline
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

START = datetime(2026, 1, 1, tzinfo=UTC)
ENGINES = ("duckdb", "postgres")
LET_ALL_THROUGH = Guards(max_exit_ratio=None, on_empty="exit_all")
QUICK = RetryPolicy(attempts=4, stall_seconds=20.0, first_delay_seconds=0.001, longest_delay_seconds=0.002)

_numbers = itertools.count()


def day(number: int) -> datetime:
    """Return midnight of a day, counted from the first."""
    return START + timedelta(days=number)


def open_duckdb(path: Path) -> DuckDbWarehouse:
    return DuckDbWarehouse(lambda: duckdb.connect(str(path)), DIALECTS["duckdb"])


def open_postgres(dsn: str) -> PostgresWarehouse:
    return PostgresWarehouse(lambda: psycopg.connect(dsn), DIALECTS["postgres"])


def _opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], SqlWarehouse]:
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres_database")
        return lambda: open_postgres(dsn)
    if request.param == "mysql":
        server, database = (request.getfixturevalue(f"mysql_{n}") for n in ("server", "database"))
        # In the language that the tests of two engines are written in, which a server may be set to speak.
        return lambda: server.open(database, sql_mode="ANSI_QUOTES,PIPES_AS_CONCAT")
    return lambda: open_duckdb(tmp_path / "warehouse.duckdb")


@pytest.fixture(params=ENGINES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], SqlWarehouse]]:
    """Open one more connection to the same empty warehouse; all are closed at the end."""
    opened: list[SqlWarehouse] = []
    connect = _opener(request, tmp_path)

    def open_one() -> SqlWarehouse:
        opened.append(connect())
        return opened[-1]

    yield open_one
    for warehouse in opened:
        warehouse.close()


@pytest.fixture
def duckdb_in_memory() -> Iterator[SqlWarehouse]:
    """Open an empty DuckDB in memory, for tests that need many state schemas one after the other."""
    database = duckdb.connect(":memory:", config={"threads": 1})
    with DuckDbWarehouse(database.cursor, DIALECTS["duckdb"]) as warehouse:
        yield warehouse
    database.close()


@pytest.fixture
def warehouse(reopen: Callable[[], SqlWarehouse]) -> SqlWarehouse:
    """Open an empty warehouse; a test that asks for it runs once per engine."""
    return reopen()


class Killed(BaseException):
    """The process ended here.

    :param taken: whether the destination has the request that was on its way.
    """

    def __init__(self, *, taken: bool = True) -> None:
        super().__init__()
        self.taken = taken


class Watched:
    """A warehouse whose every statement a test may watch, and which dies with its process.

    :param before: called with each statement before it runs, ``after`` once it has run; either may raise.
    """

    def __init__(
        self,
        warehouse: SqlWarehouse,
        *,
        before: Callable[[str], None] = lambda _: None,
        after: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._warehouse = warehouse
        self.dialect, self.placeholder = warehouse.dialect, warehouse.placeholder
        self.before, self.after = before, after
        self.dead = False

    @property
    def origin(self) -> Any:
        return self if self._warehouse.origin is self._warehouse else self._warehouse.origin

    @property
    def collation(self) -> str:
        return self._warehouse.collation  # type: ignore[attr-defined,no-any-return]

    def beside_others(self) -> Any:
        return self._warehouse.beside_others()

    def keep_rows(self, schema: Any, batches: Iterator[Any]) -> str:
        self._live()
        return self._warehouse.keep_rows(schema, batches)

    def kill(self) -> None:
        """End the process: nothing is read or written any more."""
        self.dead = True
        raise Killed

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        self._live()
        self.before(sql)
        written = self._warehouse.execute(sql, parameters)
        self.after(sql)
        return written

    def write_table_apart(self, name: str, query: str, **how: Any) -> None:
        self.write_table(name, query, **how)

    def write_table(self, name: str, query: str, **how: Any) -> None:
        # Statement by statement, each of which may be the last one.
        if self._warehouse.origin is self._warehouse:
            type(self._warehouse).write_table(self, name, query, **how)  # type: ignore[arg-type]
            return
        self._live()
        self.before(query)
        self._warehouse.write_table(name, query, **how)
        self.after(query)

    def drop_table(self, name: str) -> None:
        if self._warehouse.origin is self._warehouse:
            type(self._warehouse).drop_table(self, name)  # type: ignore[arg-type]
            return
        self._live()
        self.before(name)
        self._warehouse.drop_table(name)
        self.after(name)

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._live()
        self.before(sql)
        return self._warehouse.read_rows(sql, parameters)

    def read_types(self, query: str) -> dict[str, str]:
        self._live()
        return self._warehouse.read_types(query)

    def is_cheap_to_reread(self, query: str) -> bool:
        self._live()
        return self._warehouse.is_cheap_to_reread(query)

    def read_batches(self, sql: str, schema: Any, *, rows: int) -> Iterator[Any]:
        self._live()
        return self._warehouse.read_batches(sql, schema, rows=rows)

    def _live(self) -> None:
        if self.dead:
            raise Killed


class WatchedRows:
    """The ledger's rows that are no statements of a warehouse, watched and dead with it."""

    def __init__(self, rows: LedgerTable, watched: Watched) -> None:
        self._rows = rows
        self._watched = watched

    def create(self) -> None:
        self._watched._live()
        self._rows.create()

    def read(self, known: Mapping[str, int], *, since: datetime | None = None) -> list[Row]:
        self._watched._live()
        self._watched.before("read the ledger")
        return self._rows.read(known, since=since)

    def read_fold(self) -> Fold:
        self._watched._live()
        return self._rows.read_fold()

    def write_fold(self, text: str, known: Mapping[str, int]) -> None:
        self._watched._live()
        self._watched.before("fold the ledger")
        self._rows.write_fold(text, known)
        self._watched.after("fold the ledger")

    def append(self, row: Row, *, lazy: bool = False) -> None:
        self._watched._live()
        self._watched.before("append to the ledger")
        self._rows.append(row, lazy=lazy)
        self._watched.after("append to the ledger")

    def read_all(self, event: str) -> list[Row]:
        self._watched._live()
        return self._rows.read_all(event)

    def read_others(self, log: str, events: Collection[str]) -> list[Row]:
        self._watched._live()
        self._watched.before("read the ledger")
        return self._rows.read_others(log, events)

    def of_sync(self, sync_id: str) -> LedgerTable:
        return WatchedRows(self._rows.of_sync(sync_id), self._watched)


class DiesAt(Watched):
    """A warehouse whose process dies before or after one of its statements.

    :param at: which statement, from 0.
    :param side: ``before`` or ``after`` it.
    """

    def __init__(self, warehouse: SqlWarehouse, at: int, side: str) -> None:
        self._left = at
        super().__init__(warehouse, **{side: self._count})  # type: ignore[arg-type]

    def _count(self, _: str) -> None:
        self._left -= 1
        if self._left < 0:
            self.kill()


class Fate(Enum):
    """What becomes of one record in one put, and what the sender hears of it."""

    TAKEN = Status.DELIVERED, True
    THROTTLED = Status.THROTTLED, False
    REJECTED = Status.REJECTED, False
    LOST = "unknown, and not taken"
    TAKEN_UNHEARD = "unknown, and taken"

    @property
    def taken(self) -> bool:
        return self in (Fate.TAKEN, Fate.TAKEN_UNHEARD)

    @property
    def outcome(self) -> Outcome:
        return Outcome(
            self.value[0] if isinstance(self.value, tuple) else Status.UNKNOWN, "" if self.taken else "Scripted"
        )


class Stream:
    """Keeps what it takes, in order, and fails as its script says.

    :param script: from the put's number and its records to one fate per record, or raises.
    """

    def __init__(self, script: Callable[[int, Sequence[Record]], Sequence[Fate]] | None = None) -> None:
        self.script = script
        self.puts: list[list[Record]] = []
        self.taken: list[Record] = []
        self._lock = threading.Lock()

    def put(self, batch: Sequence[Record]) -> list[Outcome]:
        with self._lock:
            number = len(self.puts)
            self.puts.append(list(batch))
            try:
                fates = self.script(number, batch) if self.script else [Fate.TAKEN] * len(batch)
            except Killed as killed:
                if killed.taken:
                    self.taken.extend(batch)
                raise
            self.taken += [record for record, fate in zip(batch, fates, strict=True) if fate.taken]
            return [fate.outcome for fate in fates]

    @property
    def messages(self) -> list[bytes]:
        """The bytes that were taken, in order, with repetitions."""
        return [record.data for record in self.taken]

    def consume(self) -> AudienceConsumer:
        """Read the stream as a consumer does."""
        consumer = AudienceConsumer()
        for message in self.messages:
            consumer.apply(message)
        return consumer


def small_delivery(name: str = "a", **changed: Any) -> Delivery:
    """Make a delivery of small messages in small batches."""
    options = changed.pop("options", {"max_users": 2})
    message_format = changed.pop("message_format", "amplitude_cohort")
    settings: dict[str, Any] = {
        "destination": f"kinesis://eu-west-1/{name}",
        "connection": "aws_default",
        "message_format": message_format,
        "options": options,
        "renderer": load_renderer(message_format, options),
        "limits": Limits(records_per_request=2, record_bytes=10_000, request_bytes=100_000),
        "partitions": 4,
    }
    return Delivery(**{**settings, **changed})


def open_outbox(ledger: Ledger, stream: Stream, delivery: Delivery | None = None) -> Outbox:
    return Outbox(ledger, delivery or small_delivery(), stream.put, policy=QUICK)


def fresh_schema() -> str:
    """Name a schema that no test has used."""
    return f"state_{next(_numbers)}"


class People:
    """A source table of one audience or many, and the sync over it.

    :param schema: of the state.
    """

    def __init__(self, warehouse: SqlWarehouse, *, many: bool = False, schema: str | None = None) -> None:
        self.warehouse = warehouse
        self.many = many
        self.schema = schema or fresh_schema()
        self.table = f"people_{self.schema}"
        warehouse.execute(
            f"CREATE TABLE {self.table} (audience TEXT, title TEXT, uid TEXT, email TEXT, city TEXT)"
        )
        self.source = Source(
            query=f"SELECT * FROM {self.table}",
            user_id="uid",
            identities={"email": "Email"},
            properties={"city": "city"},
            **(
                {"audience_id_column": "audience", "audience_name_column": "title"}
                if many
                else {"audience_id": "vips", "audience_name": "VIPs"}
            ),
        )

    def put(
        self, *users: str | None, audience: str | None = "vips", title: str = "VIPs", **values: str | None
    ) -> None:
        """Add members, or rows that should be none."""
        rows = [(audience, title, user, values.get("email"), values.get("city")) for user in users]
        insert_rows(self.warehouse, self.table, rows)

    def take(self, *users: str, audience: str = "vips") -> None:
        """Remove members."""
        for user in users:
            mark = self.warehouse.placeholder
            self.warehouse.execute(
                f"DELETE FROM {self.table} WHERE uid = {mark} AND audience = {mark}", (user, audience)
            )

    def change(self, user: str, **values: str | None) -> None:
        """Change columns of a member."""
        for name, value in values.items():
            mark = self.warehouse.placeholder
            self.warehouse.execute(f'UPDATE {self.table} SET "{name}" = {mark} WHERE uid = {mark}', (value, user))

    def clear(self) -> None:
        self.warehouse.execute(f"DELETE FROM {self.table}")

    def ledger(self, warehouse: Any = None) -> Ledger:
        return Ledger(warehouse or self.warehouse, self.schema, "dag.diff")

    def sync(self, warehouse: Any = None, **settings: Any) -> Sync:
        guards = settings.pop("guards", LET_ALL_THROUGH)
        source = settings.pop("source", self.source)
        ledger = settings.pop("ledger", None) or self.ledger(warehouse)
        retention = Retention(**settings) if settings else None
        return Sync(ledger, source, guards=guards, retention=retention)

    def run(self, number: int, *, how: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
        """Run the sync as of a day.

        :param how: what ``Sync.run`` is told besides.
        """
        return self.sync(**settings).run(day(number), **(how or {}))

    def members(self) -> dict[str, frozenset[str]]:
        """Read who is in the source, by audience."""
        found: dict[str, set[str]] = {}
        for audience, user in self.warehouse.read_rows(f"SELECT audience, uid FROM {self.table}"):
            found.setdefault(audience, set()).add(user)
        return {audience: frozenset(users) for audience, users in found.items()}

    def tables(self) -> set[str]:
        """List the state's tables but the ledger."""
        return list_tables(self.warehouse, self.schema)


def insert_rows(warehouse: SqlWarehouse, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows in one statement."""
    if rows:
        row = "(" + ", ".join([warehouse.placeholder] * len(rows[0])) + ")"
        values = [value for given in rows for value in given]
        warehouse.execute(f"INSERT INTO {table} VALUES {', '.join([row] * len(rows))}", values)


def list_tables(warehouse: SqlWarehouse, schema: str) -> set[str]:
    """List the tables of a schema but the ledger."""
    query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'"
    return {name for (name,) in warehouse.read_rows(query)} - {"ledger"}


def read_timeline(ledger: Ledger) -> Timeline:
    return ledger.read().timeline


def read_entries(ledger: Ledger) -> list[Entry]:
    ledger.read()
    return ledger.entries()


def read_standing(ledger: Ledger, delivery: Delivery | None = None) -> DeliveryState:
    return ledger.read().delivery((delivery or small_delivery()).log)


def read_changes(ledger: Ledger, as_of: datetime) -> list[Changes]:
    """Read every slice of the change set that leads to an instant."""
    timeline = read_timeline(ledger)
    edge = timeline.find(as_of)
    assert edge is not None
    change_set = change_set_of(ledger, timeline, edge)
    names = read_audience_names(ledger.warehouse, change_set)
    return [read_slice(ledger.warehouse, change_set, n, names) for n in range(change_set.slices)]


def read_membership(ledger: Ledger, as_of: datetime) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Read a membership: audience and user to when they entered and their mapped columns."""
    tables = read_timeline(ledger).tables(ledger.schema, as_of)
    needed, members = select_membership(tables)
    for name, body in needed:
        members = members.with_(name, as_=body)
    sql = render(members, ledger.warehouse.dialect)
    rows = ledger.warehouse.read_rows(sql)
    last = 3 + sum(not c.retired for c in tables.layout.columns)
    found = {(row[0], row[1]): row[2:last] for row in rows}
    assert len(found) == len(rows), "a member is there twice"
    return found


def members_of(consumer: AudienceConsumer) -> dict[str, frozenset[str]]:
    """List who a consumer believes to be in which audience, without those that everybody has left."""
    told: Mapping[str, frozenset[str]] = {a: consumer.members(a) for a in consumer.audiences()}
    return {audience: users for audience, users in told.items() if users}


__all__ = ["KINESIS_LIMITS", "duckdb_in_memory", "reopen", "warehouse"]
