"""Spark SQL, through its Thrift server and Airflow's connection to HiveServer2.

A session gets the settings without which a text or an instant would mean another thing than the statement says.
Spark binds no parameters, so values are written into statements here, and nowhere else.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import TokenType

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse
from airflow_kinesis_audience.hooks.warehouses.thrift import StatementFailed, ThriftConnection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa


SETTINGS = (
    # Instants are written and read as text without a zone.
    "SET spark.sql.session.timeZone = UTC",
    # Or ${...} within a value would be taken for a setting's name.
    "SET spark.sql.variable.substitute = false",
    # Or a backslash would stand for itself, and not for what follows.
    "SET spark.sql.parser.escapedStringLiterals = false",
    # Or TIMESTAMP would mean one without a zone.
    "SET spark.sql.timestampType = TIMESTAMP_LTZ",
    # Or a quoted name would be a pattern.
    "SET spark.sql.parser.quotedRegexColumnNames = false",
    # Or who stands in a file that cannot be read would count as gone.
    "SET spark.sql.files.ignoreCorruptFiles = false",
    "SET spark.sql.files.ignoreMissingFiles = false",
    # Tables are of the server's own default format: Parquet, Delta or Iceberg, not Hive's text files.
    "SET spark.sql.legacy.createHiveTableByDefault = false",
    # Or of two rows that are inserted at once one may be lost: who is done first removes the directory of both.
    "SET mapreduce.fileoutputcommitter.algorithm.version = 2",
    "SET mapreduce.fileoutputcommitter.cleanup.skipped = true",
)

_TEMPORARY = ("08", "40", "53", "55", "57", "58", "KD", "XX")
_ABOUT_THE_STATEMENT = ("0A", "21", "25", "3D", "3F", "42")
"""Classes of errors that a statement has without a row; others, such as a cast's, are a function's own."""


class SparkWarehouse(SqlWarehouse):
    """Spark SQL through HiveServer2's protocol."""

    loggers = ("pyhive", "thrift")
    placeholder = "?"

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; it is analyzed, not run.

        On a new session: one that has read a table before remembers which files it had.
        """
        self.close()
        described = self._read_plan(f"DESCRIBE QUERY SELECT * FROM (\n{query}\n) AS given")  # noqa: S608
        return {row[0]: row[1] for row in described}

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result as columns, ``rows`` rows at a time."""
        import pyarrow as pa

        with self._cursor() as cursor:
            self._run(cursor, sql, ())
            for columns in cursor.fetch_columns(rows):
                arrays = [_as(c, f.type) for c, f in zip(columns, schema, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _open(self) -> Any:
        with self._translated():
            connection = ThriftConnection(self._connect())
            cursor = connection.cursor()
            try:
                for setting in SETTINGS:
                    cursor.execute(setting)
                # Hive takes any setting, and knows no such function.
                cursor.execute("SELECT CURRENT_TIMEZONE()")
                cursor.close()
            except StatementFailed as failed:
                connection.close()
                raise WarehouseRefused(
                    f"the server is not Spark, or does not allow a session to set some settings ({failed.state}); "
                    f"expected Spark SQL's Thrift server, with these settings allowed: {'; '.join(SETTINGS)}"
                ) from None
        return connection

    def _cancel(self, connection: Any, cursor: Any) -> None:
        with contextlib.closing(ThriftConnection(self._connect())) as other:
            other.cancel(cursor)

    @staticmethod
    def _execute(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        cursor.execute(bound(sql, parameters) if parameters else sql)

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        if isinstance(error, StatementFailed):
            return translated(error.state, str(error), "Spark", planned=planned)
        if isinstance(error, ValueError):
            return WarehouseRefused(
                "a value from Spark is outside the range of its type, such as a date after the year "
                "9999; it is not shown here"
            )
        return WarehouseUnavailable(
            f"Spark's Thrift server is not available ({type(error).__name__}); check host, port, login, the "
            "connection's auth_mechanism, and load"
        )


def translated(state: str, message: str, engine: str, *, planned: bool) -> AudienceError:
    """Make of Spark's error one that holds no row's values.

    :param state: the SQLSTATE, or nothing.
    :param planned: whether the statement was one that reads no row.
    """
    if state == "42501":
        said = f": {_sentence(message)}" if planned else f" ({state})"
        return WarehouseRefused(
            f"{engine} denies access{said}. The login needs SELECT on the source, and CREATE TABLE, "
            "SELECT and MODIFY on the state schema"
        )
    if not state or state.startswith(_TEMPORARY):
        return WarehouseUnavailable(
            f"{engine} failed ({state or 'no SQLSTATE'}{_condition(message)}); see its own log"
        )
    if planned and state.startswith(_ABOUT_THE_STATEMENT):
        return WarehouseRefused(f"{engine} cannot run the statement ({state}): {_sentence(message)}")
    return WarehouseRefused(f"{engine} rejected the statement ({state}{_condition(message)}), {NOT_SHOWN}")


def bound(sql: str, parameters: Sequence[Any]) -> str:
    """Write values into a statement in the place of its question marks, and of none that is within a text."""
    tokens = sqlglot.Dialect.get_or_raise("spark").tokenize(sql)
    marks = [t for t in tokens if t.token_type is TokenType.PLACEHOLDER]
    parts, end = [], 0
    for mark, value in zip(marks, parameters, strict=True):
        parts += [sql[end : mark.start], literal(value)]
        end = mark.end + 1
    return "".join([*parts, sql[end:]])


def literal(value: Any) -> str:
    """Write a value as Spark reads it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(value).upper()
    if not isinstance(value, str):
        raise TypeError(
            f"a {type(value).__name__} cannot be a parameter of a statement; expected text or a number"
        )
    # NUL by its number: \0 and two digits after it would be another character.
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\u0000").replace("${", "\\u0024{")
    return f"'{escaped}'"


def _as(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Give a column in the type that is asked for; what the protocol has as text is read here."""
    import pyarrow as pa

    if pa.types.is_timestamp(wanted) and not pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp(wanted.unit)).cast(wanted)
    return column.cast(wanted)


def _condition(message: str) -> str:
    # Where the server names it, before any word of its own: a value may look like one.
    found = re.match(r"(?:Error running query: )?(?:[\w.]+: )*\[([A-Z][A-Z_.]+)\]", message)
    return f", {found[1]}" if found else ""


def _sentence(message: str) -> str:
    """Return the sentence after the names of the error's classes, up to the end of its line."""
    sentence = re.sub(r"^Error running query: ", "", message).rpartition("Exception: ")[2].strip()
    return re.sub(r"\s*SQLSTATE: \w+.*$", "", sentence.splitlines()[0]) if sentence else "no details"
