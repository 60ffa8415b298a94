"""How far each delivery has come: what the rows of its log add up to.

Pure: rows in, frozen values out; nothing is read or written. A delivery's cursor is the instant up to which
everything is acknowledged, its checkpoint how far the change set after that got.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.model.events import Interval, unite_intervals
from airflow_kinesis_audience.core.state.delivery_details import (
    AttemptCheckpoint,
    AttemptStarted,
    AttemptUnsent,
    ChangeSetDelivered,
    DeadLettersTable,
    DeliveryDetail,
    DestinationAttached,
    DestinationDetached,
    DestinationRenewed,
    PartOf,
    ProfilesTable,
    RemovalsCounted,
    SnapshotTable,
)
from airflow_kinesis_audience.core.state.entries import corrupt_row, follow
from airflow_kinesis_audience.core.state.sync_details import ChangeSetAuthor  # noqa: TC001 (read by a fold)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_kinesis_audience.core.state.entries import Entry
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.timeline import Timeline


_NO_DEAD_LETTERS = DeadLettersTable()

_INTERVALS = 100
"""So many intervals are remembered one by one, the newest."""

RESYNC = "resync"
"""``on_first_run`` of a delivery that is a resync: a full snapshot, and then nothing more."""

REPLAY = "replay"
"""``on_first_run`` of a delivery that is a replay: a membership, and the changes after it up to an instant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """One time that a destination was attached, also where it is detached by now.

    :param log: of the delivery, and ``sequence`` the number of the row there.
    :param as_of: the instant at which it was attached.
    :param detail: what the row says.
    """

    log: str
    sequence: int
    as_of: datetime
    detail: DestinationAttached


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryState:
    """How far a delivery has come.

    :param log: the delivery's id.
    :param attached: the instant at which the destination was attached, or none if it was not yet.
    :param destination: what the row that attached it says of the destination.
    :param snapshot: what to send first to a destination that knows nobody; none if there is no such table.
    :param profiles: the profiles that the change set is about which is being sent; none if there is no such table.
    :param dead_letters: the members whose message is too large for a record.
    :param removals: what was found out last of members who would be removed by updates.
    :param cursor: the instant up to which everything is delivered; none while nothing is.
    :param reached: the last instant that the cursor ever had, also before it was detached or attached anew.
    :param inserted: instants of inserted change sets that are delivered, before or after later ones.
    :param sending: the instant of a change set of which something may have been sent, if it is not delivered.
    :param checkpoint: how far that change set got.
    :param rendered_as: the render config of the change set that was delivered last; empty of none.
    :param litter: tables that nobody relies on any more, or that go after a resend, and may still be there.
    :param part: where the log is that of a part: which, of how many, and of which delivery.
    :param stream: which stream was sent to, by ARN and creation; empty while nobody could see.
    :param sequence: number of the last row of the delivery's log.
    :param forwarded: of a delivery of events, the intervals that it has forwarded completely, and ``left`` those
        that runs have left for the next one; by now they may be forwarded.
    :param author: which task has forwarded events last, and ``signed_until`` where its interval was to end.
    :param digest: of the last of its rows that is no checkpoint.
    :param owner: the task that is at work since that row, for as many seconds as ``lease_seconds``; empty if none.
    :param recorded_at: when the last row was written, by the clock of whoever wrote it.
    :param replayed: of a replay that is complete, the instant of its last change set.
    :param attachments: every time that the destination was attached, ascending.
    """

    log: str
    attached: datetime | None = None
    destination: DestinationAttached | None = None
    snapshot: SnapshotTable | None = None
    profiles: ProfilesTable | None = None
    dead_letters: DeadLettersTable = _NO_DEAD_LETTERS
    removals: RemovalsCounted | None = None
    cursor: datetime | None = None
    reached: datetime | None = None
    inserted: tuple[datetime, ...] = ()
    sending: datetime | None = None
    checkpoint: AttemptStarted | AttemptCheckpoint | None = None
    rendered_as: str = ""
    part: PartOf | None = None
    stream: str = ""
    sequence: int = 0
    forwarded: tuple[Interval, ...] = ()
    left: tuple[Interval, ...] = ()
    author: ChangeSetAuthor | None = None
    signed_until: datetime | None = None
    litter: tuple[str, ...] = ()
    digest: str = ""
    owner: str = ""
    lease_seconds: float = 0.0
    recorded_at: str = ""
    replayed: datetime | None = None
    attachments: tuple[Attachment, ...] = ()

    @property
    def needs_after(self) -> datetime | None:
        """The instant whose membership, and all changes after it, this delivery may still need."""
        # A part needs what its delivery needs, and no more.
        return None if self.part else self.cursor or self.attached

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are for this delivery alone."""
        letters = self.dead_letters
        replaced = (letters.replaced,) if isinstance(letters.replaced, str) else letters.replaced or ()
        known = [found.table for found in (self.snapshot, self.profiles) if found is not None]
        return tuple(name for name in (*known, letters.table, letters.writing, *replaced) if name)

    def has(self, as_of: datetime) -> bool:
        """Tell whether everything up to an instant is delivered, but for what was inserted since."""
        return self.cursor is not None and as_of <= self.cursor

    def find_inserted(self, timeline: Timeline) -> list[RecordedChangeSet]:
        """List the change sets before the cursor that were inserted since, ascending."""
        begun, cursor = self.attached, self.cursor
        if begun is None or cursor is None or not self.goes_on:
            return []
        found = [c for c in timeline.change_sets if c.inserted and begun < c.as_of <= cursor and not c.dropped]
        return [c for c in found if c.as_of not in self.inserted]

    @property
    def is_replay(self) -> bool:
        """Whether this is a replay that is not finished."""
        return self.destination is not None and self.destination.on_first_run == REPLAY

    @property
    def goes_on(self) -> bool:
        """Whether the destination gets all changes by it; a resync and a replay come to an end."""
        return self.destination is not None and self.destination.on_first_run not in (RESYNC, REPLAY)

    @property
    def on_first_run(self) -> str:
        """What the destination got when it was attached."""
        assert self.destination is not None  # noqa: S101
        return self.destination.on_first_run

    def with_entry(self, entry: Entry) -> DeliveryState:
        """Return the state after one more row.

        :raises LedgerUnreadable: if no delivery has such rows.
        """
        if not isinstance(entry.detail, DeliveryDetail):
            raise corrupt_row(entry)
        detail = entry.detail
        found = self._note_author(detail)._note_intervals(detail)._advance(entry, detail)
        return replace(
            found,
            reached=max((at for at in (self.reached, found.cursor) if at), default=None),
            sequence=entry.sequence,
            digest=follow(self.digest, entry),
            part=detail.part,
            stream=detail.stream or found.stream,
            owner=detail.owner,
            lease_seconds=detail.lease_seconds,
            recorded_at=entry.recorded_at,
        )

    def without_what_is_gone(self, timeline: Timeline) -> DeliveryState:
        """Return the state with old intervals as one where they touch, and without what is not kept."""
        kept = {c.as_of for c in timeline.change_sets if c.inserted}
        return replace(
            self,
            inserted=tuple(at for at in self.inserted if at in kept),
            forwarded=(*unite_intervals(self.forwarded[:-_INTERVALS]), *self.forwarded[-_INTERVALS:]),
            left=(*unite_intervals(self.left[:-_INTERVALS]), *self.left[-_INTERVALS:]),
        )

    def _note_author(self, detail: DeliveryDetail) -> DeliveryState:
        if not isinstance(detail, SnapshotTable) or detail.author is None:
            return self
        return replace(self, author=detail.author, signed_until=detail.wanted_end or detail.end)

    def _note_intervals(self, detail: DeliveryDetail) -> DeliveryState:
        known = self.snapshot
        match detail:
            case SnapshotTable(end=datetime() as end, wanted_end=datetime() as wanted):
                return replace(self, left=(*self.left, Interval(end, wanted)))
            case ChangeSetDelivered(table=name) if known is not None and known.table == name:
                if known.start is not None and known.end is not None:
                    return replace(self, forwarded=(*self.forwarded, Interval(known.start, known.end)))
        return self

    @property
    def attachment(self) -> int | None:
        """The number of the row that attached the destination last."""
        return self.attachments[-1].sequence if self.attachments else None

    def counts(self, part: PartOf | None, stream: str) -> bool:
        """Return whether rows of a part count: they are about this stream, since it was attached last."""
        is_same = "" in (stream, self.stream) or stream == self.stream
        return is_same and (part is None or part.attachment in (None, self.attachment))

    def part_of(self, whole: DeliveryState) -> DeliveryState:
        """Return the state of a part, without what does not count for its delivery."""
        if whole.counts(self.part, self.stream):
            return self
        return DeliveryState(
            log=self.log, part=self.part, stream=self.stream, sequence=self.sequence, digest=self.digest
        )

    def _advance(self, entry: Entry, detail: DeliveryDetail) -> DeliveryState:
        match detail:
            case DestinationAttached():
                cursor = entry.as_of if detail.on_first_run == "baseline" else None
                snapshot = SnapshotTable(table=detail.snapshot) if detail.snapshot else None
                litter = self._litter_after(self.snapshot, detail.snapshot)
                begun = replace(self, attached=entry.as_of, destination=detail, cursor=cursor, snapshot=snapshot)
                new = Attachment(log=self.log, sequence=entry.sequence, as_of=entry.as_of, detail=detail)
                begun = replace(begun, sending=None, checkpoint=None, rendered_as="")
                return replace(begun, litter=litter, attachments=(*self.attachments, new))
            case DestinationDetached():
                kept = DeliveryState(log=self.log, litter=(*self.litter, *self.tables))
                replayed = entry.as_of if detail.replayed else None
                kept = replace(kept, forwarded=self.forwarded, left=self.left, replayed=replayed)
                return replace(kept, attachments=self.attachments)
            case SnapshotTable() | ProfilesTable() | DeadLettersTable():
                return self._with_table(detail)
            case RemovalsCounted():
                return replace(self, removals=detail)
            case _ if detail.resend:
                return self
            case AttemptStarted() | AttemptCheckpoint():
                return replace(self, sending=entry.as_of, checkpoint=detail)
            case AttemptUnsent() | DestinationRenewed():
                return replace(self, sending=None, checkpoint=None)
            case ChangeSetDelivered():
                inserted = (*self.inserted, entry.as_of) if detail.inserted else self.inserted
                cursor = max(entry.as_of, self.cursor or entry.as_of)
                sent = replace(self, cursor=cursor, inserted=inserted, sending=None, checkpoint=None)
                return replace(sent, rendered_as=detail.render_config or self.rendered_as)
        raise corrupt_row(entry)

    def _with_table(self, detail: SnapshotTable | ProfilesTable | DeadLettersTable) -> DeliveryState:
        if isinstance(detail, DeadLettersTable):
            return replace(self, dead_letters=detail)
        if detail.resend:
            return replace(self, litter=(*self.litter, detail.table) if detail.table else ())
        if isinstance(detail, ProfilesTable):
            litter = self._litter_after(self.profiles, detail.table)
            return replace(self, profiles=detail if detail.table else None, litter=litter)
        litter = self._litter_after(self.snapshot, detail.table)
        return replace(self, snapshot=detail if detail.table else None, litter=litter)

    def _litter_after(self, known: SnapshotTable | ProfilesTable | None, name: str) -> tuple[str, ...]:
        """List the tables that are to go when one is announced in the place of another."""
        replaced = known is not None and known.table and name and known.table != name
        return (*self.litter, known.table) if known is not None and replaced else self.litter


def find_attached(states: Iterable[DeliveryState]) -> list[str]:
    """Find the destinations that get the sync's changes."""
    return sorted(
        {s.destination.destination for s in states if s.destination is not None and s.on_first_run != RESYNC}
    )
