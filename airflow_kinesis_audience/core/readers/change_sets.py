"""Read a change set slice by slice: memory is bounded on any driver, and a resume starts at a slice.

A slice is a numbered run of a change set's rows, and which rows it holds never changes: every attempt reads the
same. Each column has one fixed type; numbers that JSON cannot hold exactly come out as text. Nothing here writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn
from airflow_kinesis_audience.core.model.arrow_values import integer, texts
from airflow_kinesis_audience.core.model.audience import Action, Changes
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.readers.outline import (
    ALL_DIGITS,
    count_chunks,
    is_within,
    read_outline,
    slice_of,
)
from airflow_kinesis_audience.core.sql.statements import column, read_value, render, table
from airflow_kinesis_audience.core.sql.types import arrow_type
from airflow_kinesis_audience.core.state.rows import AUDIENCE, SLICE_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.model.audience import IdentityValue
    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.timeline import Timeline

_OWN = ("position", "action", "updated", "bucket", "audience_id", "user_id", "member_since")


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceReader:
    """Reads what is to be sent, and makes of it what a format renders.

    :param counts: changes by slice and first digit of the bucket.
    :param read: reads the rows of some slices whose buckets begin with some digits, in their order, as a table
        with columns ``bucket`` and ``slice``.
    :param make: makes of a slice, or of some of its rows, what a format renders.
    :param span_rows: most changes that are read at once where they are of several chunks.
    :param span_slices: most slices that are read at once, if their rows can be longer than the next slice's.
    """

    counts: Mapping[tuple[int, str], int]
    read: Callable[[range, range], pa.Table]
    make: Callable[[pa.Table], Any]
    span_rows: int = SLICE_ROWS
    span_slices: int | None = None

    def read_each(self) -> Iterator[pa.Table]:
        """Read slice by slice, in their order."""
        for number in sorted({number for number, _ in self.counts}):
            yield self.read(range(number, number + 1), ALL_DIGITS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeSet:
    """A change set or a snapshot that is to be sent.

    :param rows: changes in it, numbered from 0.
    :param slice_rows: rows of a slice.
    :param names: of the audiences, where they are known without a reading.
    :param names_from: an older state table that names audiences which have no row in this one.
    :param redelivered: for dead letters that are sent again: which redelivery it is, as text.
    :param epoch: tells its ids from those of a state that is lost.
    :param erased: of these rows, how many are there no more: their users are forgotten.
    """

    sync_id: str
    as_of: datetime
    previous_as_of: datetime | None
    schema: str
    table: str
    rows: int
    slice_rows: int
    layout: TableLayout
    names: Mapping[str, str] | None = None
    names_from: str | None = None
    redelivered: str = ""
    epoch: str = ""
    erased: int = 0

    @property
    def slices(self) -> int:
        """Number of slices."""
        return -(-self.rows // self.slice_rows)

    @property
    def instants(self) -> tuple[str, str]:
        """What its ids are derived from: the instants before, with the epoch, and after it, as text."""
        before = instant_text(self.previous_as_of) if self.previous_as_of else self.redelivered
        return self.epoch + before, instant_text(self.as_of)

    def reader(self, warehouse: Warehouse) -> SliceReader:
        """Make the reader of the slices."""
        if self.names is not None and self.slices == 1:
            return self._reader_of_one_slice(warehouse, self.names)
        counts, names = read_outline(warehouse, self)
        return SliceReader(
            counts=counts,
            read=lambda slices, digits: _read_slices(warehouse, self, slices, digits),
            make=lambda rows: make_changes(self, rows, names),
            span_rows=self.slice_rows,
        )

    def _reader_of_one_slice(self, warehouse: Warehouse, names: Mapping[str, str]) -> SliceReader:
        """Make the reader of all rows at once: they show themselves how many there are of each digit."""
        rows = _read_slices(warehouse, self, range(1), ALL_DIGITS)
        digits = pc.value_counts(pc.utf8_slice_codeunits(rows["bucket"], 0, 1)).to_pylist()
        return SliceReader(
            counts={(0, found["values"]): found["counts"] for found in digits},
            read=lambda _, __: rows,
            make=lambda rows: make_changes(self, rows, names),
            span_rows=self.slice_rows,
        )

    def update_reader(self, warehouse: Warehouse) -> SliceReader:
        """Make the reader of the updates alone, for those who need no names of audiences."""
        number, is_update = (
            slice_of(column("position"), self.slice_rows),
            column("action").eq(Action.UPDATED.value),
        )

        def read(slices: range, digits: range) -> pa.Table:
            rows = _read_slices(warehouse, self, slices, digits)
            return rows.filter(pc.is_in(rows["action"], value_set=texts([Action.UPDATED.value]))).combine_chunks()

        return SliceReader(
            counts=count_chunks(warehouse, table(self.schema, self.table), number, is_update),
            read=read,
            make=lambda rows: make_changes(self, rows, {}),
        )


def change_set_of(ledger: Ledger, timeline: Timeline, recorded: RecordedChangeSet) -> ChangeSet:
    """Make the change set that the ledger records."""
    before = timeline.find(recorded.previous_as_of) if recorded.previous_as_of else None
    return ChangeSet(
        sync_id=ledger.sync_id,
        as_of=recorded.as_of,
        previous_as_of=recorded.previous_as_of,
        schema=ledger.schema,
        table=recorded.table,
        rows=recorded.rows,
        slice_rows=recorded.detail.slice_rows,
        # What is inserted again, after a ledger was restored, may have other rows under the same instants, and
        # so has what is sent once more without users who are forgotten.
        epoch=recorded.epoch + (recorded.table if recorded.inserted or recorded.erased else ""),
        erased=recorded.erased,
        layout=recorded.layout,
        names=recorded.detail.names,
        names_from=timeline.audiences_table(before) if before else None,
    )


def read_slice(
    warehouse: Warehouse,
    change_set: ChangeSet,
    number: int,
    audience_names: Mapping[str, str],
    *,
    sent: exp.Query | None = None,
) -> Changes:
    """Read a whole slice, ``slice_rows`` rows at most.

    :param number: from 0.
    :param sent: the query that gives the rows which were sent, where they are not in the change set's table.
    """
    query = _select(change_set, range(number, number + 1), ALL_DIGITS, sent)
    return make_changes(change_set, _read_table(warehouse, change_set, query), audience_names)


def make_changes(change_set: ChangeSet, rows: pa.Table, audience_names: Mapping[str, str]) -> Changes:
    """Make of a slice, or of some of its rows, what a format renders."""
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


def _read_slices(warehouse: Warehouse, change_set: ChangeSet, slices: range, digits: range) -> pa.Table:
    rows = _read_table(warehouse, change_set, _select(change_set, slices, digits))
    return rows.append_column("slice", pc.divide(rows["position"], integer(change_set.slice_rows)))


def _read_table(warehouse: Warehouse, change_set: ChangeSet, query: exp.Query) -> pa.Table:
    fields = [(n, pa.int64() if n == "position" else pa.string()) for n in _OWN]
    fields += value_fields(change_set.layout)
    return read_table(warehouse, query, fields, rows=change_set.slice_rows)


def by_label(layout: TableLayout, read: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Group the columns that were read: new and old identities by type, new and old properties by name."""
    # A column that is there under a label counts, and not one that is retired under the same.
    columns = sorted(layout.columns, key=lambda c: not c.retired)
    identities, properties = ([c for c in columns if c.role == role] for role in ("identity", "property"))
    return {
        "new_identities": {c.label: _listed(c, read[c.new]) for c in identities},
        "old_identities": {
            c.label: _listed(c, read[c.old]) for c in sorted(identities, key=lambda c: c.withdrawn)
        },
        "new_properties": {c.label: read[c.new] for c in properties},
        "old_properties": {c.label: read[c.old] for c in properties},
    }


