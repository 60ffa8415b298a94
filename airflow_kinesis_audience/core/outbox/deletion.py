"""The end of a sync: its audiences are deleted, and every destination gets that announced.

First the timeline is closed, so that nothing more is computed; if asked, a last change set in which everybody
exits ends it. Whatever the destination does not allow is refused before that. Then each destination gets what it
has not had, and a message that the audience is no more. When the last one has it, the tables go; the
ledger stays, and keeps the ids from being used again by mistake.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import HistoryGone, WarehouseRefused
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.model.messages import Lifecycle, Notice
from airflow_kinesis_audience.core.model.renderer import notice_renderer
from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
from airflow_kinesis_audience.core.outbox.option_check import check_options
from airflow_kinesis_audience.core.outbox.tables import write_exits
from airflow_kinesis_audience.core.sql.names import delivered_view_name, view_name
from airflow_kinesis_audience.core.sql.statements import drop_view, table
from airflow_kinesis_audience.core.state.audiences import read_audiences, recorded_audiences
from airflow_kinesis_audience.core.state.commits import TableCommitter
from airflow_kinesis_audience.core.state.cursors import find_attached
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached
from airflow_kinesis_audience.core.state.sync_details import ChangeSetCommitted, SyncClosed, TotalCounts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow_kinesis_audience.core.model.messages import Envelope, Message
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.outbox import Outbox
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.timeline import Timeline


def close(ledger: Ledger, as_of: datetime, *, exits: bool, delivery: Delivery | None = None) -> dict[str, Any]:
    """Close a sync's timeline, or find that it is closed.

    :param as_of: the instant of the end; later than that of the newest change set.
    :param exits: end the timeline with a change set in which everybody exits.
    :param delivery: by which the end is announced; it is checked before anything is closed.
    :returns: ``sync_id``, ``as_of`` of the end, and ``audiences``: id to name.
    :raises HistoryGone: if the sync has no membership, or the destination never got anything of it.
    :raises DestinationReplaced: if the destination is another stream under its name, and is to ``fail`` then.
    :raises ValueError: if the instant is not after that of the newest change set, an option of the delivery
        names what is not there, or its format has no message about a whole audience.
    """
    committer = TableCommitter(ledger)
    timeline = ledger.read().timeline
    if timeline.closed is None:
        newest = timeline.newest
        if newest is None:
            raise HistoryGone(f"sync {ledger.sync_id!r} has no membership in schema {ledger.schema!r}")
        if as_of <= newest.as_of:
            raise ValueError(
                f"the deletion is as of {instant_text(as_of)}, and the newest change set of sync "
                f"{ledger.sync_id!r} as of {instant_text(newest.as_of)}; a deletion must be later, so set a later "
                "as_of"
            )
        if delivery is not None:
            check_options(ledger, delivery, [newest])
            _check_destination(DeliveryLog(ledger, delivery))
        closing = SyncClosed(exits=exits, audiences=_find_names(ledger, timeline, newest, exits=exits))
        timeline = committer.append(closing, as_of)
    assert timeline.closed is not None  # noqa: S101
    assert timeline.closing is not None  # noqa: S101
    if exits and timeline.closing.exits and timeline.find(timeline.closed) is None:
        _commit_exits(committer, timeline, timeline.closed)
    audiences = dict(timeline.closing.audiences)
    return {"sync_id": ledger.sync_id, "as_of": instant_text(timeline.closed), "audiences": audiences}


def announce_deletion(outbox: Outbox) -> None:
    """Send a destination of a closed sync all that it has not had, and that the audiences are no more.

    :raises HistoryGone: if it never got anything of them.
    :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
    """
    delivery, log = outbox.delivery, outbox.log
    timeline = outbox.ledger.read().timeline
    render_notice = _check_destination(log)
    assert timeline.closed is not None  # noqa: S101
    assert timeline.closing is not None  # noqa: S101
    assert timeline.newest is not None  # noqa: S101
    if log.whole.attached is not None:
        # Without exits the notice makes void what is pending, so tables that are gone do not stop it.
        gone = () if timeline.closing.exits else (HistoryGone, WarehouseRefused)
        with contextlib.suppress(*gone):
            outbox.drain(timeline.newest.as_of, on_rejected="skip")
        envelope = delivery.envelope(outbox.ledger.sync_id, (timeline.epoch, instant_text(timeline.closed)))
        notices = [
            Notice(
                kind=Lifecycle.DELETED, number=n, time=timeline.closed, audience_id=audience_id, audience_name=name
            )
            for n, (audience_id, name) in enumerate(sorted(timeline.closing.audiences.items()))
        ]
        outbox.put_notices([render_notice(notice, envelope) for notice in notices])
        # The deletion makes void what was said of them, delivered or not.
        outbox.dead_letters.forget()
        log.append(DestinationDetached(), timeline.closed)
    _drop_state(outbox.ledger)


def _find_names(ledger: Ledger, timeline: Timeline, newest: RecordedChangeSet, *, exits: bool) -> dict[str, str]:
    """Find the audiences by id, by what the ledger has of them where tables are gone and nobody is to exit."""
    try:
        return read_audiences(ledger, timeline, newest)
    except (HistoryGone, WarehouseRefused):
        if exits:
            raise
        return {audience_id: audience_id for audience_id in recorded_audiences(timeline)}


def _check_destination(log: DeliveryLog) -> Callable[[Notice, Envelope], Message]:
    """Check that the destination can get the end announced; gives what renders that."""
    delivery = log.delivery
    render_notice = notice_renderer(delivery.renderer, delivery.message_format)
    if not log.whole.sequence:
        raise HistoryGone(
            f"{delivery.destination} has never received anything from sync {log.ledger.sync_id!r} in the format "
            f"{delivery.message_format}, so it has nothing to delete"
        )
    if log.whole.attached is not None and delivery.on_new_stream == "fail" and (known := log.find_replaced()):
        log.refuse_replaced(known)
    return render_notice


def _commit_exits(committer: TableCommitter, timeline: Timeline, closed: datetime) -> None:
    ledger, newest = committer.ledger, timeline.newest
    assert newest is not None  # noqa: S101
    tables = timeline.tables(ledger.schema, newest.as_of)
    name, exits = write_exits(committer, tables, closed)
    exited = sum(exits.values())
    detail = ChangeSetCommitted(
        table=name,
        previous_as_of=newest.as_of,
        rows=exited,
        slice_rows=newest.detail.slice_rows,
        layout=tables.layout,
        counts=TotalCounts(entered=0, exited=exited, updated=0, members=0, changes=exited),
        let_through=("the audience was deleted",),
    )
    committer.commit(name, detail, closed)


def _drop_state(ledger: Ledger) -> None:
    """Drop every table of the sync once no destination needs one."""
    state = ledger.read()
    if find_attached(state.deliveries.values()):
        return
    committer, timeline = TableCommitter(ledger), state.timeline
    assert timeline.closed is not None  # noqa: S101
    names = {e.table for e in timeline.change_sets if not e.dropped} | {b.table for b in timeline.bases}
    for view in (view_name(ledger.sync_id), delivered_view_name(ledger.sync_id)):
        drop_view(ledger.warehouse, table(ledger.schema, view))
    if (names or timeline.orphans) and committer.retire(names, timeline.closed):
        committer.drop(names | timeline.orphans, timeline.closed)
