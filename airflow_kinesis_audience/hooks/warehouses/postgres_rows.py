"""How the rows of a large result come out of PostgreSQL: as CSV that Arrow reads, or from a cursor on the server.

The server writes while the client parses. Neither holds the result whole, and nothing here knows of SQL.
"""

from __future__ import annotations

import codecs
import contextlib
import selectors
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.hooks.warehouses.dbapi import arrow_batch
from airflow_kinesis_audience.hooks.warehouses.postgres_session import SETTLED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    import pyarrow as pa

_TEXT_BYTES = 2**19
"""Of what the server writes so much is parsed together, while it writes more."""


def copy_batches(connection: Any, sql: str, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
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

    statement = f"{SETTLED}COPY (\n{sql}\n) TO STDOUT (FORMAT csv, ENCODING 'UTF8')"
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

    Each begins with a byte order mark, because Arrow leaves one out there: it is never the first value's own.
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
        get, result = server.get_copy_data, None
        # Each setting has a result, too; the last one is that of the rows.
        while result is None or result.status == ExecStatus.COMMAND_OK:
            while server.is_busy():
                selector.select()
                server.consume_input()
            result = server.get_result()
        text, count = bytearray(codecs.BOM_UTF8), 0
        while result.status == ExecStatus.COPY_OUT:
            length, line = get(1)  # one row, as the protocol has it
            if length > 0:
                text += line
                count += 1
                if count == rows or len(text) >= _TEXT_BYTES:
                    yield text
                    text, count = bytearray(codecs.BOM_UTF8), 0
            elif length == 0:
                selector.select()
                server.consume_input()
            else:
                result = server.get_result()
    if result.status != ExecStatus.COMMAND_OK:
        fields = {field: (result.error_field(field) or b"").decode(errors="replace") for field in DiagnosticField}
        state = fields[DiagnosticField.SQLSTATE]
        raise (lookup(state) if state else OperationalError)(fields[DiagnosticField.MESSAGE_PRIMARY])
    if count:
        yield text
    while server.get_result() is not None:
        pass


def fetch_batches(connection: Any, sql: str, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    """Read through psycopg 2: a cursor on the server, which lives in a transaction."""
    connection.autocommit = False
    with contextlib.closing(connection.cursor()) as settling:
        settling.execute(SETTLED)
    with contextlib.closing(connection.cursor(name="airflow_kinesis_audience")) as cursor:
        cursor.execute(sql)
        while fetched := cursor.fetchmany(rows):
            yield arrow_batch(fetched, schema)
    connection.commit()
    connection.autocommit = True
