"""Rows of an author's query, brought from the warehouse to where the state is kept, if that is elsewhere.

They come over once, as the warehouse gives them after normalizing and hashing, and stay until the run is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.source.flags import find_numbers, flags_of, has_numbers
from airflow_kinesis_audience.core.source.no_texts import check_texts, checked_texts, mark_no_text
from airflow_kinesis_audience.core.source.texts import value_itself
from airflow_kinesis_audience.core.sql.statements import column, read_value, render, table
from airflow_kinesis_audience.core.sql.types import LogicalType, arrow_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

_BATCH_ROWS = 50_000
_NO_TEXT = "no_text_"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceReading:
    """What reads the author's query in a statement over the state.

    :param query: the author's, if the statement holds it.
    :param numbers: columns that are taken for booleans and have other numbers, as far as it is known already.
    """

    select: exp.Select
    query: str | None
    numbers: Sequence[Column] = ()


def stage_source_rows(
    warehouse: Warehouse,
    select: exp.Select,
    query: str,
    kinds: Mapping[str, LogicalType],
    layout: TableLayout,
    keys: Mapping[str, str | None],
) -> SourceReading:
    """Give what reads the author's query in a statement over the state; its rows are brought there, if need be.

    :param select: of the author's query, built for the origin.
    :param kinds: of the columns that it gives, by name and in their order.
    :param layout: of the mapped ones among them; ``keys`` are the others with texts of the source.
    """
    origin = warehouse.origin
    if origin is warehouse:
        return SourceReading(select=select, query=query)
    import pyarrow as pa

    flags = flags_of(layout)
    # As numbers, since a boolean would no longer say which number it was.
    kinds = {**kinds, **dict.fromkeys((c.new for c in flags), LogicalType.INTEGER)}
    schema = pa.schema([(name, arrow_type(kind)) for name, kind in kinds.items()])
    # DuckDB would have a reader of files make the cast of an exact number, of its spelling there.
    exact = (
        [n for n, kind in kinds.items() if kind is LogicalType.EXACT] if origin.dialect.name == "duckdb" else []
    )
    for named in select.expressions:
        if named.alias in exact:
            named.set("this", value_itself(named.this, origin.dialect))
    texts = checked_texts(layout, keys, origin.dialect)
    read = exp.select(*(read_value(name, kind) for name, kind in kinds.items()))
    for name in texts:
        # Here they still are what they are in the source.
        schema = schema.append(pa.field(f"{_NO_TEXT}{name}", pa.int64()))
        mark = exp.cast(mark_no_text(name, origin.dialect), "BIGINT")
        read = read.select(mark.as_(f"{_NO_TEXT}{name}"), copy=False)
    sql = render(read.from_(select.subquery("brought", copy=False)), origin.dialect, query=query)
    kept = warehouse.keep_rows(schema, origin.read_batches(sql, schema, rows=_BATCH_ROWS))
    numbers: Sequence[Column] = ()
    if flags or texts:
        marks = (exp.Max(this=column(f"{_NO_TEXT}{name}")) for name in texts)
        measures = exp.select(*map(has_numbers, flags), *marks).from_(table(None, kept))
        measured = warehouse.read_rows(render(measures, warehouse.dialect))
        numbers = find_numbers(layout, measured)
        check_texts(layout, texts, [group[len(flags) :] for group in measured], origin.dialect)
    booleans = {c.new for c in flags if c not in numbers}
    given = (exp.cast(column(n), "BOOLEAN").as_(n) if n in booleans else column(n) for n in kinds)
    return SourceReading(select=exp.select(*given).from_(table(None, kept)), query=None, numbers=numbers)
