"""ClickHouse, through clickhouse-connect.

Joins give NULL for what is missing, as everywhere else; by default ClickHouse gives '' and 0, and entries and
exits would be lost in silence. A server was never run: see docs/warehouse-cloud.md.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.statement_tags import PROGRAM
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from airflow_kinesis_audience.core.sql.dialects import Dialect


SETTINGS: Mapping[str, Any] = {
    "join_use_nulls": 1,
    "session_timezone": "UTC",
    # A name is a column where there is one, and not what the same SELECT calls so.
    "prefer_column_name_to_alias": 1,
    # By which a value has one text.
    "date_time_output_format": "simple",
    "cast_keep_nullable": 0,
    # Or a result could be cut, or be without the rows of a shard that does not answer.
    "limit": 0,
    "offset": 0,
    "result_overflow_mode": "throw",
    "read_overflow_mode": "throw",
    "timeout_overflow_mode": "throw",
    "skip_unavailable_shards": 0,
    # Or a row of the ledger would be there only some time after it was written.
    "async_insert": 0,
}
"""Of the session, whatever the user's profile says."""

_DENIED = 497
_ENDED = {
    159: "it exceeded the user's max_execution_time",
    241: "it exceeded max_memory_usage, or the server's memory",
    394: "somebody ended it",
}
"""Codes of errors of a server that is well reached, and why it ended the statement."""

_UNAVAILABLE = (164, 202, 209, 210, 242, 279, 425, 439, 999)
"""Codes of lost connections, and of too many queries at the moment."""

_ABOUT_THE_STATEMENT = (10, 36, 42, 43, 44, 46, 47, 48, 53, 57, 60, 62, 63, 81, 82, 179, 184, 215)
"""Codes of errors that a statement has without a row; others, such as 6 and 38, are a function's own."""


class ClickHouseWarehouse(SqlWarehouse):
    """ClickHouse through clickhouse-connect; what is opened is its client."""

    loggers = ("clickhouse_connect", "urllib3")

    def __init__(self, connect: Callable[[], Any], dialect: Dialect) -> None:
        super().__init__(connect, dialect)
        self._number = uuid.uuid4()

    @staticmethod
    def connector(conn_id: str, hook: Any) -> Callable[[], Any]:
        """Give what opens a client with the settings that every statement relies on."""
        hook.session_settings = {**hook.session_settings, **SETTINGS}
        return hook.get_client  # type: ignore[no-any-return]

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; it is analyzed and not run."""
        described = self._read_plan(f"DESCRIBE TABLE (\n{query}\n)")
        return {row[0]: re.sub(r"LowCardinality\((.*)\)", r"\1", row[1]) for row in described}

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result as the server sends it, in Arrow."""
        with self._cursor() as cursor, cursor.client.query_arrow_stream(sql, use_strings=True) as stream:
            for block in self._counted_until_first(iter(stream)):
                for batch in _in_types(block, schema).to_batches(rows):
                    if batch.num_rows:
                        yield batch

    def _open(self) -> Any:
        with self._translated():
            client = self._connect()
            client.set_client_setting("log_comment", f"{self.tag or PROGRAM} {self._number}")
        return _Connection(client)

    def _cancel(self, connection: Any, cursor: Any) -> None:
        with contextlib.closing(self._connect()) as other:
            other.command(_kill(f"% {self._number}"))

    def end_earlier_attempts(self) -> int:
        """Cancel what earlier attempts of the task left at work."""
        assert self.tag is not None  # noqa: S101
        return len(self.read_rows(_kill(f"% {self.tag.job} %")))

    def _tagged(self, sql: str) -> str:
        # In its place a statement has a setting.
        return sql

    @staticmethod
    def _execute(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        # Without parameters the driver makes one % of two.
        cursor.execute(sql if parameters else sql.replace("%%", "%%%%"), list(parameters))

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        text = str(error)
        found = re.search(r"code:? (\d+)", text, re.IGNORECASE)
        code = getattr(error, "code", None) or (int(found[1]) if found else None)
        if code == _DENIED:
            return WarehouseRefused(
                "ClickHouse denies access. The user needs SELECT on the source, and CREATE DATABASE, CREATE "
                "TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, SELECT and INSERT on the state's database"
            )
        if planned and code in _ABOUT_THE_STATEMENT:
            return WarehouseRefused(f"ClickHouse cannot run the statement ({code}): {_first_sentence(text)}")
        if code is None and isinstance(error, ValueError | OverflowError):
            return WarehouseRefused(
                "a value from ClickHouse is outside the range of its type; it is not shown here. If it is bytes "
                "that are not UTF-8 text, convert them in the query, for example: HEX(column) AS column"
            )
        if code in _ENDED:
            return WarehouseUnavailable(f"ClickHouse ended the statement ({code}): {_ENDED[code]}")
        if code is None or code in _UNAVAILABLE:
            return WarehouseUnavailable(
                f"ClickHouse is not available ({type(error).__name__} {code}); check host, port, user and load"
            )
        return WarehouseRefused(f"ClickHouse rejected the statement ({code}), {NOT_SHOWN}")


def _in_types(block: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give what was read in the asked types; Date comes as a number of days, and DateTime as one of seconds."""
    import pyarrow as pa

    columns = []
    for column, field in zip(block.columns, schema, strict=True):
        if pa.types.is_uint16(column.type) and pa.types.is_date32(field.type):
            column = column.cast(pa.int32())
        elif pa.types.is_uint32(column.type) and pa.types.is_timestamp(field.type):
            column = column.cast(pa.int64()).cast(pa.timestamp("s", tz="UTC"))
        columns.append(column.cast(field.type))
    read = pa.table(columns, schema=schema)
    # A String may have any bytes, and Arrow would take them for text.
    read.validate(full=True)
    return read


class _Connection:
    """A client in the form of a DB-API connection."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def cursor(self) -> Any:
        from clickhouse_connect.dbapi.cursor import Cursor

        return Cursor(self._client)

    def close(self) -> None:
        """Close the client."""
        self._client.close()


def _kill(comment: str) -> str:
    """Build what ends the user's own statements with such a comment."""
    return f"KILL QUERY WHERE user = currentUser() AND Settings['log_comment'] LIKE '{comment}' ASYNC"


def _first_sentence(text: str) -> str:
    found = re.search(r"DB::Exception: (.*?)(?:\. |: While|$)", text, re.DOTALL)
    return found[1].splitlines()[0] if found else "a wrong statement"
