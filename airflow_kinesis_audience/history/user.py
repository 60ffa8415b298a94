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
from airflow_kinesis_audience.core.changes.replay import select_entries
from airflow_kinesis_audience.core.exceptions import HistoryGone
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.model.messages import Envelope, Oversized, derive_batch_id
from airflow_kinesis_audience.core.outbox.dead_letters import read_too_large
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet, change_set_of, read_slice
from airflow_kinesis_audience.core.readers.outline import read_audience_names
from airflow_kinesis_audience.core.sql.statements import column, render, table
from airflow_kinesis_audience.core.state.delivery_details import (
    AttemptDetail,
    ChangeSetDelivered,
    DestinationAttached,
)
from airflow_kinesis_audience.core.state.rows import AUDIENCE, MEMBER
from airflow_kinesis_audience.formats.transform import render_again
from airflow_kinesis_audience.history.members import Member, all_members, select_members

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.membership import Tables
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet

_TABLES_AT_ONCE = 100
_Key = tuple[str, str]  # a member: ids of the audience and of the user


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryStatus:
    """The delivery of one change of a user to one destination.

    :param state: ``delivered``, ``under way``, ``pending``, ``rejected`` because it was too large, or ``known
        before`` if the destination started with a baseline, or was attached later and received all members then.
    :param recorded_at: when the whole change set was delivered.
    :param message_id: id of the message with the user; none if there is no message, or its rows are no longer
        kept.
    """

    destination: str
    message_format: str
    state: str
    recorded_at: str | None = None
    message_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UserChange:
    """One change of a user in one audience.

    :param action: ``entered``, ``exited`` or ``updated``; ``member`` if a destination received all members.
    :param compensates: the instant of the inserted run that this change compensates: it leads the user back to
        what later runs had already published. None of any other change.
    """

    as_of: str
    audience_id: str
    action: str
    member_since: str
    deliveries: Sequence[DeliveryStatus]
    compensates: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UserHistory:
    """One user: the present memberships, and every change that is kept, oldest first."""

    memberships: Sequence[Member]
    changes: Sequence[UserChange]


def find_user(ledger: Ledger, user_id: str) -> UserHistory:
    """Find everything that is kept about one user: audiences, since when, and messages."""
    state = ledger.read()
    timeline = state.timeline
    if timeline.newest is None:
        return UserHistory(memberships=[], changes=[])
    deliveries = [
        _Log(ledger, delivery, delivery.destination)
        for _, delivery in sorted(state.deliveries.items())
        if delivery.destination is not None and delivery.goes_on
    ]
    changes = [
        UserChange(
            as_of=instant_text(recorded.as_of),
            audience_id=audience_id,
            action="entered" if action == MEMBER else action,
            member_since=since,
            deliveries=[d.find_status(recorded, (audience_id, user_id), position) for d in deliveries],
            compensates=instant_text(recorded.compensates) if recorded.compensates else None,
        )
        for recorded, audience_id, action, since, position in _read_changes(
            ledger, [e for e in timeline.change_sets if not e.dropped], user_id
        )
    ]
    changes += [found for d in deliveries for found in d.find_first(user_id)]
    return UserHistory(
        memberships=_read_memberships(ledger, timeline.tables(ledger.schema, timeline.newest.as_of), user_id),
        changes=sorted(changes, key=lambda c: (c.as_of, c.action != MEMBER, c.audience_id)),
    )


def _read_memberships(ledger: Ledger, tables: Tables, user_id: str) -> list[Member]:
    query = select_members(tables).where(_is_user(ledger, "members"))
    rows = ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect), [user_id])
    return sorted(Member(*map(str, row)) for row in rows)


def _is_user(ledger: Ledger, origin: str | None = None) -> exp.Expr:
    return column("user_id", origin).eq(exp.Var(this=ledger.warehouse.placeholder))


