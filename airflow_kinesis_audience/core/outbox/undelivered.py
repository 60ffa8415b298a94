"""Which rows of a table a destination did not get, because they were too large: alone, or with their profile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.replay import Undelivered
from airflow_kinesis_audience.core.outbox.giving_up import read_clock
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
from airflow_kinesis_audience.core.readers.profiles import ProfileSet
from airflow_kinesis_audience.core.sql.statements import column, table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.attempt import Content
    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
    from airflow_kinesis_audience.core.outbox.too_large import TooLargeMembers
    from airflow_kinesis_audience.core.state.delivery_details import DeadLettersTable


def still_undelivered(
    known: DeadLettersTable, rows: exp.Expr | None = None, *, maybe_known: bool = False
) -> Undelivered:
    """Find the rows of a table of dead letters.

    :param rows: the condition on them; by default all.
    :param maybe_known: a later change set may have brought them, as a profile has all that there is of a user.
    """
    assert known.layout is not None  # noqa: S101
    return Undelivered(
        table=known.table,
        layout=known.layout,
        rows=exp.true() if rows is None else rows,
        maybe_delivered=known.begun,
        maybe_known=maybe_known,
        recorded_at=open_since(known),
    )


def times_before(log: DeliveryLog) -> list[Undelivered]:
    """Find the table that says since when a replay's dead letters are open, if they were before it began."""
    known = log.ledger.state.delivery(replace(log.delivery, replay="").log).dead_letters
    if not log.delivery.replay or not known.rows or not known.has_times:
        return []
    return [replace(still_undelivered(known), maybe_delivered=False, times_only=True)]


def undelivered_of(
    log: DeliveryLog, content: Content, found: TooLargeMembers, recorded_at: datetime | None
) -> Undelivered:
    """Find the rows of the change set that were too large, alone or with their profile.

    :param recorded_at: see :class:`~airflow_kinesis_audience.core.changes.replay.Undelivered`.
    """
    # What a replay lets enter the destination may know, if it had something before.
    published = replace(log.delivery, replay="").log
    maybe_known = bool(log.delivery.replay and log.ledger.state.delivery(published).attachments)
    if isinstance(content, ChangeSet):
        return Undelivered(
            table=content.table,
            layout=content.layout,
            rows=at(found.positions),
            maybe_known=maybe_known,
            recorded_at=recorded_at,
        )
    assert isinstance(content, ProfileSet), "events are not retried"  # noqa: S101
    change_set = content.change_set
    users = exp.select(column("user_id")).from_(table(log.ledger.schema, content.table)).where(at(found.positions))
    return Undelivered(
        table=change_set.table,
        layout=change_set.layout,
        rows=exp.In(this=column("user_id"), query=users.subquery()),
        maybe_known=maybe_known,
        recorded_at=recorded_at,
    )


def open_since(known: DeadLettersTable) -> datetime | None:
    """Return since when dead letters are open of which an older version has kept no time."""
    return None if known.has_times else read_clock()


def at(positions: Iterable[int]) -> exp.Expr:
    """Build the condition on the rows at some positions."""
    return column("position").isin(*positions)
