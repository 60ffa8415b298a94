"""MySQL and MariaDB, through mysqlclient.

A session holds no two texts equal whose bytes differ, speaks UTC, refuses what does not fit rather than cut it,
and locks nothing that others write: each statement sees one moment. Of a large result Arrow reads the server's own
text, so that no number passes through a float and no date becomes NULL.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    WarehouseRefused,
    WarehouseUnavailable,
    how_to_install,
)
from airflow_kinesis_audience.hooks.warehouses.dbapi import NOT_SHOWN, SqlWarehouse, first_line, table_statements
from airflow_kinesis_audience.hooks.warehouses.mysql_types import name_type, read_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa


_OLDEST = {"MySQL": (8, 0), "MariaDB": (10, 6)}
_COLLATIONS = {"MySQL": "utf8mb4_0900_bin", "MariaDB": "utf8mb4_nopad_bin"}
"""Compares bytes, and a space at the end counts."""

_MODES_OFF = {
    *("EMPTY_STRING_IS_NULL", "HIGH_NOT_PRECEDENCE", "NO_BACKSLASH_ESCAPES", "PAD_CHAR_TO_FULL_LENGTH"),
    "ERROR_FOR_DIVISION_BY_ZERO",
}
"""What would change the meaning of statements that are built here, or refuse a NULL that an author sees."""

_MODES_ON = {"STRICT_ALL_TABLES"}
_LONGEST_TEXT = 2**30
"""Bytes that GROUP_CONCAT may gather; by default MySQL cuts after 1,024."""

_SORT_BYTES = 32 * 2**20
"""What a sort may take of the server's memory before it goes to disk."""

_WHOLE = "sql_select_limit = 18446744073709551615, max_sort_length = 1024, div_precision_increment = 4"
"""So that no row is left out of a result, no two long keys count as one, and a quotient has the same digits."""

_MOST_WARNINGS = 65535
"""As many as a server keeps, so that none is hidden by others."""

_SLOW_READER_SECONDS = 3600
"""How long the server waits for a reader that is busy with what it has read."""

_DENIED = {1044, 1142, 1143, 1227, 1370, 1410}
_ENDED = {
    **dict.fromkeys((1969, 3024), "it exceeded the login's max_statement_time or max_execution_time"),
    **{1205: "it waited for another statement longer than innodb_lock_wait_timeout", 1317: "somebody ended it"},
    **{
        1213: "it and another statement waited for each other (deadlock)",
        1021: "the disk is full",
        1114: "a table, or the disk, is full",
    },
}
"""Numbers of errors of a server that is well reached, and why it ended the statement."""

_TEMPORARY = {
    *range(1, 200),
    *(1021, 1037, 1038, 1040, 1041, 1045, 1047, 1053, 1077, 1114, 1129, 1130, 1135, 1152, 1158, 1159, 1160),
    *(1161, 1180, 1184, 1203, 1205, 1206, 1213, 1226, 1290, 1317, 1412, 1615, 1637, 1698, 1836, 1927, 1969, 3024),
    *(3572, 4031),
    *range(2000, 2100),
}
"""Numbers of errors that are of this moment: files, network, load, a lock, a failover, and the login."""

_ABOUT_THE_STATEMENT = {
    *(1007, 1008, 1046, 1049, 1050, 1051, 1052, 1054, 1055, 1056, 1059, 1060, 1063, 1064, 1066, 1068, 1069, 1071),
    *(1072, 1075, 1101, 1102, 1103, 1109, 1111, 1112, 1113, 1115, 1117, 1118, 1128, 1140, 1146, 1149, 1166, 1170),
    *(1176, 1178, 1191, 1193, 1221, 1222, 1231, 1235, 1241, 1247, 1248, 1253, 1267, 1270, 1271, 1273, 1286, 1305),
    *(1347, 1349, 1351, 1356, 1406, 1426, 1427, 1439, 1445, 1462, 1582, 1583, 1584, 1630, 1665, 1785, 1786),
    *(3065, 3593, 3750, 4002, 4107, 4161),
}
"""Numbers of errors that a statement has without a row; others are a function's own."""


_NO_CHARACTERS = {1300, 3854}
_NOT_UTF8 = (
    "a column of bytes, such as BINARY or BLOB, has values that are not UTF-8 text; convert them to text in "
    "the query, for example: HEX(column) AS column"
)
"""What a server says of bytes, and what becomes of it: when it only reads, it warns and gives question marks."""

_KEY_CHARACTERS = {"audience_id": 60, "user_id": 180}
"""Longest ids. Both together fit into the 1,000 bytes of MariaDB's index in memory; with one character more than
fits, to look who has changed since a base takes minutes for 100,000 members, not half a second."""


