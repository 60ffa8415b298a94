"""The views over a sync's kept change sets, for people and their queries: what changed, and what was delivered.

A view names tables, and tables come and go. So whoever drops some writes the views before, over what stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.delivered import select_delivered
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.names import delivered_view_name, view_name
from airflow_kinesis_audience.core.sql.statements import (
    column,
    drop_view,
    null_like,
    table,
    text,
    union_all,
    write_view,
)
from airflow_kinesis_audience.core.state.ledger_tables import PrimaryKeyLedgerTable
from airflow_kinesis_audience.core.state.rows import AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_kinesis_audience.core.state.ledger import Ledger


def write_views(ledger: Ledger, dropped: Collection[str] = ()) -> None:
    """Write the views over the tables that a ledger, which was read, lists.

    :param dropped: tables that are about to be dropped.
    """
    timeline = ledger.state.timeline
    kept = [b for b in timeline.bases if b.table not in dropped][:1]
    tables = [(b.table, instant_text(b.as_of), "") for b in kept]
    tables += [
        (e.table, instant_text(e.as_of), instant_text(e.compensates) if e.compensates else "")
        for e in timeline.change_sets
        if not e.dropped and e.table not in dropped and e.previous_as_of is not None
    ]
    if tables:
        view = table(ledger.schema, view_name(ledger.sync_id))
        write_view(ledger.warehouse, view, select_history(ledger.schema, tables))
    delivered = find_delivered_query(ledger, dropped)
    if delivered is not None:
        write_delivered_view(ledger, delivered)
    elif dropped and isinstance(ledger.rows, PrimaryKeyLedgerTable):
        drop_view(ledger.warehouse, table(ledger.schema, delivered_view_name(ledger.sync_id)))


def write_delivered_view(ledger: Ledger, delivered: exp.Query) -> str:
    """Write the view over the query of what was delivered; gives its name."""
    name = delivered_view_name(ledger.sync_id)
    write_view(ledger.warehouse, table(ledger.schema, name), delivered)
    return name


def find_delivered_query(ledger: Ledger, dropped: Collection[str] = ()) -> exp.Query | None:
    """Build the query of what was delivered, by the rows of a ledger that was read; none if nothing was."""
    if not ledger.state.deliveries or not isinstance(ledger.rows, PrimaryKeyLedgerTable):
        return None  # files have no table of the ledger
    since = min((b.as_of for b in ledger.state.timeline.bases), default=None)
    return select_delivered(ledger, ledger.entries(since=since), dropped)


def select_history(schema: str, tables: Sequence[tuple[str, str, str]]) -> exp.Query:
    """Build the list of all changes that are kept, for people to look at.

    Columns: as_of, audience_id, user_id, action, updated, member_since, compensates: of a row of a compensation
    the instant of the inserted change set. Of a base come its members and those that it remembers to have left.

    :param tables: name and instant of each table, and of a compensation the instant that it compensates.
    """

    def select(name: str, as_of: str, compensates: str) -> exp.Select:
        updated = null_like(column("action")) if name.startswith("base_") else column("updated")
        rows = exp.select(
            text(as_of).as_("as_of"),
            *(column(n) for n in ("audience_id", "user_id", "action")),
            updated.as_("updated"),
            column("member_since"),
            (text(compensates) if compensates else exp.cast(exp.null(), "TEXT")).as_("compensates"),
        )
        return rows.from_(table(schema, name)).where(column("action").neq(AUDIENCE))

    return union_all(select(*found) for found in tables)
