"""What the types of an engine mean: one kind of values each, with one form in JSON and one in Arrow, or none.

A type that has none is an error that says what to cast it to. Pure: nothing here touches a warehouse.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from sqlglot import exp

    from airflow_kinesis_audience.dialects import Dialect


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
    if found in dialect.instants:
        return Kind.TIMESTAMP
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
