"""Rows of an author's query, brought from the warehouse to where the state is kept, if that is elsewhere.

They come over once, as the warehouse gives them after normalizing and hashing, and stay until the run is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.kinds import arrow_type
from airflow_kinesis_audience.sql import column, read_value, render, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlglot import exp

    from airflow_kinesis_audience.kinds import Kind
    from airflow_kinesis_audience.sql import Warehouse

_BATCH_ROWS = 50_000


def stand_where_state_is(
    warehouse: Warehouse, select: exp.Select, query: str, kinds: Mapping[str, Kind]
) -> tuple[exp.Select, str | None]:
    """Give what reads the author's query in a statement over the state, and the query, if the statement holds it.

    :param select: of the author's query, built for the origin.
    :param kinds: of the columns that it gives, by name and in their order.
    """
    import pyarrow as pa
    from sqlglot import exp

    origin = warehouse.origin
    if origin is warehouse:
        return select, query
    schema = pa.schema([(name, arrow_type(kind)) for name, kind in kinds.items()])
    read = exp.select(*(read_value(name, kind) for name, kind in kinds.items()))
    sql = render(read.from_(select.subquery("brought", copy=False)), origin.dialect, query=query)
    kept = warehouse.keep_rows(schema, origin.read_batches(sql, schema, rows=_BATCH_ROWS))
    return exp.select(*map(column, kinds)).from_(table(None, kept)), None
