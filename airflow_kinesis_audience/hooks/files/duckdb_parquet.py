"""State apart from the warehouse, for a login that may only read: Parquet files that DuckDB works on in this task.

A table is one file, written whole under a name that nobody else has and never changed; the author's rows come from
the warehouse once, to a database of the task's own that goes with it. Memory is bounded, the rest is done on disk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    TaskEnded,
    WarehouseRefused,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.files.temporary_home import TemporaryHome
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_kinesis_audience.hooks.files.object_storage import ObjectStorage
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

SETTINGS: Mapping[str, Any] = {"memory_limit": "512MB", "threads": 2}
"""What DuckDB may take of a worker, unless the operator is given ``state_memory``."""

_TABLE = re.compile(r'"(?P<schema>[^"]+)"\."(?P<name>[^"]+)"')
_SLICED_GROUP_ROWS = 20_480
"""Rows of a row group where a table is read in slices, so that a slice reads little more than its own."""


class DuckDbParquetWarehouse(DuckDbWarehouse):
    """DuckDB over Parquet files, and over the rows of a warehouse elsewhere.

    :param files: where the state is.
    :param origin: the warehouse of the author's tables, or none where they are not read.
    :param settings: of DuckDB.
    """

    def __init__(
        self, files: ObjectStorage, origin: SqlWarehouse | None = None, settings: Mapping[str, Any] = SETTINGS
    ) -> None:
        super().__init__(self._connect_here, DIALECTS["duckdb"])
        self._files = files
        self._given_origin = origin
        self._settings = settings
        self._home: TemporaryHome | None = None
        self._schemas: set[str] = set()
        self._views: set[str] = set()
        self._kept = 0

    @property
    def origin(self) -> SqlWarehouse:
        """Where an author's query is run."""
        return self._given_origin or self

    def cancel(self) -> None:
        """Cancel what is at work here, and in the warehouse that rows are read from."""
        super().cancel()
        if self._given_origin is not None:
            self._given_origin.cancel()

    def close(self) -> None:
        """Close the connections, and remove what was only for this task."""
        super().close()
        if self._given_origin is not None:
            self._given_origin.close()
        if self._home is not None:
            self._home.remove()
            self._home = None
            self._schemas.clear()
            self._views.clear()

    def write_table(self, name: str, query: str, *, sliced_by: str = "", has_audience_rows: bool = False) -> None:
        """Write a query's rows to a file."""
        path = self._path(name)
        self._files.make_directory(path)
        groups = ""
        if sliced_by:
            groups = f", ROW_GROUP_SIZE {_SLICED_GROUP_ROWS}"
            query = f'SELECT * FROM ({query}) ORDER BY SUBSTRING("bucket", 1, 1), "{sliced_by}"'  # noqa: S608
        self.execute(f"COPY ({query}) TO '{_literal(self._files.address(path))}' (FORMAT parquet{groups})")
        self._files.persist(path)

    def drop_table(self, name: str) -> None:
        """Remove a table's file."""
        if name in self._views:
            self._views.discard(name)
            super().execute(f"DROP VIEW {name}")
        self._files.remove(self._path(name))

    def keep_rows(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> str:
        """Keep rows of the warehouse in the database of this task; gives their table's name.

        :raises AudienceError: what the warehouse raised, if reading it failed.
        """
        self._kept += 1
        name = f"brought_{self._kept}"
        failed: list[BaseException] = []

        def read() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except (Exception, TaskEnded) as error:
                failed.append(error)
                raise

        try:
            with self._cursor() as cursor:
                cursor.register("arriving", pa.RecordBatchReader.from_batches(schema, read()))
                cursor.execute(f"CREATE TABLE {name} AS SELECT * FROM arriving")  # noqa: S608
                cursor.unregister("arriving")
        except (AudienceError, TaskEnded):
            # DuckDB has an error of its own in the place of one that only the warehouse can name.
            if failed:
                raise failed[0] from None
            raise
        return name

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        """Run a statement over the files that it names."""
        self._attach_tables(sql)
        return super().execute(sql, parameters)

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole."""
        self._attach_tables(sql)
        return super().read_rows(sql, parameters)

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result in Arrow batches."""
        self._attach_tables(sql)
        yield from super().read_batches(sql, schema, rows=rows)

    def is_cheap_to_reread(self, query: str) -> bool:
        """Whether the rows were brought here, since they stay as they are."""
        return self._given_origin is not None

    def _attach_tables(self, sql: str) -> None:
        """Make a view of each file that a statement names, once per database of a task."""
        for found in _TABLE.finditer(sql):
            name = found[0]
            if name in self._views or not _is_state(found["name"]):
                continue
            address = _literal(self._files.address(self._path(name)))
            if found["schema"] not in self._schemas:
                super().execute(f'CREATE SCHEMA IF NOT EXISTS "{found["schema"]}"')
                self._schemas.add(found["schema"])
            try:
                super().execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{address}')")  # noqa: S608
            except WarehouseUnavailable:
                if f"{found['name']}.parquet" in self._files.find(found["schema"]):
                    raise
                raise WarehouseRefused(f"the state's table {found['name']} does not exist: {address}") from None
            self._views.add(name)

    def _path(self, name: str) -> str:
        found = _TABLE.fullmatch(name)
        if found is None:
            raise WarehouseRefused(f"with state_path, state_schema must be one name; found {name}")
        return f"{found['schema']}/{found['name']}.parquet"

    def _connect_here(self) -> Any:
        import duckdb

        self._home = self._home or TemporaryHome()
        connection = duckdb.connect(str(self._home.path / "here.duckdb"), config=dict(self._settings))
        if not self._files.is_local:
            connection.register_filesystem(self._files.file_system)
        return connection


def _is_state(name: str) -> bool:
    return name.startswith(("base_", "changes_", "snapshot_", "events_", "profiles_", "rejects_", "erasures_"))


def _literal(text: str) -> str:
    return text.replace("'", "''")
