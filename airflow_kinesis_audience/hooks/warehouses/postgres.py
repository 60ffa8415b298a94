"""PostgreSQL, through psycopg 3 or 2.

A large result is copied out as CSV that Arrow reads, so that no object is made of a value; through psycopg 2,
which older Airflow gives, rows are fetched from a cursor on the server. Round trips are few: a table is written
with its indexes in one, and the server is not asked for types whose numbers are the same everywhere. What login,
database or server are set to changes no value: each statement brings its settings along, through a pooler, too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse, first_line, table_statements
from airflow_kinesis_audience.hooks.warehouses.postgres_plan import is_cheap_and_stable
from airflow_kinesis_audience.hooks.warehouses.postgres_rows import copy_batches, fetch_batches
from airflow_kinesis_audience.hooks.warehouses.postgres_session import (
    SETTLED,
    bound,
    is_psycopg_3,
    select_cancelled,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from airflow_kinesis_audience.core.sql.dialects import Dialect


ENDED: Mapping[str, str] = {
    "57014": "it exceeded the login's statement_timeout, or somebody cancelled it",
    "55P03": "it waited for another statement longer than the login's lock_timeout",
    "25P03": "its session was idle longer than the login's idle_in_transaction_session_timeout",
    "40P01": "it and another statement waited for each other (deadlock)",
    "53100": "the server's disk is full",
    "53200": "the server has too little memory for it",
}
"""Errors of a server that is well reached, and why it ended the statement."""

_TEMPORARY = ("08", "40", "53", "55", "57", "58")
_ABOUT_THE_STATEMENT = ("0A", "21", "25", "3D", "3F", "42")
"""Classes of errors that a statement has without a row; others are a function's own."""

_ELEMENTS: Mapping[str, tuple[int, int]] = {
    "boolean": (16, 1000),
    "bytea": (17, 1001),
    '"char"': (18, 1002),
    "name": (19, 1003),
    "bigint": (20, 1016),
    "smallint": (21, 1005),
    "integer": (23, 1007),
    "text": (25, 1009),
    "oid": (26, 1028),
    "json": (114, 199),
    "xml": (142, 143),
    "point": (600, 1017),
    "cidr": (650, 651),
    "real": (700, 1021),
    "double precision": (701, 1022),
    "macaddr": (829, 1040),
    "inet": (869, 1041),
    "money": (790, 791),
    "character": (1042, 1014),
    "character varying": (1043, 1015),
    "date": (1082, 1182),
    "time without time zone": (1083, 1183),
    "timestamp without time zone": (1114, 1115),
    "timestamp with time zone": (1184, 1185),
    "interval": (1186, 1187),
    "time with time zone": (1266, 1270),
    "bit": (1560, 1561),
    "bit varying": (1562, 1563),
    "numeric": (1700, 1231),
    "uuid": (2950, 2951),
    "jsonb": (3802, 3807),
}
BUILT_IN_TYPES: Mapping[int, str] = {
    **{oid: name for name, (oid, _) in _ELEMENTS.items()},
    **{oid: f"{name}[]" for name, (_, oid) in _ELEMENTS.items()},
}
"""Types that have the same number on every server, as ``format_type`` names them.

Source: https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat
"""

_NAMES_OF_TYPES = """SELECT t.oid::bigint,
    CASE WHEN t.typtype = 'c' THEN 'record'
        WHEN e.typtype = 'c' THEN 'record[]'
        WHEN e.typtype = 'd' THEN format_type(e.typbasetype, NULL) || '[]'
        ELSE format_type(t.oid, NULL) END
    FROM pg_type AS t LEFT JOIN pg_type AS e ON e.oid = t.typelem"""
"""Names what a database has types of its own for; a list of a domain's values is one of what they are."""

_COMPARED_TYPES = {*BUILT_IN_TYPES.values(), "bpchar"}


