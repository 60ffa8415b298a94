"""Forgets users: they exit everywhere, then their rows go, and no later run lets them be members again.

First their tombstones are in the ledger: from there on no run takes them out of the source. Then a change set in
which they exit, with the identities that were sent last, is delivered as any other. When every destination has
it, :mod:`.erasure` takes their rows out of all tables. Each step is in the ledger before the next one begins, and
each finds out by the ledger and the tables what is left to do, so that an attempt goes on where one was killed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.sent import FIRST
from airflow_kinesis_audience.core.exceptions import LedgerConflict
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.burying import bury, find_salt, read_digests, unite_salts
from airflow_kinesis_audience.core.outbox.erasure import count_rows, erase, find_users, list_tables
from airflow_kinesis_audience.core.outbox.tables import write_exits
from airflow_kinesis_audience.core.sql.statements import column
from airflow_kinesis_audience.core.state.commits import LATEST_END, TableCommitter
from airflow_kinesis_audience.core.state.status import read_syncs
from airflow_kinesis_audience.core.state.sync_details import (
    ChangeSetCommitted,
    Counts,
    TotalCounts,
    carried_over,
)
from airflow_kinesis_audience.core.state.tombstones import (
    digest_of,
    is_forgotten,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet, Tombstones
    from airflow_kinesis_audience.core.state.sync_state import SyncState
    from airflow_kinesis_audience.core.state.timeline import Timeline

_TRIES = 5
"""So often a step begins again when another task writes to the ledger at the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgetting:
    """How far a sync has forgotten the users that it was asked to forget.

    :param users: how many tombstones it has, of earlier requests, too.
    :param exits_at: the instant of the change set in which they exit; none if they are nowhere.
    :param waits_for: what is still to happen before their rows can go, a sentence each; nothing if they are.
    :param unknown: ids of this request that have no row in the sync, and had no tombstone.
    """

    sync_id: str
    users: int
    exits_at: datetime | None = None
    waits_for: tuple[str, ...] = ()
    unknown: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def summary(self) -> dict[str, Any]:
        """Sum it up: counts and sentences, never ids."""
        found: dict[str, Any] = {"sync_id": self.sync_id, "users": self.users, "erased": not self.waits_for}
        if self.exits_at is not None:
            found["exits_at"] = instant_text(self.exits_at)
        if self.unknown:
            found["unknown_users"] = len(self.unknown)
        return found | ({"waits_for": list(self.waits_for)} if self.waits_for else {})


