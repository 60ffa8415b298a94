"""Trino, and Athena, which runs Trino's language over files on S3.

A statement is at its end when all that it gives was fetched, even where that is nothing. Neither engine was ever
run: see docs/warehouse-cloud.md.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT_THE_STATEMENT = re.compile(
    r"(SYNTAX_ERROR|TYPE_MISMATCH|NOT_SUPPORTED|PERMISSION_DENIED|MISSING_\w+|AMBIGUOUS_NAME|\w+_NOT_FOUND"
    r"|\w+_ALREADY_EXISTS)\b"
)
"""Names of errors that a statement has without a row; others, as INVALID_CAST_ARGUMENT, are a function's own."""

_USER_ERROR = "USER_ERROR"


class TrinoWarehouse(SqlWarehouse):
    """Trino through its own client."""

    loggers: ClassVar[tuple[str, ...]] = ("trino", "urllib3")
    placeholder = "?"
    _title = "Trino"

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int | None:
        """Run a statement that gives no rows, to its end."""
        self.read_rows(sql, parameters)
        return None

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; of LIMIT 0 nothing is read."""
        with self._cursor(planned=True) as cursor:
            self._run(cursor, f"SELECT * FROM (\n{query}\n) AS given LIMIT 0", ())  # noqa: S608
            cursor.fetchall()
            return {d[0]: str(d[1]) for d in cursor.description}

    def _open(self) -> Any:
        with self._translated():
            connection = self._connect()
            with contextlib.closing(connection.cursor()) as cursor:
                # By default the client names the zone of the worker.
                cursor.execute("SET TIME ZONE 'UTC'")
                cursor.fetchall()
        return connection

    def _cancel(self, connection: Any, cursor: Any) -> None:
        cursor.cancel()

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        name, text = str(getattr(error, "error_name", "")), str(getattr(error, "message", ""))
        return self._refusal(
            name, text if planned else "", error, refused=getattr(error, "error_type", "") == _USER_ERROR
        )

    def _refusal(self, name: str, text: str, error: Exception, *, refused: bool) -> AudienceError:
        """Make a domain error of one of this name.

        :param text: what the server says, if it has read no row.
        """
        if name == "PERMISSION_DENIED":
            said = f": {text}" if text else ""
            return WarehouseRefused(
                f"{self._title} denies access{said}. The login must be allowed to select from the source, and to "
                "create, drop, read and insert into tables and views of the state schema"
            )
        if text and _ABOUT_THE_STATEMENT.fullmatch(name):
            return WarehouseRefused(f"{self._title} cannot run the statement ({name}): {text}")
        if isinstance(error, ValueError | OverflowError):
            return WarehouseRefused(
                f"a value from {self._title} is outside the range of its type; it is not shown here"
            )
        if refused:
            return WarehouseRefused(f"{self._title} rejected the statement ({name}), {NOT_SHOWN}")
        if name.startswith(("EXCEEDED_", "USER_CANCELED", "ADMINISTRATIVELY_")):
            return WarehouseUnavailable(
                f"{self._title} ended the statement ({name}); see its own log, and its limits of time and memory"
            )
        return WarehouseUnavailable(
            f"{self._title} is not available ({type(error).__name__} {name}); check the connection and the load"
        )


class AthenaWarehouse(TrinoWarehouse):
    """Athena through PyAthena."""

    loggers = ("pyathena", "boto3", "botocore", "urllib3")
    _title = "Athena"

    def _open(self) -> Any:
        # It has no sessions, and always speaks UTC.
        with self._translated():
            return self._connect()

    def _run(self, cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        super()._run(cursor, sql, parameters)
        self._count_bytes(cursor.data_scanned_in_bytes)

    def _tagged(self, sql: str) -> str:
        # Its statements that define tables, which go to another parser, may not begin with a comment in brackets.
        return sql if self.tag is None else f"-- {self.tag}\n{sql}"

    @staticmethod
    def _execute(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        # Athena wants bound text to be quoted, so binding saves nothing. No statement with parameters holds an
        # author's text, so that each ? in it is one's place.
        first, *rest = sql.split("?") if parameters else [sql]
        cursor.execute(first + "".join(map(str.__add__, map(_literal, parameters), rest)))

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        text = str(error)
        named = re.match(r"([A-Z]+_[A-Z_]+): ", text)
        name = named[1] if named else ""
        refused = type(error).__name__ in ("OperationalError", "ProgrammingError") and bool(name)
        said = text[named.end() :] if named and planned else ""
        return self._refusal(name, said, error, refused=refused)


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
