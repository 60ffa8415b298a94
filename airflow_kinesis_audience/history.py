"""Looks back: who was in an audience at an instant, and what became of one user, for support.

It only reads: the ledger, and whatever change sets the retention has kept. Ids of messages are not stored but
worked out again, by rendering the part of the change set that holds the user as it was rendered then. What it
returns is about people; it is for a person to look at, and nothing of it goes to a log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.consumer import read_message
from airflow_kinesis_audience.exceptions import HistoryGone
from airflow_kinesis_audience.ledger import Entry, Event, Ledger
from airflow_kinesis_audience.membership import AUDIENCE, MEMBER, Tables, select_membership, with_expressions
from airflow_kinesis_audience.messages import Envelope, message_job
from airflow_kinesis_audience.oversize import Oversized
from airflow_kinesis_audience.rejects import read_rejected
from airflow_kinesis_audience.retelling import select_entries
from airflow_kinesis_audience.slices import ChangeSet, change_set_of, read_audience_names, read_slice
from airflow_kinesis_audience.sql import column, render, table
from airflow_kinesis_audience.standing import RESYNC, Standing, read_standings
from airflow_kinesis_audience.timeline import Edge, Timeline
from airflow_kinesis_audience.transforming import render_as_told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlglot import exp

_BATCH_ROWS = 50_000
_TABLES_AT_ONCE = 100


class Member(NamedTuple):
    """One member of one audience, and since when (RFC 3339 in UTC)."""

    audience_id: str
    user_id: str
    member_since: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What one destination was told of one change of a user.

    :param state: ``delivered``, ``under way``, ``pending``, ``rejected`` because it was too large, or ``known
        before`` where the destination began with a baseline, or was attached later and told of the members then.
    :param recorded_at: when the whole change set was delivered.
    :param message_id: of the message that holds the user; none if nothing was sent, the format has nothing to say,
        or what it was made of is not kept any more.
    """

    destination: str
    message_format: str
    state: str
    recorded_at: str | None = None
    message_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened:
    """One change of a user in one audience.

    :param action: ``entered``, ``exited`` or ``updated``; ``member`` where a destination was told of who is there.
    """

    as_of: str
    audience_id: str
    action: str
    member_since: str
    told: Sequence[Told]


@dataclass(frozen=True, kw_only=True, slots=True)
class UserHistory:
    """One user: where a member now, and every change that is kept, oldest first."""

    memberships: Sequence[Member]
    changes: Sequence[Happened]


def read_members(ledger: Ledger, at: datetime) -> Iterator[Member]:
    """Read who was a member of which audience at an instant, in bounded memory.

    :param at: any instant; what holds is the newest membership at or before it.
    :raises HistoryGone: if that is older than what is kept, or there was none.
    """
    import pyarrow as pa

    timeline = Timeline.from_entries(ledger.read())
    edge = next((e for e in reversed(timeline.edges) if e.as_of <= at), None)
    if edge is None:
        raise HistoryGone(
            f"sync {ledger.sync_id!r} had no membership at {instant_text(at)}, or it is not kept any more"
        )
    query = render(_select_members(timeline.tables(ledger.schema, edge.as_of)), ledger.warehouse.dialect)
    schema = pa.schema([(name, pa.string()) for name in Member._fields])
    for batch in ledger.warehouse.read_batches(query, schema, rows=_BATCH_ROWS):
        yield from map(Member._make, zip(*batch.to_pydict().values(), strict=True))


def find_user(ledger: Ledger, user_id: str) -> UserHistory:
    """Find out all that is kept of one user: which audiences, since when, and which messages told of it."""
    entries = ledger.read()
    timeline = Timeline.from_entries(entries)
    if timeline.newest is None:
        return UserHistory(memberships=[], changes=[])
    kept = [e for e in timeline.edges if not e.dropped]
    deliveries = [
        _Log(ledger, timeline, standing, entries)
        for standing in read_standings(entries)
        if standing.attached is not None and standing.on_first_run != RESYNC
    ]
    changes = [
        Happened(
            as_of=instant_text(edge.as_of),
            audience_id=audience_id,
            action="entered" if action == MEMBER else action,
            member_since=since,
            told=[d.find_told(edge, audience_id, user_id, position) for d in deliveries],
        )
        for edge, audience_id, action, since, position in _read_changes(ledger, kept, user_id)
    ]
    changes += [found for d in deliveries for found in d.find_first(user_id)]
    return UserHistory(
        memberships=_read_memberships(ledger, timeline, user_id),
        changes=sorted(changes, key=lambda c: (c.as_of, c.action != MEMBER, c.audience_id)),
    )


def _select_members(tables: Tables) -> exp.Select:
    from sqlglot import exp

    needed, members = select_membership(tables)
    names = [column(n, "members") for n in Member._fields]
    query = exp.select(*names).from_(table(None, "members"))
    with_expressions(query, [*((n, q, None) for n, q in needed), ("members", members, False)])
    return query


def _read_memberships(ledger: Ledger, timeline: Timeline, user_id: str) -> list[Member]:
    assert timeline.newest is not None  # noqa: S101
    members = _select_members(timeline.tables(ledger.schema, timeline.newest.as_of))
    query = members.where(_is_user(ledger, "members"))
    rows = ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect), [user_id])
    return sorted(Member(*map(str, row)) for row in rows)


def _is_user(ledger: Ledger, origin: str | None = None) -> exp.Expr:
    from sqlglot import exp

    return column("user_id", origin).eq(exp.Var(this=ledger.warehouse.placeholder))


