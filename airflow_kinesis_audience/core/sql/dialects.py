"""Engines: how each differs from the others, and nothing that sqlglot renders right without help.

What an engine's entry leaves out is as the defaults of :class:`Types`, :class:`Ddl`, :class:`Functions` and
:class:`Dialect` have it. Pure: nothing here builds a statement or touches a warehouse.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.sql.collations import LOWER_ON_MYSQL, LOWER_ON_POSTGRES
from airflow_kinesis_audience.core.sql.functions import Functions, ListFunctions

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Types:
    """What an engine calls its types, and how values of them are written.

    :param has_lists: whether a column of the source may hold several values.
    :param key_text: type of a text in a primary key.
    :param long_text: type of a text of any length.
    :param instants: types whose values are instants although their names do not say so.
    :param instant_offsets: whether the literal of an instant may name an offset; otherwise the session speaks UTC.
    :param as_text: how an author makes a text of a column, with ``{column}`` in it.
    :param texts: likewise of columns of some types, by sqlglot's names, of which no cast makes the right text.
    :param no_text: types besides the nested ones whose values have no text of their own.
    :param as_instant: how an author makes an instant of a column without a time zone, likewise.
    """

    has_lists: bool = True
    key_text: str = "TEXT"
    long_text: str = "TEXT"
    instants: tuple[str, ...] = ()
    instant_offsets: bool = True
    as_text: str = "CAST({column} AS VARCHAR)"
    texts: Mapping[str, str] = field(default_factory=dict)
    no_text: tuple[str, ...] = ()
    as_instant: str = "{column} AT TIME ZONE 'UTC'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ddl:
    """How an engine makes schemas, tables and indexes; in each statement ``{table}`` stands for the table's name.

    :param sqlglot_name: of the dialect of CREATE SCHEMA and DROP TABLE, where it is not the engine's own.
    :param table_clause: what follows the name of a new table.
    :param sliced_clause: what follows it if the table is read by slices, with ``{column}``: rows whose buckets
        begin with one digit stand together, in their order.
    :param sliced_query: likewise the query of such a table, with ``{query}`` and ``{column}``.
    :param only_from_queries: whether every table is made of a query, because others would have to name a location.
    :param after_write: statements to run on a new table.
    :param index_slices: statements that make reading a slice of a new table cheap, with ``{column}``.
    :param index_audiences: statements that make the rows of audiences in a new table cheap to find.
    :param index_ledger: statements that make the few rows of ended syncs cheap to find in a new ledger.
    """

    sqlglot_name: str = ""
    table_clause: str = ""
    sliced_clause: str = ""
    sliced_query: str = "{query}"
    only_from_queries: bool = False
    after_write: tuple[str, ...] = ()
    index_slices: tuple[str, ...] = ()
    index_audiences: tuple[str, ...] = ()
    index_ledger: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How an engine differs from the others.

    :param name: sqlglot's name of the dialect.
    :param materialized_hints: whether a statement may ask that a common table expression is materialized, or not.
    :param full_join: whether it has a full outer join that joins by hashing or sorting.
    :param enforces_keys: whether it refuses a row whose primary key is there already.
    :param folds_to_upper: whether a name that is not quoted means one in upper case.
    :param folds_column_case: whether it gives names of columns in upper or lower case, however they were written.
    :param file_per_insert: whether each inserted row becomes a file, so that the ledger has to be compacted.
    :param code_comments: what a comment begins with whose text the engine runs.
    :param text_encoding: Python's name of the encoding in which texts are kept, and literals have to be.
    :param before_read: a statement without which a session does not see what others have inserted into a table
        since it first read it, with ``{table}`` in it.
    """

    name: str
    types: Types = field(default_factory=Types)
    ddl: Ddl = field(default_factory=Ddl)
    functions: Functions = field(default_factory=Functions)
    materialized_hints: bool = False
    full_join: bool = True
    enforces_keys: bool = False
    folds_to_upper: bool = False
    folds_column_case: bool = False
    file_per_insert: bool = False
    code_comments: tuple[str, ...] = ()
    text_encoding: str = "utf-8"
    before_read: str = ""


