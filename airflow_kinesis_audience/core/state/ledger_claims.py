"""The ledger's table on an engine that enforces no key: a row's number is claimed first, by a view of that name.

Of two who create a view at once one fails, on any engine. A claim holds the whole row, so that whoever meets one
that its owner has not inserted yet does so for it; nobody waits. A row that is claimed is safe, so several are
inserted together. Claims are dropped many at a time, and late: whoever believes such a number to be free, from an
old reading, inserts at once, and finds it taken. INSERT and SELECT are enough.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import AudienceError, LedgerConflict, WarehouseUnavailable
from airflow_kinesis_audience.core.sql.statements import (
    column,
    drop_view,
    render,
    table,
    text,
    union_all,
    write_view,
)
from airflow_kinesis_audience.core.state.ledger_rows import (
    FOLD_LOG,
    FOLDS_READ,
    Fold,
    Row,
    fold_rows,
    newest_fold,
)
from airflow_kinesis_audience.core.state.ledger_tables import (
    KEY,
    LAST_OF_CHECKPOINTS,
    TRIES,
    WAIT_SECONDS,
    PrimaryKeyLedgerTable,
    RowLeftBehind,
    longest_of,
    recency,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

_LAZY_SECONDS = 600.0
"""So long after a reading rows are inserted lazily, as a writer that is late meets the claims of others."""

_MARKS = f"{FOLD_LOG}:"
"""Before the name of a log: the log of its numbers at which a fold was made."""

_CLAIMS_KEPT, _CLAIMS_KEPT_SECONDS = 32, 3600.0
"""So many claims of a log stay at least, each for so long, and are dropped together."""


class ClaimedLedgerTable(PrimaryKeyLedgerTable):
    """Rows of a table whose engine enforces no key, or none within it: see the head of this file."""

    _not_null = ""

    def __init__(self, warehouse: Warehouse, schema: str, sync_id: str) -> None:
        super().__init__(warehouse, schema, sync_id)
        self._claimed: list[Row] = []
        self._read_at = 0.0

    def read(self, known: Mapping[str, int], *, since: datetime | None = None) -> list[Row]:
        """Read rows; see :class:`LedgerTable`."""
        self._begin_reading()
        return super().read(known, since=since)

    def _begin_reading(self) -> None:
        self._insert_claimed()
        # The clock of the wall: a machine that sleeps is late when it wakes up.
        self._read_at = time.time()

    def read_fold(self) -> Fold:
        """Read the newest fold, and the rows after it in the same statement; see :class:`LedgerTable`."""
        self._begin_reading()
        rows = [Row(*found) for found in self._warehouse.read_rows(self._select_since_fold())]
        pieces = [row for row in rows if row.log == FOLD_LOG]
        marks = [row for row in rows if row.log.startswith(_MARKS)]
        self._folds, text = newest_fold(pieces)
        return Fold(
            text,
            rows=[row for row in rows if row.log != FOLD_LOG and not row.log.startswith(_MARKS)],
            after={row.log.removeprefix(_MARKS): int(row.sequence) for row in marks},
        )

    def _select_since_fold(self) -> str:
        """Build the reading of the last folds, of the last mark of each log, and of the rows after that."""
        log, sequence, is_mark = column("log"), column("sequence"), column("log").like(f"{_MARKS}%")
        marked = exp.func("SUBSTRING", log.copy(), exp.Literal.number(len(_MARKS) + 1))
        own = exp.Case().when(is_mark.copy(), marked).else_(log.copy())
        mark = exp.Max(this=exp.Case().when(is_mark.copy(), sequence.copy()))
        rows = (
            exp.select(
                *map(column, Row._fields),
                recency().as_("recency"),
                exp.Window(this=exp.Max(this=sequence.copy()), partition_by=[log.copy()]).as_("last"),
                exp.Window(this=mark, partition_by=[own]).as_("mark"),
            )
            .from_(self._table())
            .where(column("sync_id").eq(self._sync_id))
        )
        is_fold = log.eq(FOLD_LOG)
        fold = exp.and_(is_fold, sequence > column("last") - exp.Literal.number(FOLDS_READ))
        last_mark = exp.and_(is_mark.copy(), column("recency").eq(1))
        is_later = exp.or_(column("mark").is_(exp.null()), sequence > column("mark"))
        later = exp.and_(exp.not_(is_fold.copy()), exp.not_(is_mark.copy()), is_later, LAST_OF_CHECKPOINTS)
        query = exp.select(*map(column, Row._fields)).from_(rows.subquery("rows", copy=False))
        return render(query.where(exp.or_(fold, last_mark, later)), self._warehouse.dialect)

    def write_fold(self, text: str, known: Mapping[str, int]) -> None:
        """Write a fold, and then how far it goes in each log; see :class:`LedgerTable`."""
        super().write_fold(text, known)
        [mark] = fold_rows(self._sync_id, " ", number=0)
        self._insert_new([mark._replace(log=f"{_MARKS}{log}", sequence=known[log]) for log in longest_of(known)])

    def append(self, row: Row, *, lazy: bool = False) -> None:
        """Append a row; see :class:`LedgerTable`."""
        self._claim(row)
        self._claimed.append(row)
        if not lazy or time.time() - self._read_at > _LAZY_SECONDS:
            self._insert_claimed()

    def _claim(self, row: Row) -> None:
        """Claim a row's number; a claim that was left behind is inserted for its owner, with those after it."""
        held = exp.select(text(_packed(row)).as_("row"))
        try:
            write_view(self._warehouse, self._view(row), held, replace=False)
        except AudienceError:
            [found] = self._find(row)
            if found is not None:
                if found.token != row.token:
                    raise LedgerConflict from None
                return  # another has inserted it from the claim
            claims = self._read_claims(row)
            if not claims:
                raise  # nobody has claimed it, so this is why it could not be
            if claims[0] != row:  # else the answer was lost, and the claim is ours
                self._insert_new(claims)
                raise RowLeftBehind from None

    def _read_claims(self, row: Row) -> list[Row]:
        """Read the claim of a row's number and those that follow it."""
        claims: list[Row] = []
        with contextlib.suppress(AudienceError):
            while True:
                view = self._view(row._replace(sequence=row.sequence + len(claims)))
                query = render(exp.select(column("row")).from_(view), self._warehouse.dialect)
                claims.append(_unpacked(self._warehouse.read_rows(query)[0][0]))
        return claims

    def _select(self, conditions: Sequence[exp.Expr]) -> exp.Query:
        """Select rows in one reading of the table: no index has them, and some engines charge for each reading."""
        return super()._select([exp.and_(exp.or_(*conditions), exp.not_(column("log").like(f"{_MARKS}%")))])

    def _insert_claimed(self) -> None:
        """Insert all rows that this object has claimed, in one statement.

        :raises LedgerConflict: if one came too late: its number was taken, and that claim is gone already.
        """
        rows = self._claimed
        for left in reversed(range(TRIES)):
            if not rows or self._insert_new(rows, last_try=not left) == len(rows):
                break
            found = self._find(*rows)
            pairs = zip(rows, found, strict=True)
            lost = [(row, other) for row, other in pairs if other is None or other.token != row.token]
            if any(other is not None for _, other in lost):
                self._claimed = []
                # They say what their owner believed, and nobody is to insert them.
                self._drop(row for row, _ in lost)
                raise LedgerConflict
            if not lost:
                break
            if not left:
                raise WarehouseUnavailable(
                    f"a row that was written to the ledger in schema {self._schema!r} is missing; retry"
                )
        self._claimed = []
        for row in rows:
            self._drop_claims(row)

    def _insert_new(self, rows: Sequence[Row], *, last_try: bool = True) -> int | None:
        """Insert those rows whose numbers are not taken; gives how many, or none where nobody knows."""
        dialect, mark = self._warehouse.dialect, exp.Var(this=self._warehouse.placeholder)
        # With types, which a bare mark lacks on some engines.
        given = union_all(
            exp.select(*(exp.cast(mark.copy(), kind).as_(n) for n, kind in self._column_types().items()))
            for _ in rows
        )
        target = self._table()
        same = (column(n, "kept").eq(column(n, "given")) for n in KEY)
        kept = exp.select(exp.Literal.number(1)).from_(target.copy().as_("kept")).where(*same)
        query = (
            exp.select(*(column(n, "given") for n in Row._fields))
            .from_(given.subquery("given", copy=False))
            .where(exp.not_(exp.Exists(this=kept)))
        )
        names = [exp.to_identifier(n, quoted=True) for n in Row._fields]
        insert = exp.insert(query, target, columns=names)
        try:
            return self._warehouse.execute(render(insert, dialect), [value for row in rows for value in row])
        except AudienceError:
            if last_try:
                raise
            time.sleep(WAIT_SECONDS)
            return None

    def _drop_claims(self, row: Row) -> None:
        """Drop the claims that no writer can be too late for, at each row that is the last of so many."""
        if row.sequence % _CLAIMS_KEPT == 0:
            before = exp.LTE(this=column("sequence"), expression=exp.Literal.number(row.sequence - _CLAIMS_KEPT))
            last = self._find_last(row.log, "recorded_at", before)
            numbers = range(self._first_kept(row.log, last), self._first_kept(row.log, row.recorded_at))
            self._drop(row._replace(sequence=number) for number in numbers)

    def _first_kept(self, log: str, now: str | None) -> int:
        """Find the first claim that has to stay when a row is recorded at an instant."""
        if now is None:
            return 1
        until = datetime.fromisoformat(now) - timedelta(seconds=_CLAIMS_KEPT_SECONDS)
        at = exp.Literal.string(until.isoformat(timespec="milliseconds"))
        old = self._find_last(log, "sequence", exp.LTE(this=column("recorded_at"), expression=at))
        return max(1, int(old or 0) - _CLAIMS_KEPT + 1)

    def _find_last(self, log: str, name: str, condition: exp.Expr) -> Any:
        """Find the highest value of a column in the rows of a log that meet a condition."""
        of_log = column("sync_id").eq(self._sync_id), column("log").eq(log)
        query = exp.select(exp.Max(this=column(name))).from_(self._table()).where(*of_log, condition)
        [(found,)] = self._warehouse.read_rows(render(query, self._warehouse.dialect))
        return found

    def _drop(self, rows: Iterable[Row]) -> None:
        for row in rows:
            with contextlib.suppress(AudienceError):
                drop_view(self._warehouse, self._view(row))

    def _view(self, row: Row) -> exp.Table:
        digest = hashlib.blake2b(json.dumps([row.sync_id, row.log]).encode(), digest_size=10).hexdigest()
        return table(self._schema, f"claim_{digest}_{row.sequence}")

    def _constraint(self) -> str:
        return ""


def _packed(row: Row) -> str:
    """Write a row as letters and digits alone, which no engine takes for anything else."""
    return base64.b64encode(json.dumps(row).encode()).decode()


def _unpacked(packed: str) -> Row:
    return Row(*json.loads(base64.b64decode(packed)))
