"""The door to DuckDB, which works in this process: within bounds, and rows come out as Arrow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.dbapi import SqlWarehouse, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

LOCK_WAIT_SECONDS = 60.0
"""How long to wait for a DuckDB file that another process has open for writing."""

_BOUNDS = {"memory_limit": "192MB", "threads": 2}
"""What DuckDB may take of a worker unless the connection's extra says it; by itself it takes 80 % of the memory.

It does the rest on disk: 30 million members were compared so. Each thread needs memory of its own, hence both.
"""


class DuckDbWarehouse(SqlWarehouse):
    """DuckDB, in this process; rows come out as Arrow."""

    placeholder = "?"

    @staticmethod
    def connector(conn_id: str, hook: Any) -> Callable[[], Any]:
        """Give what opens the file, within bounds."""
        return within_bounds(conn_id, hook)

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names."""
        described = self.read_rows(f"DESCRIBE SELECT * FROM (\n{query}\n) AS given")  # noqa: S608
        return {row[0]: row[1] for row in described}

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result in Arrow batches, streamed."""
        with self._cursor() as cursor:
            for batch in cursor.sql(sql).to_arrow_reader(rows):
                if batch.num_rows:
                    yield batch.rename_columns(schema.names).cast(schema)

    def _open(self) -> Any:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while True:
            try:
                return self._connect()
            except Exception as error:
                if "Could not set lock" not in str(error):
                    raise WarehouseUnavailable(
                        f"the DuckDB file cannot be opened ({type(error).__name__}); check that the connection's "
                        "host is a path that this worker can write to"
                    ) from None
                if time.monotonic() > deadline:
                    raise WarehouseUnavailable(
                        f"another process has held the DuckDB file for {LOCK_WAIT_SECONDS:.0f} s; DuckDB lets one "
                        "process write at a time: put the tasks of this file into a pool with one slot"
                    ) from None
                time.sleep(0.2)

    def _translate(self, error: Exception) -> AudienceError:
        name = type(error).__name__
        if name in ("BinderException", "CatalogException", "ParserException", "SyntaxException"):
            return WarehouseRefused(f"DuckDB cannot run the statement: {first_line(error)}")
        if name == "OutOfMemoryException":
            return WarehouseUnavailable(
                "DuckDB ran out of memory; set a higher memory_limit or fewer threads in the connection's extra, "
                'such as {"memory_limit": "1GB", "threads": 2}'
            )
        if name in ("IOException", "InterruptException", "TransactionException"):
            return WarehouseUnavailable(f"DuckDB failed with {name}; see its temp_directory and disk")
        return WarehouseRefused(
            f"DuckDB refused the statement with {name}, on a value that is not shown here; run the query by itself"
        )


def within_bounds(conn_id: str, hook: Any) -> Callable[[], Any]:
    if hook.get_database() == ":memory:":
        raise ValueError(
            f"warehouse connection {conn_id!r} is a DuckDB in memory, which forgets who was told what; "
            "set its host to a file's path"
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