_ORDERED = 'SELECT * FROM (\n{query}\n) AS "sliced" ORDER BY SUBSTRING("bucket", 1, 1), "{column}"'
_SPARK_ORDERED = _ORDERED.replace('"', "`")
"""The order in which rows are written, so that few files or blocks have those of a slice."""

_LISTS = ListFunctions(
    transform="TRANSFORM", keep="FILTER", distinct="ARRAY_DISTINCT", sort="ARRAY_SORT", length="CARDINALITY"
)
_SPARK_TYPES = Types(
    as_text="CAST({column} AS STRING)",
    texts={"BINARY": "HEX({column})"},
    as_instant="TO_UTC_TIMESTAMP({column}, 'UTC')",
)
_SPARK_IS_TEXT = "CAST(REGEXP_REPLACE({column}, '^', '') AS BINARY) = CAST({column} AS BINARY)"
"""Where it replaces something, Spark makes a text of its characters, as JSON and its Thrift server have them."""

_SPARK_JOINED = "ARRAY_JOIN({this}, ' ')"
_SPARK_FUNCTIONS = Functions(
    of_lists=replace(_LISTS, length="SIZE"),
    is_text=_SPARK_IS_TEXT,
    # A list with other bytes stays what is found to be no text.
    sql_overrides={
        "JSONFormat": f"IF({_SPARK_IS_TEXT.format(column=_SPARK_JOINED)}, TO_JSON({{this}}), {_SPARK_JOINED})"
    },
)
_TRINO_TYPES = Types(
    texts={"VARBINARY": "TO_HEX({column})"}, no_text=("VARBINARY",), as_instant="with_timezone({column}, 'UTC')"
)
# Digests are of bytes; LISTAGG asks for an order, and ends at one MiB.
_TRINO_FUNCTIONS = Functions(
    of_lists=_LISTS,
    sql_overrides={
        "MD5": "LOWER(TO_HEX(MD5(TO_UTF8({this}))))",
        "SHA2": "LOWER(TO_HEX(SHA256(TO_UTF8({this}))))",
        "GroupConcat": "ARRAY_JOIN(ARRAY_AGG({this}), {separator})",
    },
)

