"""The ledger's table in a warehouse: rows are read, and one is appended as the next of its log or not at all.

Where the engine enforces a primary key, that decides. Where none does, see :mod:`.ledger_claims`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import AudienceError, LedgerConflict
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.statements import column, render, table, union_all
from airflow_kinesis_audience.core.state.ledger_rows import (
    FOLD_LOG,
    FOLDS_READ,
    Fold,
    Row,
    fold_rows,
    newest_fold,
)
from airflow_kinesis_audience.core.state.other_syncs import select_others

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

LEDGER_TABLE = "ledger"
CHECKPOINT = "checkpoint"
"""Of these rows only the last one of a log is read: each says all that those before it said."""

LAST_OF_CHECKPOINTS = exp.or_(column("event").neq(CHECKPOINT), column("recency").eq(1))

KEY = ("sync_id", "log", "sequence")
TRIES, WAIT_SECONDS = 3, 0.05
_LONG_LOGS = 100
"""So many logs, the longest, are read from where an earlier reading ended; of others all rows are read again."""


class RowLeftBehind(LedgerConflict):
    """A row stood in the way that its owner had claimed and not yet inserted; now everybody sees it.

    Its owner was killed, or is still at work.
    """


class LedgerTable(Protocol):
    """Where the rows of one sync are kept."""

    def create(self) -> None:
        """Make the place for them where it is missing."""

    def read(self, known: Mapping[str, int], *, since: datetime | None = None) -> list[Row]:
        """Read the rows, but those up to a known number of their log; of checkpoints each log's last row alone.

        :param known: log to the number of its last row that was read before.
        :param since: rows that speak for an earlier instant may be left out.
        """

    def read_fold(self) -> Fold:
        """Read the newest fold that is complete."""

    def write_fold(self, text: str, known: Mapping[str, int]) -> None:
        """Write a fold; a failure leaves the one before.

        :param known: log to the number of its last row that is in it.
        """

    def append(self, row: Row, *, lazy: bool = False) -> None:
        """Append a row.

        :param lazy: no reader has to see it before its log's next row is appended.
        :raises LedgerConflict: if its log has a row of that number already, or one that this object has appended
            lazily came too late.
        """

    def read_all(self, event: str) -> list[Row]:
        """Read the rows of an event of all syncs that are kept there, by the instants that they speak for."""

    def read_others(self, log: str, events: Collection[str]) -> list[Row]:
        """Read the newest row of each of some events, of the other syncs that have any row in a log.

        :param log: of a delivery. Read are that log and the sync's own.
        """

    def of_sync(self, sync_id: str) -> LedgerTable:
        """Give the rows of another sync."""


class PrimaryKeyLedgerTable:
    """Rows of a table with a primary key.

    :param schema: of the state.
    """

    def __init__(self, warehouse: Warehouse, schema: str, sync_id: str) -> None:
        self._warehouse = warehouse
        self._schema = schema
        self._sync_id = sync_id
        self._folds = 0

    def create(self) -> None:
        """Create schema and table where they are missing; see :class:`LedgerTable`."""
        self._create_table(LEDGER_TABLE)
        target = table(self._schema, LEDGER_TABLE).sql(dialect=self._warehouse.dialect.name, identify=True)
        # A ledger without its index is slow and right; another run may be making it at this moment.
        with contextlib.suppress(AudienceError):
            for template in self._warehouse.dialect.ddl.index_ledger:
                self._warehouse.execute(template.format(table=target))

    def read(self, known: Mapping[str, int], *, since: datetime | None = None) -> list[Row]:
        """Read rows; see :class:`LedgerTable`."""
        found = self._select(_after(known)).subquery("found", copy=False)
        rows = exp.select(*map(column, Row._fields), recency().as_("recency")).from_(found)
        if since is not None:
            rows = rows.where(exp.GTE(this=column("as_of"), expression=exp.Literal.string(instant_text(since))))
        query = (
            exp.select(*map(column, Row._fields))
            .from_(rows.subquery("rows", copy=False))
            .where(LAST_OF_CHECKPOINTS)
            .order_by(column("log"), column("sequence"))
        )
        return self._read(query)

    def append(self, row: Row, *, lazy: bool = False) -> None:
        """Append a row; see :class:`LedgerTable`."""
        for left in reversed(range(TRIES)):
            try:
                self._insert(row)
            except AudienceError:
                # The ledger itself shows whether it was refused: an answer can be lost after the row was taken.
                [found] = self._find(row)
                if found is None:
                    if not left:
                        raise
                    # What refused it may be a row that is about to be committed.
                    time.sleep(WAIT_SECONDS)
                    continue
                if found.token != row.token:
                    raise LedgerConflict from None
            return

    def read_fold(self) -> Fold:
        """Read the newest fold; see :class:`LedgerTable`. An index finds the rows after it, once it is known."""
        origin = self._table()
        own = exp.and_(column("sync_id").eq(self._sync_id), column("log").eq(FOLD_LOG))
        newest = exp.select(exp.Max(this=column("sequence"))).from_(origin).where(own)
        before = exp.Sub(this=newest.subquery(copy=False), expression=exp.Literal.number(FOLDS_READ))
        later = exp.GT(this=column("sequence"), expression=before)
        query = exp.select(*map(column, Row._fields)).from_(origin.copy()).where(own.copy(), later)
        self._folds, text = newest_fold(self._read(query))
        return Fold(text)

    def write_fold(self, text: str, known: Mapping[str, int]) -> None:
        """Write a fold; see :class:`LedgerTable`."""
        for row in fold_rows(self._sync_id, text, number=self._folds + 1):
            self._insert(row)

    def read_all(self, event: str) -> list[Row]:
        """Read rows of all syncs; see :class:`LedgerTable`."""
        query = exp.select(*map(column, Row._fields)).from_(self._table())
        return self._read(query.where(column("event").eq(event)).order_by(column("as_of")))

    def read_others(self, log: str, events: Collection[str]) -> list[Row]:
        """Read rows of other syncs, in one statement; see :class:`LedgerTable`."""
        return self._read(select_others(self._table(), Row._fields, self._sync_id, log=log, events=events))

    def of_sync(self, sync_id: str) -> LedgerTable:
        """Give the rows of another sync; see :class:`LedgerTable`."""
        return type(self)(self._warehouse, self._schema, sync_id)

    def _table(self) -> exp.Table:
        return table(self._schema, LEDGER_TABLE)

    def _select(self, conditions: Sequence[exp.Expr]) -> exp.Query:
        """Select rows that meet one of some conditions, of which none meets two."""
        # Each by itself is a range of the index, or few blocks. For an OR, DuckDB reads whole rows of the table.
        own = column("sync_id").eq(self._sync_id)
        return union_all(exp.select("*").from_(self._table()).where(own.copy(), c) for c in conditions)

    def _read(self, query: exp.Query) -> list[Row]:
        return [Row(*found) for found in self._warehouse.read_rows(render(query, self._warehouse.dialect))]

    def _insert(self, row: Row) -> None:
        dialect, marks = self._warehouse.dialect, [exp.Var(this=self._warehouse.placeholder) for _ in row]
        names = [exp.to_identifier(n, quoted=True) for n in Row._fields]
        insert = exp.insert(exp.values([tuple(marks)]), self._table(), columns=names)
        self._warehouse.execute(render(insert, dialect), row)

    def _find(self, *rows: Row) -> list[Row | None]:
        """Find what the ledger holds at the numbers of rows; none where a number is free."""
        same = (exp.and_(*(column(n).eq(getattr(row, n)) for n in KEY)) for row in rows)
        query = exp.select(*map(column, Row._fields)).from_(self._table()).where(exp.or_(*same))
        found = {(row.log, row.sequence): row for row in self._read(query)}
        return [found.get((row.log, row.sequence)) for row in rows]

    def _create_table(self, name: str) -> None:
        schema, made = self._definitions(name)
        try:
            self._warehouse.execute(made)
        except AudienceError:
            # Only now: a login that was given a schema may not be allowed to say that there should be one.
            self._warehouse.execute(schema)
            self._warehouse.execute(made)

    def _definitions(self, name: str) -> list[str]:
        dialect = self._warehouse.dialect
        database, _, inner = self._schema.rpartition(".")
        schema = exp.Create(this=table(database or None, inner), kind="SCHEMA", exists=True)
        made_so = schema.sql(dialect=dialect.ddl.sqlglot_name or dialect.name, identify=True)
        target = table(self._schema, name).sql(dialect=dialect.name, identify=True)
        if dialect.ddl.only_from_queries:
            nothing = exp.select(*self._nothing()).where(exp.false())
            return [made_so, f"CREATE TABLE {target} {dialect.ddl.table_clause} AS {render(nothing, dialect)}"]
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(self._names(), self._types(), strict=True))
        clause = f" {dialect.ddl.table_clause}" if dialect.ddl.table_clause else ""
        made = f"CREATE TABLE IF NOT EXISTS {target} ({columns}{self._constraint()}){clause}"
        return [made_so, made]

    def _nothing(self) -> list[exp.Expr]:
        types = {"sequence": "BIGINT"}
        return [exp.cast(exp.null(), types.get(n, "TEXT")).as_(n) for n in Row._fields]

    def _names(self) -> list[str]:
        dialect = self._warehouse.dialect.name
        return [exp.to_identifier(n, quoted=True).sql(dialect=dialect) for n in Row._fields]

    def _types(self) -> list[str]:
        dialect = self._warehouse.dialect.name
        return [kind.sql(dialect=dialect) + self._not_null for kind in self._column_types().values()]

    def _column_types(self) -> dict[str, exp.DataType]:
        dialect = self._warehouse.dialect
        types = {**dict.fromkeys(KEY, dialect.types.key_text), "sequence": "BIGINT"}
        return {n: exp.DataType.build(types.get(n, dialect.types.long_text)) for n in Row._fields}

    _not_null = " NOT NULL"

    def _constraint(self) -> str:
        return f", PRIMARY KEY ({', '.join(self._names()[: len(KEY)])})"


def recency() -> exp.Window:
    """Build which row of its log a row is, from the last one on."""
    newest_first = exp.Order(expressions=[exp.Ordered(this=column("sequence"), desc=True)])
    return exp.Window(this=exp.RowNumber(), partition_by=[column("log")], order=newest_first)


def longest_of(known: Mapping[str, int]) -> list[str]:
    """List the logs that are worth to be read from where an earlier reading ended."""
    return sorted(known, key=lambda log: known[log], reverse=True)[:_LONG_LOGS]


def _after(known: Mapping[str, int]) -> list[exp.Expr]:
    """Build the conditions of rows after those that are known, but for folds; no row meets two.

    Logs that nobody knows lie between those that are known: an index finds them so, and NOT IN reads all. In
    whatever order the engine has texts, no log is in none of these ranges.
    """
    longest = longest_of(known)
    after = [
        exp.and_(column("log").eq(log), exp.GT(this=column("sequence"), expression=exp.Literal.number(known[log])))
        for log in longest
    ]
    logs = sorted([*longest, FOLD_LOG])
    below = [exp.LT(this=column("log"), expression=exp.Literal.string(log)) for log in logs]
    above = [exp.GT(this=column("log"), expression=exp.Literal.string(log)) for log in logs]
    between = [exp.and_(low, high) for low, high in zip(above, below[1:], strict=False)]
    return [exp.or_(below[0], *between, above[-1]), *after]
