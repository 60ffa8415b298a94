"""The door to the warehouse: statements go in, rows come out in bounded batches of fixed types.

It opens DB-API connections, any that an Airflow connection with a ``DbApiHook`` gives, and nothing else of
Airflow is used, so tests open the same door without it. Every statement commits by itself. Driver errors leave
here as domain errors without the parts of their text that can hold a row's values.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.sql import DIALECTS, Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    import pyarrow as pa

LOCK_WAIT_SECONDS = 60.0
"""How long to wait for a DuckDB file that another process has open for writing."""

_DUCKDB_BOUNDS = {"memory_limit": "192MB", "threads": 2}
"""What DuckDB may take of a worker unless the connection's extra says it; by itself it takes 80 % of the memory.

It does the rest on disk: 30 million members were compared so. Each thread needs memory of its own, hence both.
"""

_POSTGRES_TEMPORARY = ("08", "40", "53", "55", "57", "58")
_POSTGRES_WITHOUT_VALUES = ("0A", "21", "25", "3D", "3F", "42")
"""Classes of errors whose first line speaks of the statement; others, such as a function's own, can quote rows."""


class SqlWarehouse:
    """One connection to a warehouse; use it as a context manager.

    :param connect: opens a new DB-API connection.
    :param dialect: what the engine needs to be told.
    """

    placeholder = "%s"

    def __init__(self, connect: Callable[[], Any], dialect: Dialect) -> None:
        self._connect = connect
        self._opened: Any = None
        self.dialect = dialect

    def __enter__(self) -> SqlWarehouse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that gives no rows, and commit it.

        :raises WarehouseRefused: if it can never work; a retry does not help.
        :raises WarehouseUnavailable: otherwise; a retry may help.
        """
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole."""
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return [tuple(row) for row in cursor.fetchall()]

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; the query is planned, not run."""
        raise NotImplementedError

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result in batches of at most ``rows`` rows; neither driver nor client holds it whole."""
        raise NotImplementedError

    def _open(self) -> Any:
        raise NotImplementedError

    def _translate(self, error: Exception) -> AudienceError:
        raise NotImplementedError

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        if self._opened is None:
            self._opened = self._open()
        with contextlib.closing(self._opened.cursor()) as cursor, self._translated():
            yield cursor

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except AudienceError:
            raise
        except Exception as error:
            # Not chained: the driver's own text may quote a row.
            raise self._translate(error) from None

    @staticmethod
    def _run(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        # Without parameters a driver must not look for placeholders: a % in the query is a %.
        if parameters:
            cursor.execute(sql, list(parameters))
        else:
            cursor.execute(sql)


class DuckDbWarehouse(SqlWarehouse):
    """DuckDB, in this process; rows come out as Arrow."""

    placeholder = "?"

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
            return WarehouseRefused(f"DuckDB cannot run the statement: {_first_line(error)}")
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


class PostgresWarehouse(SqlWarehouse):
    """PostgreSQL through psycopg; large results come through a server-side cursor."""

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; LIMIT 0 plans it only."""
        with self._cursor() as cursor:
            cursor.execute(f"SELECT * FROM (\n{query}\n) AS given LIMIT 0")  # noqa: S608
            found = [(d[0], int(d[1])) for d in cursor.description]
        oids = ", ".join(str(oid) for _, oid in found) or "0"
        named = f"SELECT oid::bigint, format_type(oid, NULL) FROM pg_type WHERE oid IN ({oids})"  # noqa: S608
        names = dict(self.read_rows(named))
        return {name: names[oid] for name, oid in found}

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result through a cursor on the server, ``rows`` rows at a time."""
        import pyarrow as pa

        with self._translated(), contextlib.closing(self._connect()) as connection:
            # A server-side cursor lives in a transaction, so not on the connection that commits each statement.
            _plain_rows(connection)
            with contextlib.closing(connection.cursor(name="airflow_kinesis_audience")) as cursor:
                cursor.execute(sql)
                while fetched := cursor.fetchmany(rows):
                    columns = zip(*fetched, strict=True)
                    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
                    yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _open(self) -> Any:
        with self._translated():
            connection = self._connect()
        connection.autocommit = True
        _plain_rows(connection)
        return connection

    def _translate(self, error: Exception) -> AudienceError:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""
        if state == "42501":
            return WarehouseRefused(
                f"PostgreSQL denies it: {_first_line(error)}. The login needs SELECT on the source, and USAGE and "
                "CREATE on the state schema (and CREATE on the database for the first run to make that schema)"
            )
        if not state or state.startswith(_POSTGRES_TEMPORARY):
            return WarehouseUnavailable(
                f"PostgreSQL is not available ({type(error).__name__} {state}); check host, port, login and load"
            )
        if state.startswith(_POSTGRES_WITHOUT_VALUES):
            return WarehouseRefused(f"PostgreSQL cannot run the statement ({state}): {_first_line(error)}")
        return WarehouseRefused(
            f"PostgreSQL refused the statement with {type(error).__name__} ({state}), on a value that is not "
            "shown here; run the query by itself"
        )


_DOORS: dict[str, type[SqlWarehouse]] = {"duckdb": DuckDbWarehouse, "postgres": PostgresWarehouse}


def open_warehouse(conn_id: str) -> SqlWarehouse:
    """Open the warehouse behind an Airflow connection.

    :param conn_id: id of a connection whose hook is a ``DbApiHook``.
    :raises ValueError: if there is no such connection or its type is not supported; a retry does not help.
    """
    from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException
    from airflow.sdk import BaseHook

    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ValueError(
            f"warehouse_conn_id is {conn_id!r}, and Airflow has no connection of that id; create it, for example: "
            f"airflow connections add {conn_id} --conn-uri ..."
        ) from None
    kind = connection.conn_type
    if kind not in _DOORS:
        raise ValueError(f"warehouse connection {conn_id!r} is of type {kind}; supported are {', '.join(_DOORS)}")
    try:
        hook = BaseHook.get_hook(conn_id)
    except (AirflowException, ImportError):
        raise ValueError(
            f"warehouse connection {conn_id!r} is of type {kind}, whose hook is not installed here; "
            f"pip install airflow-kinesis-audience[{kind}]"
        ) from None
    connect = _duckdb_within_bounds(conn_id, hook) if kind == "duckdb" else hook.get_conn
    return _DOORS[kind](connect, DIALECTS[kind])


def _duckdb_within_bounds(conn_id: str, hook: Any) -> Callable[[], Any]:
    if hook.get_database() == ":memory:":
        raise ValueError(
            f"warehouse connection {conn_id!r} is a DuckDB in memory, which forgets who was told what; "
            "set its host to a file's path"
        )
    given = hook.get_connect_config()
    if any(name in given for name in _DUCKDB_BOUNDS):
        connect: Callable[[], Any] = hook.get_conn
        return connect

    def connect_bounded() -> Any:
        connection = hook.get_conn()
        for name, value in _DUCKDB_BOUNDS.items():
            connection.execute(f"SET {name} = '{value}'")
        return connection

    return connect_bounded


def as_frame(batch: pa.RecordBatch) -> pd.DataFrame:
    """Give a batch as a pandas frame with Arrow-backed columns: same types in every batch, no NaN for NULL."""
    import pandas as pd

    frame: pd.DataFrame = batch.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _plain_rows(connection: Any) -> None:
    """Undo a row factory that the Airflow connection may ask for: rows are read by position."""
    if hasattr(connection, "row_factory"):
        from psycopg.rows import tuple_row

        connection.row_factory = tuple_row


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
