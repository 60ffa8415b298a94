"""Engines: what each must be told apart from the others, and what its types mean.

What sqlglot renders right by itself is not here. A type has one meaning in JSON or none, and then the error says
what to cast it to. Pure: nothing here builds a statement or touches a warehouse.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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
class ListFunctions:
    """What an engine calls its functions on lists.

    :param transform: gives what an expression makes of each element, and ``keep`` the elements that meet one.
    :param distinct: gives each element once, and ``sort`` them by their values.
    :param length: counts them.
    :param lambda_first: whether the expression stands before the list.
    :param keeps_nulls: whether NULL is an element like any other to ``distinct``.
    """

    transform: str
    keep: str
    distinct: str
    sort: str
    length: str
    lambda_first: bool = False
    keeps_nulls: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """What an engine needs to be told.

    :param name: sqlglot's name of the dialect.
    :param identifier_bytes: longest identifier, in bytes of UTF-8.
    :param fingerprint: SQL function from text to a 64-bit integer that never changes between versions of
        the engine, or none where comparing columns measures faster, as on PostgreSQL.
    :param list_functions: what lists' functions are called, where some take a lambda; they are 25 times as fast as
        unnesting lists in a subquery, on DuckDB.
    :param lists: whether a column of the source may hold several values.
    :param hashes_bytes: whether SHA256 takes bytes, not text.
    :param keeps_expressions: whether a statement may say that a common table expression is, or is not, kept.
    :param full_join: whether it has a full outer join that joins by hashing or sorting.
    :param enforces_keys: whether it refuses a row whose primary key is there already.
    :param key_text: type of a text in a primary key.
    :param table_clause: what follows the name of a new table.
    :param after_write: statements to run on a new table, with ``{table}`` in them.
    :param index_slices: statements that make reading a slice of a new table cheap, likewise, with ``{column}``.
    :param forms: how the engine says what sqlglot renders wrong: class of an expression to SQL with the names of
        its arguments in braces.
    :param definitions: sqlglot's name of the dialect of CREATE SCHEMA and DROP TABLE, where it is another.
    :param tables_of_queries: whether every table is made of a query, because others need to be told a place.
    :param own_letters: whether it gives names of columns in upper or lower case, however they were written.
    :param instants: types whose values are instants although their names do not say so.
    :param in_zone: an expression that makes an instant of ``{column}``, for the error that one without is not.
    """

    name: str
    identifier_bytes: int
    fingerprint: str | None = None
    list_functions: ListFunctions | None = None
    lists: bool = True
    hashes_bytes: bool = False
    keeps_expressions: bool = False
    full_join: bool = True
    enforces_keys: bool = False
    key_text: str = "TEXT"
    table_clause: str = ""
    after_write: tuple[str, ...] = ()
    index_slices: tuple[str, ...] = ()
    forms: Mapping[str, str] = field(default_factory=dict)
    definitions: str = ""
    tables_of_queries: bool = False
    own_letters: bool = False
    instants: tuple[str, ...] = ()
    in_zone: str = "{column} AT TIME ZONE 'UTC'"


_TRINO_FORMS = {
    "MD5": "LOWER(TO_HEX(MD5(TO_UTF8({this}))))",
    "SHA2": "LOWER(TO_HEX(SHA256(TO_UTF8({this}))))",
    "GroupConcat": "ARRAY_JOIN(ARRAY_AGG({this}), {separator})",
}
"""Digests are of bytes; LISTAGG asks for an order, and ends at one MiB."""

_TRINO_LISTS = ListFunctions(
    transform="TRANSFORM", keep="FILTER", distinct="ARRAY_DISTINCT", sort="ARRAY_SORT", length="CARDINALITY"
)

DIALECTS: Mapping[str, Dialect] = {
    "duckdb": Dialect(
        name="duckdb",
        identifier_bytes=255,
        fingerprint="MD5_NUMBER_LOWER",
        list_functions=ListFunctions(
            transform="LIST_TRANSFORM",
            keep="LIST_FILTER",
            distinct="LIST_DISTINCT",
            sort="LIST_SORT",
            length="LEN",
            keeps_nulls=False,
        ),
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
        forms={"JSONFormat": "CAST(TO_JSON({this}) AS TEXT)"},
    ),
    # No fingerprint: HASH() promises nothing across releases, and the text of a FLOAT or of an instant, of which
    # any digest would be made, has fewer digits than the value.
    "snowflake": Dialect(
        name="snowflake",
        identifier_bytes=255,
        list_functions=ListFunctions(
            transform="TRANSFORM",
            keep="FILTER",
            distinct="ARRAY_DISTINCT",
            sort="ARRAY_SORT",
            length="ARRAY_SIZE",
        ),
        own_letters=True,
        in_zone="CONVERT_TIMEZONE('UTC', 'UTC', {column})::TIMESTAMP_TZ",
    ),
    "redshift": Dialect(
        name="redshift",
        identifier_bytes=127,
        lists=False,
        own_letters=True,
        # IS DISTINCT FROM is not among the comparisons that it documents.
        forms={
            "NullSafeNEQ": "CASE WHEN {this} = {expression} OR ({this} IS NULL AND {expression} IS NULL) "
            "THEN FALSE ELSE TRUE END",
        },
    ),
    "gcpbigquery": Dialect(
        name="bigquery",
        identifier_bytes=300,
        forms={"SHA2": "TO_HEX(SHA256({this}))"},
        in_zone="TIMESTAMP({column}, 'UTC')",
    ),
    "trino": Dialect(
        name="trino",
        identifier_bytes=127,
        list_functions=_TRINO_LISTS,
        forms=_TRINO_FORMS,
        own_letters=True,
        in_zone="with_timezone({column}, 'UTC')",
    ),
    "athena": Dialect(
        name="trino",
        identifier_bytes=127,
        list_functions=_TRINO_LISTS,
        forms=_TRINO_FORMS,
        own_letters=True,
        definitions="hive",
        tables_of_queries=True,
        table_clause="WITH (format = 'PARQUET')",
        in_zone="with_timezone({column}, 'UTC')",
    ),
    "clickhouse": Dialect(
        name="clickhouse",
        identifier_bytes=127,
        list_functions=ListFunctions(
            transform="arrayMap",
            keep="arrayFilter",
            distinct="arrayDistinct",
            sort="arraySort",
            length="length",
            lambda_first=True,
        ),
        # TRIM and LOWER take bytes for characters, and would cut a letter in two; COUNT has no sign, and nothing
        # that has one is of its type.
        forms={
            "SHA2": "LOWER(HEX(SHA256({this})))",
            "Trim": "replaceRegexpAll({this}, concat('^[', {expression}, ']+|[', {expression}, ']+$'), '')",
            "Lower": "lowerUTF8({this})",
            "Translate": "translateUTF8({this}, {from_}, {to})",
            "JSONFormat": "toJSONString({this})",
            "Count": "toInt64(COUNT({this}))",
        },
        table_clause="ENGINE = MergeTree ORDER BY tuple()",
        instants=("DATETIME", "DATETIME64"),
    ),
}
"""By the connection type of Airflow's hook."""


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
    **dict.fromkeys(("TEXT", "VARCHAR", "CHAR", "NCHAR", "NVARCHAR", "FIXEDSTRING"), Kind.TEXT),
    **dict.fromkeys(("ENUM", "ENUM8", "ENUM16"), Kind.TEXT),
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
    if found in dialect.instants:
        return Kind.TIMESTAMP
    if found in _KINDS:
        return _KINDS[found]
    if found in _NAIVE:
        raise ValueError(
            f"column {column_name!r} is a {type_name}, without a time zone, so its instants are not known; "
            f"say which zone it is in, for example: {dialect.in_zone.format(column=column_name)} AS {column_name}"
        )
    raise ValueError(
        f"column {column_name!r} is of type {type_name}, which has no single JSON form; "
        f"cast it in the query, for example: CAST({column_name} AS VARCHAR) AS {column_name}"
    )
