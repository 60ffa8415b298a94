"""What the rows of a delivery's log add up to: how far it has come.

Pure: rows in, frozen values out; nothing is read or written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.ledger import SYNC_LOG, Entry, Event, misunderstood

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime


RESYNC = "resync"
"""What a delivery says that it tells first where it is a resync: the whole truth, and then nothing more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far a delivery has come.

    :param log: the delivery's id.
    :param detail: what the row that attached it says of the destination.
    :param attached: the instant at which the destination was attached, or none if it was not yet.
    :param snapshot: what to send first to a destination that knows nobody: its row's detail.
    :param profiles: the profiles that the change set is about which is being sent: likewise.
    :param rejects: the members of whom the destination could not be told: likewise.
    :param cursor: the instant up to which everything is delivered; none while nothing is.
    :param sending: the instant of a change set of which something may have been sent, if it is not delivered.
    :param progress: the detail of the last row that tells how far that change set got.
    :param part: where it is a part of a delivery that stands here: which, of how many, and of which delivery.
    :param sequence: number of the last row of the delivery's log.
    """

    log: str
    attached: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    snapshot: Mapping[str, Any] | None = None
    profiles: Mapping[str, Any] | None = None
    rejects: Mapping[str, Any] = field(default_factory=dict)
    cursor: datetime | None = None
    sending: datetime | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    part: Mapping[str, Any] | None = None
    sequence: int = 0

    @property
    def needs_after(self) -> datetime | None:
        """The instant whose membership, and all changes after it, this delivery may still need."""
        # A part needs what its delivery needs, and no more.
        return None if self.part else self.cursor or self.attached

    def has(self, as_of: datetime) -> bool:
        """Tell whether everything up to an instant is delivered."""
        return self.cursor is not None and as_of <= self.cursor

    @property
    def on_first_run(self) -> str:
        """What the destination was told when it was attached."""
        return str(self.detail["on_first_run"])

    @classmethod
    def from_entries(cls, log: str, entries: Iterable[Entry]) -> Standing:
        """Add up the rows of a delivery's log."""
        standing = cls(log=log)
        for entry in entries:
            if entry.log == log:
                try:
                    part = entry.detail.get("part")
                    standing = replace(_advance(standing, entry), sequence=entry.sequence, part=part)
                except (AttributeError, KeyError, TypeError):
                    raise misunderstood(entry) from None
        return standing


def _advance(standing: Standing, entry: Entry) -> Standing:
    if entry.event is Event.ATTACHED:
        known = entry.detail["on_first_run"]
        cursor = entry.as_of if known == "baseline" else None
        return replace(standing, attached=entry.as_of, detail=entry.detail, cursor=cursor)
    if entry.event is Event.DETACHED:
        return Standing(log=standing.log)
    if entry.event is Event.SNAPSHOT:
        return replace(standing, snapshot=entry.detail)
    if entry.event is Event.PROFILES:
        return replace(standing, profiles=entry.detail)
    if entry.event is Event.REJECTED:
        return replace(standing, rejects=entry.detail)
    if entry.detail.get("resend"):
        return standing
    if entry.event in (Event.SENDING, Event.CHECKPOINT):
        return replace(standing, sending=entry.as_of, progress=entry.detail)
    if entry.event is Event.UNSENT:
        return replace(standing, sending=None, progress={})
    return replace(standing, cursor=entry.as_of, sending=None, progress={})


def read_standings(entries: Sequence[Entry]) -> list[Standing]:
    """Add up every delivery's log."""
    logs = sorted({e.log for e in entries} - {SYNC_LOG})
    return [Standing.from_entries(log, entries) for log in logs]


def find_attached(entries: Sequence[Entry]) -> list[str]:
    """Find the destinations that get the sync's changes."""
    attached = [s for s in read_standings(entries) if s.attached is not None and s.on_first_run != RESYNC]
    return sorted({str(s.detail["destination"]) for s in attached})
