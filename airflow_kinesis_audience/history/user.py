"""The history of one user, for support: memberships, changes, and the messages with them.

Ids of messages are not stored but computed again, by rendering the part of the change set that holds the user as
it was rendered then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from airflow_kinesis_audience.consumer import read_message
from airflow_kinesis_audience.core.changes.replay import select_entries, select_full_snapshot
from airflow_kinesis_audience.core.changes.sent import (
    FIRST,
    KNOWN,
    NO_END,
    find_delivered,
    find_too_large,
    list_attachments,
    read_changes,
    select_first,
)
from airflow_kinesis_audience.core.exceptions import HistoryGone
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.model.messages import Envelope, Oversized, derive_batch_id
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet, change_set_of, read_slice
from airflow_kinesis_audience.core.readers.outline import read_audience_names
from airflow_kinesis_audience.core.sql.statements import column, render
from airflow_kinesis_audience.core.state.cursors import RESYNC
from airflow_kinesis_audience.core.state.delivery_details import AttemptDetail, AttemptStarted
from airflow_kinesis_audience.core.state.rows import MEMBER
from airflow_kinesis_audience.formats.transformed import render_again
from airflow_kinesis_audience.history.members import Member, all_members, select_members

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.state.cursors import Attachment
    from airflow_kinesis_audience.core.state.entries import Entry
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.membership import Tables
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet

_Key = tuple[str, str]  # a member: ids of the audience and of the user


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryStatus:
    """The delivery of one change of a user to one destination.

    :param state: ``delivered``, ``under way``, ``pending``, or ``rejected`` because it was too large. Of a change
        that was made before the destination was attached: ``known before`` if its consumers had all members
        already (a baseline), ``before attachment`` if it received all members then, as the change ``member``.
    :param recorded_at: when the whole change set was delivered.
    :param message_id: id of the message with the user; none if there is no message, or its rows are no longer
        kept.
    :param run: the task and run that sent it last, as ``dag_id/task_id/map_index/run_id``; none if nobody did, or
        the ledger is of a time when it was not kept.
    :param attempt: number of attempts at the change set that have begun.
    """

    destination: str
    message_format: str
    state: str
    recorded_at: str | None = None
    message_id: str | None = None
    run: str | None = None
    attempt: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class UserChange:
    """One change of a user in one audience.

    :param action: ``entered``, ``exited`` or ``updated``; ``member`` if a destination received all members.
    :param reason: of an update, the identities and properties that changed, by the labels as which they are sent.
    :param compensates: the instant of the inserted run that this change compensates: it leads the user back to
        what later runs had already published. None of any other change.
    """

    as_of: str
    audience_id: str
    action: str
    member_since: str
    deliveries: Sequence[DeliveryStatus]
    reason: str | None = None
    compensates: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UserHistory:
    """One user: the present memberships, and every change that is kept, oldest first."""

    memberships: Sequence[Member]
    changes: Sequence[UserChange]


def find_user(ledger: Ledger, user_id: str, *, message_ids: bool = True) -> UserHistory:
    """Find everything that is kept about one user: audiences, since when, and messages.

    :param message_ids: compute the ids of the messages. Without them it takes less time: a part of each change set
        is not rendered, and all members not sorted who a destination got first.
    """
    timeline = ledger.read().timeline
    if timeline.newest is None:
        return UserHistory(memberships=[], changes=[])
    tables = timeline.tables(ledger.schema, timeline.newest.as_of)
    memberships = _read_memberships(ledger, tables, user_id)
    return UserHistory(memberships=memberships, changes=find_changes(ledger, user_id, message_ids=message_ids))


def find_changes(ledger: Ledger, user_id: str, *, message_ids: bool, with_ended: bool = False) -> list[UserChange]:
    """Find the changes of a user, as :func:`find_user` does, by a ledger that was read.

    :param with_ended: with what resyncs, replays and destinations have received that are detached by now.
    """
    timeline = ledger.state.timeline
    entries = ledger.entries(since=min((b.as_of for b in timeline.bases), default=None))
    logs = [
        _Log(ledger, attachment, until, entries, message_ids=message_ids)
        for attachment, until in list_attachments(ledger.state)
    ]
    deliveries = [log for log in logs if with_ended or log.goes_on]
    changes = [
        UserChange(
            as_of=instant_text(recorded.as_of),
            audience_id=audience_id,
            action="entered" if action == MEMBER else action,
            member_since=since,
            reason=reason,
            deliveries=[
                status for d in deliveries for status in d.find_status(recorded, (audience_id, user_id), position)
            ],
            compensates=instant_text(recorded.compensates) if recorded.compensates else None,
        )
        for recorded, audience_id, action, reason, position, since in read_changes(
            ledger, [e for e in timeline.change_sets if not e.dropped], user_id
        )
    ]
    changes += [found for d in deliveries for found in d.find_first(user_id)]
    return sorted(changes, key=lambda c: (c.as_of, c.action != MEMBER, c.audience_id))


def _read_memberships(ledger: Ledger, tables: Tables, user_id: str) -> list[Member]:
    query = select_members(tables).where(_is_user(ledger, "members"))
    rows = ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect), [user_id])
    return sorted(Member(*map(str, row)) for row in rows)


def _is_user(ledger: Ledger, origin: str | None = None) -> exp.Expr:
    return column("user_id", origin).eq(exp.Var(this=ledger.warehouse.placeholder))


class _Log:
    """When a delivery sent what, by its rows in the ledger, while its destination was attached so."""

    def __init__(
        self, ledger: Ledger, attachment: Attachment, until: int, entries: Sequence[Entry], *, message_ids: bool
    ) -> None:
        self._ledger, self._timeline = ledger, ledger.state.timeline
        self._destination, self._attached = attachment.detail, attachment.as_of
        self._finds_ids = message_ids
        delivery = ledger.state.delivery(attachment.log)
        self.goes_on = until == NO_END and delivery.destination is not None and delivery.goes_on
        self._begun: dict[datetime, str] = {}
        self._runs: dict[datetime, list[AttemptStarted]] = {}
        for entry in entries:
            if self._is_own(entry, attachment, until):
                self._note(entry)
        rejected = find_too_large(entries)
        self._rejected = {at: rows for (log, at), rows in rejected.items() if log == attachment.log}
        self._delivered = find_delivered(ledger.state, attachment, until, entries)

    def _is_own(self, entry: Entry, attachment: Attachment, until: int) -> bool:
        detail = entry.detail
        if not isinstance(detail, AttemptDetail) or detail.resend:
            return False
        if detail.part is not None:
            since = detail.part.attachment in (None, attachment.sequence) and entry.as_of >= attachment.as_of
            return detail.part.delivery == attachment.log and since
        return entry.log == attachment.log and attachment.sequence < entry.sequence < until

    def _note(self, entry: Entry) -> None:
        assert isinstance(entry.detail, AttemptDetail)  # noqa: S101
        self._begun[entry.as_of] = entry.detail.render_config
        if isinstance(entry.detail, AttemptStarted):
            self._runs.setdefault(entry.as_of, []).append(entry.detail)

    def find_status(
        self, recorded: RecordedChangeSet, member: _Key, position: int | None
    ) -> Iterator[DeliveryStatus]:
        """Find what the destination has got of a member's row in a change set; nothing where it gets none."""
        if recorded.as_of <= self._attached or position is None:
            if self.goes_on:
                # Where all members were sent then, this one was in a message, or rejected, and not known before.
                known = self._destination.on_first_run == "baseline"
                yield self._status("known before" if known else "before attachment")
        elif self.goes_on or (recorded.as_of in self._begun and self._destination.on_first_run != RESYNC):
            yield self._find(change_set_of(self._ledger, self._timeline, recorded), member, position)

    def find_first(self, user_id: str) -> Iterator[UserChange]:
        """Find what the destination got of a user when it was attached."""
        kind, attached = FIRST[self._destination.on_first_run], self._attached
        if not kind or not (self.goes_on or attached in self._begun):
            return
        try:
            tables = self._timeline.tables(self._ledger.schema, attached)
        except HistoryGone:
            return
        recorded = self._timeline.find(attached)
        assert recorded is not None  # noqa: S101
        entries = select_full_snapshot(tables) if kind == KNOWN else select_entries(tables)
        change_set = all_members(self._ledger, recorded, tables)
        for audience_id, action, position, since in self._read_first(tables, user_id, full=kind == KNOWN):
            yield UserChange(
                as_of=instant_text(attached),
                audience_id=audience_id,
                action=MEMBER if action == Action.ENTERED else action,
                member_since=since,
                deliveries=[self._find(change_set, (audience_id, user_id), position, entries)],
            )

    def _read_first(self, tables: Tables, user_id: str, *, full: bool) -> list[tuple[Any, ...]]:
        numbered = self._finds_ids or self._attached in self._rejected
        query = select_first(tables, full=full, numbered=numbered).where(_is_user(self._ledger), copy=False)
        query.set("expressions", [e for e in query.expressions if e.alias_or_name not in ("user_id", "reason")])
        return sorted(self._ledger.warehouse.read_rows(render(query, self._ledger.warehouse.dialect), [user_id]))

    def _find(
        self, change_set: ChangeSet, member: _Key, position: int | None, entries: exp.Query | None = None
    ) -> DeliveryStatus:
        rendering = self._begun.get(change_set.as_of)
        if rendering is None:
            return self._status("pending")
        state = "delivered" if change_set.as_of in self._delivered else "under way"
        state = "rejected" if position in self._rejected.get(change_set.as_of, ()) else state
        found = None
        is_first = entries is not None
        lost = self._timeline.has_lost_rows(change_set.as_of) if is_first else change_set.erased > 0
        if self._finds_ids and position is not None and not lost:
            number = position // change_set.slice_rows
            found = self._find_message(change_set, member, number, rendering, entries)
        return self._status(state, change_set.as_of, found)

    def _find_message(
        self, change_set: ChangeSet, member: _Key, number: int, rendering: str, entries: exp.Query | None
    ) -> str | None:
        """Render a slice once more, and find the message that holds the user."""
        how = json.loads(rendering)
        warehouse = self._ledger.warehouse
        names = read_audience_names(warehouse, change_set)
        changes = read_slice(warehouse, change_set, number, names, sent=entries)
        envelope = Envelope(
            batch_id=derive_batch_id(
                sync_id=change_set.sync_id,
                previous_as_of=change_set.instants[0],
                as_of=change_set.instants[1],
                destination=self._destination.destination,
                render_config=rendering,
            ),
            partitions=how["partitions"],
            message_bytes=how["message_bytes"],
        )
        for message in (m for m in render_again(how, changes, envelope) if not isinstance(m, Oversized)):
            try:
                reading = read_message(message.document)
            except ValueError:  # a format of the author's own, which this package cannot read
                return None
            if any((s.audience_id, s.user_id) == member for s in reading.statements):
                return reading.message_id
        return None

    def _status(self, state: str, as_of: datetime | None = None, message_id: str | None = None) -> DeliveryStatus:
        runs = self._runs.get(as_of, []) if as_of else []
        return DeliveryStatus(
            destination=self._destination.destination,
            message_format=self._destination.message_format,
            state=state,
            recorded_at=self._delivered.get(as_of) if as_of else None,
            message_id=message_id,
            run=(runs[-1].owner or None) if runs else None,
            attempt=len(runs),
        )
