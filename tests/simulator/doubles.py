"""A warehouse, a ledger's rows and a stream, whose every step is the scheduler's.

The warehouse is a real one behind each statement. The ledger's rows are kept in memory where many histories are to
be lived, as that costs a tenth; else in a table of that warehouse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    LedgerConflict,
    WarehouseRefused,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.producer.records import Outcome, Record, Status
from airflow_kinesis_audience.core.state.ledger_rows import Fold, Row
from airflow_kinesis_audience.core.state.ledger_tables import CHECKPOINT

if TYPE_CHECKING:
    from tests.simulator.scheduler import Scheduler

T = TypeVar("T")


def _lost() -> AudienceError:
    return WarehouseUnavailable("the connection was lost, as the simulator wants it")


@dataclass
class Server:
    """What is so for everybody who uses the warehouse.

    :param full: no disk is left; ``revoked``, nobody may create anything.
    :param on_write: each is called with every statement that was done.
    """

    scheduler: Scheduler
    full: bool = False
    revoked: bool = False
    on_write: list[Callable[[str], None]] = field(default_factory=list)

    def note(self, sql: str) -> None:
        """Tell all who are to know that a statement was done."""
        for call in self.on_write:
            call(sql)

    def step(self, what: str, act: Callable[[], T], *, writes: bool) -> T:
        def checked() -> T:
            if writes and self.full:
                raise WarehouseUnavailable("no space is left on the device, as the simulator wants it")
            if writes and self.revoked:
                raise WarehouseRefused("permission denied, as the simulator wants it")
            return act()

        return self.scheduler.step(what, checked, _lost)


class SimulatedWarehouse:
    """A warehouse's connection of one process."""

    def __init__(self, inner: Any, server: Server) -> None:
        self._inner, self._server = inner, server
        self.dialect, self.placeholder = inner.dialect, inner.placeholder

    @property
    def origin(self) -> Any:
        return self if self._inner.origin is self._inner else self._inner.origin

    @property
    def collation(self) -> str:
        return self._inner.collation  # type: ignore[no-any-return]

    def beside_others(self) -> AbstractContextManager[None]:
        """Nothing: all actors are one thread's, so they take turns on the one connection."""
        return nullcontext()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        def act() -> int | None:
            written: int | None = self._inner.execute(sql, parameters)
            self._server.note(sql)
            return written

        return self._server.step(_head(sql), act, writes=not sql.startswith("DROP"))

    def write_table(self, name: str, query: str, **how: Any) -> None:
        # Statement by statement, each of which may be the last one.
        type(self._inner).write_table(self, name, query, **how)

    def write_table_apart(self, name: str, query: str, **how: Any) -> None:
        self.write_table(name, query, **how)

    def drop_table(self, name: str) -> None:
        type(self._inner).drop_table(self, name)

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._server.step(_head(sql), lambda: self._inner.read_rows(sql, parameters), writes=False)

    def read_types(self, query: str) -> dict[str, str]:
        return self._server.step("read types", lambda: self._inner.read_types(query), writes=False)

    def keep_rows(self, schema: Any, batches: Iterator[Any]) -> str:
        return self._inner.keep_rows(schema, batches)  # type: ignore[no-any-return]

    def is_cheap_to_reread(self, query: str) -> bool:
        return self._inner.is_cheap_to_reread(query)  # type: ignore[no-any-return]

    def read_batches(self, sql: str, schema: Any, *, rows: int) -> Iterator[Any]:
        # Read at once, so that nobody else waits for a cursor that is open.
        yield from self._server.step(
            _head(sql), lambda: list(self._inner.read_batches(sql, schema, rows=rows)), writes=False
        )


def _head(sql: str) -> str:
    if sql.startswith("CREATE TABLE"):
        return sql.partition(" AS ")[0][:110]
    return f"{sql[:50]} … {sql.partition(' FROM ')[2][:60]}" if sql.startswith("SELECT") else sql[:110]