def _read_changes(
    ledger: Ledger, recorded_sets: Sequence[RecordedChangeSet], user_id: str
) -> Iterator[tuple[RecordedChangeSet, str, str, str, int | None]]:
    """Read a user's rows out of change sets: change set, audience, action, since when, position."""
    for start in range(0, len(recorded_sets), _TABLES_AT_ONCE):
        some = recorded_sets[start : start + _TABLES_AT_ONCE]
        queries = []
        for number, recorded in enumerate(some):
            position = exp.cast(exp.null(), "BIGINT") if recorded.previous_as_of is None else column("position")
            names = [column(n) for n in ("audience_id", "action", "member_since")]
            found = exp.select(exp.Literal.number(number), *names, position).from_(
                table(ledger.schema, recorded.table)
            )
            queries.append(found.where(column("action").neq(AUDIENCE), _is_user(ledger)))
        query = exp.union(*queries, distinct=False) if len(queries) > 1 else queries[0]
        rows = ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect), [user_id] * len(some))
        for number, audience_id, action, since, at in sorted(rows, key=lambda row: row[:2]):
            yield some[number], audience_id, action, since, at


class _Log:
    """When a delivery sent what, by its rows in the ledger."""

    def __init__(self, ledger: Ledger, delivery: DeliveryState, destination: DestinationAttached) -> None:
        self._ledger, self._timeline = ledger, ledger.state.timeline
        self._destination = destination
        assert delivery.attached is not None  # noqa: S101
        self._attached = delivery.attached
        entries = ledger.entries(since=min([b.as_of for b in self._timeline.bases], default=None))
        own = [(e, e.detail) for e in entries if e.log == delivery.log and isinstance(e.detail, AttemptDetail)]
        self._begun = {e.as_of: detail.render_config for e, detail in own if not detail.resend}
        self._rejected = read_too_large(delivery.log, entries)
        delivered = (e for e, d in own if isinstance(d, ChangeSetDelivered) and not d.resend)
        self._delivered = {e.as_of: e.recorded_at for e in delivered}

    def find_status(self, recorded: RecordedChangeSet, member: _Key, position: int | None) -> DeliveryStatus:
        """Find what the destination has got of a member's row in a change set."""
        if recorded.as_of <= self._attached or position is None:
            return self._status("known before")
        return self._find(change_set_of(self._ledger, self._timeline, recorded), member, position)

    def find_first(self, user_id: str) -> Iterator[UserChange]:
        """Find what the destination got of a user when it was attached."""
        attached = self._attached
        if self._destination.on_first_run != "enter_all":
            return
        try:
            tables = self._timeline.tables(self._ledger.schema, attached)
        except HistoryGone:
            return
        recorded = self._timeline.find(attached)
        assert recorded is not None  # noqa: S101
        entries = select_entries(tables)
        for audience_id, since, position in self._find_rows(entries, user_id):
            change_set = all_members(self._ledger, recorded, tables)
            yield UserChange(
                as_of=instant_text(attached),
                audience_id=audience_id,
                action=MEMBER,
                member_since=since,
                deliveries=[self._find(change_set, (audience_id, user_id), position, entries)],
            )

    def _find_rows(self, entries: exp.Query, user_id: str) -> list[tuple[Any, ...]]:
        names = (column(n) for n in ("audience_id", "member_since", "position"))
        query = exp.select(*names).from_(table(None, "entries")).where(_is_user(self._ledger))
        sql = render(query.with_("entries", as_=entries), self._ledger.warehouse.dialect)
        return sorted(self._ledger.warehouse.read_rows(sql, [user_id]))

    def _find(
        self, change_set: ChangeSet, member: _Key, position: int, entries: exp.Query | None = None
    ) -> DeliveryStatus:
        rendering = self._begun.get(change_set.as_of)
        if rendering is None:
            return self._status("pending")
        state = "delivered" if change_set.as_of in self._delivered else "under way"
        state = "rejected" if (change_set.as_of, position) in self._rejected else state
        found = self._find_message(change_set, member, position // change_set.slice_rows, rendering, entries)
        return self._status(state, self._delivered.get(change_set.as_of), found)

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

    def _status(self, state: str, recorded_at: str | None = None, message_id: str | None = None) -> DeliveryStatus:
        return DeliveryStatus(
            destination=self._destination.destination,
            message_format=self._destination.message_format,
            state=state,
            recorded_at=recorded_at,
            message_id=message_id,
        )