def identities_by_label(
    layout: TableLayout, read: Mapping[str, Sequence[Any]]
) -> dict[str, Sequence[IdentityValue]]:
    """Group the new identities that were read, by type."""
    return {c.label: _listed(c, read[c.new]) for c in layout.identities}


def _listed(c: Column, values: Sequence[str | None]) -> Sequence[IdentityValue]:
    """Decode the lists of a column that may have several values."""
    if not c.several:
        return values
    return [None if value is None else sorted(orjson.loads(value)) for value in values]


def read_table(
    warehouse: Warehouse, query: exp.Query, fields: Sequence[tuple[str, pa.DataType]], *, rows: int
) -> pa.Table:
    """Read a whole result.

    :param fields: names and types of the columns, by position.
    :param rows: most rows of a batch.
    """
    schema = pa.schema(fields)
    batches = list(warehouse.read_batches(render(query, warehouse.dialect), schema, rows=rows))
    return pa.Table.from_batches(batches, schema=schema).combine_chunks()


def columns_of(rows: pa.Table) -> dict[str, ArrowColumn]:
    """Return the columns of a table that was read, by name."""

    def whole(column: pa.ChunkedArray) -> pa.Array:
        if column.num_chunks == 1:
            return column.chunk(0)  # concat_arrays would copy it
        return pa.concat_arrays([pa.nulls(0, column.type), *column.chunks])

    return {n: ArrowColumn(whole(c)) for n, c in zip(rows.column_names, rows.columns, strict=True)}


def value_columns(layout: TableLayout) -> list[exp.Expr]:
    """Build the reading of the mapped columns, new and old, in the types of :func:`arrow_type`."""
    return [read_value(n, c.kind) for c in layout.columns for n in (c.new, c.old)]


def value_fields(layout: TableLayout) -> list[tuple[str, pa.DataType]]:
    """List the names and types in which :func:`value_columns` are read."""
    return [(n, arrow_type(c.kind)) for c in layout.columns for n in (c.new, c.old)]


def _select(change_set: ChangeSet, slices: range, digits: range, sent: exp.Query | None = None) -> exp.Query:
    each = change_set.slice_rows
    origin = table(change_set.schema, change_set.table) if sent is None else table(None, "sent")
    query = (
        exp.select(
            *(column(n) for n in _OWN),
            *value_columns(change_set.layout),
        )
        .from_(origin, copy=False)
        .where(
            column("action").neq(AUDIENCE),
            *is_within("position", range(slices.start * each, slices.stop * each), digits),
            copy=False,
        )
        .order_by(column("position"), copy=False)
    )
    return query if sent is None else query.with_("sent", as_=sent.copy(), copy=False)
