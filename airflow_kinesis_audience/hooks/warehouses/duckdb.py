"""DuckDB, which works in this process: within bounds of memory and threads, and rows come out as Arrow.

A file that another process has open for writing is waited for, since DuckDB lets one process write at a time. For
the same reason what is spilled beside that file and is of no living process can be removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse, first_line
from airflow_kinesis_audience.hooks.warehouses.duckdb_plan import is_stable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa


LOCK_WAIT_SECONDS = 60.0
"""How long to wait for a DuckDB file that another process has open for writing."""

_SPILLED_SECONDS = 86_400.0
"""What is spilled without the number of its process is left for a day."""

_BOUNDS = {"memory_limit": "192MB", "threads": 2}
"""What DuckDB may take of a worker unless the connection's extra sets it; by default it takes 80 % of the memory.

It does the rest on disk: 30 million members were compared so. Each thread needs memory of its own, hence both.
"""

SETTINGS: Mapping[str, str] = {
    "TimeZone": "UTC",
    "Calendar": "gregorian",
    "default_collation": "",
    "default_null_order": "NULLS_LAST",
    "default_order": "ASCENDING",
    "integer_division": "false",
    "ieee_floating_point_ops": "true",
    "scalar_subquery_error_on_multiple_rows": "true",
    "disable_timestamptz_casts": "false",
}
"""By which a value has one text, and a statement one meaning: the connection's extra may set others, and the time
zone is the worker's own where nothing sets it."""


class DuckDbWarehouse(SqlWarehouse):
    """DuckDB, in this process; rows come out as Arrow."""

    placeholder = "?"

    @staticmethod
    def connector(conn_id: str, hook: Any) -> Callable[[], Any]:
        """Give what opens the file, within bounds."""
        return within_bounds(conn_id, hook)

    @contextlib.contextmanager
    def beside_others(self) -> Iterator[None]:
        """Let this thread read while others use the warehouse, too: each statement has a cursor of its own."""
        yield

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names."""
        described = self._read_plan(f"DESCRIBE SELECT * FROM (\n{query}\n) AS given")  # noqa: S608
        return {row[0]: row[1] for row in described}

    def is_cheap_to_reread(self, query: str) -> bool:
        """Whether it is one scan of one table, and is sure to give the same rows twice.

        Both readings see the statement's one snapshot, and to keep the rows in between costs twice as much.
        """
        explained = self._read_plan(f"EXPLAIN (FORMAT json) SELECT * FROM (\n{query}\n) AS given")  # noqa: S608
        return is_stable(json.loads(explained[0][1]))

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result in Arrow batches, streamed."""
        with self._cursor() as cursor:
            for batch in self._counted_until_first(_stream(cursor, sql, rows)):
                if batch.num_rows:
                    yield batch.rename_columns(schema.names).cast(schema)

    def _open(self) -> Any:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while True:
            try:
                connection = self._settled(self._connect())
                remove_spilled(connection)
                return connection
            except AudienceError:
                raise
            except Exception as error:
                if "Could not set lock" not in str(error):
                    raise WarehouseUnavailable(
                        f"the DuckDB file cannot be opened ({type(error).__name__}); check that the connection's "
                        "host is a path that this worker can write to"
                    ) from None
                if time.monotonic() > deadline:
                    raise WarehouseUnavailable(
                        f"another process has held the DuckDB file for {LOCK_WAIT_SECONDS:.0f} s; in DuckDB, one "
                        "process can write at a time: put the tasks of this file into a pool with one slot"
                    ) from None
                time.sleep(0.2)

    def _tagged(self, sql: str) -> str:
        # It works in this process, where nobody lists its statements.
        return sql

    @staticmethod
    def _settled(connection: Any) -> Any:
        """Give a connection that is set to :data:`SETTINGS`, those of them that this version has."""
        found = connection.execute("SELECT name, value FROM duckdb_settings()").fetchall()
        for name, value in found:
            if name in SETTINGS and value.casefold() != SETTINGS[name].casefold():
                try:
                    connection.execute(f"SET {name} = '{SETTINGS[name]}'")
                except Exception:
                    connection.close()
                    raise WarehouseRefused(
                        f"DuckDB's setting {name} is {value!r} and cannot be changed; expected "
                        f"{SETTINGS[name]!r}: remove it, or lock_configuration, from the connection's extra"
                    ) from None
        return connection

    def _cancel(self, connection: Any, cursor: Any) -> None:
        cursor.interrupt()

    def _break_off(self, connection: Any, cursor: Any, *, cancel: bool = True) -> None:
        # The connection is as good as before; and to open a file anew waits for all that is still open of it.
        with contextlib.suppress(Exception):
            self._cancel(connection, cursor)

    def _is_interruption(self, error: Exception) -> bool:
        # It raises what a signal's handler does as an error of its own.
        return self._is_ended or str(error) == "Query interrupted"

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        name = type(error).__name__
        if planned and name in ("BinderException", "CatalogException", "ParserException", "SyntaxException"):
            return WarehouseRefused(f"DuckDB cannot run the statement: {first_line(error)}")
        if name == "OutOfMemoryException":
            return WarehouseUnavailable(
                "DuckDB ran out of memory; set a higher memory_limit or fewer threads in the connection's extra, "
                'such as {"memory_limit": "1GB", "threads": 2}'
            )
        if name in ("IOException", "InterruptException", "TransactionException"):
            return WarehouseUnavailable(f"DuckDB failed with {name}; check its temp_directory and disk")
        return WarehouseRefused(f"DuckDB rejected the statement with {name}, {NOT_SHOWN}")


def _stream(cursor: Any, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
    yield from cursor.sql(sql).to_arrow_reader(rows)


def remove_spilled(connection: Any) -> None:
    """Remove what killed processes have spilled beside the file that a connection may write to."""
    query = "SELECT path, readonly, current_setting('temp_directory') FROM duckdb_databases()"
    for path, readonly, spilled in connection.execute(f"{query} WHERE path IS NOT NULL").fetchall():
        # Elsewhere others may be spilling, too.
        if not readonly and spilled == f"{path}.tmp":
            for file in Path(spilled).glob("duckdb_temp_*"):
                made_by = re.match(r"duckdb_temp_(\d+)_", file.name)
                with contextlib.suppress(OSError):
                    if int(made_by[1]) != os.getpid() if made_by else _is_old(file):
                        file.unlink()


def _is_old(file: Path) -> bool:
    """Whether a file that does not name its process is of another one than this."""
    return time.time() - file.stat().st_mtime > _SPILLED_SECONDS


def within_bounds(conn_id: str, hook: Any) -> Callable[[], Any]:
    if hook.get_database() == ":memory:":
        raise ValueError(
            f"warehouse connection {conn_id!r} is a DuckDB in memory, so the delivery state would be lost; set "
            "its host to the path of a file"
        )
    given = hook.get_connect_config()
    if any(name in given for name in _BOUNDS):
        connect: Callable[[], Any] = hook.get_conn
        return connect

    def connect_bounded() -> Any:
        connection = hook.get_conn()
        for name, value in _BOUNDS.items():
            connection.execute(f"SET {name} = '{value}'")
        return connection

    return connect_bounded
