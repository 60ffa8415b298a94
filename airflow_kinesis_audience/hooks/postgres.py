"""The door to PostgreSQL, through psycopg."""

from __future__ import annotations

import contextlib
import json
import re
import selectors
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.dbapi import SqlWarehouse, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    import pyarrow as pa

_TEMPORARY = ("08", "40", "53", "55", "57", "58")
_WITHOUT_VALUES = ("0A", "21", "25", "3D", "3F", "42")
"""Classes of errors whose first line speaks of the statement; others, such as a function's own, can quote rows."""

_TEXT_BYTES = 2**19
"""Of what the server writes so much is parsed together, while it writes more."""

_CHEAP_COST = 0.1
"""The planner's cost of a row up to which reading it again is cheaper than writing it and reading that twice."""


class PostgresWarehouse(SqlWarehouse):
    """PostgreSQL through psycopg."""

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; LIMIT 0 plans it only."""
        with self._cursor() as cursor:
            cursor.execute(f"SELECT * FROM (\n{query}\n) AS given LIMIT 0")  # noqa: S608
            found = [(d[0], int(d[1])) for d in cursor.description]
        oids = ", ".join(str(oid) for _, oid in found) or "0"
        named = f"SELECT oid::bigint, format_type(oid, NULL) FROM pg_type WHERE oid IN ({oids})"  # noqa: S608
        names = dict(self.read_rows(named))
        return {name: names[oid] for name, oid in found}

    def may_read_twice(self, query: str) -> bool:
        """Tell so of one scan of one table that gives most of what it reads, and calls no function.

        Both readings see the statement's one snapshot.
        """
        [(plan,)] = self.read_rows(f"EXPLAIN (VERBOSE, FORMAT json) SELECT * FROM (\n{query}\n) AS given")  # noqa: S608
        node = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        told = [*node.get("Output", ()), *(node.get(n, "") for n in ("Filter", "Index Cond", "Recheck Cond"))]
        return (
            node["Node Type"] in ("Seq Scan", "Index Scan", "Index Only Scan")
            and node["Total Cost"] <= _CHEAP_COST * node["Plan Rows"]
            and not any(re.search(r"\w\(", part) for part in told)
        )

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result as it comes, ``rows`` rows at a time, on a connection of its own."""
        with self._translated(), self._reading() as connection:
            read = _copy_batches if hasattr(connection, "pgconn") else _fetch_batches
            yield from read(connection, sql, schema, rows)

    def _open_reader(self) -> Any:
        connection = self._open()
        with contextlib.closing(connection.cursor()) as cursor:
            # As Arrow reads instants, whatever the connection's own settings.
            cursor.execute("SET datestyle TO 'ISO'")
            cursor.execute("SET timezone TO 'UTC'")
        return connection

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
                f"PostgreSQL denies it: {first_line(error)}. The login needs SELECT on the source, and USAGE and "
                "CREATE on the state schema (and CREATE on the database for the first run to make that schema)"
            )
        if isinstance(error, ValueError):
            return WarehouseRefused(
                "a value that PostgreSQL gave is beyond what its type can be read as, such as an infinite date or "
                "one before Christ; it is not shown here"
            )
        if not state or state.startswith(_TEMPORARY):
            return WarehouseUnavailable(
                f"PostgreSQL is not available ({type(error).__name__} {state}); check host, port, login and load"
            )
        if state.startswith(_WITHOUT_VALUES):
            return WarehouseRefused(f"PostgreSQL cannot run the statement ({state}): {first_line(error)}")
        return WarehouseRefused(
            f"PostgreSQL refused the statement with {type(error).__name__} ({state}), on a value that is not "
            "shown here; run the query by itself"
        )


def _copy_batches(connection: Any, sql: str, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    """Read through psycopg 3: the server writes CSV, and Arrow reads it, without an object for each value."""
    import pyarrow as pa
    from pyarrow import csv

    parse_as = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    convert = csv.ConvertOptions(
        column_types=schema,
        # NULL is nothing, and an empty text is two quotes.
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["t"],
        false_values=["f"],
    )

    def parse(text: bytearray) -> pa.Table:
        read = csv.ReadOptions(column_names=schema.names, block_size=len(text) + 1, use_threads=False)
        return csv.read_csv(pa.py_buffer(text), read, parse_as, convert)

    statement = f"COPY (\n{sql}\n) TO STDOUT (FORMAT csv, ENCODING 'UTF8')"
    with ThreadPoolExecutor(1, thread_name_prefix="csv") as pool:
        # One text is parsed while the next one is read.
        parsed: Future[pa.Table] | None = None
        for text in _copy(connection.pgconn, statement, rows):
            before, parsed = parsed, pool.submit(parse, text)
            if before is not None:
                yield from before.result().to_batches()
        if parsed is not None:
            yield from parsed.result().to_batches()


def _copy(server: Any, statement: str, rows: int) -> Iterator[bytearray]:
    """Give what the server copies out in pieces of whole rows: so many at most, and fewer of long ones.

    It asks libpq itself: psycopg's own iterator takes longer for a row than the server does.

    :param server: psycopg's wrapper of libpq's connection.
    """
    from psycopg import OperationalError
    from psycopg.errors import lookup
    from psycopg.pq import DiagnosticField, ExecStatus

    with selectors.DefaultSelector() as selector:
        selector.register(server.socket, selectors.EVENT_READ)
        server.send_query(statement.encode())
        server.flush()
        while server.is_busy():
            selector.select()
            server.consume_input()
        result, get = server.get_result(), server.get_copy_data
        text, count = bytearray(), 0
        while result.status == ExecStatus.COPY_OUT:
            length, line = get(1)  # one row, as the protocol has it
            if length > 0:
                text += line
                count += 1
                if count == rows or len(text) >= _TEXT_BYTES:
                    yield text
                    text, count = bytearray(), 0
            elif length == 0:
                selector.select()
                server.consume_input()
            else:
                result = server.get_result()
    if result.status != ExecStatus.COMMAND_OK:
        told = {field: (result.error_field(field) or b"").decode(errors="replace") for field in DiagnosticField}
        state = told[DiagnosticField.SQLSTATE]
        raise (lookup(state) if state else OperationalError)(told[DiagnosticField.MESSAGE_PRIMARY])
    if text:
        yield text
    while server.get_result() is not None:
        pass


def _fetch_batches(connection: Any, sql: str, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    """Read through psycopg 2: a cursor on the server, which lives in a transaction."""
    import pyarrow as pa

    connection.autocommit = False
    with contextlib.closing(connection.cursor(name="airflow_kinesis_audience")) as cursor:
        cursor.execute(sql)
        while fetched := cursor.fetchmany(rows):
            columns = zip(*fetched, strict=True)
            arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    connection.commit()
    connection.autocommit = True


def _plain_rows(connection: Any) -> None:
    """Undo a row factory that the Airflow connection may ask for: rows are read by position."""
    if hasattr(connection, "row_factory"):
        from psycopg.rows import tuple_row

        connection.row_factory = tuple_row
