"""SQL of what the ledger's table has of other syncs: those that deliver to a destination, too.

It builds a statement and runs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.sql.statements import column
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def select_others(
    origin: exp.Table, names: Sequence[str], sync_id: str, *, log: str, events: Collection[str]
) -> exp.Select:
    """Build the newest row of each of some events, of all syncs but one that have any row in a log.

    :param origin: the ledger's table, and ``names`` its columns.
    :param log: of a delivery; rows of that log count, and of each sync's own.
    """
    syncs = exp.select(column("sync_id")).from_(origin).where(column("log").eq(log))
    newest = exp.Window(
        this=exp.RowNumber(),
        partition_by=[column(n) for n in ("sync_id", "log", "event")],
        order=exp.Order(expressions=[exp.Ordered(this=column("sequence"), desc=True)]),
    )
    rows = (
        exp.select(*map(column, names), newest.as_("recency"))
        .from_(origin.copy())
        .where(
            column("sync_id").neq(sync_id),
            exp.In(this=column("log"), expressions=[exp.Literal.string(n) for n in (log, SYNC_LOG)]),
            exp.In(this=column("event"), expressions=[exp.Literal.string(event) for event in sorted(events)]),
            exp.In(this=column("sync_id"), query=syncs.subquery(copy=False)),
        )
    )
    return (
        exp.select(*map(column, names))
        .from_(rows.subquery("rows", copy=False))
        .where(column("recency").eq(1))
        .order_by(column("sync_id"), column("sequence"))
    )
