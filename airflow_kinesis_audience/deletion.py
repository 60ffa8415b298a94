"""The end of a sync: its audiences are deleted, and every destination is told so.

First the line of time is closed, so that nothing more is computed; if asked, a last change set in which everybody
exits ends it. Then each destination gets what it has not had, and a message that the audience is no more. When the
last one has it, the tables go; the ledger stays, and keeps the ids from being used again by mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.diff import select_audience_rows, select_counts
from airflow_kinesis_audience.exceptions import HistoryGone
from airflow_kinesis_audience.formats import notice_renderer
from airflow_kinesis_audience.ledger import Event, Ledger
from airflow_kinesis_audience.membership import select_audience_ids
from airflow_kinesis_audience.messages import Lifecycle, Notice
from airflow_kinesis_audience.recording import Recorder
from airflow_kinesis_audience.retelling import select_exits
from airflow_kinesis_audience.sql import drop_view, render, table, view_name, write_table
from airflow_kinesis_audience.standing import find_attached

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.outbox import Outbox
    from airflow_kinesis_audience.timeline import Edge, Timeline


def close(ledger: Ledger, as_of: datetime, *, exits: bool) -> dict[str, Any]:
    """Close a sync's line of time, or find that it is closed.

    :param as_of: the instant of the end; later than that of the newest change set.
    :param exits: end the line with a change set in which everybody exits.
    :returns: ``sync_id``, ``as_of`` of the end, and ``audiences``: id to name.
    :raises HistoryGone: if the sync has no membership.
    :raises ValueError: if the instant is not after that of the newest change set.
    """
    recorder = Recorder(ledger)
    timeline = recorder.read()
    if timeline.closed is None:
        newest = timeline.newest
        if newest is None:
            raise HistoryGone(f"sync {ledger.sync_id!r} has no membership in schema {ledger.schema!r}")
        if as_of <= newest.as_of:
            raise ValueError(
                f"the deletion speaks for {instant_text(as_of)}, and the newest change set of sync "
                f"{ledger.sync_id!r} for {instant_text(newest.as_of)}; an end comes after, so give a later as_of"
            )
        detail = {"exits": exits, "audiences": _read_audiences(ledger, timeline, newest)}
        recorder.append(timeline, Event.CLOSED, as_of, detail)
        timeline = recorder.read()
    assert timeline.closed is not None  # noqa: S101
    if timeline.closing["exits"] and timeline.find(timeline.closed) is None:
        _record_exits(recorder, timeline, timeline.closed)
    audiences = timeline.closing["audiences"]
    return {"sync_id": ledger.sync_id, "as_of": instant_text(timeline.closed), "audiences": audiences}


def say_goodbye(outbox: Outbox) -> None:
    """Tell a destination of a closed sync all that it has not had, and that the audiences are no more.

    :raises HistoryGone: if it was never told anything of them.
    :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
    """
    delivery = outbox.delivery
    render_notice = notice_renderer(delivery.renderer, delivery.message_format)
    timeline, standing = outbox.log.read()
    if not standing.sequence:
        raise HistoryGone(
            f"{delivery.destination} was never told anything of sync {outbox.ledger.sync_id!r} in the format "
            f"{delivery.message_format}, so there is nothing to take back there"
        )
    assert timeline.closed is not None  # noqa: S101
    assert timeline.newest is not None  # noqa: S101
    if standing.attached is not None:
        outbox.drain(timeline.newest.as_of, on_rejected="skip")
        envelope = delivery.envelope(outbox.ledger.sync_id, ("", instant_text(timeline.closed)))
        notices = [
            Notice(
                kind=Lifecycle.DELETED, number=n, time=timeline.closed, audience_id=audience_id, audience_name=name
            )
            for n, (audience_id, name) in enumerate(sorted(timeline.closing["audiences"].items()))
        ]
        outbox.tell([render_notice(notice, envelope) for notice in notices])
        # Void is what was said of them, told or not.
        outbox.rejects.forget()
        outbox.log.append(outbox.log.read()[1], Event.DETACHED, timeline.closed, {})
    _drop_state(outbox.ledger)


def _read_audiences(ledger: Ledger, timeline: Timeline, newest: Edge) -> dict[str, str]:
    """Read every audience that anybody is or was in, with its name as far as it is known."""
    warehouse, tables = ledger.warehouse, timeline.tables(ledger.schema, newest.as_of)
    names: dict[str, str] = {}
    for name in (tables.base, *(n for n, _ in tables.changes)):
        rows = warehouse.read_rows(render(select_audience_rows(ledger.schema, name), warehouse.dialect))
        names |= {a: called or a for a, called, *_ in rows if a is not None}
    known = warehouse.read_rows(render(select_audience_ids(tables), warehouse.dialect))
    return {**{a: a for (a,) in known}, **names}


def _record_exits(recorder: Recorder, timeline: Timeline, closed: datetime) -> None:
    ledger, newest = recorder.ledger, timeline.newest
    assert newest is not None  # noqa: S101
    tables = timeline.tables(ledger.schema, newest.as_of)
    name = recorder.announce(timeline, "changes", closed)
    with recorder.unless_overtaken(name, closed):
        target = table(ledger.schema, name)
        write_table(ledger.warehouse, target, select_exits(tables), sliced_by="position", tells_audiences=True)
        query = render(select_counts(ledger.schema, name), ledger.warehouse.dialect)
        counted = {audience_id: rows for audience_id, _, rows, _ in ledger.warehouse.read_rows(query)}
    exited = sum(counted.values())
    detail = {
        "table": name,
        "previous_as_of": instant_text(newest.as_of),
        "rows": exited,
        "slice_rows": newest.slice_rows,
        "layout": tables.layout.as_json(),
        "counts": {"entered": 0, "exited": exited, "updated": 0, "members": 0, "changes": exited},
        "let_through": ["the audience was deleted"],
    }
    recorder.record(name, Event.CHANGE_SET, closed, detail)


def _drop_state(ledger: Ledger) -> None:
    """Drop every table of the sync once no destination needs one."""
    if find_attached(ledger.read()):
        return
    recorder = Recorder(ledger)
    timeline = recorder.read()
    assert timeline.closed is not None  # noqa: S101
    names = {e.table for e in timeline.edges if not e.dropped} | {b.table for b in timeline.bases}
    drop_view(ledger.warehouse, table(ledger.schema, view_name(ledger.sync_id)))
    if (names or timeline.strays) and recorder.retire(names, timeline.closed):
        recorder.drop(names | timeline.strays, timeline.closed)
