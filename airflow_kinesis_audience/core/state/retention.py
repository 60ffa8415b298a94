"""What keeps a sync's state small and readable: new bases, and the end of what nobody needs.

A base and the change sets after it are of one layout. When the change sets have grown, or the mapping is
another, a new base is written at the newest instant before the run goes on; it remembers who has left. What
neither the retention nor any delivery needs is dropped, and nothing else. A base also replaces tables that hold
values for longer than the retention says: of users who have left, and former ones of users who have changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.core.sql.statements import column, render, table, write_table
from airflow_kinesis_audience.core.sql.types import data_type
from airflow_kinesis_audience.core.state.membership import select_base
from airflow_kinesis_audience.core.state.sync_details import BaseWritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.commits import TableCommitter
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.membership import Tables
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.sync_state import SyncState

    WriteViews = Callable[[Ledger, set[str]], None]

_SLACK = 0.1
"""By which share of its time history goes later, and an exit earlier, so that few bases are written for it."""

MOST_CHANGE_SETS = 48
"""Change sets since the last base, after which a new base is written whatever their size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """When old state is folded up, and when it goes.

    :param compaction_share: changes since the last base, as a share of the members, that make a new base.
    :param keep_history: how long a membership can be asked for. What only older ones hold is gone a tenth of this
        time later, and at the latest with the next run.
    :param keep_exits: how long it is remembered at most that somebody has left, and nine tenths of it at least; or
        none for ever. A resync sends these exits, too.
    :param history_view: keep views over all change sets and what was delivered of them, for people to look at.
    """

    compaction_share: float = 0.25
    keep_history: timedelta = timedelta(days=90)
    keep_exits: timedelta | None = timedelta(days=400)
    history_view: bool = False

    def compact(
        self,
        committer: TableCommitter,
        as_of: datetime,
        newest: RecordedChangeSet,
        layout: TableLayout,
        types: Mapping[str, str],
    ) -> None:
        """Write the bases that are due before a run.

        :param as_of: the run's instant.
        :param newest: the newest change set before it.
        :param layout: of the change set that comes next.
        :param types: column of the source to the engine's name of its type.
        """
        tables = self._find_tables(committer, newest, layout)
        if tables is not None:
            named = {c: data_type(t, committer.ledger.warehouse.dialect) for c, t in types.items()}
            self._write_base(committer, tables, newest.as_of, as_of, layout, named)
        schema = committer.ledger.schema
        for at, kept in self._find_stale(committer.ledger.state, as_of):
            tables = committer.timeline.tables(schema, at, kept)
            self._write_base(committer, tables, at, as_of, kept)

    def _write_base(
        self,
        committer: TableCommitter,
        tables: Tables,
        at: datetime,
        as_of: datetime,
        layout: TableLayout,
        types: Mapping[str, exp.DataType] | None = None,
    ) -> None:
        """Write a base of the membership at an instant.

        :param as_of: the run's instant, from which it is counted back who has left too long ago.
        """
        name, warehouse = committer.announce("base", at), committer.ledger.warehouse
        target, left_since = table(tables.schema, name), None
        left_after = None if self.keep_exits is None else as_of - self.keep_exits * (1 - _SLACK)
        with committer.unless_fenced(name, at):
            statement = select_base(tables, layout, types=types, left_after=left_after)
            write_table(warehouse, target, statement, has_audience_rows=True)
            if left_after is not None:
                query = exp.select(exp.Min(this=column("left_at"))).from_(target.copy())
                left_since = warehouse.read_rows(render(query, warehouse.dialect))[0][0]
        written = BaseWritten(table=name, layout=layout, left_since=left_since and instant(left_since))
        committer.commit(name, written, at)

    def _find_stale(self, state: SyncState, as_of: datetime) -> Iterator[tuple[datetime, TableLayout]]:
        """Find where a base must be written so that no table holds values for longer than it may."""
        timeline, oldest = state.timeline, self._find_oldest(state, as_of)
        base = None if oldest is None else timeline.find_base(oldest.as_of)
        kept = [b for b in timeline.bases if base is None or b == base or b.as_of > base.as_of]
        until = as_of - self.keep_history * (1 + _SLACK)
        if oldest is not None and base is not None:
            until = min(oldest.as_of, until)
            passed = [c.counts for c in timeline.change_sets if base.as_of < c.as_of <= until]
            if any(counts.exited or counts.updated for counts in passed):
                yield oldest.as_of, oldest.layout
                kept.remove(base)
        for found in kept:
            since = found.left_since
            is_late = since is not None and self.keep_exits is not None and since <= as_of - self.keep_exits
            if is_late or any(at <= until for _, at in found.missed):
                yield found.as_of, found.layout

    def _find_tables(
        self, committer: TableCommitter, newest: RecordedChangeSet, layout: TableLayout
    ) -> Tables | None:
        """Find the tables to make a base of, or none if none is due."""
        schema, timeline = committer.ledger.schema, committer.timeline
        if timeline.find_base(newest.as_of, layout) is None:
            return timeline.tables(schema, newest.as_of)
        tables = timeline.tables(schema, newest.as_of, layout)
        names = {name for name, _ in tables.changes}
        changed = sum(e.rows for e in timeline.change_sets if e.table in names)
        read = len(names) + len(tables.missed)
        few = changed <= newest.counts.members * self.compaction_share and read < MOST_CHANGE_SETS
        return None if few or not read else tables

    def expire(self, committer: TableCommitter, as_of: datetime, write_views: WriteViews | None = None) -> None:
        """Drop what no membership within the retention and no delivery needs any more.

        :param write_views: writes the views over what stays, if there are to be any; it gets the tables that go.
        """
        if not any(self._find_unneeded(committer.ledger.state, as_of)) and not self.history_view:
            return
        # A destination may have been attached to an old membership since.
        names, orphans = self._find_unneeded(committer.ledger.read(), as_of)
        if self.history_view and write_views is not None:
            # Before the tables go: an engine may refuse to drop what a view stands on.
            write_views(committer.ledger, names)
        if (names or orphans) and committer.retire(names, as_of):
            committer.drop(names | orphans, as_of)

    def _find_oldest(self, state: SyncState, as_of: datetime) -> RecordedChangeSet | None:
        """Find the oldest change set whose membership somebody may still need; none if all are younger."""
        timeline = state.timeline
        needed_after = [as_of - self.keep_history]
        for delivery in state.deliveries.values():
            if (after := delivery.needs_after) is not None:
                # What comes next may lead from an instant before it, where another was inserted in between.
                follows = (c.previous_as_of for c in timeline.change_sets if c.as_of > after)
                needed_after += [after, *(at for at in follows if at is not None)]
            needed_after += [c.previous_as_of for c in delivery.find_inserted(timeline) if c.previous_as_of]
        newest = timeline.newest
        if newest is not None and newest.previous_as_of is not None and not newest.sealed:
            # It may be computed again, even in the layout of the one before it.
            needed_after.append(newest.previous_as_of)
        return next((e for e in reversed(timeline.change_sets) if e.as_of <= min(needed_after)), None)

    def _find_unneeded(self, state: SyncState, as_of: datetime) -> tuple[set[str], set[str]]:
        """Find tables that nothing needs any more, and orphans: those that never counted."""
        timeline, oldest = state.timeline, self._find_oldest(state, as_of)
        names: set[str] = set()
        if oldest is not None and (base := timeline.find_base(oldest.as_of)) is not None:
            names |= {e.table for e in timeline.change_sets if e.as_of <= base.as_of and not e.dropped}
            names |= {b.table for b in timeline.bases if b.as_of < base.as_of}
            names.discard(base.table)
        for number, b in enumerate(timeline.bases):
            # A later one of the same membership has come in its place.
            if any((b.as_of, b.layout) == (later.as_of, later.layout) for later in timeline.bases[number + 1 :]):
                names.add(b.table)
        names -= {name for b in timeline.bases if b.table not in names for name, _ in b.missed}
        # What another run is writing at this moment looks like an orphan, and counts as soon as it is committed.
        return names, set(timeline.orphans - {timeline.writer})
