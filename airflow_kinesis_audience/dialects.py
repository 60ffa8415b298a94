"""Engines: what each must be told apart from the others, and what its types mean.

What sqlglot renders right by itself is not here. A type has one meaning in JSON or none, and then the error says
what to cast it to. Pure: nothing here builds a statement or touches a warehouse.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from sqlglot import exp


class Kind(StrEnum):
    """What a column's values are once they leave the warehouse."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    FLOAT = "float"
    TEXT = "text"
    DATE = "date"
    TIMESTAMP = "timestamp"
    EXACT = "exact"
    """Decimals, integers beyond 64 bits and UUIDs: compared natively, read as text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """What an engine needs to be told.

    :param name: sqlglot's name of the dialect.
    :param identifier_bytes: longest identifier, in bytes of UTF-8.
    :param fingerprint: SQL function from text to a 64-bit integer that never changes between versions of
        the engine, or none where comparing columns measures faster, as on PostgreSQL.
    :param list_functions: whether lists have functions that take a lambda; they are 25 times as fast as unnesting
        them in a subquery, on DuckDB.
    :param distinct_keeps_null: whether the distinct values of a list have NULL among them.
    :param hashes_bytes: whether SHA256 takes bytes, not text.
    :param keeps_expressions: whether a statement may say that a common table expression is, or is not, kept.
    :param full_join: whether it has a full outer join that joins by hashing or sorting.
    :param enforces_keys: whether it refuses a row whose primary key is there already.
    :param folds_to_upper: whether a name that is not quoted means one in upper case: an author's table is then
        named as it was written.
    :param files_rows: whether each row that is inserted becomes a file of its own, so that the ledger has to be
        folded up from time to time.
    :param key_text: type of a text in a primary key.
    :param long_text: type of a text of any length.
    :param character_sets: whether TRIM and TRANSLATE take a set of characters, or regular expressions have to.
    :param regexp_like: whether it has REGEXP_LIKE, in a spelling that sqlglot knows.
    :param offsets: whether the literal of an instant may name an offset; otherwise the session speaks UTC.
    :param as_text: how an author makes a text of a column, with ``{column}`` in it, and ``as_instant`` how an
        instant of one without a time zone.
    :param table_clause: what follows the name of a new table.
    :param after_write: statements to run on a new table, with ``{table}`` in them.
    :param index_audiences: statements that make what a new table tells of audiences cheap to read, likewise.
    :param before_read: a statement without which a session does not see what others have inserted into a table
        since it first read it, likewise.
    :param index_slices: statements that make reading a slice of a new table cheap, likewise, with ``{column}``.
    """

    name: str
    identifier_bytes: int
    fingerprint: str | None = None
    list_functions: bool = False
    distinct_keeps_null: bool = False
    hashes_bytes: bool = False
    keeps_expressions: bool = False
    full_join: bool = True
    enforces_keys: bool = False
    folds_to_upper: bool = False
    files_rows: bool = False
    key_text: str = "TEXT"
    long_text: str = "TEXT"
    character_sets: bool = True
    regexp_like: bool = True
    offsets: bool = True
    as_text: str = "CAST({column} AS VARCHAR)"
    as_instant: str = "{column} AT TIME ZONE 'UTC'"
    table_clause: str = ""
    after_write: tuple[str, ...] = ()
    before_read: str = ""
    index_slices: tuple[str, ...] = ()
    index_audiences: tuple[str, ...] = ()


DIALECTS: Mapping[str, Dialect] = {
    "duckdb": Dialect(
        name="duckdb",
        identifier_bytes=255,
        fingerprint="MD5_NUMBER_LOWER",
        list_functions=True,
        keeps_expressions=True,
        enforces_keys=True,
    ),
    "postgres": Dialect(
        name="postgres",
        identifier_bytes=63,
        hashes_bytes=True,
        keeps_expressions=True,
        enforces_keys=True,
        after_write=("ANALYZE {table}",),
        index_slices=('CREATE INDEX ON {table} ("{column}")',),
        index_audiences=("""CREATE INDEX ON {table} ("audience_id") WHERE "action" = 'audience'""",),
    ),
    # MySQL and MariaDB
    "mysql": Dialect(
        name="mysql",
        identifier_bytes=64,
        full_join=False,
        enforces_keys=True,
        # Bytes, since any collation of the server's would hold some two keys equal; two of them fit into one key.
        key_text="VARBINARY(1500)",
        long_text="LONGTEXT",
        character_sets=False,
        regexp_like=False,
        offsets=False,
        table_clause="ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC",
        index_slices=("CREATE INDEX `by_{column}` ON {table} (`{column}`)",),
        as_text="CAST({column} AS CHAR)",
        # No expression has the type TIMESTAMP: a column has it, or the instant is told as a text.
        as_instant="DATE_FORMAT({column}, '%Y-%m-%dT%H:%i:%s.%fZ')",
    ),
    "hiveserver2": Dialect(
        name="spark",
        identifier_bytes=128,
        list_functions=True,
        distinct_keeps_null=True,
        files_rows=True,
        before_read="REFRESH TABLE {table}",
        as_text="CAST({column} AS STRING)",
        as_instant="TO_UTC_TIMESTAMP({column}, 'UTC')",
    ),
    "databricks": Dialect(
        name="databricks",
        identifier_bytes=255,
        list_functions=True,
        distinct_keeps_null=True,
        files_rows=True,
        # Or a column's name could have no space in it.
        table_clause="TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
        as_text="CAST({column} AS STRING)",
        as_instant="TO_UTC_TIMESTAMP({column}, 'UTC')",
    ),
}
"""By the connection type of Airflow's hook."""


