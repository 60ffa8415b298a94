"""Resync: a destination gets everything again, as of what it got last.

A resync is a delivery of its own that comes to an end: every member enters, all exit who are known to have
left, and per audience a message before says that it begins, one after that it is complete, both with the
numbers to check by. It speaks for the instant up to which the destination has everything, so it can never
overtake a change. A stream that was created anew under its name is filled by it, and gets the changes after that.

Where the ledger is behind what the destination has, it speaks for the newest instant, and all that was sent until
then is made void first.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import DestinationReplaced, HistoryGone
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.messages import Lifecycle, Message, Notice
from airflow_kinesis_audience.core.model.renderer import notice_renderer
from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
from airflow_kinesis_audience.core.outbox.option_check import check_options
from airflow_kinesis_audience.core.outbox.remembered import check_later, find_lost
from airflow_kinesis_audience.core.outbox.tables import (
    count_actions,
    drop_all,
    find_or_write_full_snapshot,
)
from airflow_kinesis_audience.core.readers.outline import read_audience_names
from airflow_kinesis_audience.core.state.commits import draw_epoch
from airflow_kinesis_audience.core.state.cursors import RESYNC
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, EpochBegun

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.outbox import Outbox
    from airflow_kinesis_audience.core.outbox.remembered import Remembered
    from airflow_kinesis_audience.core.readers.change_sets import ChangeSet


def resync(outbox: Outbox, delivery: Delivery, *, remembered: Remembered | None = None) -> datetime:
    """Send everything that is true, or go on where an earlier attempt stopped.

    :param outbox: of the same delivery with a ``resync`` name, which tells one resync from another.
    :param delivery: what the destination gets its changes by.
    :param remembered: how far that was, as it is known outside of the ledger.
    :returns: the instant that the resync speaks for.
    :raises HistoryGone: if the destination never got a membership.
    :raises LedgerBehind: if the destination has more than the ledger knows, and no later instant is there.
    :raises MessageTooLarge: if members are too large for a record, once all else is sent.
    :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
    """
    notice_renderer(outbox.delivery.renderer, delivery.message_format)
    outbox.ledger.read()
    changes = DeliveryLog(outbox.ledger, delivery)
    lost = find_lost(changes, remembered)
    if outbox.log.whole.attached is None:
        cursor = changes.whole.cursor if lost is None else _begin_epoch(changes, lost)
        if cursor is None:
            raise HistoryGone(
                f"{delivery.destination} has never received a membership of sync {outbox.ledger.sync_id!r} in the "
                f"format {delivery.message_format}, so there is nothing to resend; run its publish task first"
            )
        _check_options(outbox, cursor)
        outbox.log.attach(cursor, RESYNC)
    elif replaced := outbox.log.find_replaced():
        raise DestinationReplaced(
            f"{delivery.destination} was deleted and created again during the resync: the resync started on "
            f"{replaced}, and this is {delivery.stream}. Nothing more was put; trigger another resync"
        )
    as_of = outbox.log.whole.attached
    assert as_of is not None  # noqa: S101
    _check_options(outbox, as_of)
    if lost is None:
        delivery.check_filter(changes.whole.rendered_as)
    snapshot = find_or_write_full_snapshot(outbox.log, as_of)
    if lost is not None:
        check_later(changes, as_of, lost)
        outbox.put_notices(_render(outbox, snapshot, Lifecycle.DELETED, lost))
    outbox.put_notices(_render(outbox, snapshot, Lifecycle.RESYNC_BEGIN))
    outbox.send(snapshot)
    outbox.put_notices(_render(outbox, snapshot, Lifecycle.RESYNC_COMPLETE))
    drop_all(outbox.log)
    if lost is not None:
        # A task that was at work when the backup was made never says that it is not any more.
        changes.turns.wait()
        changes.begin_after(as_of)
    outbox.log.append(DestinationDetached(), as_of)
    outbox.log.accept_stream(log=delivery.log)
    if outbox.too_large.rows:
        raise outbox.too_large.error(outbox.ledger.schema, outbox.delivery.message_bytes)
    return as_of


def _begin_epoch(changes: DeliveryLog, lost: datetime) -> datetime:
    """Let change sets have other ids from here on; gives the instant that the destination gets next."""
    newest = changes.timeline.newest
    as_of = check_later(changes, newest.as_of if newest else None, lost)
    changes.seal(as_of)
    changes.ledger.append(SYNC_LOG, EpochBegun(epoch=draw_epoch()), as_of=as_of)
    return as_of


def _check_options(outbox: Outbox, as_of: datetime) -> None:
    found = outbox.ledger.state.timeline.find(as_of)
    check_options(outbox.ledger, outbox.delivery, [found] if found is not None else [])


def _render(outbox: Outbox, snapshot: ChangeSet, kind: Lifecycle, time: datetime | None = None) -> list[Message]:
    delivery = outbox.delivery
    render_notice = notice_renderer(delivery.renderer, delivery.message_format)
    envelope = delivery.envelope(snapshot.sync_id, snapshot.instants)
    names = read_audience_names(outbox.warehouse, snapshot)
    counts: dict[str, dict[str, int]] = {audience_id: {} for audience_id in names}
    for (audience_id, action), rows in _count_sent(outbox, snapshot).items():
        counts.setdefault(audience_id, {})[action] = rows
    return [
        render_notice(
            Notice(
                kind=kind,
                number=number,
                time=time or snapshot.as_of,
                audience_id=audience_id,
                audience_name=names.get(audience_id, audience_id),
                members=counts[audience_id].get(Action.ENTERED, 0),
                exits=counts[audience_id].get(Action.EXITED, 0),
            ),
            envelope,
        )
        for number, audience_id in enumerate(sorted(counts))
    ]


def _count_sent(outbox: Outbox, snapshot: ChangeSet) -> Mapping[tuple[str, str], int]:
    """Count entries and exits of each audience, without those that the author's function leaves out."""
    renderer = outbox.delivery.renderer
    if not renderer.traits.filters:
        return {(found, action): n for found, action, n, _ in count_actions(outbox.ledger, snapshot.table)}
    counted: Counter[tuple[str, str]] = Counter()
    reader = snapshot.reader(outbox.warehouse)
    for rows in reader.read_each():
        made = renderer.let_through(reader.make(rows))
        counted.update(zip(made.audience_id, made.action, strict=True))
    return counted
