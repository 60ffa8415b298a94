"""What all warehouses have in common: one DB-API connection, and errors without the rows' values.

Statements go in, rows come out in bounded batches of fixed types. Nothing of Airflow is here, so tests open the
same warehouses without it. Every statement is a transaction of its own. A driver's errors are raised as domain
errors; what the server says is in them only if it read no row, since almost any function can quote a row's value.
Who breaks a statement off has it cancelled on the server, which would go on with it by itself.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_kinesis_audience.core.exceptions import AudienceError, TaskEnded
from airflow_kinesis_audience.hooks.client_logs import keep_requests_out_of_logs
from airflow_kinesis_audience.hooks.statement_tags import TaggedStatements
from airflow_kinesis_audience.hooks.warehouses.connections import Connections
from airflow_kinesis_audience.hooks.warehouses.left_statements import LeavesStatements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    import pyarrow as pa

    from airflow_kinesis_audience.core.sql.dialects import Ddl, Dialect


NOT_SHOWN = (
    "possibly because of a value of a row, so its message is not shown here; run the query in the warehouse, or "
    "read its log"
)
"""Ends what is said of a statement that has read rows."""


class SqlWarehouse(TaggedStatements, LeavesStatements, Connections):
    """One connection to a warehouse, and those that large results are read from; use it as a context manager.

    :param connect: opens a new DB-API connection.
    :param dialect: how the engine differs from the others.
    """

    placeholder = "%s"
    loggers: ClassVar[tuple[str, ...]] = ()
    """Of the driver, where it prints statements, rows or the server's words at DEBUG."""

    def __init__(self, connect: Callable[[], Any], dialect: Dialect) -> None:
        super().__init__()
        self._connect = connect
        self._at_work: list[tuple[Any, Any]] = []
        # By the connection's own id, the number by which the server knows it, where it is asked for.
        self._numbers: dict[int, int] = {}
        self._is_ended = False
        self.dialect = dialect
        keep_requests_out_of_logs(*self.loggers)

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

    def cancel(self) -> None:
        """Cancel on the server all that is at work, from whichever thread: the task was ended.

        What is begun afterwards runs, so that it can still be written down how far the task got.
        """
        self._is_ended = True
        with self._lock:
            for connection, cursor in tuple(self._at_work):
                with contextlib.suppress(Exception):
                    self._cancel(connection, cursor)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the warehouse can be opened and answers, and a sentence."""
        try:
            self.read_rows("SELECT 1")
        except AudienceError as error:
            return False, str(error)
        return True, "the warehouse answers"

    def close(self) -> None:
        """Close the connections; what somebody is still reading from ends, too."""
        with self._lock:
            for connection, cursor in tuple(self._at_work):
                self._break_off(connection, cursor)
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        self._close_idle()

    @property
    def origin(self) -> SqlWarehouse:
        """Where an author's query is run: here."""
        return self

    def keep_rows(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> str:
        """Keep rows of an origin that is elsewhere."""
        raise NotImplementedError

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        """Run a statement that gives no rows, and commit it.

        :returns: how many rows it has written, or none where the driver does not say so.
        :raises WarehouseRefused: if it can never work; a retry does not help.
        :raises WarehouseUnavailable: otherwise; a retry may help.
        """
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            written = getattr(cursor, "rowcount", None)
        return written if isinstance(written, int) and written >= 0 else None

    def write_table(self, name: str, query: str, *, sliced_by: str = "", has_audience_rows: bool = False) -> None:
        """Create a table of a query's rows."""
        ddl = self.dialect.ddl
        for statement in table_statements(
            ddl, name, query, sliced_by=sliced_by, has_audience_rows=has_audience_rows
        ):
            self.execute(statement)

    def drop_table(self, name: str) -> None:
        """Drop a table if it is there."""
        self.execute(f"DROP TABLE IF EXISTS {name}")

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole."""
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return [tuple(row) for row in cursor.fetchall()]

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; the query is planned, not run.

        It comes before all other statements that hold the query, so that what is wrong with that is said here.
        """
        raise NotImplementedError

    def is_cheap_to_reread(self, query: str) -> bool:
        """Whether to read a query twice within one statement costs less than to keep its rows in between."""
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

    def _cancel(self, connection: Any, cursor: Any) -> None:
        """Cancel a statement on the server while another thread waits for it.

        :param cursor: of the statement; none of one that is read on a connection of its own.
        """
        raise NotImplementedError

    def _is_interruption(self, error: Exception) -> bool:
        """Whether a statement failed with this because the task was ended."""
        return self._is_ended

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        """Make a domain error of a driver's.

        :param planned: whether the statement was one that reads no row; of any other the server's words stay here.
        """
        raise NotImplementedError

    def _read_plan(self, sql: str) -> list[tuple[Any, ...]]:
        """Read what the server says of a statement that it plans and does not run."""
        with self._cursor(planned=True) as cursor:
            self._run(cursor, sql, ())
            return [tuple(row) for row in cursor.fetchall()]

    def _connection(self) -> Any:
        """Give the connection; the first statement opens it."""
        if self._opened is None:
            self._opened = self._take_lent() or self._open()
        return self._opened

    @contextlib.contextmanager
    def _reader_connection(self) -> Iterator[Any]:
        """Lend a connection that nothing else is read from meanwhile; who breaks off breaks it."""
        connection = self._take_idle() or self._open_reader()
        with self._working(connection):
            yield connection
        self._give_back(connection)

    @contextlib.contextmanager
    def _working(self, connection: Any, cursor: Any = None) -> Iterator[None]:
        """Count a statement as at work; who breaks off cancels it, and its connection is not used again."""
        work = connection, cursor
        with self._lock:
            self._at_work.append(work)
        try:
            yield
        except BaseException as error:
            # Of a cursor that is not read to its end the driver makes something good.
            if cursor is None or not isinstance(error, Exception | GeneratorExit):
                self._break_off(connection, cursor, cancel=not isinstance(error, Exception))
            raise
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._at_work.remove(work)

    def _break_off(self, connection: Any, cursor: Any, *, cancel: bool = True) -> None:
        with self._lock:
            if connection is self._opened:
                self._opened = None
            with contextlib.suppress(Exception):
                if cancel:
                    self._cancel(connection, cursor)
            with contextlib.suppress(Exception):
                connection.close()

    @contextlib.contextmanager
    def _cursor(self, *, planned: bool = False) -> Iterator[Any]:
        connection = self._connection()
        # A connection that the server has ended refuses the cursor itself.
        with self._translated(planned=planned):
            cursor = connection.cursor()
            try:
                with self._working(connection, cursor):
                    yield cursor
            except BaseException:
                with contextlib.suppress(Exception):
                    cursor.close()
                raise
            cursor.close()

    @contextlib.contextmanager
    def _translated(self, *, planned: bool = False) -> Iterator[None]:
        try:
            yield
        except AudienceError:
            raise
        except Exception as error:
            if self._is_interruption(error):
                raise TaskEnded from None
            # Not chained: the driver's own text may quote a row.
            raise self._translate(error, planned=planned) from None


def table_statements(
    ddl: Ddl, name: str, query: str, *, sliced_by: str, has_audience_rows: bool, columns: str = ""
) -> list[str]:
    """Build the statements that create a table of a query's rows, and make it cheap to read.

    :param name: quoted, with its schema.
    :param sliced_by: the column by which it will be read slice by slice, if so.
    :param has_audience_rows: whether it has a row per audience, and those will be looked for.
    :param columns: definitions of those whose types the query does not decide, in parentheses.
    """
    after = [*(ddl.index_slices if sliced_by else ()), *(ddl.index_audiences if has_audience_rows else ())]
    clause = ddl.table_clause
    if sliced_by:
        clause = ddl.sliced_clause.format(column=sliced_by) or clause
        query = ddl.sliced_query.format(query=query, column=sliced_by)
    create = " ".join(filter(None, ("CREATE TABLE", name, columns, clause, "AS", query)))
    # Last, since an index on what is computed has statistics, too.
    return [create, *(t.format(table=name, column=sliced_by) for t in (*after, *ddl.after_write))]


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
    """Return the first line of a driver's error; what follows may quote the statement's values."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