@dataclass
class KeptRows:
    """The ledger of a schema, in memory; a log has each number once."""

    rows: dict[tuple[str, str, int], Row] = field(default_factory=dict)


class MemoryRows:
    """The ledger's rows as one process sees them."""

    def __init__(self, kept: KeptRows, server: Server, sync_id: str) -> None:
        self._kept, self._server, self._sync_id = kept, server, sync_id

    def create(self) -> None:
        """Nothing is to be made."""

    def read(self, known: Mapping[str, int], *, since: object = None) -> list[Row]:
        del since
        return self._server.step("read the ledger", lambda: self._read(known), writes=False)

    def read_fold(self) -> Fold:
        """Read none: histories are short."""
        return Fold("")

    def write_fold(self, text: str, known: Mapping[str, int]) -> None:
        """Keep none."""

    def _read(self, known: Mapping[str, int]) -> list[Row]:
        own = sorted(row for row in self._kept.rows.values() if row.sync_id == self._sync_id)
        last = {row.log: row.sequence for row in own}
        return [
            r
            for r in own
            if r.sequence > known.get(r.log, 0) and (r.event != CHECKPOINT or r.sequence == last[r.log])
        ]

    def append(self, row: Row, *, lazy: bool = False) -> None:
        key = (row.sync_id, row.log, row.sequence)

        def insert() -> None:
            if self._kept.rows.setdefault(key, row) is not row:
                raise LedgerConflict

        what = f"append {row.event} {row.detail[:70]}"
        try:
            self._server.step(what, insert, writes=True)
        except (WarehouseUnavailable, WarehouseRefused):
            # As a table with a key: the ledger itself shows whether the row was taken.
            found = self._server.step("look for the row", lambda: self._kept.rows.get(key), writes=False)
            if found is None:
                raise
            if found is not row:
                raise LedgerConflict from None

    def read_all(self, event: str) -> list[Row]:
        return [row for row in self._kept.rows.values() if row.event == event]

    def read_others(self, log: str, events: Collection[str]) -> list[Row]:
        rows = sorted(self._kept.rows.values())
        syncs = {row.sync_id for row in rows if row.log == log} - {self._sync_id}
        found = [r for r in rows if r.sync_id in syncs and r.log in ("", log) and r.event in events]
        newest = {(row.sync_id, row.log, row.event): row for row in found}
        return list(newest.values())

    def of_sync(self, sync_id: str) -> MemoryRows:
        return MemoryRows(self._kept, self._server, sync_id)


@dataclass
class Taken:
    """One record on a stream."""

    data: bytes
    partition_key: str
    by: str


@dataclass
class Stream:
    """Keeps what it takes, in order."""

    scheduler: Scheduler
    taken: list[Taken] = field(default_factory=list)
    requests: int = 0
    calm_from: int | None = None
    """So many records were taken before the calm days, once they have begun."""
    unsteady: float = 0.0
    """How likely a record is throttled, or its answer lost."""

    def put(self, batch: Sequence[Record]) -> list[Outcome]:
        current = self.scheduler.current
        assert current is not None

        def act() -> list[Outcome]:
            self.requests += 1
            return [self._take(record, current.process.name) for record in batch]

        try:
            return self.scheduler.step(f"put {len(batch)} records", act, _NoAnswer)
        except _NoAnswer:
            return [Outcome(Status.UNKNOWN, "Simulated")] * len(batch)

    def _take(self, record: Record, by: str) -> Outcome:
        chance = self.scheduler.chance
        fate: Any = chance.random() < self.unsteady and chance.choice(("throttled", "lost", "unheard"))
        if not fate or fate == "unheard":
            self.taken.append(Taken(record.data, record.partition_key, by))
        if not fate:
            return Outcome(Status.DELIVERED)
        return Outcome(Status.THROTTLED if fate == "throttled" else Status.UNKNOWN, "Simulated")


class _NoAnswer(Exception):
    """The stream's answer never came; the hook makes an outcome of it."""