def forget(ledger: Ledger, user_ids: Collection[str], *, let_through: bool = False) -> Forgetting:
    """Forget users as far as it is possible now; a later call goes on from there.

    :param ledger: of the sync.
    :param user_ids: as the state has them; none goes on with those of earlier calls.
    :param let_through: also if they are a large share of an audience.
    :raises GuardTripped: if they are, and it is not let through: a list that is wrong cannot be taken back.
    :raises ValueError: if there is no such sync.
    :raises LedgerConflict: if other tasks write to the ledger all the time; a retry goes on from there.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _forget(ledger, user_ids, let_through=let_through)
        except LedgerConflict:
            if not left:
                raise
    raise AssertionError


def forget_everywhere(ledger: Ledger, user_ids: Collection[str], *, let_through: bool = False) -> list[Forgetting]:
    """Forget users in every sync of a state, also in one that begins meanwhile.

    :param ledger: of any sync of it.
    :raises ValueError: if it has no sync.
    """
    found: dict[str, Forgetting] = {}
    while new := [s for s in read_syncs(ledger.warehouse, ledger.schema) if s not in found]:
        for sync_id in new:
            found[sync_id] = forget(ledger.of_sync(sync_id), user_ids, let_through=let_through)
    if not found:
        raise ValueError(f"schema {ledger.schema!r} has no sync; correct state_schema. Nobody was forgotten")
    return list(found.values())


def forget_in(
    ledger: Ledger, sync_ids: Collection[str], user_ids: Collection[str], *, let_through: bool = False
) -> list[Forgetting]:
    """Forget users in these syncs, or in every sync of the state if none is named."""
    if not sync_ids:
        return forget_everywhere(ledger, user_ids, let_through=let_through)
    return [forget(ledger.of_sync(s), user_ids, let_through=let_through) for s in sync_ids]


def find_unknown(found: Iterable[Forgetting]) -> frozenset[str]:
    """Find the ids that no sync has a row of."""
    return frozenset.intersection(*(f.unknown for f in found))


def _forget(ledger: Ledger, user_ids: Collection[str], *, let_through: bool) -> Forgetting:
    state = ledger.read()
    if not state.last_rows:
        raise ValueError(
            f"schema {ledger.schema!r} has no sync {ledger.sync_id!r}; correct sync_ids (--sync), state_schema or "
            "state_path. Nobody was forgotten there"
        )
    committer = TableCommitter(ledger)
    # Whoever is new waits for those before: otherwise their exits would never be all delivered.
    waits_for = _go_on(committer)
    known, salt = read_digests(ledger), find_salt(ledger)
    asked = {digest_of(u, salt): u for u in user_ids}
    new, unknown = sorted(asked.keys() - known), frozenset[str]()
    tables = list_tables(ledger)  # before: a first run that is held is no more
    if new and waits_for:
        waits_for += (f"{len(new):,} more users are forgotten after that",)
    elif new:
        bury(committer, new, salt, users=len(known) + len(new), let_through=let_through)
    if asked:
        unite_salts(ledger, user_ids)
    if new and not waits_for:
        there = find_users(ledger, _tombstones_of(committer), tables)
        unknown = frozenset(asked[digest] for digest in new) - there
        waits_for = _go_on(committer)
    tombstones = committer.timeline.tombstones
    return Forgetting(
        sync_id=ledger.sync_id,
        users=tombstones.users if tombstones is not None else 0,
        exits_at=tombstones.exits_at if tombstones is not None else None,
        waits_for=waits_for,
        unknown=unknown,
    )


def _tombstones_of(committer: TableCommitter) -> Tombstones:
    found = committer.timeline.tombstones
    assert found is not None  # noqa: S101
    return found


def _go_on(committer: TableCommitter) -> tuple[str, ...]:
    """Go on with users who have a tombstone as far as it is possible; gives what is to be waited for."""
    tombstones = committer.timeline.tombstones
    if tombstones is None or tombstones.erased:
        return ()
    timeline = committer.timeline
    if tombstones.exits_at is None and timeline.closed is None and timeline.newest is not None:
        _commit_exits(committer, tombstones)
    waits_for = tuple(find_waits(committer.ledger.read()))
    if not waits_for:
        erase(committer)
    return waits_for


def _commit_exits(committer: TableCommitter, tombstones: Tombstones) -> None:
    """Write the change set in which they exit, a second after the newest one; none if no table has them.

    It is there too if they are no members any more: what a destination has not got may be about them.
    """
    ledger, newest = committer.ledger, committer.timeline.newest
    assert newest is not None  # noqa: S101
    if not any(count_rows(ledger, tombstones, list_tables(ledger)).values()):
        return
    committer.seal_newest()
    as_of, dialect = newest.as_of + timedelta(seconds=1), ledger.warehouse.dialect
    tables = committer.timeline.tables(ledger.schema, newest.as_of)
    only = is_forgotten(ledger.schema, tombstones, dialect, column("user_id", "known"))
    name, exits = write_exits(committer, tables, as_of, only)
    exited = sum(exits.values())
    detail = ChangeSetCommitted(
        table=name,
        previous_as_of=newest.as_of,
        rows=exited,
        slice_rows=newest.detail.slice_rows,
        layout=tables.layout,
        counts=TotalCounts(
            entered=0, exited=exited, updated=0, members=newest.counts.members - exited, changes=exited
        ),
        audiences=_count_audiences(newest, exits),
        **carried_over(newest.detail),
        let_through=("users were forgotten",),
        bounds=newest.detail.bounds,
        corrects=newest.detail.corrects or newest.as_of,
        author=newest.detail.author,
        forgets=tombstones.table,
    )
    committer.commit(name, detail, as_of)


def _count_audiences(newest: RecordedChangeSet, exits: Mapping[str, int]) -> dict[str, Counts] | None:
    if newest.detail.audiences is None:
        return None
    return {
        a: Counts(entered=0, exited=exits.get(a, 0), updated=0, members=counts.members - exits.get(a, 0))
        for a, counts in newest.detail.audiences.items()
    }


def find_waits(state: SyncState) -> list[str]:
    """Find what is to happen before the rows of users who are forgotten can go, a sentence each."""
    timeline, tombstones = state.timeline, state.timeline.tombstones
    if tombstones is None or tombstones.erased:
        return []
    found = []
    for _, delivery in sorted(state.deliveries.items()):
        whole = state.delivery(delivery.part.delivery) if delivery.part is not None else delivery
        if whole.destination is not None and (why := _find_wait(delivery, whole, timeline, tombstones)):
            found.append(f"{whole.destination.destination} ({whole.destination.message_format}) {why}")
    return found


def _find_wait(delivery: DeliveryState, whole: DeliveryState, timeline: Timeline, tombstones: Tombstones) -> str:
    """Find why a destination may still need the rows of users who are forgotten; empty if it does not.

    :param whole: the delivery that it is a part of; the delivery itself where it is none.
    """
    exits_at = tombstones.exits_at
    if delivery.part is not None:
        own = f"has tables of an earlier attempt of part {delivery.part.number}, which its next publish task drops"
        own += ", or this task a day later"
        # With other parts no task of this one comes any more.
        goes = (exits_at is None or whole.has(exits_at)) and _is_silent(delivery)
        return own if delivery.litter and not goes else ""
    if delivery.on_first_run not in FIRST:
        return ""
    if not delivery.goes_on:
        return f"has a {delivery.on_first_run} that is not finished"
    if timeline.closed is not None:
        return "has not received the deletion of the sync"
    if exits_at is None:
        return ""
    if not delivery.has(exits_at) or delivery.find_inserted(timeline):
        return f"has not received the exits as of {instant_text(exits_at)}"
    if delivery.snapshot is not None or delivery.profiles is not None or delivery.litter:
        return "has tables of an earlier attempt, which its next publish task drops"
    return ""


def _is_silent(part: DeliveryState) -> bool:
    """Return whether no task is at work on a part, nor the server on a table of one that was killed."""
    if not part.owner or not part.recorded_at:
        return not part.owner
    return datetime.now(UTC) - datetime.fromisoformat(part.recorded_at) >= LATEST_END
