"""The ledger's table where every row that is inserted becomes a file of its own: compacted from time to time.

Rows are compacted into a new table, which a view of its number makes the ledger's. Before that the old one is
closed, by a view as well, and whoever appends looks for that afterwards: a row counts once it was seen in a table
that was open then, so that none is left behind in an old one. Whoever ends half-way leaves what the next one goes
on with.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from typing import TYPE_CHECKING, NamedTuple

from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseUnavailable
from airflow_kinesis_audience.core.sql.statements import (
    column,
    drop_table,
    drop_view,
    render,
    table,
    text,
    write_table,
    write_view,
)
from airflow_kinesis_audience.core.state.ledger_claims import ClaimedLedgerTable
from airflow_kinesis_audience.core.state.ledger_rows import Fold, Row
from airflow_kinesis_audience.core.state.ledger_tables import LEDGER_TABLE, LedgerTable, PrimaryKeyLedgerTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

MOST_FILES = 64
"""Rows since the last compaction that make the next one: reading as many files takes half a second."""


class _Place(NamedTuple):
    """Where the rows are: the number of the table, its name, and how many were compacted into it.

    :param closed: it is being compacted: what is appended now may be left behind.
    """

    number: int
    name: str
    compacted: int
    closed: bool


class CompactedLedgerTable(ClaimedLedgerTable):
    """Rows of a table that is replaced by a compacted one: see the head of this file."""

    def __init__(self, warehouse: Warehouse, schema: str, sync_id: str) -> None:
        super().__init__(warehouse, schema, sync_id)
        self._pointers: dict[int, tuple[str, int]] = {}
        self._place: _Place | None = None
        self._looked = False

    def create(self) -> None:
        """Create the schema and the first table; see :class:`LedgerTable`."""
        self._create_table(name := _table_name(0))
        if not self._point_to(0, name, 0):
            drop_table(self._warehouse, table(self._schema, name))

    def read(self, known: Mapping[str, int], *, since: datetime | None = None) -> list[Row]:
        """Read rows, and compact them once if they have become many; see :class:`LedgerTable`."""
        rows = super().read(known, since=since)
        self._compact_many()
        return rows

    def read_fold(self) -> Fold:
        """Read the newest fold, and compact rows as :meth:`read` does; see :class:`LedgerTable`."""
        fold = super().read_fold()
        self._compact_many()
        return fold

    def _compact_many(self) -> None:
        if not self._looked and self._place is not None:
            self._looked = True
            # A compaction that fails is begun again by the next one that reads.
            with contextlib.suppress(AudienceError):
                if self._count(self._place.name) - self._place.compacted > MOST_FILES:
                    self._compact(self._place)

    def _insert_new(self, rows: Sequence[Row], *, last_try: bool = True) -> int | None:
        """Insert rows; an answer is no proof: of two files that are written at once, one may be lost."""
        super()._insert_new(rows, last_try=last_try)
        return None

    def _table(self) -> exp.Table:
        self._place = self._find_open()
        found = table(self._schema, self._place.name)
        self._refresh(found)
        return found

    def _refresh(self, found: exp.Table) -> None:
        dialect = self._warehouse.dialect
        if dialect.before_read:
            name = found.sql(dialect=dialect.name, identify=True)
            self._warehouse.execute(dialect.before_read.format(table=name))

    def _find_open(self) -> _Place:
        """Find the table that rows are appended to, after what another has begun to compact is compacted."""
        while (place := self._find_place()).closed:
            self._compact(place)
        return place

    def _find_place(self) -> _Place:
        found = self._list("VIEWS")
        numbers = [int(m[1]) for name in found if (m := re.fullmatch(r"ledger_at_(\d+)", name))]
        if not numbers:
            raise WarehouseUnavailable(f"there is no ledger in schema {self._schema!r}")
        number = max(numbers)
        if number not in self._pointers:
            query = exp.select(column("name"), column("folded")).from_(self._view_at(number))
            [(name, compacted)] = self._warehouse.read_rows(render(query, self._warehouse.dialect))
            self._pointers[number] = str(name), int(compacted)
        return _Place(number, *self._pointers[number], closed=f"ledger_until_{number}" in found)

    def _compact(self, place: _Place) -> None:
        """Compact all rows into a new table, unless somebody else is faster."""
        self._make_view(self._view_until(place.number), exp.select(text(place.name).as_("name")))
        old, number = table(self._schema, place.name), place.number + 1
        self._refresh(old)
        rows = exp.select(*map(column, Row._fields)).distinct().from_(old)
        compacted = rows.order_by(*(column(n) for n in ("sync_id", "log", "sequence")))
        name = _table_name(number)
        write_table(self._warehouse, table(self._schema, name), compacted)
        if self._point_to(number, name, self._count(name)):
            self._drop_older(number)
        else:
            drop_table(self._warehouse, table(self._schema, name))

    def _point_to(self, number: int, name: str, compacted: int) -> bool:
        """Make a table the ledger's; false if another one is."""
        pointer = exp.select(text(name).as_("name"), exp.Literal.number(compacted).as_("folded"))
        made = self._make_view(self._view_at(number), pointer)
        if made:
            rows = exp.select(*map(column, Row._fields)).from_(table(self._schema, name))
            # For people to look at; nothing here reads it.
            with contextlib.suppress(AudienceError):
                write_view(self._warehouse, table(self._schema, LEDGER_TABLE), rows)
        return made

    def _make_view(self, view: exp.Table, query: exp.Query) -> bool:
        """Make a view; false if it is there."""
        try:
            write_view(self._warehouse, view, query, replace=False)
        except AudienceError:
            if view.name not in self._list("VIEWS"):
                raise
            return False
        return True

    def _drop_older(self, number: int) -> None:
        """Drop what is older than the table before this one, which somebody may still be reading."""
        for name in self._list("VIEWS"):
            if (m := re.fullmatch(r"ledger_(?:at|until)_(\d+)", name)) and int(m[1]) < number - 1:
                drop_view(self._warehouse, table(self._schema, name))
        for name in self._list("TABLES"):
            if (m := re.fullmatch(r"ledger_(\d+)_[0-9a-f]{6}", name)) and int(m[1]) < number - 1:
                drop_table(self._warehouse, table(self._schema, name))

    def _list(self, what: str) -> set[str]:
        database, _, inner = self._schema.rpartition(".")
        schema = table(database or None, inner).sql(dialect=self._warehouse.dialect.name, identify=True)
        rows = self._warehouse.read_rows(f"SHOW {what} IN {schema} LIKE 'ledger_*'")
        return {str(row[1]) for row in rows}

    def _count(self, name: str) -> int:
        query = exp.select(exp.Count(this=exp.Star())).from_(table(self._schema, name))
        [(rows,)] = self._warehouse.read_rows(render(query, self._warehouse.dialect))
        return int(rows)

    def _view_at(self, number: int) -> exp.Table:
        return table(self._schema, f"ledger_at_{number}")

    def _view_until(self, number: int) -> exp.Table:
        return table(self._schema, f"ledger_until_{number}")


def _table_name(number: int) -> str:
    return f"ledger_{number}_{uuid.uuid4().hex[:6]}"


def open_ledger_table(warehouse: Warehouse, schema: str, sync_id: str) -> LedgerTable:
    """Give the rows of a sync in a warehouse, as its engine can keep them."""
    kept = PrimaryKeyLedgerTable if warehouse.dialect.enforces_keys else ClaimedLedgerTable
    if warehouse.dialect.file_per_insert:
        kept = CompactedLedgerTable
    return kept(warehouse, schema, sync_id)