def _read_changes(
    ledger: Ledger, edges: Sequence[Edge], user_id: str
) -> Iterator[tuple[Edge, str, str, str, int | None]]:
    """Read a user's rows out of change sets: edge, audience, action, since when, position."""
    from sqlglot import exp

    for start in range(0, len(edges), _TABLES_AT_ONCE):
        some = edges[start : start + _TABLES_AT_ONCE]
        query: exp.Query | None = None
        for number, edge in enumerate(some):
            position = exp.cast(exp.null(), "BIGINT") if edge.previous_as_of is None else column("position")
            found = (
                exp.select(
                    exp.Literal.number(number),
                    *(column(n) for n in ("audience_id", "action", "member_since")),
                    position,
                )
                .from_(table(ledger.schema, edge.table))
                .where(column("action").neq(AUDIENCE), _is_user(ledger))
            )
            query = found if query is None else exp.union(query, found, distinct=False)
        assert query is not None  # noqa: S101
        rows = ledger.warehouse.read_rows(render(query, ledger.warehouse.dialect), [user_id] * len(some))
        for number, audience_id, action, since, at in sorted(rows, key=lambda row: row[:2]):
            yield some[number], audience_id, action, since, at


class _Log:
    """What a delivery's rows say of when it told what.

    :param entries: of the whole ledger.
    """

    def __init__(self, ledger: Ledger, timeline: Timeline, standing: Standing, entries: Sequence[Entry]) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._standing = standing
        own = [e for e in entries if e.log == standing.log and not e.detail.get("resend")]
        self._begun = {e.as_of: e.detail["rendering"] for e in own if "rendering" in e.detail}
        self._rejected = read_rejected(standing.log, entries)
        self._delivered = {e.as_of: e.recorded_at for e in own if e.event is Event.DELIVERED}

    def find_told(self, edge: Edge, audience_id: str, user_id: str, position: int | None) -> Told:
        """Find out what the destination was told of a user's row in a change set."""
        assert self._standing.attached is not None  # noqa: S101
        if edge.as_of <= self._standing.attached or position is None:
            return self._told("known before")
        change_set = change_set_of(self._ledger, self._timeline, edge)
        return self._find(change_set, (audience_id, user_id), position)

    def find_first(self, user_id: str) -> Iterator[Happened]:
        """Find out what the destination was told of a user when it was attached."""
        attached = self._standing.attached
        assert attached is not None  # noqa: S101
        if self._standing.on_first_run != "enter_all":
            return
        try:
            tables = self._timeline.tables(self._ledger.schema, attached)
        except HistoryGone:
            return
        edge = self._timeline.find(attached)
        assert edge is not None  # noqa: S101
        entries = select_entries(tables)
        for audience_id, since, position in self._find_rows(entries, user_id):
            change_set = ChangeSet(
                sync_id=self._ledger.sync_id,
                as_of=attached,
                previous_as_of=None,
                schema=self._ledger.schema,
                table=tables.newest,
                rows=edge.counts["members"],
                slice_rows=edge.slice_rows,
                layout=tables.layout,
                names_from=tables.base,
            )
            yield Happened(
                as_of=instant_text(attached),
                audience_id=audience_id,
                action=MEMBER,
                member_since=since,
                told=[self._find(change_set, (audience_id, user_id), position, entries)],
            )

    def _find_rows(self, entries: exp.Query, user_id: str) -> list[tuple[Any, ...]]:
        from sqlglot import exp

        query = exp.select(*(column(n) for n in ("audience_id", "member_since", "position")))
        query = query.from_(table(None, "told")).where(_is_user(self._ledger))
        sql = render(with_expressions(query, [("told", entries.copy(), None)]), self._ledger.warehouse.dialect)
        return sorted(self._ledger.warehouse.read_rows(sql, [user_id]))

    def _find(
        self, change_set: ChangeSet, member: tuple[str, str], position: int, told: exp.Query | None = None
    ) -> Told:
        rendering = self._begun.get(change_set.as_of)
        if rendering is None:
            return self._told("pending")
        state = "delivered" if change_set.as_of in self._delivered else "under way"
        state = "rejected" if (change_set.as_of, position) in self._rejected else state
        found = self._find_message(change_set, member, position // change_set.slice_rows, rendering, told)
        return self._told(state, self._delivered.get(change_set.as_of), found)

    def _find_message(
        self, change_set: ChangeSet, member: tuple[str, str], number: int, rendering: str, told: exp.Query | None
    ) -> str | None:
        """Render a slice once more, and find the message that speaks of the user."""
        how = json.loads(rendering)
        warehouse = self._ledger.warehouse
        names = read_audience_names(warehouse, change_set)
        changes = read_slice(warehouse, change_set, number, names, told=told)
        before, after = change_set.edge
        destination = str(self._standing.detail["destination"])
        envelope = Envelope(
            job=message_job(
                sync_id=change_set.sync_id,
                previous_as_of=before,
                as_of=after,
                destination=destination,
                rendering=rendering,
            ),
            partitions=how["partitions"],
            message_bytes=how["message_bytes"],
        )
        for message in (m for m in render_as_told(how, changes, envelope) if not isinstance(m, Oversized)):
            try:
                reading = read_message(message.document)
            except ValueError:  # a format of the author's own, which nothing here can read
                return None
            if any((s.audience_id, s.user_id) == member for s in reading.statements):
                return reading.message_id
        return None

    def _told(self, state: str, recorded_at: str | None = None, message_id: str | None = None) -> Told:
        return Told(
            destination=str(self._standing.detail["destination"]),
            message_format=str(self._standing.detail["message_format"]),
            state=state,
            recorded_at=recorded_at,
            message_id=message_id,
        )
