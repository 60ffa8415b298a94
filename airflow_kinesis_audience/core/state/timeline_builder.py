"""Adds up the rows of a sync's own log, one by one, to the fields of its timeline.

Pure: rows in, values out. A row that does not fit those before it is an error, and never passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.state.entries import corrupt_row, follow
from airflow_kinesis_audience.core.state.recorded import Base, RecordedChangeSet, Tombstones
from airflow_kinesis_audience.core.state.sync_details import (
    BaseWritten,
    ChangeSetCommitted,
    ChangeSetHeld,
    ChangeSetInserted,
    ChangeSetSealed,
    EpochBegun,
    FirstBase,
    HeldAudiences,
    SyncClosed,
    TablesDropped,
    TablesReplaced,
    TablesRetired,
    TableStarted,
    UsersForgotten,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_kinesis_audience.core.state.entries import Entry
    from airflow_kinesis_audience.core.state.recorded import CountedRun

    _Committed = FirstBase | ChangeSetCommitted | ChangeSetInserted


@dataclass(kw_only=True, slots=True)
class TimelineBuilder:
    """A timeline while its rows are added up.

    :param instants: by the table of a change set.
    :param orphans: those that wait for a person among them, until they do no longer.
    """

    change_sets: dict[datetime, RecordedChangeSet]
    instants: dict[str, datetime]
    gone: tuple[CountedRun, ...]
    bases: list[Base]
    orphans: set[str]
    unfinished: dict[str, str]
    held: RecordedChangeSet | None
    held_audiences: HeldAudiences | None
    closed: datetime | None
    closing: SyncClosed | None
    epochs: tuple[str, ...]
    sequence: int
    digest: str
    writer: str
    tombstones: Tombstones | None

    def build(self) -> dict[str, Any]:
        """Return what the rows add up to: the fields of a timeline."""
        waiting = {found.table for found in (self.held, self.held_audiences) if found is not None}
        return {
            "change_sets": tuple(self.change_sets[at] for at in sorted(self.change_sets)),
            "gone": self.gone,
            "bases": tuple(sorted(self.bases, key=lambda b: b.as_of)),
            "orphans": frozenset(self.orphans - waiting),
            "unfinished": {table: at for table, at in self.unfinished.items() if table in self.orphans},
            "held": self.held,
            "held_audiences": self.held_audiences,
            "closed": self.closed,
            "closing": self.closing,
            "epochs": self.epochs,
            "sequence": self.sequence,
            "digest": self.digest,
            "writer": self.writer,
            "tombstones": self.tombstones,
        }

    def add(self, entry: Entry) -> None:
        """Add one row."""
        self.sequence, self.digest = entry.sequence, follow(self.digest, entry)
        match entry.detail:
            case TableStarted(table=table):
                self.writer = table
                self.orphans.add(table)
                self.unfinished[table] = entry.recorded_at
            case FirstBase() as detail:
                # Computed again it is of the same time: a destination may have got the former one.
                former = () if self.closed is not None else self.epochs
                self._begin_anew()
                self.epochs = (*former, detail.epoch)
                self._commit(entry.as_of, detail)
                self.bases.append(Base(as_of=entry.as_of, table=detail.table, layout=detail.layout))
            case ChangeSetCommitted() | ChangeSetInserted() as detail:
                self._commit(entry.as_of, detail)
            case ChangeSetHeld() as detail:
                self._discard_held()
                self.held = RecordedChangeSet(as_of=entry.as_of, detail=detail)
                self.unfinished.pop(detail.table, None)
            case BaseWritten() as detail:
                layout = detail.layout or self._committed(entry).layout
                since = detail.left_since
                self.bases.append(Base(as_of=entry.as_of, table=detail.table, layout=layout, left_since=since))
                self._count(detail.table)
            case ChangeSetSealed():
                self.change_sets[entry.as_of] = replace(self._committed(entry), sealed=True)
            case TablesRetired() | TablesDropped() | TablesReplaced() | UsersForgotten() as detail:
                self._take_off(detail, entry)
            case SyncClosed() as detail:
                self._discard_held()
                self.held_audiences = None
                self.closed, self.closing, self.writer = entry.as_of, detail, ""
            case EpochBegun(epoch=epoch):
                self.epochs = (*self.epochs, epoch)
            case _:
                raise corrupt_row(entry)

    def _committed(self, entry: Entry) -> RecordedChangeSet:
        found = self.change_sets.get(entry.as_of)
        if found is None:
            raise corrupt_row(entry)
        return found

    def _begin_anew(self) -> None:
        """Leave behind all that was before a deletion: the timeline begins anew under its id."""
        if self.closed is not None:
            self.orphans |= {e.table for e in self.change_sets.values()} | {b.table for b in self.bases}
            self.change_sets, self.gone, self.bases, self.closed, self.closing = {}, (), [], None, None

    def _commit(self, as_of: datetime, detail: _Committed) -> None:
        if isinstance(detail, ChangeSetInserted):
            self._add_change_set(as_of, detail, inserted=True)
            self._add_change_set(detail.compensated_at, detail.compensation, inserted=True, compensates=as_of)
            missed = detail.compensation.table, detail.compensated_at
            self.bases = [_with_missed(b, missed) if b.layout.matches(detail.layout) else b for b in self.bases]
            return
        if replaced := self.change_sets.get(as_of):
            self.orphans.add(replaced.table)
        self._discard_held()
        self.held_audiences = detail.held_audiences
        if detail.held_audiences is not None:
            self.unfinished.pop(detail.held_audiences.table, None)
        self.orphans |= {b.table for b in self.bases if b.as_of >= as_of}
        self.bases = [b for b in self.bases if b.as_of < as_of]
        self._add_change_set(as_of, detail)

    def _add_change_set(
        self,
        as_of: datetime,
        detail: _Committed,
        *,
        inserted: bool = False,
        compensates: datetime | None = None,
    ) -> None:
        self._count(detail.table)
        self.instants[detail.table] = as_of
        if self.tombstones is not None and detail.forgets and detail.forgets == self.tombstones.table:
            self.tombstones = replace(self.tombstones, exits_at=as_of)
        self.change_sets[as_of] = RecordedChangeSet(
            as_of=as_of,
            detail=detail,
            epoch=self.epochs[-1] if self.epochs else "",
            sealed=inserted or bool(detail.let_through),
            inserted=inserted,
            compensates=compensates,
        )

    def _count(self, name: str) -> None:
        """Let a table that was announced count."""
        self.orphans.discard(name)
        self.unfinished.pop(name, None)

    def _forget(self, detail: UsersForgotten, as_of: datetime) -> None:
        """Note who is forgotten; a run that read the source before can no longer commit."""
        known = self.tombstones
        if known is not None and known.table not in ("", detail.table):
            self.orphans.add(known.table)
        self._count(detail.table)
        if not self.change_sets or self.closed is not None:
            # No change set with their exits comes to discard a first run that is held, and it may have them.
            self._discard_held()
        said = Tombstones(
            table=detail.table, salt=detail.salt, users=detail.users, since=as_of, erased=detail.erased
        )
        self.tombstones = said.after(known) if known is not None else said
        self.writer = ""

    def _replace(self, detail: TablesReplaced) -> None:
        """Put tables in the places of others; one whose place is gone by now does not count."""
        for old, new in detail.tables.items():
            at = self.instants.get(old)
            found = None if at is None else self.change_sets.get(at)
            stands = any(b.table == old for b in self.bases)
            self.bases = [_with_table(b, old, new) for b in self.bases]
            if at is not None and found is not None and found.table == old and not found.dropped:
                erased = found.erased + detail.rows[old]
                self.change_sets[at] = replace(found, replaced_by=new, erased=erased)
                self.instants[new], stands = at, True
            if stands:
                self._count(new)
                self.orphans.add(old)

    def _discard_held(self) -> None:
        """Whatever was held was computed from a membership that is the newest no longer."""
        if self.held is not None:
            self.orphans.add(self.held.table)
        self.held = None

    def _take_off(
        self, detail: TablesRetired | TablesDropped | TablesReplaced | UsersForgotten, entry: Entry
    ) -> None:
        """Note which tables do not count any more, and which count in their places."""
        match detail:
            case UsersForgotten():
                self._forget(detail, entry.as_of)
            case TablesReplaced():
                self._replace(detail)
            case TablesDropped():
                self._drop(detail.tables)
            case TablesRetired():
                self._drop(detail.tables)
                self.orphans |= set(detail.tables)
                if detail.unfinished:
                    self.unfinished |= dict.fromkeys(detail.tables, entry.recorded_at)

    def _drop(self, tables: Iterable[str]) -> None:
        names = set(tables)
        if self.held is not None and self.held.table in names:
            self.held = None
        if self.held_audiences is not None and self.held_audiences.table in names:
            self.held_audiences = None
        for at in {self.instants[name] for name in names if name in self.instants}:
            if (found := self.change_sets.get(at)) is not None and found.table in names:
                self.change_sets[at] = replace(found, dropped=True)
        self.bases = [b for b in self.bases if b.table not in names]
        self.orphans -= names


def _with_missed(base: Base, missed: tuple[str, datetime]) -> Base:
    """Let a base know of a compensation that was inserted; it has nothing to do with one of an earlier instant."""
    if base.as_of < missed[1]:
        return base
    return replace(base, missed=tuple(sorted((*base.missed, missed), key=lambda found: found[1])))


def _with_table(base: Base, old: str, new: str) -> Base:
    """Return a base with one table in the place of another, its own or that of a compensation."""
    missed = tuple((new if name == old else name, at) for name, at in base.missed)
    return replace(base, table=new if base.table == old else base.table, missed=missed)
