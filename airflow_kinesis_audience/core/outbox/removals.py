"""The guards' second look, at one destination: members who stay, and are removed there by an update.

An update may leave a format nothing to send of a member: the last identity is gone, a consent is taken back, the
author's function gives nothing. The source still has such a member, so the guards of the diff cannot see it.
Before the first record of a change set is put, the members are counted that its updates would remove, and the
bounds of the diff have to hold for them and the exits together. What was found is written down, once for all
parts; a delivery that has begun is never stopped.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec.structs import asdict
from msgspec.structs import replace as replace_detail

from airflow_kinesis_audience.core.changes.counts import AudienceCounts, count_exits_of_day
from airflow_kinesis_audience.core.changes.guards import Breach, Guards
from airflow_kinesis_audience.core.exceptions import GuardTripped, LedgerConflict, ReleaseRefused
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
from airflow_kinesis_audience.core.sql.statements import render
from airflow_kinesis_audience.core.state.delivery_details import RemovalBreach, RemovalsCounted
from airflow_kinesis_audience.core.state.rows import AUDIENCE, select_found
from airflow_kinesis_audience.core.state.sync_details import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.guards import Permission
    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
    from airflow_kinesis_audience.core.readers.profiles import ProfileSet
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.sync_state import SyncState

_ROWS_AT_ONCE = 2_000
"""Rows that a format, or an author's function, gets at once."""


def check_removals(
    log: DeliveryLog,
    recorded: RecordedChangeSet,
    permission: Permission,
    gather: Callable[[], ChangeSet | ProfileSet],
) -> None:
    """Stop a change set that would remove more members at its destination than the bounds allow.

    :param permission: which breaches the run may pass with.
    :param gather: makes what is rendered of the change set.
    :raises GuardTripped: if it is stopped; nothing of it was put.
    """
    removes = log.delivery.renderer.traits.removes_by_update
    if not removes or log.timeline.closed is not None or log.has_begun(recorded.as_of):
        return
    while True:
        found = known = log.whole.removals
        if found is None or (found.table, found.render_config) != (recorded.table, log.delivery.render_config):
            if not (suspected := _Suspicion.of(log, recorded)).audiences:
                return
            found = _count(log, suspected, gather())
        stopped = (
            [] if found.released else [b for b in map(_breach_of, found.breaches) if not permission.covers(b)]
        )
        if found.breaches and not stopped and not found.released:
            found = replace_detail(found, released=True)
        with log.unless_another_part_was_faster():
            if found is not known:
                log.append(found, recorded.as_of)
            if stopped:
                raise _tripped(log, recorded.as_of, stopped)
            return


@dataclass(frozen=True, kw_only=True, slots=True)
class _Suspicion:
    """The audiences of a change set of which enough members may be removed to break a bound.

    :param counts: what the change set does to every audience.
    :param exits_of_day: of earlier runs.
    """

    recorded: RecordedChangeSet
    guards: Guards
    counts: Mapping[str, Counts]
    exits_of_day: Mapping[str | None, int]
    audiences: frozenset[str | None] = frozenset()

    @classmethod
    def of(cls, log: DeliveryLog, recorded: RecordedChangeSet) -> _Suspicion:
        """Find them, by the counts alone: where every update may be a removal."""
        guards = Guards(**asdict(recorded.detail.bounds)) if recorded.detail.bounds else Guards()
        # A profile leaves all its audiences, also those of which the change set says nothing.
        by_profile = log.delivery.renderer.traits.exits_kept is not None
        found = cls(
            recorded=recorded,
            guards=guards,
            counts={} if not (by_profile or recorded.counts.updated) else _read_counts(log, recorded),
            exits_of_day=count_exits_of_day(log.timeline.change_sets, recorded.as_of),
        )
        most = {a: min(c.members, recorded.rows if by_profile else c.updated) for a, c in found.counts.items()}
        return replace(found, audiences=frozenset(b.audience_id for b in found.find_breaches(most)))

    def find_breaches(self, removed: Mapping[str, int]) -> list[Breach]:
        """Find which bounds break, if so many members of each audience are removed by updates."""
        counts = [
            self._with_removed(audience_id, counted, removed[audience_id])
            for audience_id, counted in self.counts.items()
            if removed.get(audience_id)
        ]
        found = []
        for breach in self.guards.find_breaches(counts, self.exits_of_day):
            number = removed[breach.audience_id] if breach.audience_id is not None else sum(removed.values())
            sentence = f"{breach.sentence}: {number:,} of them are still in the source, but an update removes them"
            found.append(Breach(breach.audience_id, sentence))
        return found

    def _with_removed(self, audience_id: str, counted: Counts, removed: int) -> AudienceCounts:
        before = counted.members - counted.entered + counted.exited
        entered, exited, members = counted.entered, counted.exited, counted.members
        if self.recorded.detail.let_through:  # somebody has looked at these
            entered, exited, members = 0, 0, before
        return AudienceCounts(
            audience_id=audience_id,
            source_rows=counted.members,
            invalid_rows=0,
            duplicate_rows=0,
            previous_members=before,
            members=members - removed,
            entered=entered,
            exited=exited + removed,
            updated=counted.updated,
        )