KEPT_TYPES: Mapping[Kind, str] = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.INTEGER: "BIGINT",
    Kind.FLOAT: "DOUBLE",
    Kind.DATE: "DATE",
    Kind.TIMESTAMP: "TIMESTAMPTZ",
    Kind.TEXT: "VARCHAR",
    Kind.EXACT: "VARCHAR",
}
"""Types of DuckDB in which values of another engine are kept, as :func:`arrow_type` reads them."""


def state_column(source_column: str, dialect: Dialect) -> str:
    """Shorten a source column's name so that a prefix of four bytes fits before it."""
    longest = dialect.identifier_bytes - 4
    encoded = source_column.encode()
    if len(encoded) <= longest:
        return source_column
    digest = hashlib.blake2b(encoded, digest_size=4).hexdigest()
    return f"{encoded[: longest - 9].decode(errors='ignore')}_{digest}"


_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("BOOLEAN",), Kind.BOOLEAN),
    **dict.fromkeys(
        ("TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "UTINYINT", "USMALLINT", "UINT"), Kind.INTEGER
    ),
    **dict.fromkeys(("FLOAT", "DOUBLE"), Kind.FLOAT),
    **dict.fromkeys(("TEXT", "VARCHAR", "CHAR", "NCHAR", "NVARCHAR", "ENUM"), Kind.TEXT),
    **dict.fromkeys(("DATE", "DATE32"), Kind.DATE),
    **dict.fromkeys(("TIMESTAMPTZ", "TIMESTAMPLTZ"), Kind.TIMESTAMP),
    **dict.fromkeys(("DECIMAL", "BIGDECIMAL", "INT128", "UBIGINT", "UINT128", "UUID"), Kind.EXACT),
}
_NAIVE = ("TIMESTAMP", "TIMESTAMPNTZ", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "DATETIME")


def is_list(type_name: str, dialect: Dialect) -> bool:
    """Tell whether an engine's type holds several values."""
    from sqlglot import exp

    return bool(data_type(type_name, dialect).is_type(exp.DataType.Type.ARRAY, exp.DataType.Type.LIST))


def data_type(type_name: str, dialect: Dialect) -> exp.DataType:
    """Build a type from the engine's name of it; a type that is not known is passed on as it is called."""
    from sqlglot import exp

    return exp.DataType.build(type_name, dialect=dialect.name, udt=True)


def arrow_type(kind: Kind) -> pa.DataType:
    """Return the Arrow type in which a kind of column is read."""
    import pyarrow as pa

    types: dict[Kind, pa.DataType] = {
        Kind.BOOLEAN: pa.bool_(),
        Kind.INTEGER: pa.int64(),
        Kind.FLOAT: pa.float64(),
        Kind.DATE: pa.date32(),
        Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    }
    return types.get(kind, pa.string())


def kind_of(type_name: str, column_name: str, dialect: Dialect) -> Kind:
    """Classify an engine's type.

    :raises ValueError: if its values have no one JSON form; the sentence says what to cast to.
    """
    from sqlglot import exp
    from sqlglot.errors import ParseError

    try:
        found = str(exp.DataType.build(type_name, dialect=dialect.name).this.value)
    except ParseError:
        found = "UNKNOWN"
    if found in _KINDS:
        return _KINDS[found]
    if found in _NAIVE:
        raise ValueError(
            f"column {column_name!r} is a {type_name}, without a time zone, so its instants are not known; "
            "say which zone it is in, for example: "
            f"{dialect.as_instant.format(column=column_name)} AS {column_name}"
        )
    raise ValueError(
        f"column {column_name!r} is of type {type_name}, which has no single JSON form; "
        f"cast it in the query, for example: {dialect.as_text.format(column=column_name)} AS {column_name}"
    )
