"""What was sent about one user, to which destination, when and why: one row per change and destination.

The same rows are to be had in SQL, without the ids of messages: an id starts with a digest that not all engines
can compute, and ends with the position of the first user in its message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.changes.views import find_delivered_query, write_delivered_view
from airflow_kinesis_audience.core.exceptions import HistoryGone
from airflow_kinesis_audience.core.sql.statements import render
from airflow_kinesis_audience.core.state.rows import MEMBER
from airflow_kinesis_audience.history.user import find_changes
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable

if TYPE_CHECKING:
    from sqlglot import exp

    from airflow_kinesis_audience.core.state.ledger import Ledger

_WAS_SENT = ("delivered", "under way", "rejected")


@dataclass(frozen=True, kw_only=True, slots=True)
class SentChange:
    """One change of a user, as one destination got it.

    :param action: ``entered``, ``exited`` or ``updated``.
    :param reason: of an update, the identities and properties that changed, by the labels as which they are sent.
    :param run: the task and run that sent it last, as ``dag_id/task_id/map_index/run_id``, if that is known.
    :param as_of: the instant of the change set, RFC 3339 in UTC; ``delivered_at`` likewise.
    :param state: ``delivered``, ``under way``, or ``rejected`` because its message is too large.
    :param message_id: of the message that holds it; none if no message does, or ids are not wanted.
    :param attempt: number of attempts at its change set that have begun.
    """

    user_id: str
    audience_id: str
    action: str
    reason: str | None
    run: str | None
    as_of: str
    destination: str
    message_format: str
    state: str
    message_id: str | None
    delivered_at: str | None
    attempt: int


def why(ledger: Ledger, user_id: str, *, message_ids: bool = True) -> list[SentChange]:
    """List what was sent about one user, as far as it is kept, oldest first.

    :param message_ids: compute the ids of the messages, too; for each, a part of its change set is rendered again.
    """
    if ledger.read().timeline.newest is None:
        return []
    return [
        SentChange(
            user_id=user_id,
            audience_id=change.audience_id,
            action="entered" if change.action == MEMBER else change.action,
            reason=change.reason,
            run=status.run,
            as_of=change.as_of,
            destination=status.destination,
            message_format=status.message_format,
            state=status.state,
            message_id=status.message_id,
            delivered_at=status.recorded_at,
            attempt=status.attempt,
        )
        for change in find_changes(ledger, user_id, message_ids=message_ids, with_ended=True)
        for status in change.deliveries
        if status.state in _WAS_SENT
    ]


def delivered_sql(ledger: Ledger) -> str:
    """Give the query of what was delivered about all users, in the warehouse's own SQL.

    Columns: ``user_id``, ``audience_id``, ``action``, ``reason``, ``run``, ``as_of``, ``destination``,
    ``message_format``, ``delivered_at``, ``attempt``. It names the tables that are kept now.

    :raises HistoryGone: if nothing was delivered, or nothing of it is kept.
    :raises ValueError: if the state is kept as files; a retry does not help.
    """
    return render(_find_query(ledger), ledger.warehouse.dialect)


def create_delivered_view(ledger: Ledger) -> str:
    """Create or replace the view over :func:`delivered_sql` in the state's schema; gives its name.

    :raises HistoryGone: if nothing was delivered, or nothing of it is kept.
    :raises ValueError: if the state is kept as files; a retry does not help.
    """
    return write_delivered_view(ledger, _find_query(ledger))


def _find_query(ledger: Ledger) -> exp.Query:
    if isinstance(ledger.rows, FileLedgerTable):
        raise ValueError(
            f"the state of sync {ledger.sync_id!r} is kept as files, over which there is no view; expected a "
            "state in a warehouse. To look at one user, use why with the user id"
        )
    ledger.read()
    query = find_delivered_query(ledger)
    if query is None:
        raise HistoryGone(f"sync {ledger.sync_id!r} has delivered nothing that is kept")
    return query
