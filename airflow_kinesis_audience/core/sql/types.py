"""What the types of an engine mean: one kind of values each, with one form in JSON and one in Arrow, or none.

A type that has none is an error that says what to cast it to. Pure: nothing here touches a warehouse.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from airflow_kinesis_audience.core.sql.dialects import Dialect


class LogicalType(StrEnum):
    """What a column's values are once they leave the warehouse."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    FLOAT = "float"
    TEXT = "text"
    DATE = "date"
    TIMESTAMP = "timestamp"
    EXACT = "exact"
    """Decimals, integers beyond 64 bits and UUIDs: compared natively, read as text."""


KEPT_TYPES: Mapping[LogicalType, str] = {
    LogicalType.BOOLEAN: "BOOLEAN",
    LogicalType.INTEGER: "BIGINT",
    LogicalType.FLOAT: "DOUBLE",
    LogicalType.DATE: "DATE",
    LogicalType.TIMESTAMP: "TIMESTAMPTZ",
    LogicalType.TEXT: "VARCHAR",
    LogicalType.EXACT: "VARCHAR",
}
"""Types of DuckDB in which values of another engine are kept, as :func:`arrow_type` reads them."""

_KINDS: Mapping[str, LogicalType] = {
    **dict.fromkeys(("BOOLEAN",), LogicalType.BOOLEAN),
    **dict.fromkeys(
        ("TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "UTINYINT", "USMALLINT", "UINT"), LogicalType.INTEGER
    ),
    **dict.fromkeys(("FLOAT", "DOUBLE"), LogicalType.FLOAT),
    **dict.fromkeys(("TEXT", "VARCHAR", "CHAR", "NCHAR", "NVARCHAR", "FIXEDSTRING"), LogicalType.TEXT),
    **dict.fromkeys(("ENUM", "ENUM8", "ENUM16"), LogicalType.TEXT),
    **dict.fromkeys(("DATE", "DATE32"), LogicalType.DATE),
    **dict.fromkeys(("TIMESTAMPTZ", "TIMESTAMPLTZ"), LogicalType.TIMESTAMP),
    **dict.fromkeys(("DECIMAL", "BIGDECIMAL", "INT128", "UBIGINT", "UINT128", "UUID"), LogicalType.EXACT),
}
DECIMAL, WHOLE, UUID, REAL = "decimal", "whole", "uuid", "real"
"""Kinds of exact values: numbers with and without decimals, and no numbers; and floats of 32 bits."""

FLAG = "flag"
"""Kind of a boolean that could hold other numbers than 0 and 1."""

FILLED = ", filled"
"""Ends the kind of numbers whose column fills them with zeros up to a width."""
ZEROFILL = " ZEROFILL"
"""Ends MySQL's name of the type of such a column."""

_WIDENS_REALS = ("duckdb", "clickhouse", "databricks", "mysql")
"""Dialects that give a float of 32 bits as the 64 bits nearest to it, not as written; MySQL so in a group."""

_SAME_NUMBERS = (("integer", WHOLE), ("integer", DECIMAL), (WHOLE, DECIMAL), (DECIMAL, WHOLE))
"""Kinds that write a number of the one as the other does, from the published to the new."""

_NUMBERS = (LogicalType.INTEGER, LogicalType.FLOAT, LogicalType.EXACT)

_NESTED = ("STRUCT", "NESTED", "MAP", "OBJECT", "UNION", "RECORD")
_ARRAYS = ("ARRAY", "LIST")
_OIDS = (
    *("OID", "REGCLASS", "REGCOLLATION", "REGCONFIG", "REGDICTIONARY", "REGNAMESPACE", "REGOPER", "REGOPERATOR"),
    *("REGPROC", "REGPROCEDURE", "REGROLE", "REGTYPE"),
)
"""Types of PostgreSQL that name what is in one database, some of them by the session's search path."""
_NO_TEXT = (*_NESTED, *_OIDS)
_LIST = "[]"
_NAIVE = ("TIMESTAMP", "TIMESTAMPNTZ", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "DATETIME")


def is_list(type_name: str, dialect: Dialect) -> bool:
    """Whether an engine's type holds several values; they may be of a type that only its database knows."""
    known = data_type(type_name, dialect).is_type(exp.DataType.Type.ARRAY, exp.DataType.Type.LIST)
    return bool(known) or type_name.endswith(_LIST)


def data_type(type_name: str, dialect: Dialect) -> exp.DataType:
    """Build a type from the engine's name of it; a type that is not known is passed on as it is called."""
    return exp.DataType.build(type_name, dialect=dialect.name, udt=True)


def is_boolean(type_name: str, dialect: Dialect) -> bool:
    """Whether an engine's type is one of conditions; MySQL gives a condition of a query as a whole number."""
    kind = _KINDS.get(_name_of(type_name, dialect))
    return kind is LogicalType.BOOLEAN or (dialect.name == "mysql" and kind is LogicalType.INTEGER)


def arrow_type(kind: LogicalType) -> pa.DataType:
    """Return the Arrow type in which a kind of column is read."""
    import pyarrow as pa

    types: dict[LogicalType, pa.DataType] = {
        LogicalType.BOOLEAN: pa.bool_(),
        LogicalType.INTEGER: pa.int64(),
        LogicalType.FLOAT: pa.float64(),
        LogicalType.DATE: pa.date32(),
        LogicalType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    }
    return types.get(kind, pa.string())


def logical_type_of(type_name: str, column_name: str, dialect: Dialect) -> LogicalType:
    """Classify an engine's type.

    :raises ValueError: if its values have no one JSON form; the sentence says what to cast to.
    """
    found = _name_of(type_name, dialect)
    if type_name.lower().rpartition(".")[2] == "citext":  # a type of PostgreSQL's that has no number of its own
        return LogicalType.TEXT
    if found in dialect.types.instants:
        return LogicalType.TIMESTAMP
    if found in _KINDS:
        return _KINDS[found]
    if found in _NAIVE:
        raise ValueError(
            f"column {column_name!r} is a {type_name}, without a time zone, so its instants are not known; add "
            f"its time zone, for example: {dialect.types.as_instant.format(column=column_name)} AS {column_name}"
        )
    raise ValueError(
        f"column {column_name!r} is of type {type_name}, which has no single JSON form; "
        f"cast it in the query, for example: {_as_text(column_name, found, dialect)} AS {column_name}"
    )


def text_kind(type_name: str, column_name: str, dialect: Dialect, *, role: str) -> str:
    """Say what decides how values of a type are written as a key or an identity; of a list, its elements.

    :raises ValueError: if no one text stands for a value of it; the sentence says what to cast to.
    """
    each = role == "identity" and is_list(type_name, dialect)
    found, parameters = _parsed(type_name, dialect, each=each)
    if found in ("FLOAT", "DOUBLE"):
        raise ValueError(
            f"column {column_name!r} is a {type_name}, whose values are not exact, so it cannot be a {role}; cast "
            f"it in the query, for example: {_cast_to_whole(column_name, dialect, each=each)} AS {column_name}"
        )
    is_nested = found in _ARRAYS or (is_list(type_name, dialect) and not each)
    if is_nested or found in (*_NO_TEXT, *dialect.types.no_text):
        raise ValueError(
            f"column {column_name!r} is of type {type_name}, which has no single text, so it cannot be a {role}; "
            "select a part of it in the query, or cast it, for example: "
            f"{_as_text(column_name, found, dialect, each=each)} AS {column_name}"
        )
    filled = FILLED * type_name.endswith(ZEROFILL)
    if found in ("DECIMAL", "BIGDECIMAL"):
        scale = str(parameters[1]) if len(parameters) > 1 else "0" if parameters else "unknown"
        return (WHOLE if scale == "0" else DECIMAL) + filled
    kind = _KINDS.get(found, LogicalType.TIMESTAMP if found in dialect.types.instants else None)
    if kind is LogicalType.EXACT:
        return UUID if found == "UUID" else WHOLE + filled
    return kind.value + filled if kind is not None else type_name.lower()


def _parsed(type_name: str, dialect: Dialect, *, each: bool) -> tuple[str, list[exp.Expr]]:
    """Give sqlglot's name and the parameters of an engine's type, or of the elements of its lists."""
    found = _name_of(type_name.removesuffix(_LIST) if each else type_name, dialect)
    if found in (*_NO_TEXT, "UNKNOWN"):
        return found, []
    built = data_type(type_name.removesuffix(ZEROFILL), dialect)
    if each:
        if not built.expressions:  # its elements have no type
            return "UNKNOWN", []
        built = built.expressions[0]
    return str(getattr(built.this, "value", "UNKNOWN")), built.expressions


def _as_text(column_name: str, found: str, dialect: Dialect, *, each: bool = False) -> str:
    """Write how an author makes a text of a column.

    :param found: sqlglot's name of its type, or of the type of the elements of its lists.
    """
    template = dialect.types.texts.get(found, dialect.types.as_text)
    return in_each(template, column_name, dialect, several=each and found in dialect.types.texts)


def in_each(template: str, column_name: str, dialect: Dialect, *, several: bool) -> str:
    """Write SQL of a column, or of each element of its lists.

    :param template: with ``{column}`` in it.
    """
    if not several or (lists := dialect.functions.of_lists) is None:
        return template.format(column=column_name)
    each = f"e -> {template.format(column='e')}"
    given = (each, column_name) if lists.lambda_first else (column_name, each)
    return f"{lists.transform}({', '.join(given)})"


def _cast_to_whole(column_name: str, dialect: Dialect, *, each: bool) -> str:
    """Write how an author makes whole numbers of a column, or of each element of its lists."""
    if each and dialect.name == "bigquery":  # it casts no list to one of another type
        return f"ARRAY(SELECT CAST(e AS INT64) FROM UNNEST({column_name}) AS e)"  # noqa: S608
    kind = "ARRAY<BIGINT>" if each else "BIGINT"
    return exp.cast(exp.column(column_name), kind).sql(dialect=dialect.name)


def property_kind(type_name: str, dialect: Dialect) -> str:
    """Say of a property's type what its logical type leaves open; nothing where that says all.

    Of decimals it gives the scale where the engine reports it, of whole numbers whether they are decimals, of
    booleans whether they could be numbers.
    """
    found = _name_of(type_name, dialect)
    if found == "FLOAT" and dialect.name in _WIDENS_REALS:
        return REAL
    if found == "BOOLEAN" and dialect.name == "mysql":
        return FLAG
    filled = FILLED * type_name.endswith(ZEROFILL)
    if found in ("DECIMAL", "BIGDECIMAL"):
        parameters = data_type(type_name.removesuffix(ZEROFILL), dialect).expressions
        scale = str(parameters[1]) if len(parameters) > 1 else "0" if parameters else ""
        return (f"{DECIMAL} of scale {scale}" if scale else DECIMAL) + filled
    if _KINDS.get(found) is LogicalType.EXACT:
        return UUID if found == "UUID" else WHOLE + filled
    return ""


def share_a_column(one: str, other: str) -> bool:
    """Whether exact values of two kinds go into one column without a digit more, less, or an error."""
    one, other = one.removesuffix(FILLED), other.removesuffix(FILLED)
    return one == other or (DECIMAL in (one, other) and one.startswith(DECIMAL) and other.startswith(DECIMAL))


def keeps_texts(was: str, is_: str) -> bool:
    """Whether a key or an identity of another kind is written as before; what was not kept counts as such."""
    was, is_ = was.removesuffix(FILLED), is_.removesuffix(FILLED)
    if was == LogicalType.EXACT:  # as ledgers had it that did not tell them apart
        return is_ in (LogicalType.EXACT, DECIMAL, WHOLE, UUID)
    return was == is_ or not was or (was, is_) in _SAME_NUMBERS


def may_keep_texts(was: str, is_: str) -> bool:
    """Whether numbers were cast to texts, which may be the ones that they were written as; only the values say."""
    return is_ == LogicalType.TEXT and was.removesuffix(FILLED) in (*_NUMBERS, DECIMAL, WHOLE)


def _name_of(type_name: str, dialect: Dialect) -> str:
    """Give sqlglot's name of an engine's type."""
    type_name = type_name.removesuffix(ZEROFILL)
    if type_name.upper() in _NO_TEXT:
        return type_name.upper()
    try:
        built = exp.DataType.build(type_name, dialect=dialect.name)
    except ParseError:
        return "UNKNOWN"
    return str(getattr(built.this, "value", "UNKNOWN"))
