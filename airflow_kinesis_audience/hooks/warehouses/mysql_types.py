"""What MySQL's protocol says of the types of a result, and how Arrow reads the texts in which values come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.sql.types import ZEROFILL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_UNSIGNED, _ZEROFILL = 32, 64
_WIRE_TYPES = {
    **{0: "DECIMAL", 1: "TINYINT", 2: "SMALLINT", 3: "INT", 4: "FLOAT", 5: "DOUBLE", 6: "NULL", 7: "TIMESTAMP"},
    **{8: "BIGINT", 9: "MEDIUMINT", 10: "DATE", 11: "TIME", 12: "DATETIME", 13: "SMALLINT", 14: "DATE", 16: "BIT"},
    **{245: "JSON", 246: "DECIMAL", 255: "GEOMETRY"},
    **dict.fromkeys((15, 247, 248, 249, 250, 251, 252, 253, 254), "TEXT"),
}
"""Types of a result's columns, by the protocol's numbers; 13 is YEAR."""


def name_type(wire: int, length: int, scale: int, flags: int, *, is_bytes: bool) -> str:
    """Name a column's type as a table's definition would, from a result's description.

    :param length: of a value when it is shown: TINYINT(1) is how the language writes BOOLEAN.
    :param scale: decimals, which say of a DECIMAL whether two values of one column have the same digits.
    """
    name, filled = _WIRE_TYPES.get(wire, f"type {wire}"), ZEROFILL * bool(flags & _ZEROFILL)
    if name == "TEXT" and is_bytes:
        return "BLOB"
    if name == "DECIMAL":
        return f"DECIMAL(65, {scale}){filled}"
    if name == "TINYINT" and length == 1:
        return "BOOLEAN"
    if name.endswith("INT") and flags & _UNSIGNED:
        # All but the largest fit into a signed integer of 64 bits.
        return ("BIGINT UNSIGNED" if name == "BIGINT" else "BIGINT") + filled
    return name


def read_batch(fetched: Sequence[Sequence[bytes | None]], schema: pa.Schema) -> pa.RecordBatch:
    """Make a batch of the server's texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def read(texts: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
        found = pa.array(texts, pa.string())
        if pa.types.is_boolean(kind):
            return found.cast(pa.int64()).cast(kind)
        if pa.types.is_timestamp(kind):
            return pc.assume_timezone(found.cast(pa.timestamp(kind.unit)), "UTC")
        return found.cast(kind)

    arrays = [read(texts, f.type) for texts, f in zip(zip(*fetched, strict=True), schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