class MySqlWarehouse(SqlWarehouse):
    """MySQL or MariaDB through mysqlclient."""

    @property
    def collation(self) -> str:
        """The collation of every session, by which two texts are equal only if their bytes are."""
        self._connection()
        return self._collation

    def write_table(self, name: str, query: str, *, sliced_by: str = "", has_audience_rows: bool = False) -> None:
        """Create a table of a query's rows; an id that is too long for a key is refused, and never cut."""
        keys = ", ".join(
            f"`{key}` VARCHAR({characters}) CHARACTER SET utf8mb4 COLLATE {self.collation}"
            for key, characters in _KEY_CHARACTERS.items()
            if f"AS `{key}`" in query
        )
        for statement in table_statements(
            self.dialect.ddl,
            name,
            query,
            sliced_by=sliced_by,
            has_audience_rows=has_audience_rows,
            columns=f"({keys})" * bool(keys),
        ):
            self.execute(statement)

    def read_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read a small result whole; texts that the server keeps as bytes are texts here."""
        found = super().read_rows(sql, parameters)
        return [tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in found]

    def read_types(self, query: str) -> dict[str, str]:
        """Read the query's column names and type names; it is planned, and a part without a table evaluated."""
        with self._cursor(planned=True) as cursor:
            connection = cursor.connection
            planned = f"SELECT * FROM (\n{query}\n) AS given WHERE 1 = 0"  # noqa: S608
            with self._counted():
                connection.query(self._tagged(planned).encode())
                result = connection.store_result()
        columns = zip(result.describe(), result.field_flags(), result.converter, strict=True)
        return {
            name: name_type(wire, length, scale, flags, is_bytes=converter is bytes)
            for (name, wire, _, length, _, scale, _), flags, converter in columns
        }

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result as it comes, ``rows`` rows at a time, on a connection of its own."""
        with self._translated(), self._reader_connection() as connection:
            cursor = connection.cursor()
            self._run(cursor, sql, ())
            while fetched := cursor.fetchmany(rows):
                yield read_batch(fetched, schema)
            cursor.close()
            if connection.warning_count() and _NO_CHARACTERS & {int(w[1]) for w in connection.show_warnings()}:
                raise WarehouseRefused(_NOT_UTF8)

    def end_earlier_attempts(self) -> int:
        listed = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND command = 'Query'"
        found = self.read_rows(f"{listed} AND info LIKE '%{self.tag.job}%'") if self.tag else []
        for (number,) in found:
            with contextlib.suppress(AudienceError):  # it has ended
                self.execute(f"KILL QUERY {int(number)}")
        return len(found)

    def _open_reader(self) -> Any:
        from MySQLdb.cursors import SSCursor

        connection = self._open()
        connection.cursorclass = SSCursor
        # Bytes as the server sends them.
        connection.converter = {}
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET SESSION net_write_timeout = {_SLOW_READER_SECONDS}, max_error_count = {_MOST_WARNINGS}"
            )
        return connection

    def _open(self) -> Any:
        with self._translated():
            connection = self._connect()
            if not hasattr(connection, "cursorclass"):
                connection.close()
                raise WarehouseRefused(
                    "the connection's extra sets the client mysql-connector-python, which reads a boolean as a "
                    "number; remove client, so that mysqlclient is used"
                )
            self._collation = _prepare(connection)
            # Later it could not be asked for: the driver lets one thread at a time have a connection.
            self._numbers[id(connection)] = connection.thread_id()
        return connection

    def _cancel(self, connection: Any, cursor: Any) -> None:
        with contextlib.closing(self._connect()) as other:
            other.query(f"KILL QUERY {self._numbers[id(connection)]}")

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None
        if number in _DENIED:
            said = f": {_sentence(error)}" if planned else f" ({number})"
            return WarehouseRefused(
                f"MySQL denies access{said}. The login needs SELECT on the source, and SELECT, INSERT, "
                "CREATE, DROP, INDEX and CREATE VIEW on the state schema"
            )
        if number in _ENDED:
            return WarehouseUnavailable(f"MySQL ended the statement ({number}): {_ENDED[number]}")
        if number in _TEMPORARY:
            return WarehouseUnavailable(
                f"MySQL is not available ({type(error).__name__} {number}); check host, port, login and load"
            )
        if number in _NO_CHARACTERS:
            return WarehouseRefused(_NOT_UTF8)
        if planned and number in _ABOUT_THE_STATEMENT:
            return WarehouseRefused(f"MySQL cannot run the statement ({number}): {_sentence(error)}")
        if isinstance(error, ValueError):
            return WarehouseRefused(
                "a value from MySQL is outside the range of its type, such as the date 0000-00-00; "
                "it is not shown here"
            )
        if number is None and isinstance(error, ImportError | RuntimeError):
            return WarehouseRefused(
                f"mysqlclient, or the library that it needs, is not installed here; {how_to_install('mysql')}"
            )
        return WarehouseRefused(
            f"MySQL rejected the statement with {type(error).__name__} ({number}), {NOT_SHOWN}"
        )


def _prepare(connection: Any) -> str:
    """Set up a session as the head of this file has it, whatever the connection's extra or the server's defaults.

    :returns: the collation that the session has from then on.
    """
    from MySQLdb.cursors import Cursor

    connection.cursorclass = Cursor
    connection.set_character_set("utf8mb4")
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION(), @@SESSION.sql_mode")
        [(version, modes)] = cursor.fetchall()
        kind = "MariaDB" if "mariadb" in version.lower() else "MySQL"
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST[kind]:
            oldest = ".".join(map(str, _OLDEST[kind]))
            raise WarehouseRefused(f"the server is {kind} {version}; expected {kind} {oldest} or newer")
        wanted = sorted({m for m in modes.split(",") if m} - _MODES_OFF | _MODES_ON)
        statements = [
            f"SET NAMES utf8mb4 COLLATE {_COLLATIONS[kind]}",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            f"SET SESSION sql_mode = '{','.join(wanted)}'",
            "SET SESSION time_zone = '+00:00'",
            f"SET SESSION group_concat_max_len = {_LONGEST_TEXT}, sort_buffer_size = {_SORT_BYTES}, {_WHOLE}",
        ]
        if kind == "MariaDB":
            statements.append("SET SESSION default_regex_flags = '', system_versioning_asof = DEFAULT")
        for statement in statements:
            cursor.execute(statement)
    connection.autocommit(True)
    return _COLLATIONS[kind]


def _sentence(error: Exception) -> str:
    """Return the server's sentence, without the number before it."""
    return first_line(Exception(error.args[1])) if len(error.args) > 1 else first_line(error)
