"""Reading a change set slice by slice: bounded memory on any driver, and where a resume starts.

A slice is a numbered run of a change set's rows, and which rows it holds never changes. Values come out in one
fixed type per column; numbers that JSON cannot hold exactly come out as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from airflow_kinesis_audience.audience import Changes, instant_text
from airflow_kinesis_audience.columns import ArrowColumn
from airflow_kinesis_audience.diff import select_audience_rows
from airflow_kinesis_audience.kinds import arrow_type
from airflow_kinesis_audience.membership import AUDIENCE, with_expressions
from airflow_kinesis_audience.sql import Warehouse, column, read_value, render, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa
    from sqlglot import exp

    from airflow_kinesis_audience.audience import Identity
    from airflow_kinesis_audience.layout import Column, Layout
    from airflow_kinesis_audience.ledger import Ledger
    from airflow_kinesis_audience.timeline import Edge, Timeline

_OWN = ("position", "action", "updated", "bucket", "audience_id", "user_id", "member_since")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """How what is to be sent is read.

    :param counts: changes by slice and first digit of the bucket.
    :param read: reads a slice whole, by its number, as a table with a column ``bucket``.
    :param make: makes what a format renders of a slice, or of some rows of it.
    """

    counts: Mapping[tuple[int, str], int]
    read: Callable[[int], pa.Table]
    make: Callable[[pa.Table], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeSet:
    """A change set or a snapshot that is to be sent.

    :param rows: changes in it, numbered from 0.
    :param slice_rows: rows of a slice.
    :param names_from: an older state table that names audiences which have no row in this one.
    :param retold: where it tells of who was rejected before: which of these tellings it is, as text.
    """

    sync_id: str
    as_of: datetime
    previous_as_of: datetime | None
    schema: str
    table: str
    rows: int
    slice_rows: int
    layout: Layout
    names_from: str | None = None
    retold: str = ""

    @property
    def slices(self) -> int:
        """How many slices there are."""
        return -(-self.rows // self.slice_rows)

    @property
    def edge(self) -> tuple[str, str]:
        """The instants that the change set leads from and to, as text; from nothing where everybody enters."""
        before = instant_text(self.previous_as_of) if self.previous_as_of else self.retold
        return before, instant_text(self.as_of)

    def is_told_by(self, cursor: datetime | None) -> bool:
        """Tell whether a destination that has everything up to an instant has this."""
        return cursor is not None and self.as_of <= cursor

    def reader(self, warehouse: Warehouse) -> Reader:
        """Make what reads the slices."""
        names = read_audience_names(warehouse, self)
        number = slice_of(column("position"), self.slice_rows)
        told = column("action").neq(AUDIENCE)
        return Reader(
            counts=count_cells(warehouse, table(self.schema, self.table), number, told),
            read=lambda number: _read_table(warehouse, self, number),
            make=lambda rows: make_changes(self, rows, names),
        )


def change_set_of(ledger: Ledger, timeline: Timeline, edge: Edge) -> ChangeSet:
    """Make what is to be read of an edge."""
    before = timeline.find(edge.previous_as_of) if edge.previous_as_of else None
    return ChangeSet(
        sync_id=ledger.sync_id,
        as_of=edge.as_of,
        previous_as_of=edge.previous_as_of,
        schema=ledger.schema,
        table=edge.table,
        rows=edge.rows,
        slice_rows=edge.slice_rows,
        layout=edge.layout,
        names_from=timeline.audiences_table(before) if before else None,
    )


def read_audience_names(warehouse: Warehouse, change_set: ChangeSet) -> dict[str, str]:
    """Read the names of all audiences in a change set, by id; an id without a name is its own."""
    names: dict[str, str] = {}
    for name in (change_set.names_from, change_set.table):
        if name is not None:
            rows = warehouse.read_rows(render(select_audience_rows(change_set.schema, name), warehouse.dialect))
            names |= {audience_id: called or audience_id for audience_id, called, *_ in rows}
    return names


def read_slice(
    warehouse: Warehouse,
    change_set: ChangeSet,
    number: int,
    audience_names: Mapping[str, str],
    *,
    told: exp.Query | None = None,
) -> Changes:
    """Read a slice whole, ``slice_rows`` rows at most.

    :param number: from 0.
    :param told: read the rows of this query, not those of the change set's table.
    """
    return make_changes(change_set, _read_table(warehouse, change_set, number, told), audience_names)


def make_changes(change_set: ChangeSet, rows: pa.Table, audience_names: Mapping[str, str]) -> Changes:
    """Make of a slice, or of some rows of it, what a format renders."""
    read = columns_of(rows)
    own: dict[str, Any] = {n: read[n] for n in _OWN}
    return Changes(
        **own,
        **by_label(change_set.layout, read),
        sync_id=change_set.sync_id,
        as_of=change_set.as_of,
        previous_as_of=change_set.previous_as_of,
        audience_names={a: audience_names.get(a, a) for a in read["audience_id"].array.unique().to_pylist()},
    )


def _read_table(
    warehouse: Warehouse, change_set: ChangeSet, number: int, told: exp.Query | None = None
) -> pa.Table:
    import pyarrow as pa

    fields = [(n, pa.int64() if n == "position" else pa.string()) for n in _OWN]
    fields += value_fields(change_set.layout)
    return read_table(warehouse, _select(change_set, number, told), fields, rows=change_set.slice_rows)


def count_cells(
    warehouse: Warehouse, origin: exp.Table, number: exp.Expr, told: exp.Expr, changes: exp.Expr | None = None
) -> dict[tuple[int, str], int]:
    """Count the changes of a state table by slice and first digit of the bucket.

    :param number: of a row's slice.
    :param told: the condition on the rows that are told of.
    :param changes: how many changes a row tells of, by default one.
    """
    from sqlglot import exp

    digit = exp.func("SUBSTRING", column("bucket"), exp.Literal.number(1), exp.Literal.number(1))
    cells = exp.select(
        number.as_("slice", quoted=True),
        digit.as_("digit", quoted=True),
        (changes or exp.Literal.number(1)).as_("changes", quoted=True),
    )
    query = (
        exp.select(column("slice"), column("digit"), exp.Sum(this=column("changes")))
        .from_(cells.from_(origin).where(told).subquery("cells"))
        .group_by(column("slice"), column("digit"))
    )
    found = warehouse.read_rows(render(query, warehouse.dialect))
    return {(int(slice_number), str(first)): int(count) for slice_number, first, count in found}


def by_label(layout: Layout, read: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Sort the columns that were read into new and old identities and properties, by type and by name."""
    # A column that is there under a label counts, and not one that is retired under the same.
    columns = sorted(layout.columns, key=lambda c: not c.retired)
    identities, properties = ([c for c in columns if c.role == role] for role in ("identity", "property"))
    return {
        "new_identities": {c.label: _listed(c, read[c.new]) for c in identities},
        "old_identities": {c.label: _listed(c, read[c.old]) for c in identities},
        "new_properties": {c.label: read[c.new] for c in properties},
        "old_properties": {c.label: read[c.old] for c in properties},
    }


