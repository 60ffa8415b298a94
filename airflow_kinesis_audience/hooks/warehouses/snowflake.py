"""Snowflake, through its own connector.

A statement is described before it is planned, and never run for its types. The session speaks UTC, commits each
statement, and keeps the letters of quoted names, whatever account or login have been set to.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.statement_tags import PROGRAM
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SESSION: Mapping[str, str] = {
    "TIMEZONE": "'UTC'",
    "AUTOCOMMIT": "TRUE",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": "FALSE",
    "TIMESTAMP_TYPE_MAPPING": "'TIMESTAMP_NTZ'",
    "DATE_INPUT_FORMAT": "'AUTO'",
    "DATE_OUTPUT_FORMAT": "'YYYY-MM-DD'",
    "TIME_INPUT_FORMAT": "'AUTO'",
    "TIME_OUTPUT_FORMAT": "'HH24:MI:SS'",
    "TIMESTAMP_INPUT_FORMAT": "'AUTO'",
    "TIMESTAMP_OUTPUT_FORMAT": "'YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM'",
    "TIMESTAMP_LTZ_OUTPUT_FORMAT": "''",
    "TIMESTAMP_NTZ_OUTPUT_FORMAT": "'YYYY-MM-DD HH24:MI:SS.FF3'",
    "TIMESTAMP_TZ_OUTPUT_FORMAT": "''",
    "BINARY_INPUT_FORMAT": "'HEX'",
    "BINARY_OUTPUT_FORMAT": "'HEX'",
    "ROWS_PER_RESULTSET": "0",
}
"""Parameters of the session that decide what a statement means, what a value's text is, or if a result is whole.

Each is at its documented default, but for the time zone. Source:
https://docs.snowflake.com/en/sql-reference/parameters
"""

_TEMPORARY = ("08", "53", "57", "58", "60")
_ENDED = (604, 630)
"""Numbers of a statement that was cancelled, or took too long; the status of one has no SQLSTATE beside them."""
_ABOUT_THE_STATEMENT = ("02", "42")
"""Classes of SQLSTATE that a statement has without a row; others, such as 22, are a function's own."""

_ANSWERED = ("ProgrammingError", "IntegrityError", "DataError", "NotSupportedError")
_AT_WORK = "('RESUMING_WAREHOUSE', 'QUEUED', 'RUNNING', 'BLOCKED')"
_DENIED = 3001
_MISSING_OR_DENIED = 2003


