"""A state in files, on a disk: what a process reads or writes there is a step of the scheduler's.

The author's rows are brought from a DuckDB in memory, all at one step; what they are then is the truth of every
table that is made of them later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from fsspec.implementations.local import LocalFileSystem

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.ledger_rows import Row
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from airflow_kinesis_audience.hooks.files.object_storage import ObjectStorage
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.simulator.doubles import Server, SimulatedWarehouse

if TYPE_CHECKING:
    from collections.abc import Iterable


class Files:
    """Where the states of histories are, each in a directory of its own, and the sources beside them.

    :param directory: empty.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._histories = directory, 0
        database = duckdb.connect(":memory:", config={"threads": 1})
        self.sources = DuckDbWarehouse(database.cursor, DIALECTS["duckdb"])
        self.placeholder, self.execute = self.sources.placeholder, self.sources.execute
        self._opened: list[SteppedParquet] = []

    def begin(self) -> None:
        """Begin a history: no state is there."""
        for warehouse in self._opened:
            warehouse.close()
        self._opened.clear()
        self._histories += 1
        self.root = self._directory / str(self._histories)

    def open(self, server: Server, schema: str, sync_id: str, on_read: Callable[[], None]) -> Ledger:
        """Open a ledger as one process does.

        :param on_read: is called when the source is read.
        """
        files = SteppedFiles(self.root, server)
        self._opened.append(SteppedParquet(files, Origin(self.sources, server, on_read), server))
        return Ledger(self._opened[-1], schema, sync_id, FileLedgerTable(files, schema, sync_id))

    def tables(self) -> set[str]:
        return {path.stem for path in self.root.glob("*/*.parquet")}

    def read_table(self, table: str) -> list[tuple[Any, ...]]:
        return [r for p in self.root.glob(f"*/{table}.parquet") for r in self.sources.read_rows(f"FROM '{p}'")]

    def lose(self, table: str) -> None:
        for path in self.root.glob(f"*/{table}.parquet"):
            path.unlink()

    def rows(self) -> Iterator[Row]:
        """Read the rows of all syncs, each of its own file."""
        for path in self.root.glob("*/ledger/*/*/*/*.json"):
            yield Row(*json.loads(path.read_text()))


class SteppedFiles(ObjectStorage):
    """Files as one process sees them."""

    def __init__(self, root: Path, server: Server) -> None:
        super().__init__(LocalFileSystem(), str(root))
        self._server = server

    def create(self, name: str, content: bytes) -> None:
        create = super().create
        self._server.step(f"create {name}", lambda: create(name, content), writes=True)

    def replace(self, name: str, content: bytes) -> None:
        replace = super().replace
        self._server.step(f"replace {name}", lambda: replace(name, content), writes=True)

    def remove(self, name: str) -> None:
        remove = super().remove
        self._server.step(f"remove {name}", lambda: remove(name), writes=False)

    def find(self, directory: str) -> list[str]:
        find = super().find
        return self._server.step(f"list {directory}", lambda: find(directory), writes=False)

    def read(self, names: Sequence[str]) -> Iterable[bytes]:
        read = super().read
        return self._server.step(f"read {len(names)} files", lambda: read(names), writes=False)

    def read_if_there(self, name: str) -> bytes | None:
        read = super().read_if_there
        return self._server.step(f"read {name}", lambda: read(name), writes=False)


class SteppedParquet(DuckDbParquetWarehouse):
    """DuckDB of one process over the files; of what it does only that is a step which the files show."""

    def __init__(self, files: SteppedFiles, origin: Any, server: Server) -> None:
        super().__init__(files, origin, {"threads": 1, "memory_limit": "192MB"})
        self._server = server

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        execute = super().execute
        if not sql.startswith("COPY"):
            return execute(sql, parameters)

        def act() -> int | None:
            written = execute(sql, parameters)
            self._server.note(sql)
            return written

        return self._server.step(sql[-110:], act, writes=True)

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        read = super().read_rows
        return self._server.step(sql[:110], lambda: read(sql, parameters), writes=False)

    def read_batches(self, sql: str, schema: Any, *, rows: int) -> Iterator[Any]:
        read = super().read_batches
        yield from self._server.step(sql[:110], lambda: list(read(sql, schema, rows=rows)), writes=False)


class Origin(SimulatedWarehouse):
    """The sources as one process sees them."""

    def __init__(self, inner: Any, server: Server, on_read: Callable[[], None]) -> None:
        super().__init__(inner, server)
        self._on_read = on_read

    def read_batches(self, sql: str, schema: Any, *, rows: int) -> Iterator[Any]:
        """Read before whoever asks goes on: no other process can have its turn while DuckDB is at work."""

        def read() -> list[Any]:
            self._on_read()
            return list(self._inner.read_batches(sql, schema, rows=rows))

        return iter(self._server.step(sql[:110], read, writes=False))

    def close(self) -> None:
        """Leave the sources to all others."""
