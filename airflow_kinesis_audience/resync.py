"""Tells a destination the whole truth again, as of what it was told last.

A resync is a delivery of its own that comes to an end: every member enters, all exit who are known to have
left, and per audience a message before says that it begins, one after that it is complete, both with the
numbers to check by. It speaks for the instant up to which the destination has everything, so it can never
overtake a change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Action
from airflow_kinesis_audience.exceptions import HistoryGone
from airflow_kinesis_audience.formats import notice_renderer
from airflow_kinesis_audience.ledger import Event
from airflow_kinesis_audience.messages import Lifecycle, Message, Notice
from airflow_kinesis_audience.rejects import too_large
from airflow_kinesis_audience.slices import ChangeSet, read_audience_names
from airflow_kinesis_audience.snapshot import count_actions, drop_snapshot, write_snapshot
from airflow_kinesis_audience.standing import RESYNC, Standing

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.outbox import Outbox
    from airflow_kinesis_audience.terms import Delivery


def resync(outbox: Outbox, delivery: Delivery) -> datetime:
    """Tell everything that is true, or go on where an earlier attempt broke off.

    :param outbox: of the same delivery with a ``resync`` name, which tells one resync from another.
    :param delivery: what the destination gets its changes by.
    :returns: the instant that the resync speaks for.
    :raises HistoryGone: if the destination was never told of a membership.
    :raises MessageTooLarge: if members are too large for a record, once all else is told.
    :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
    """
    notice_renderer(outbox.delivery.renderer, delivery.message_format)
    _, standing = outbox.log.read()
    if standing.attached is None:
        cursor = Standing.from_entries(delivery.log, outbox.ledger.read()).cursor
        if cursor is None:
            raise HistoryGone(
                f"{delivery.destination} was never told of a membership of sync {outbox.ledger.sync_id!r} in the "
                f"format {delivery.message_format}, so there is nothing to tell again; run its publish task first"
            )
        standing = outbox.log.attach(standing, cursor, RESYNC)
    assert standing.attached is not None  # noqa: S101
    as_of = standing.attached
    truth = write_snapshot(outbox.log, as_of, truth=True)
    outbox.tell(_render(outbox, truth, Lifecycle.RESYNC_BEGIN))
    outbox.send(truth)
    outbox.tell(_render(outbox, truth, Lifecycle.RESYNC_COMPLETE))
    drop_snapshot(outbox.log)
    outbox.log.append(outbox.log.read()[1], Event.DETACHED, as_of, {})
    if outbox.rejected["rows"]:
        raise too_large(outbox.rejected, outbox.ledger.schema, outbox.delivery.message_bytes)
    return as_of


def _render(outbox: Outbox, truth: ChangeSet, kind: Lifecycle) -> list[Message]:
    delivery = outbox.delivery
    render_notice = notice_renderer(delivery.renderer, delivery.message_format)
    envelope = delivery.envelope(truth.sync_id, truth.edge)
    names = read_audience_names(outbox.warehouse, truth)
    counts: dict[str, dict[str, int]] = {audience_id: {} for audience_id in names}
    for audience_id, action, rows, _ in count_actions(outbox.ledger, truth.table):
        counts.setdefault(audience_id, {})[action] = rows
    return [
        render_notice(
            Notice(
                kind=kind,
                number=number,
                time=truth.as_of,
                audience_id=audience_id,
                audience_name=names.get(audience_id, audience_id),
                members=counts[audience_id].get(Action.ENTERED, 0),
                exits=counts[audience_id].get(Action.EXITED, 0),
            ),
            envelope,
        )
        for number, audience_id in enumerate(sorted(counts))
    ]
