"""What PostgreSQL is asked for so that neither login, database nor server decides what a value's text is.

The settings go with each statement, in its own round trip and its own transaction: so they hold behind a pooler,
too, which gives every transaction another session, and nobody else's session keeps them. What the server says of
itself when a connection is opened is asked for nothing.
"""

from __future__ import annotations

import codecs
import contextlib
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import WarehouseRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


SETTINGS: Mapping[str, str] = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
}
"""By which a value has one text, and a comparison one meaning. In which order a text has day and month that an
author casts to a date is left as it is: that is what the author's texts are like."""

_FASTER: Mapping[str, str] = {"jit": "off"}
"""By which a diff takes less time: to compile its expressions takes longer than to run them."""

SETTLED = "".join(
    (
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; ",
        *(f"SET LOCAL {name} TO '{value}'; " for name, value in {**SETTINGS, **_FASTER}.items()),
        "\n",
    )
)
"""Goes before a statement, and ends with it: what is sent together is one transaction."""

_BEFORE = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
"""By which the server reads a statement, so that they cannot come with it."""


def settle(connection: Any) -> str:
    """Undo what the Airflow connection or the login asks for: rows are read by position, and nothing is prepared,
    since statements that are sent together cannot be.

    :returns: Python's name of the encoding in which the database keeps texts.
    :raises WarehouseRefused: if it does not say what the bytes of its texts mean; a retry does not help.
    """
    with_psycopg_3 = is_psycopg_3(connection)
    if with_psycopg_3:
        from psycopg.rows import tuple_row

        connection.row_factory = tuple_row
        connection.prepare_threshold = None
    said = connection.info.parameter_status
    kept_in = str(said("server_encoding") or "UTF8")
    if kept_in == "SQL_ASCII":
        raise WarehouseRefused(
            "the database's encoding is SQL_ASCII, which does not define the characters of a text; expected UTF8 "
            "or another encoding that defines them; move the tables to a database with ENCODING 'UTF8'"
        )
    asked = {name: value for name, value in _BEFORE.items() if said(name) != value}
    if "client_encoding" in asked and not with_psycopg_3:
        # By its own way, or psycopg 2 would go on in the encoding of before.
        connection.set_client_encoding(asked.pop("client_encoding"))
    if asked:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("; ".join(f"SET {name} TO '{value}'" for name, value in asked.items()))
    return _python_name(kept_in)


def bound(sql: str, parameters: Sequence[Any], cursor: Any) -> str:
    """Write values into a statement that holds no author's text: several statements cannot be sent with values
    apart from them, and psycopg 2 writes texts by the setting that it met first."""
    first, *rest = sql.split("%s") if parameters else [sql]
    return first + "".join(_literal(v, cursor) + after for v, after in zip(parameters, rest, strict=True))


def select_cancelled(text: str) -> str:
    """Build the query that cancels the login's other statements that hold a text; a row for each."""
    others = "pid <> pg_backend_pid() AND usename = current_user AND backend_type = 'client backend'"
    return (
        f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {others} "  # noqa: S608
        f"AND state = 'active' AND query LIKE '%{text}%'"
    )


def is_psycopg_3(connection: Any) -> bool:
    """Whether a connection is one of psycopg 3; older Airflow gives psycopg 2."""
    return hasattr(connection, "pgconn")


def _literal(value: Any, cursor: Any) -> str:
    """Write a value into a statement in which a backslash stands for itself."""
    if isinstance(value, str):
        if "\0" in value:
            raise WarehouseRefused("PostgreSQL cannot store a text with the character NUL")
        return "'" + value.replace("'", "''") + "'"
    if value is None or isinstance(value, int):
        return "NULL" if value is None else str(value)
    if is_psycopg_3(cursor.connection):
        from psycopg.sql import quote

        return quote(value)
    return str(cursor.mogrify("%s", [value]).decode())


def _python_name(encoding: str) -> str:
    """Name an encoding of PostgreSQL as Python does; of one that is not known only ASCII is counted on."""
    for name in (encoding, encoding.replace("WIN", "cp"), encoding.replace("KOI8", "koi8_")):
        with contextlib.suppress(LookupError):
            return codecs.lookup(name).name
    return "ascii"
