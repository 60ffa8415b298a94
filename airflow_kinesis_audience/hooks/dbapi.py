"""What all doors to warehouses have in common: one DB-API connection, and errors without the rows' values.

Statements go in, rows come out in bounded batches of fixed types. Nothing of Airflow is here, so tests open the
same doors without it. Every statement commits by itself. Driver errors leave here as domain errors without the
parts of their text that can hold a row's values.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import AudienceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    import pyarrow as pa

    from airflow_kinesis_audience.dialects import Dialect


class SqlWarehouse:
    """One connection to a warehouse, and those that large results are read from; use it as a context manager.

    :param connect: opens a new DB-API connection.
    :param dialect: what the engine needs to be told.
    """

    placeholder = "%s"

    def __init__(self, connect: Callable[[], Any], dialect: Dialect) -> None:
        self._connect = connect
        self._opened: Any = None
        self._idle: list[Any] = []
        self.dialect = dialect

    @staticmethod
    def connector(conn_id: str, hook: Any) -> Callable[[], Any]:
        """Give what opens a connection through Airflow's hook.

        :raises ValueError: if nothing can be kept where the connection leads; a retry does not help.
        """
        return hook.get_conn  # type: ignore[no-any-return]

    def __enter__(self) -> SqlWarehouse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        while self._idle:
            self._idle.pop().close()

    @property
    def origin(self) -> SqlWarehouse:
        """Where an author's query is run: here."""
        return self

    def keep_rows(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> str:
        """Keep rows of an origin that is elsewhere."""
        raise NotImplementedError

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that gives no rows, and commit it.

        :raises WarehouseRefused: if it can never work; a retry does not help.
        :raises WarehouseUnavailable: otherwise; a retry may help.
        """
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)

    def write_table(self, name: str, query: str, *, sliced_by: str = "", tells_audiences: bool = False) -> None:
        """Create a table of a query's rows."""
        clause = f" {self.dialect.table_clause}" if self.dialect.table_clause else ""
        self.execute(f"CREATE TABLE {name}{clause} AS {query}")
        after = [*self.dialect.after_write]
        after += self.dialect.index_slices if sliced_by else ()
        after += self.dialect.index_audiences if tells_audiences else ()
        for template in after:
            self.execute(template.format(table=name, column=sliced_by))

    def drop_table(self, name: str) -> None:
        """Drop a table if it is there."""
        self.execute(f"DROP TABLE IF EXISTS {name}")

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole."""
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return [tuple(row) for row in cursor.fetchall()]

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; the query is planned, not run."""
        raise NotImplementedError

    def may_read_twice(self, query: str) -> bool:
        """Tell whether to read a query twice within one statement costs less than to keep its rows in between."""
        return False

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result in batches of at most ``rows`` rows; the client never holds it whole."""
        with self._cursor() as cursor:
            self._run(cursor, sql, ())
            while fetched := cursor.fetchmany(rows):
                yield arrow_batch(fetched, schema)

    def _open(self) -> Any:
        raise NotImplementedError

    def _open_reader(self) -> Any:
        """Open a connection that a large result is read from."""
        return self._open()

    def _translate(self, error: Exception) -> AudienceError:
        raise NotImplementedError

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        """Lend a connection that nothing else is read from meanwhile; who breaks off breaks it."""
        connection = self._idle.pop() if self._idle else self._open_reader()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        if self._opened is None:
            self._opened = self._open()
        # A connection that the server has ended refuses the cursor itself.
        with self._translated(), contextlib.closing(self._opened.cursor()) as cursor:
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


def arrow_batch(fetched: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Make a batch of rows that a driver gave, in the given types."""
    import pyarrow as pa

    columns = zip(*fetched, strict=True)
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def as_frame(batch: pa.RecordBatch) -> pd.DataFrame:
    """Give a batch as a pandas frame with Arrow-backed columns: same types in every batch, no NaN for NULL."""
    import pandas as pd

    frame: pd.DataFrame = batch.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def first_line(error: Exception) -> str:
    """Return what a driver says first; what follows may quote the statement's values."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