DIALECTS: Mapping[str, Dialect] = {
    "duckdb": Dialect(
        name="duckdb",
        materialized_hints=True,
        enforces_keys=True,
        functions=Functions(
            signature="HASH",
            of_lists=ListFunctions(
                transform="LIST_TRANSFORM",
                keep="LIST_FILTER",
                distinct="LIST_DISTINCT",
                sort="LIST_SORT",
                length="LEN",
                keeps_nulls=False,
            ),
        ),
    ),
    "postgres": Dialect(
        name="postgres",
        materialized_hints=True,
        enforces_keys=True,
        ddl=Ddl(
            after_write=("ANALYZE {table}",),
            index_slices=('CREATE INDEX ON {table} (SUBSTRING("bucket" FROM 1 FOR 1), "{column}")',),
            index_audiences=("""CREATE INDEX ON {table} ("audience_id") WHERE "action" = 'audience'""",),
            index_ledger=(
                """CREATE INDEX IF NOT EXISTS "ledger_closed" ON {table} ("as_of") WHERE "event" = 'closed'""",
            ),
        ),
        functions=Functions(
            sha256_takes_bytes=True, sql_overrides={"JSONFormat": "TO_JSON({this})::TEXT", **LOWER_ON_POSTGRES}
        ),
    ),
    "mysql": Dialect(  # and MariaDB
        name="mysql",
        full_join=False,
        enforces_keys=True,
        code_comments=("!", "M!"),
        types=Types(
            has_lists=False,
            # Bytes, since any collation would hold some two keys equal; two of them fit into one key.
            key_text="VARBINARY(1500)",
            long_text="LONGTEXT",
            instant_offsets=False,
            as_text="CAST({column} AS CHAR)",
            texts={"BIT": "CAST({column} AS UNSIGNED)", "BLOB": "HEX({column})"},
            no_text=("BIT",),
            # No expression has the type TIMESTAMP: a column has it, or the instant is given as a text.
            as_instant="DATE_FORMAT({column}, '%Y-%m-%dT%H:%i:%s.%fZ')",
        ),
        ddl=Ddl(
            table_clause="ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC",
            index_slices=("CREATE INDEX `by_{column}` ON {table} (`{column}`, `bucket`)",),
        ),
        functions=Functions(character_sets=False, regexp_like=False, sql_overrides=LOWER_ON_MYSQL),
    ),
    "hiveserver2": Dialect(
        name="spark",
        file_per_insert=True,
        before_read="REFRESH TABLE {table}",
        ddl=Ddl(sliced_query=_SPARK_ORDERED),
        types=_SPARK_TYPES,
        functions=_SPARK_FUNCTIONS,
    ),
    "databricks": Dialect(
        name="databricks",
        file_per_insert=True,
        types=_SPARK_TYPES,
        # Or no column's name could have a space, as those of version 0.1 may.
        ddl=Ddl(table_clause="TBLPROPERTIES ('delta.columnMapping.mode' = 'name')", sliced_query=_SPARK_ORDERED),
        functions=_SPARK_FUNCTIONS,
    ),
    "snowflake": Dialect(
        name="snowflake",
        folds_to_upper=True,
        folds_column_case=True,
        types=Types(as_instant="CONVERT_TIMEZONE('UTC', 'UTC', {column})::TIMESTAMP_TZ"),
        ddl=Ddl(sliced_query=_ORDERED),
        functions=Functions(of_lists=replace(_LISTS, length="ARRAY_SIZE")),
    ),
    "redshift": Dialect(
        name="redshift",
        folds_column_case=True,
        types=Types(has_lists=False),
        ddl=Ddl(sliced_clause='SORTKEY ("bucket", "{column}")'),
        functions=Functions(
            # IS DISTINCT FROM is not among the comparisons that it documents.
            sql_overrides={
                "NullSafeNEQ": "CASE WHEN {this} = {expression} OR ({this} IS NULL AND {expression} IS NULL) "
                "THEN FALSE ELSE TRUE END",
            },
        ),
    ),
    "gcpbigquery": Dialect(
        name="bigquery",
        ddl=Ddl(sliced_clause="CLUSTER BY `bucket`, `{column}`"),
        types=Types(as_text="CAST({column} AS STRING)", as_instant="TIMESTAMP({column}, 'UTC')"),
        functions=Functions(sql_overrides={"SHA2": "TO_HEX(SHA256({this}))"}),
    ),
    "trino": Dialect(
        name="trino",
        folds_column_case=True,
        types=_TRINO_TYPES,
        functions=_TRINO_FUNCTIONS,
    ),
    "athena": Dialect(
        name="trino",
        folds_column_case=True,
        types=_TRINO_TYPES,
        ddl=Ddl(sqlglot_name="hive", table_clause="WITH (format = 'PARQUET')", only_from_queries=True),
        functions=_TRINO_FUNCTIONS,
    ),
    "clickhouse": Dialect(
        name="clickhouse",
        types=Types(instants=("DATETIME", "DATETIME64"), as_text="toString({column})"),
        ddl=Ddl(
            table_clause="ENGINE = MergeTree ORDER BY tuple()",
            # Rows of audiences have neither, and a slice reads whole granules.
            sliced_clause='ENGINE = MergeTree ORDER BY (SUBSTRING("bucket", 1, 1), "{column}") '
            "SETTINGS allow_nullable_key = 1, index_granularity = 1024",
        ),
        functions=Functions(
            of_lists=ListFunctions(
                transform="arrayMap",
                keep="arrayFilter",
                distinct="arrayDistinct",
                sort="arraySort",
                length="length",
                lambda_first=True,
            ),
            is_text="isValidUTF8({column})",
            # TRIM and LOWER take bytes for characters; COUNT has no sign, and nothing with one is of its type.
            sql_overrides={
                "SHA2": "LOWER(HEX(SHA256({this})))",
                "Trim": "replaceRegexpAll({this}, concat('^[', {expression}, ']+|[', {expression}, ']+$'), '')",
                "Lower": "lowerUTF8({this})",
                "Translate": "translateUTF8({this}, {from_}, {to})",
                "JSONFormat": "toJSONString({this})",
                "Count": "toInt64(COUNT({this}))",
            },
        ),
    ),
}
"""By the connection type of Airflow's hook."""
