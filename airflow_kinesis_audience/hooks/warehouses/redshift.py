"""Redshift, through its own driver, which speaks PostgreSQL's protocol.

The driver reads a result whole, so a large one is read through a cursor of the server's, on a connection of its
own. Redshift itself was never run: see docs/warehouse-cloud.md.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse, arrow_batch
from airflow_kinesis_audience.hooks.warehouses.postgres import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa


_TYPES: Mapping[int, str] = {
    16: "boolean",
    20: "bigint",
    21: "smallint",
    23: "integer",
    25: "text",
    700: "real",
    701: "double precision",
    1042: "character",
    1043: "character varying",
    1082: "date",
    1114: "timestamp without time zone",
    1184: "timestamp with time zone",
    1700: "numeric",
    2935: "hllsketch",
    3000: "geometry",
    4000: "super",
    6551: "varbyte",
}
"""By the number that the protocol has for a type."""

SETTINGS: Mapping[str, str] = {"timezone": "UTC", "datestyle": "ISO", "extra_float_digits": "2"}
"""By which a value has one text, and a DOUBLE PRECISION all its digits."""

_SETTLE = ", ".join(
    ["SELECT PG_BACKEND_PID()", *(f"SET_CONFIG('{name}', '{value}', FALSE)" for name, value in SETTINGS.items())]
)
"""Gives the number by which the server knows the session, too."""

_TEMPORARY = ("08", "40", "53", "55", "57", "58")
_ABOUT_THE_STATEMENT = ("0A", "25", "3D", "3F", "42")


class RedshiftWarehouse(SqlWarehouse):
    """Redshift through redshift_connector."""

    loggers = ("redshift_connector",)
    # Outside of quotes the driver takes every % for a placeholder, and none of Redshift's operators is a ?.
    placeholder = "?"

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; LIMIT 0 plans it only."""
        with self._cursor(planned=True) as cursor:
            self._run(cursor, f"SELECT * FROM (\n{query}\n) AS given LIMIT 0", ())  # noqa: S608
            described = [(_text(d[0]), int(d[1])) for d in cursor.description]
        return {name: _TYPES.get(number, f"type {number}") for name, number in described}

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result through a cursor of the server's, in a transaction of its own."""
        with self._translated(), self._reader_connection() as cursor:
            self._run(cursor, f"DECLARE airflow_kinesis_audience CURSOR FOR {sql}", ())
            while True:
                self._run(cursor, f"FETCH FORWARD {rows} FROM airflow_kinesis_audience", ())
                if fetched := cursor.fetchall():
                    yield arrow_batch(fetched, schema)
                if len(fetched) < rows:
                    return

    def end_earlier_attempts(self) -> int:
        """Cancel what earlier attempts of the task left at work, as far as the login may see it: its own."""
        if self.tag is None:
            return 0
        at_work = "status IN ('planning', 'queued', 'running', 'returning')"
        # Compared here: no query may have both a function of the leader node and a table of the system.
        found = self.read_rows(
            "SELECT DISTINCT session_id FROM sys_query_history "  # noqa: S608
            f"WHERE {at_work} AND query_text LIKE '%{self.tag.job}%'"
        )
        others = {number for (number,) in found} - {self._numbers[id(self._opened)]}
        for number in others:
            self.read_rows(f"SELECT PG_CANCEL_BACKEND({int(number)})")
        return len(others)

    @contextlib.contextmanager
    def _reader_connection(self) -> Iterator[Any]:
        connection = self._open_reader()
        try:
            with self._working(connection):
                yield connection.cursor()
        finally:
            # It refuses to be closed twice.
            with contextlib.suppress(Exception):
                connection.close()

    def _open_reader(self) -> Any:
        # Without autocommit, since a cursor of the server's lives in a transaction.
        return self._settled(self._connect())

    def _open(self) -> Any:
        with self._translated():
            connection = self._connect()
            connection.autocommit = True
            return self._settled(connection)

    def _settled(self, connection: Any) -> Any:
        with contextlib.closing(connection.cursor()) as cursor:
            self._execute(cursor, _SETTLE, ())
            self._numbers[id(connection)] = cursor.fetchone()[0]
        return connection

    def _cancel(self, connection: Any, cursor: Any) -> None:
        with contextlib.closing(self._connect()) as other, contextlib.closing(other.cursor()) as cancelling:
            cancelling.execute(f"SELECT PG_CANCEL_BACKEND({self._numbers[id(connection)]})")

    @staticmethod
    def _execute(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        cursor.paramstyle = "qmark"
        cursor.execute(sql, tuple(parameters))

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        fields = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        state, text = str(fields.get("C", "")), str(fields.get("M", "")).strip()
        if state == "42501":
            said = f": {text}" if planned else f" ({state})"
            return WarehouseRefused(
                f"Redshift denies access{said}. The login needs USAGE on the schemas, SELECT on the source, and "
                "CREATE on the state schema (and on the database for the first run to make that schema)"
            )
        if isinstance(error, ValueError | OverflowError):
            return WarehouseRefused("a value from Redshift is outside the range of its type; it is not shown here")
        if state in ENDED:
            return WarehouseUnavailable(f"Redshift ended the statement ({state}): {ENDED[state]}")
        if not state or state.startswith(_TEMPORARY):
            return WarehouseUnavailable(
                f"Redshift is not available ({type(error).__name__} {state}); check host, port, login and load"
            )
        if planned and state.startswith(_ABOUT_THE_STATEMENT):
            return WarehouseRefused(f"Redshift cannot run the statement ({state}): {text}")
        return WarehouseRefused(f"Redshift rejected the statement ({state}), {NOT_SHOWN}")


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