def _count(log: DeliveryLog, suspected: _Suspicion, content: ChangeSet | ProfileSet) -> RemovalsCounted:
    """Count the members that updates remove, slice by slice."""
    warehouse, renderer = log.ledger.warehouse, log.delivery.renderer
    reader = content.update_reader(warehouse) if isinstance(content, ChangeSet) else content.reader(warehouse)
    removed: Counter[str] = Counter()
    for rows in reader.read_each():
        for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
            removed.update(renderer.count_removed(reader.make(rows.slice(start, _ROWS_AT_ONCE))))
    breaches = [
        RemovalBreach(audience=b.audience_id, sentence=b.sentence) for b in suspected.find_breaches(removed)
    ]
    return RemovalsCounted(
        table=suspected.recorded.table, render_config=log.delivery.render_config, breaches=tuple(breaches)
    )


def _read_counts(log: DeliveryLog, recorded: RecordedChangeSet) -> Mapping[str, Counts]:
    """Give the counts of each audience: as the ledger has them where these are few, else out of the table."""
    if recorded.detail.audiences is not None:
        return recorded.detail.audiences
    found: dict[str, Counter[str]] = {}
    warehouse: Warehouse = log.ledger.warehouse
    rows = warehouse.read_rows(render(select_found(log.ledger.schema, recorded.table), warehouse.dialect))
    for audience_id, action, changes, _, _, source_rows, invalid_rows, _ in rows:
        if audience_id is not None:
            counted = {"members": source_rows - invalid_rows} if action == AUDIENCE else {action: changes}
            found.setdefault(audience_id, Counter()).update(counted)
    return {
        a: Counts(entered=c["entered"], exited=c["exited"], updated=c["updated"], members=c["members"])
        for a, c in found.items()
    }


def _breach_of(found: RemovalBreach) -> Breach:
    return Breach(found.audience, found.sentence)


def _tripped(log: DeliveryLog, as_of: datetime, stopped: Sequence[Breach]) -> GuardTripped:
    return GuardTripped(
        f"the change set of sync {log.ledger.sync_id!r} as of {instant_text(as_of)} was stopped before "
        f"{log.delivery.destination} received anything of it: {'; '.join(map(str, stopped))}. If the source is "
        "wrong, correct it and clear the diff task of that run, or let the next run correct it. If it is right, "
        'let one run through: trigger a run with the configuration {"let_through": true}, or name the audiences: '
        '{"let_through": ["id", …]}. Or, if the DAG has an approval task, clear that task and approve. Nothing of '
        "it was put",
        [str(b) for b in stopped],
    )


# -- a person's approval


@dataclass(frozen=True, kw_only=True, slots=True)
class StoppedDelivery:
    """A change set that is stopped at one destination.

    :param log: the delivery's id.
    :param table: of the change set.
    """

    log: str
    table: str
    as_of: datetime
    destination: str
    message_format: str
    sentences: Sequence[str]


def find_stopped(state: SyncState) -> list[StoppedDelivery]:
    """Find what is stopped at its destination and waits for a person."""
    if state.timeline.closed is not None:
        return []
    recorded = {c.table: c for c in state.timeline.change_sets if not c.dropped}
    found = []
    for delivery in state.deliveries.values():
        counted = delivery.removals
        if counted is None or delivery.destination is None or counted.released or not counted.breaches:
            continue
        change_set = recorded.get(counted.table)
        is_left = change_set in delivery.find_inserted(state.timeline)
        if change_set is not None and (is_left or not delivery.has(change_set.as_of)):
            found.append(
                StoppedDelivery(
                    log=delivery.log,
                    table=counted.table,
                    as_of=change_set.as_of,
                    destination=delivery.destination.destination,
                    message_format=delivery.destination.message_format,
                    sentences=[b.sentence for b in counted.breaches],
                )
            )
    return sorted(found, key=lambda s: (s.as_of, s.destination, s.log))


def release(ledger: Ledger, log: str, table: str) -> None:
    """Let a change set through that is stopped at a destination, or find that this was done.

    :param log: of the delivery, and ``table`` of the change set whose numbers were seen.
    :raises ReleaseRefused: if another change set is stopped there by now, or none.
    """
    while True:
        state = ledger.read()
        counted = state.delivery(log).removals
        change_set = next((c for c in state.timeline.change_sets if c.table == table), None)
        if counted is None or counted.table != table or change_set is None:
            raise ReleaseRefused(
                f"the change set of sync {ledger.sync_id!r} that was approved is no longer the one that is "
                "stopped at its destination. Nothing was sent. Clear the publish task to see which one is stopped "
                "now"
            )
        if counted.released:
            return
        with contextlib.suppress(LedgerConflict):
            ledger.append(log, replace_detail(counted, released=True), as_of=change_set.as_of)