class PostgresWarehouse(SqlWarehouse):
    """PostgreSQL through psycopg."""

    def __init__(self, connect: Callable[[], Any], dialect: Dialect) -> None:
        super().__init__(connect, dialect)
        self._plans: dict[str, Any] = {}

    def write_table(self, name: str, query: str, *, sliced_by: str = "", has_audience_rows: bool = False) -> None:
        """Create a table of a query's rows, with its indexes, in one round trip: it is there whole or not."""
        statements = table_statements(
            self.dialect.ddl, name, query, sliced_by=sliced_by, has_audience_rows=has_audience_rows
        )
        self.execute("\n;\n".join(statements))

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; LIMIT 0 plans it only, and its plan comes along.

        The server is asked only for the names of types that it does not bring with it, such as enums and domains.
        """
        with self._cursor(planned=True) as cursor:
            several = is_psycopg_3(cursor.connection)
            planned = f";\n{_explain(query)}" if several else ""
            self._run(cursor, f"SELECT * FROM (\n{query}\n) AS given LIMIT 0{planned}", ())  # noqa: S608
            found = [(d[0], int(d[1])) for d in cursor.description]
            if several and cursor.nextset():
                [(self._plans[query],)] = cursor.fetchall()
        names = dict(BUILT_IN_TYPES)
        if unknown := {oid for _, oid in found} - names.keys():
            oids = ", ".join(map(str, sorted(unknown)))
            named = f"{_NAMES_OF_TYPES} WHERE t.oid IN ({oids})"
            names |= dict(self.read_rows(named))
        return {name: names[oid] for name, oid in found}

    def is_cheap_to_reread(self, query: str) -> bool:
        """Whether it is one scan of one table, gives most of what it reads, and is sure to give it twice.

        Both readings see the statement's one snapshot.
        """
        plan = self._plans.pop(query, None)
        if plan is None:
            [(plan,)] = self._read_plan(_explain(query))
        node = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        return is_cheap_and_stable(node, _COMPARED_TYPES)

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result as it comes, ``rows`` rows at a time, on a connection of its own."""
        with self._translated(), self._reader_connection() as connection:
            read = copy_batches if is_psycopg_3(connection) else fetch_batches
            yield from self._counted_until_first(read(connection, self._tagged(sql), schema, rows))

    def end_earlier_attempts(self) -> int:
        return len(self.read_rows(select_cancelled(self.tag.job))) if self.tag else 0

    def _open(self) -> Any:
        with self._translated():
            connection = self._connect()
            connection.autocommit = True
            try:
                encoding = settle(connection)
            except Exception:
                connection.close()
                raise
        if encoding != "utf-8":
            self.dialect = replace(self.dialect, text_encoding=encoding)
        return connection

    def _cancel(self, connection: Any, cursor: Any) -> None:
        # Older drivers have but the one that speaks without TLS.
        getattr(connection, "cancel_safe", connection.cancel)()

    @staticmethod
    def _execute(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        cursor.execute(SETTLED + bound(sql, parameters, cursor))
        # The first rows count, or the last statement; through psycopg 2 the last one's result is there at once.
        while is_psycopg_3(cursor.connection) and cursor.description is None and cursor.nextset():
            pass

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""
        if state == "42501":
            said = f": {first_line(error)}" if planned else f" ({state})"
            return WarehouseRefused(
                f"PostgreSQL denies access{said}. The login needs SELECT on the source, and USAGE and "
                "CREATE on the state schema (and CREATE on the database for the first run to make that schema)"
            )
        if state == "22P05":
            return WarehouseRefused(
                f"the database's encoding ({self.dialect.text_encoding}) lacks a character of the statement, for "
                "example in an audience's name or id; use characters that the database supports"
            )
        if state == "25006":
            return WarehouseRefused(
                "PostgreSQL allows this login only to read (default_transaction_read_only), or is a standby; keep "
                "the state in files (state_path), or use a login that can write to the state schema"
            )
        if isinstance(error, ValueError):
            return WarehouseRefused(
                "a value from PostgreSQL is outside the range of its type, such as an infinite date or a date "
                "before Christ; it is not shown here"
            )
        if state in ENDED:
            return WarehouseUnavailable(f"PostgreSQL ended the statement ({state}): {ENDED[state]}")
        if not state or state.startswith(_TEMPORARY):
            return WarehouseUnavailable(
                f"PostgreSQL is not available ({type(error).__name__} {state}); check host, port, login and load"
            )
        if planned and state.startswith(_ABOUT_THE_STATEMENT):
            return WarehouseRefused(f"PostgreSQL cannot run the statement ({state}): {first_line(error)}")
        return WarehouseRefused(
            f"PostgreSQL rejected the statement with {type(error).__name__} ({state}), {NOT_SHOWN}"
        )


def _explain(query: str) -> str:
    return f"EXPLAIN (VERBOSE, FORMAT json) SELECT * FROM (\n{query}\n) AS given"  # noqa: S608
