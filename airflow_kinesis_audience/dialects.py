"""Engines: what each must be told apart from the others, and nothing that sqlglot renders right by itself.

Pure: nothing here builds a statement or touches a warehouse.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    :param index_ledger: statements that make the few rows of ended syncs cheap to find in a new ledger, likewise.
    :param before_read: a statement without which a session does not see what others have inserted into a table
        since it first read it, likewise.
    :param index_slices: statements that make reading a slice of a new table cheap, likewise, with ``{column}``.
    :param forms: how the engine says what sqlglot renders wrong: class of an expression to SQL with the names of
        its arguments in braces.
    :param definitions: sqlglot's name of the dialect of CREATE SCHEMA and DROP TABLE, where it is another.
    :param tables_of_queries: whether every table is made of a query, because others need to be told a place.
    :param own_letters: whether it gives names of columns in upper or lower case, however they were written.
    :param instants: types whose values are instants although their names do not say so.
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
    index_ledger: tuple[str, ...] = ()
    forms: Mapping[str, str] = field(default_factory=dict)
    definitions: str = ""
    tables_of_queries: bool = False
    own_letters: bool = False
    instants: tuple[str, ...] = ()


_TRINO_FORMS = {
    "MD5": "LOWER(TO_HEX(MD5(TO_UTF8({this}))))",
    "SHA2": "LOWER(TO_HEX(SHA256(TO_UTF8({this}))))",
    "GroupConcat": "ARRAY_JOIN(ARRAY_AGG({this}), {separator})",
}
"""Digests are of bytes; LISTAGG asks for an order, and ends at one MiB."""

_LISTS = ListFunctions(
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
        index_audiences=("""CREATE INDEX ON {table} ("audience_id") WHERE "action" = 'audience'""",),
        index_ledger=(
            """CREATE INDEX IF NOT EXISTS "ledger_closed" ON {table} ("as_of") WHERE "event" = 'closed'""",
        ),
        forms={"JSONFormat": "CAST(TO_JSON({this}) AS TEXT)"},
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
        lists=False,
        table_clause="ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC",
        index_slices=("CREATE INDEX `by_{column}` ON {table} (`{column}`)",),
        as_text="CAST({column} AS CHAR)",
        # No expression has the type TIMESTAMP: a column has it, or the instant is told as a text.
        as_instant="DATE_FORMAT({column}, '%Y-%m-%dT%H:%i:%s.%fZ')",
    ),
    "hiveserver2": Dialect(
        name="spark",
        identifier_bytes=128,
        list_functions=replace(_LISTS, length="SIZE"),
        files_rows=True,
        before_read="REFRESH TABLE {table}",
        as_text="CAST({column} AS STRING)",
        as_instant="TO_UTC_TIMESTAMP({column}, 'UTC')",
    ),
    "databricks": Dialect(
        name="databricks",
        identifier_bytes=255,
        list_functions=replace(_LISTS, length="SIZE"),
        files_rows=True,
        # Or a column's name could have no space in it.
        table_clause="TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
        as_text="CAST({column} AS STRING)",
        as_instant="TO_UTC_TIMESTAMP({column}, 'UTC')",
    ),
    # No fingerprint: HASH() promises nothing across releases, and the text of a FLOAT or of an instant, of which
    # any digest would be made, has fewer digits than the value.
    "snowflake": Dialect(
        name="snowflake",
        identifier_bytes=255,
        list_functions=replace(_LISTS, length="ARRAY_SIZE"),
        own_letters=True,
        as_instant="CONVERT_TIMEZONE('UTC', 'UTC', {column})::TIMESTAMP_TZ",
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
        as_instant="TIMESTAMP({column}, 'UTC')",
    ),
    "trino": Dialect(
        name="trino",
        identifier_bytes=127,
        list_functions=_LISTS,
        forms=_TRINO_FORMS,
        own_letters=True,
        as_instant="with_timezone({column}, 'UTC')",
    ),
    "athena": Dialect(
        name="trino",
        identifier_bytes=127,
        list_functions=_LISTS,
        forms=_TRINO_FORMS,
        own_letters=True,
        definitions="hive",
        tables_of_queries=True,
        table_clause="WITH (format = 'PARQUET')",
        as_instant="with_timezone({column}, 'UTC')",
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
