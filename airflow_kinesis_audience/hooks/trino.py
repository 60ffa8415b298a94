"""The doors to Trino and to Athena, which runs Trino's language over files on S3.

A statement is at its end when all that it gives was fetched, even where that is nothing. Neither engine was ever
run: see docs/warehouse-cloud.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.dbapi import SqlWarehouse

if TYPE_CHECKING:
    from collections.abc import Sequence

_WITHOUT_VALUES = re.compile(
    r"(SYNTAX_ERROR|TYPE_MISMATCH|NOT_SUPPORTED|PERMISSION_DENIED|MISSING_\w+|AMBIGUOUS_NAME|\w+_NOT_FOUND"
    r"|\w+_ALREADY_EXISTS)\b"
)
"""Names of errors whose text speaks of the statement; that of others, as of INVALID_CAST_ARGUMENT, quotes rows."""

_USER_ERROR = "USER_ERROR"


class TrinoWarehouse(SqlWarehouse):
    """Trino through its own client."""

    placeholder = "?"
    _title = "Trino"

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that gives no rows, to its end."""
        self.read_rows(sql, parameters)

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; of LIMIT 0 nothing is read."""
        with self._cursor() as cursor:
            self._run(cursor, f"SELECT * FROM (\n{query}\n) AS given LIMIT 0", ())  # noqa: S608
            cursor.fetchall()
            return {d[0]: str(d[1]) for d in cursor.description}

    def _open(self) -> Any:
        with self._translated():
            return self._connect()

    def _translate(self, error: Exception) -> AudienceError:
        name, text = str(getattr(error, "error_name", "")), str(getattr(error, "message", ""))
        return self._refusal(name, text, error, refused=getattr(error, "error_type", "") == _USER_ERROR)

    def _refusal(self, name: str, text: str, error: Exception, *, refused: bool) -> AudienceError:
        if name == "PERMISSION_DENIED":
            return WarehouseRefused(
                f"{self._title} denies it: {text}. The login has to select from the source, and to create, drop, "
                "read and insert into tables and views of the state schema"
            )
        if _WITHOUT_VALUES.fullmatch(name):
            return WarehouseRefused(f"{self._title} cannot run the statement ({name}): {text}")
        if isinstance(error, ValueError | OverflowError):
            return WarehouseRefused(
                f"a value that {self._title} gave is beyond what its type can be read as; it is not shown here"
            )
        if refused:
            return WarehouseRefused(
                f"{self._title} refused the statement ({name}), on a value that is not shown here; run the query "
                "by itself"
            )
        return WarehouseUnavailable(
            f"{self._title} is not available ({type(error).__name__} {name}); check the connection and the load"
        )


class AthenaWarehouse(TrinoWarehouse):
    """Athena through PyAthena."""

    _title = "Athena"

    @staticmethod
    def _run(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        # Athena wants bound text to be quoted, so binding saves nothing. No statement with parameters holds an
        # author's text, so that each ? in it is one's place.
        first, *rest = sql.split("?") if parameters else [sql]
        cursor.execute(first + "".join(map(str.__add__, map(_literal, parameters), rest)))

    def _translate(self, error: Exception) -> AudienceError:
        text = str(error)
        named = re.search(r"\b([A-Z]+_[A-Z_]+): ", text)
        name = named[1] if named else ""
        refused = type(error).__name__ in ("OperationalError", "ProgrammingError") and bool(name)
        return self._refusal(name, text[named.end() :] if named else "", error, refused=refused)


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
