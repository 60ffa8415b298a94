"""What the rows of a sync's own log add up to: its timeline.

Pure: rows in, frozen values out; nothing is read or written. Change sets follow each other, contiguous and
ascending. A change set that was computed again replaces the one before it, together with any base made from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import HistoryGone, RunSuperseded
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.state.membership import Tables
from airflow_kinesis_audience.core.state.recorded import (
    Base,
    CountedRun,
    RecordedChangeSet,
    Tombstones,
)
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, HeldAudiences, SyncClosed
from airflow_kinesis_audience.core.state.timeline_builder import TimelineBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.entries import Entry

GONE_SHOWN = 100
"""Of so many of the newest change sets the numbers are remembered although their rows are not kept."""

GONE_COUNTED = 300
"""Of so many change sets before those the counts are remembered, for guards that learn from them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The state of a sync.

    :param change_sets: ascending, the first one begins the timeline.
    :param gone: counts of change sets of which nothing else is remembered, ascending.
    :param bases: ascending, only those that still stand.
    :param orphans: tables that were begun and never counted, or were replaced.
    :param unfinished: those of them that the server may still finish, and when each was begun, by the clock of
        whoever wrote that down.
    :param held: a change set that waits for a person, if any; it is not on the timeline.
    :param held_audiences: those that wait for a person, as the newest change set says; the next one says it anew.
    :param closed: the instant at which the sync's audiences were deleted, if they were, and ``closing`` how.
    :param epochs: of the timeline since it began, the last one holds; of a time when there was none, an empty one.
    :param sequence: number of the last row of the sync's own log, and ``digest`` its digest.
    :param writer: the table that the run that began last is writing, or has written.
    :param tombstones: users who are forgotten, if ever any were.
    """

    change_sets: tuple[RecordedChangeSet, ...] = ()
    gone: tuple[CountedRun, ...] = ()
    bases: tuple[Base, ...] = ()
    orphans: frozenset[str] = frozenset()
    unfinished: Mapping[str, str] = field(default_factory=dict)
    held: RecordedChangeSet | None = None
    held_audiences: HeldAudiences | None = None
    closed: datetime | None = None
    closing: SyncClosed | None = None
    epochs: tuple[str, ...] = ()
    sequence: int = 0
    digest: str = ""
    writer: str = ""
    tombstones: Tombstones | None = None

    @property
    def epoch(self) -> str:
        """What tells the ids of what is committed now from those of a state that is lost."""
        return self.epochs[-1] if self.epochs else ""

    @property
    def standing(self) -> frozenset[str]:
        """The tables of change sets and bases that are kept."""
        return frozenset([*(e.table for e in self.change_sets if not e.dropped), *(b.table for b in self.bases)])

    @property
    def newest(self) -> RecordedChangeSet | None:
        """The newest change set."""
        return self.change_sets[-1] if self.change_sets else None

    def find(self, as_of: datetime) -> RecordedChangeSet | None:
        """Find the change set that leads to an instant."""
        return next((e for e in reversed(self.change_sets) if e.as_of == as_of), None)

    def is_committed(self, name: str) -> bool:
        """Return whether a table is that of a change set or of a base."""
        tombstones = {self.tombstones.table} if self.tombstones is not None else set()
        return name in {c.table for c in self.change_sets} | {b.table for b in self.bases} | tombstones

    @property
    def waiting(self) -> frozenset[str]:
        """The tables of what waits for a person."""
        return frozenset(found.table for found in (self.held, self.held_audiences) if found is not None)

    def has_lost_rows(self, as_of: datetime) -> bool:
        """Return whether the membership of an instant lacks users by now, who were forgotten since."""
        until = self.tombstones.erased_until if self.tombstones is not None else None
        return until is not None and as_of < until

    def held_of(self, change_set: RecordedChangeSet) -> dict[str, Any]:
        """Give for its summary which audiences of a change set are held still, and why each is."""
        held, said = self.held_audiences, change_set.detail.held_audiences
        if held is None or said is None or held.table != said.table:
            return {}
        return {"held_audiences": {a: list(sentences) for a, sentences in held.breaches.items()}}

    def find_final(self, as_of: datetime) -> RecordedChangeSet | None:
        """Find the change set that leads to an instant if it is not to be computed (again).

        :raises RunSuperseded: if a later run covers the instant.
        """
        newest = self.newest
        if newest is None or as_of > newest.as_of:
            return None
        change_set = self.find(as_of)
        if change_set is None:
            raise RunSuperseded(
                f"this run represents {instant_text(as_of)}, and a later run has already covered it with the "
                f"change set as of {instant_text(newest.as_of)}; there is nothing to compute"
            )
        return None if change_set is newest and not change_set.sealed else change_set

    def find_correction(self) -> datetime:
        """Find the instant for a change set that corrects the newest one: a second later, once it is sealed."""
        newest = self.newest
        assert newest is not None  # noqa: S101
        return newest.as_of + timedelta(seconds=1) if newest.sealed else newest.as_of

    def after(self, cursor: datetime, until: datetime) -> list[RecordedChangeSet]:
        """List the change sets that lead from one instant to another.

        :raises HistoryGone: if one of them is no longer kept.
        """
        change_sets = [e for e in self.change_sets if cursor < e.as_of <= until]
        if gone := [instant_text(e.as_of) for e in change_sets if e.dropped]:
            raise HistoryGone(f"the change sets {', '.join(gone)} are older than keep_history and were dropped")
        return change_sets

    def tables(self, schema: str, as_of: datetime, layout: TableLayout | None = None) -> Tables:
        """Name the tables that make up the membership at a change set's instant.

        :param layout: as which the rows are to be read, by default the change set's own.
        :raises HistoryGone: if the instant is older than what is kept, or was never kept in that layout.
        """
        base = self.find_base(as_of, layout)
        if base is None:
            raise HistoryGone(f"the membership at {instant_text(as_of)} is no longer kept")
        changes = [(e.table, instant_text(e.as_of)) for e in self.after(base.as_of, as_of)]
        missed = [(name, instant_text(at)) for name, at in base.missed]
        return Tables(schema=schema, layout=base.layout, base=base.table, changes=changes, missed=missed)

    def find_base(self, as_of: datetime, layout: TableLayout | None = None) -> Base | None:
        """Find the base of the membership at a change set's instant, in a layout; see :meth:`tables`."""
        change_set = self.find(as_of)
        if change_set is None:
            return None
        asked = layout or change_set.layout
        for base in reversed(self.bases):
            if base.as_of > as_of:
                continue
            change_sets = [e for e in self.change_sets if base.as_of < e.as_of <= as_of]
            layouts = [base.layout, *(e.layout for e in change_sets)]
            if all(asked == found or asked.matches(found) for found in layouts):
                return base
        return None

    def audiences_table(self, change_set: RecordedChangeSet) -> str | None:
        """Name a table that has the audiences at a change set's instant, or none if none is kept."""
        if not change_set.dropped:
            return change_set.table
        return next((b.table for b in self.bases if b.as_of == change_set.as_of), None)

    def without_what_is_gone(self) -> Timeline:
        """Return the timeline without change sets that are dropped, but for the newest ones' numbers."""
        standing = {b.as_of for b in self.bases}
        old, new = self.change_sets[:-GONE_SHOWN], self.change_sets[-GONE_SHOWN:]
        kept = tuple(itertools.dropwhile(lambda e: e.dropped and e.as_of not in standing, old))
        counted = filter(None, map(CountedRun.of, old[: len(old) - len(kept)]))
        gone = (*self.gone, *counted)[-GONE_COUNTED:]
        return replace(self, change_sets=(*kept, *new), gone=gone)

    def counted_runs(self, before: datetime) -> list[CountedRun]:
        """List what runs before an instant counted, ascending: of all that is kept, and of the newest others."""
        counted = (*self.gone, *filter(None, map(CountedRun.of, self.change_sets)))
        return [run for run in counted if run.as_of < before]

    @classmethod
    def from_entries(cls, entries: Iterable[Entry]) -> Timeline:
        """Add up the rows of a sync's own log.

        :raises LedgerUnreadable: if a row does not fit those before it.
        """
        return cls().with_entries(entries)

    def with_entries(self, entries: Iterable[Entry]) -> Timeline:
        """Return the timeline after further rows of the sync's own log.

        :raises LedgerUnreadable: if a row does not fit those before it.
        """
        builder = TimelineBuilder(
            change_sets={e.as_of: e for e in self.change_sets},
            instants={e.table: e.as_of for e in self.change_sets},
            gone=self.gone,
            bases=list(self.bases),
            orphans=set(self.orphans | self.waiting),
            unfinished=dict(self.unfinished),
            held=self.held,
            held_audiences=self.held_audiences,
            closed=self.closed,
            closing=self.closing,
            epochs=self.epochs,
            sequence=self.sequence,
            digest=self.digest,
            writer=self.writer,
            tombstones=self.tombstones,
        )
        for entry in entries:
            if entry.log == SYNC_LOG:
                builder.add(entry)
        return Timeline(**builder.build())
