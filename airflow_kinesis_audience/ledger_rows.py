"""The ledger's table in a warehouse: rows are read, and one is appended as the next of its log or not at all.

Where the engine enforces a primary key, that decides. Where none does, a row's number is claimed first, by a view
of that name: of two who create it at once one fails, on any engine. A claim holds the whole row, so that whoever
meets one that was left behind appends it for its owner; nobody waits for a clock. INSERT and SELECT are enough.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from airflow_kinesis_audience.exceptions import AudienceError, LedgerConflict
from airflow_kinesis_audience.sql import Warehouse, column, drop_view, render, table, text, write_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlglot import exp

LEDGER_TABLE = "ledger"
CHECKPOINT = "checkpoint"
"""Of these rows only the last one of a log is read: each says all that those before it said."""

_KEY = ("sync_id", "log", "sequence")
_TRIES, _WAIT_SECONDS = 3, 0.05
_FEW_LOGS = 200
"""Up to so many logs are read from where an earlier reading ended; with more, all is read again."""


class Row(NamedTuple):
    """A row of the ledger as it is kept: texts, but for its number."""

    sync_id: str
    log: str
    sequence: int
    event: str
    as_of: str
    detail: str
    recorded_at: str
    token: str


class LedgerRows(Protocol):
    """Where the rows of one sync are kept."""

    def create(self) -> None:
        """Make the place for them where it is missing."""

    def read(self, known: Mapping[str, int]) -> list[Row]:
        """Read the rows, but those up to a known number of their log; of checkpoints each log's last row alone.

        :param known: log to the number of its last row that was read before.
        """

    def append(self, row: Row) -> None:
        """Append a row.

        :raises LedgerConflict: if its log has a row of that number already.
        """

    def read_all(self, event: str) -> list[Row]:
        """Read the rows of an event of all syncs that are kept there, by the instants that they speak for."""


class KeyedRows:
    """Rows of a table with a primary key.

    :param schema: of the state.
    """

    def __init__(self, warehouse: Warehouse, schema: str, sync_id: str) -> None:
        self._warehouse = warehouse
        self._schema = schema
        self._sync_id = sync_id

    def create(self) -> None:
        """Create schema and table where they are missing; see :class:`LedgerRows`."""
        self._create_table(LEDGER_TABLE)
        target = table(self._schema, LEDGER_TABLE).sql(dialect=self._warehouse.dialect.name, identify=True)
        # A ledger without its index is slow and right; another run may be making it at this moment.
        with contextlib.suppress(AudienceError):
            for template in self._warehouse.dialect.index_ledger:
                self._warehouse.execute(template.format(table=target))

    def read(self, known: Mapping[str, int]) -> list[Row]:
        """Read rows; see :class:`LedgerRows`."""
        from sqlglot import exp

        newest = exp.Window(
            this=exp.RowNumber(),
            partition_by=[column("log")],
            order=exp.Order(expressions=[exp.Ordered(this=column("sequence"), desc=True)]),
        )
        rows = (
            exp.select(*map(column, Row._fields), newest.as_("recency", quoted=True))
            .from_(self._table())
            .where(column("sync_id").eq(self._sync_id), *_after(known))
        )
        query = (
            exp.select(*map(column, Row._fields))
            .from_(rows.subquery("rows", copy=False))
            .where(exp.or_(column("event").neq(CHECKPOINT), column("recency").eq(1)))
            .order_by(column("log"), column("sequence"))
        )
        return self._read(query)

    def append(self, row: Row) -> None:
        """Append a row; see :class:`LedgerRows`."""
        for left in reversed(range(_TRIES)):
            try:
                self._insert(row)
            except AudienceError:
                # Refused or not is told by the ledger itself: an answer can be lost after the row was taken.
                found = self._find(row)
                if found is None:
                    if not left:
                        raise
                    # What refused it may be a row that is about to be committed.
                    time.sleep(_WAIT_SECONDS)
                    continue
                if found.token != row.token:
                    raise LedgerConflict from None
            return

    def read_all(self, event: str) -> list[Row]:
        """Read rows of all syncs; see :class:`LedgerRows`."""
        from sqlglot import exp

        query = exp.select(*map(column, Row._fields)).from_(self._table())
        return self._read(query.where(column("event").eq(event)).order_by(column("as_of")))

    def _table(self) -> exp.Table:
        return table(self._schema, LEDGER_TABLE)

    def _read(self, query: exp.Query) -> list[Row]:
        return [Row(*found) for found in self._warehouse.read_rows(render(query, self._warehouse.dialect))]

    def _insert(self, row: Row) -> None:
        from sqlglot import exp

        dialect, marks = self._warehouse.dialect, [exp.Var(this=self._warehouse.placeholder) for _ in row]
        names = [exp.to_identifier(n, quoted=True) for n in Row._fields]
        insert = exp.insert(exp.values([tuple(marks)]), self._table(), columns=names)
        self._warehouse.execute(render(insert, dialect), row)

    def _find(self, row: Row) -> Row | None:
        from sqlglot import exp

        where = [column(n).eq(getattr(row, n)) for n in _KEY]
        query = exp.select(*map(column, Row._fields)).from_(self._table()).where(*where)
        return next(iter(self._read(query)), None)

    def _create_table(self, name: str) -> None:
        schema, made = self._definitions(name)
        try:
            self._warehouse.execute(made)
        except AudienceError:
            # Only now: a login that was given a schema may not be allowed to say that there should be one.
            self._warehouse.execute(schema)
            self._warehouse.execute(made)

    def _definitions(self, name: str) -> list[str]:
        from sqlglot import exp

        dialect = self._warehouse.dialect
        database, _, inner = self._schema.rpartition(".")
        schema = exp.Create(this=table(database or None, inner), kind="SCHEMA", exists=True)
        made_so = schema.sql(dialect=dialect.definitions or dialect.name, identify=True)
        target = table(self._schema, name).sql(dialect=dialect.name, identify=True)
        if dialect.tables_of_queries:
            nothing = exp.select(*self._nothing()).where(exp.false())
            return [made_so, f"CREATE TABLE {target} {dialect.table_clause} AS {render(nothing, dialect)}"]
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(self._names(), self._types(), strict=True))
        clause = f" {dialect.table_clause}" if dialect.table_clause else ""
        made = f"CREATE TABLE IF NOT EXISTS {target} ({columns}{self._constraint()}){clause}"
        return [made_so, made]

    def _nothing(self) -> list[exp.Expr]:
        from sqlglot import exp

        types = {"sequence": "BIGINT"}
        return [exp.cast(exp.null(), types.get(n, "TEXT")).as_(n, quoted=True) for n in Row._fields]

    def _names(self) -> list[str]:
        from sqlglot import exp

        dialect = self._warehouse.dialect.name
        return [exp.to_identifier(n, quoted=True).sql(dialect=dialect) for n in Row._fields]

    def _types(self) -> list[str]:
        from sqlglot import exp

        dialect = self._warehouse.dialect
        types = {**dict.fromkeys(_KEY, dialect.key_text), "sequence": "BIGINT"}
        return [
            exp.DataType.build(types.get(n, dialect.long_text)).sql(dialect=dialect.name) + self._not_null
            for n in Row._fields
        ]

    _not_null = " NOT NULL"

    def _constraint(self) -> str:
        return f", PRIMARY KEY ({', '.join(self._names()[: len(_KEY)])})"


class ClaimedRows(KeyedRows):
    """Rows of a table whose engine enforces no key, or none within it: see the head of this file."""

    _not_null = ""

    def append(self, row: Row) -> None:
        """Append a row; see :class:`LedgerRows`."""
        claimed = self._claim(row)
        if claimed is None:
            raise LedgerConflict
        if claimed.token != row.token:
            # Its owner may have ended before it appended it.
            if self._find(row) is None:
                super().append(claimed)
            self._let_go(claimed)
            raise LedgerConflict
        found = self._find(row)
        if found is None:
            super().append(row)
        self._let_go(row)
        if found is not None and found.token != row.token:
            # Its claim was gone already: this one came too late, and claimed nothing.
            raise LedgerConflict

    def _claim(self, row: Row) -> Row | None:
        """Claim a row's number; gives the row that holds it, or none if that is written and its claim gone."""
        from sqlglot import exp

        held = exp.select(text(_packed(row)).as_("row", quoted=True))
        try:
            write_view(self._warehouse, self._view(row), held, replace=False)
        except AudienceError:
            claimed = self._read_claim(row)
            if claimed is None and self._find(row) is None:
                raise  # nobody has claimed it, so this is why it could not be
            return claimed
        return row

    def _read_claim(self, row: Row) -> Row | None:
        from sqlglot import exp

        query = render(exp.select(column("row")).from_(self._view(row)), self._warehouse.dialect)
        with contextlib.suppress(AudienceError):
            return _unpacked(self._warehouse.read_rows(query)[0][0])
        return None

    def _let_go(self, row: Row) -> None:
        # One that stays is met by nobody: its number is taken by the row itself.
        with contextlib.suppress(AudienceError):
            drop_view(self._warehouse, self._view(row))

    def _view(self, row: Row) -> exp.Table:
        digest = hashlib.blake2b(json.dumps([row.sync_id, row.log]).encode(), digest_size=10).hexdigest()
        return table(self._schema, f"claim_{digest}_{row.sequence}")

    def _constraint(self) -> str:
        return ""


def _after(known: Mapping[str, int]) -> list[exp.Expr]:
    from sqlglot import exp

    if not known or len(known) > _FEW_LOGS:
        return []
    later = (
        exp.and_(column("log").eq(log), exp.GT(this=column("sequence"), expression=exp.Literal.number(number)))
        for log, number in known.items()
    )
    return [exp.or_(exp.not_(column("log").isin(*known)), *later)]


def _packed(row: Row) -> str:
    """Write a row as letters and digits alone, which no engine takes for anything else."""
    return base64.b64encode(json.dumps(row).encode()).decode()


def _unpacked(packed: str) -> Row:
    return Row(*json.loads(base64.b64decode(packed)))