class SnowflakeWarehouse(SqlWarehouse):
    """Snowflake through snowflake-connector-python."""

    loggers = ("snowflake",)

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; Snowflake describes it without running it."""
        with self._cursor(planned=True) as cursor:
            described = cursor.describe(f"SELECT * FROM (\n{query}\n) AS given")  # noqa: S608
            return {column.name: _type_name(column) for column in described}

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        """Run a statement that gives no rows, and commit it; see :class:`SqlWarehouse`."""
        written = super().execute(sql, parameters)
        if sql.startswith("CREATE SCHEMA"):
            # Who creates a schema works in it from then on; the author's tables are in the connection's own.
            self.close()
        return written

    def submit(self, sql: str) -> str:
        """Start a statement that outlives the session; see :class:`LeavesStatements`."""
        with self._cursor() as cursor:
            cursor.execute("ALTER SESSION SET ABORT_DETACHED_QUERY = FALSE")
            self._log_sql(sql)
            with self._counted():
                cursor.execute_async(sql)
            return str(cursor.sfqid)

    def has_ended(self, statement_id: str) -> bool:
        """Look at a statement once; see :class:`LeavesStatements`."""
        with self._cursor():
            connection = self._opened
            if connection.is_still_running(connection.get_query_status(statement_id)):
                return False
            self._raise_end_of(statement_id)
        return True

    def _raise_end_of(self, statement_id: str) -> None:
        """Raise what a statement ended with, if it failed. At times its status has no number."""
        from snowflake.connector.errors import Error

        try:
            self._opened.get_query_status_throw_if_error(statement_id)
        except Error as error:
            if not (error.errno or 0) > 0:
                raise WarehouseUnavailable(
                    "Snowflake does not say how the statement ended; see its query history"
                ) from None
            raise

    def cancel_statement(self, statement_id: str) -> None:
        """Cancel a statement, on a session of its own: the task's may be broken off."""
        with (
            contextlib.suppress(Exception),
            contextlib.closing(self._connect()) as other,
            other.cursor() as cursor,
        ):
            cursor.execute("SELECT SYSTEM$CANCEL_QUERY(%s)", [statement_id])

    def end_earlier_attempts(self) -> int:
        """Cancel what earlier attempts of the task left at work, of the same user."""
        if self.tag is None:
            return 0
        found = self.read_rows(
            "SELECT query_id FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) "  # noqa: S608
            f"WHERE execution_status IN {_AT_WORK} AND query_tag LIKE '% {self.tag.job}' "
            # What this attempt has left before it paused is its own.
            f"AND query_tag NOT LIKE '% try={self.tag.attempt} {self.tag.job}'"
        )
        for row in found:
            self.read_rows("SELECT SYSTEM$CANCEL_QUERY(%s)", row)
        return len(found)

    def _open(self) -> Any:
        with self._translated():
            connection = self._connect()
            with connection.cursor() as cursor:
                # All at once: each statement is a round trip.
                session = {**_SESSION, "QUERY_TAG": f"'{self.tag or PROGRAM}'"}
                cursor.execute("ALTER SESSION SET " + " ".join(f"{n} = {v}" for n, v in session.items()))
        return connection

    def _tagged(self, sql: str) -> str:
        # In its place the session has a parameter.
        return sql

    def _cancel(self, connection: Any, cursor: Any) -> None:
        with contextlib.closing(self._connect()) as other, other.cursor() as cancelling:
            cancelling.execute(f"SELECT SYSTEM$CANCEL_ALL_QUERIES({connection.session_id})")

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        if isinstance(error, ValueError | OverflowError):
            return WarehouseRefused(
                "a value from Snowflake is outside the range of its type, such as an integer of more than 64 "
                "bits, which the query can cast to VARCHAR; it is not shown here"
            )
        state, number = getattr(error, "sqlstate", None) or "", getattr(error, "errno", None)
        text = " ".join(str(getattr(error, "raw_msg", None) or "").split())
        if number == _DENIED or (number == _MISSING_OR_DENIED and "not authorized" in text):
            said = f": {text}" if planned else f" ({number})"
            return WarehouseRefused(
                f"Snowflake denies access, or the object does not exist{said}. The role needs USAGE on the "
                "database, the schemas and the virtual warehouse, SELECT on the source, and CREATE TABLE and "
                "CREATE VIEW on the state schema"
            )
        if type(error).__name__ not in _ANSWERED:
            return WarehouseUnavailable(
                f"Snowflake is not available ({type(error).__name__} {number}); check account, login, role and "
                "the virtual warehouse"
            )
        if state.startswith(_TEMPORARY) or number in _ENDED:
            return WarehouseUnavailable(
                f"Snowflake ended the statement ({number}, {state}); see its query history"
            )
        if planned and state.startswith(_ABOUT_THE_STATEMENT):
            return WarehouseRefused(f"Snowflake cannot run the statement ({number}): {text}")
        return WarehouseRefused(f"Snowflake rejected the statement ({number}, {state}), {NOT_SHOWN}")


def _type_name(column: Any) -> str:
    """Name a column's type; a NUMBER without decimals, as every INTEGER of Snowflake is, counts as an integer."""
    from snowflake.connector.constants import FIELD_ID_TO_NAME

    name = str(FIELD_ID_TO_NAME[column.type_code])
    if name != "FIXED":
        return "DOUBLE" if name == "REAL" else name
    return f"NUMBER({column.precision}, {column.scale})" if column.scale else "BIGINT"