def identities_by_label(layout: Layout, read: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Identity]]:
    """Sort the new identities that were read by type."""
    return {c.label: _listed(c, read[c.new]) for c in layout.identities}


def _listed(c: Column, values: Sequence[str | None]) -> Sequence[Identity]:
    """Read the lists out of a column that may have several values."""
    if not c.several:
        return values
    return [None if value is None else sorted(orjson.loads(value)) for value in values]


def read_table(
    warehouse: Warehouse, query: exp.Query, fields: Sequence[tuple[str, pa.DataType]], *, rows: int
) -> pa.Table:
    """Read a result whole.

    :param fields: names and types of the columns, by position.
    :param rows: most rows of a batch.
    """
    import pyarrow as pa

    schema = pa.schema(fields)
    batches = list(warehouse.read_batches(render(query, warehouse.dialect), schema, rows=rows))
    return pa.Table.from_batches(batches, schema=schema).combine_chunks()


def columns_of(rows: pa.Table) -> dict[str, ArrowColumn]:
    """Give the columns of a table that was read, by name."""
    import pyarrow as pa

    def whole(column: pa.ChunkedArray) -> pa.Array:
        if column.num_chunks == 1:
            return column.chunk(0)  # concat_arrays would copy it
        return pa.concat_arrays([pa.array([], column.type), *column.chunks])

    return {n: ArrowColumn(whole(c)) for n, c in zip(rows.column_names, rows.columns, strict=True)}


def slice_of(ahead: exp.Expr, slice_rows: int) -> exp.Expr:
    """Build the number of a slice from how many rows are ahead."""
    from sqlglot import exp

    share = exp.Div(this=exp.cast(ahead, "DOUBLE"), expression=exp.Literal.number(slice_rows))
    return exp.cast(exp.Floor(this=share), "BIGINT")


def value_columns(layout: Layout) -> list[exp.Expr]:
    """Build what is read of the mapped columns, new and old, as :func:`arrow_type` has them."""
    return [read_value(n, c.kind) for c in layout.columns for n in (c.new, c.old)]


def value_fields(layout: Layout) -> list[tuple[str, pa.DataType]]:
    """List the names and types in which :func:`value_columns` are read."""
    return [(n, arrow_type(c.kind)) for c in layout.columns for n in (c.new, c.old)]


def _select(change_set: ChangeSet, number: int, told: exp.Query | None) -> exp.Query:
    from sqlglot import exp

    start = number * change_set.slice_rows
    origin = table(change_set.schema, change_set.table) if told is None else table(None, "told")
    query = (
        exp.select(
            *(column(n) for n in _OWN),
            *value_columns(change_set.layout),
        )
        .from_(origin, copy=False)
        .where(
            column("action").neq(AUDIENCE),
            exp.GTE(this=column("position"), expression=exp.Literal.number(start)),
            exp.LT(this=column("position"), expression=exp.Literal.number(start + change_set.slice_rows)),
            copy=False,
        )
        .order_by(column("position"), copy=False)
    )
    return query if told is None else with_expressions(query, [("told", told.copy(), None)])
