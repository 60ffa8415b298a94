"""What a ledger's rows add up to: the line of time of a sync, and how far each delivery has come.

Pure: rows in, frozen values out; nothing is read or written. Change sets are edges on one line, contiguous and
ascending. A change set that was computed again replaces the one before it, together with any base made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant, instant_text
from airflow_kinesis_audience.exceptions import HistoryGone, LedgerUnreadable
from airflow_kinesis_audience.layout import Layout
from airflow_kinesis_audience.ledger import SYNC_LOG, Entry, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A change set, from one membership to the next; the first edge's table is a base.

    :param rows: changes in it; for the first edge, members.
    :param slice_rows: rows of a slice, fixed when the table was written.
    :param sealed: a delivery relies on it, so it is never computed again.
    """

    as_of: datetime
    previous_as_of: datetime | None
    table: str
    rows: int
    slice_rows: int
    counts: Mapping[str, int]
    recorded: Mapping[str, Any]
    sealed: bool = False
    dropped: bool = False

    @property
    def layout(self) -> Layout:
        """How the edge's table is made."""
        return Layout.from_json(self.recorded["layout"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A full copy of a membership."""

    as_of: datetime
    table: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The state of a sync.

    :param edges: ascending, the first one begins the line.
    :param bases: ascending, only those that still stand.
    :param strays: tables that were begun and never counted, or were replaced.
    :param sequence: number of the last row of the sync's own log.
    """

    edges: tuple[Edge, ...] = ()
    bases: tuple[Base, ...] = ()
    strays: frozenset[str] = frozenset()
    sequence: int = 0
    writer: str = ""

    @property
    def newest(self) -> Edge | None:
        """The newest edge."""
        return self.edges[-1] if self.edges else None

    def find(self, as_of: datetime) -> Edge | None:
        """Find the edge that leads to an instant."""
        return next((e for e in reversed(self.edges) if e.as_of == as_of), None)

    def after(self, cursor: datetime, until: datetime) -> list[Edge]:
        """List the edges that lead from one instant to another.

        :raises HistoryGone: if one of them is no longer kept.
        """
        edges = [e for e in self.edges if cursor < e.as_of <= until]
        if gone := [instant_text(e.as_of) for e in edges if e.dropped]:
            raise HistoryGone(f"the change sets {', '.join(gone)} are older than keep_history and were dropped")
        return edges

    def tables(self, as_of: datetime) -> tuple[str, list[str]]:
        """Name the base's table and the change sets' tables that make up the membership at an edge's instant.

        :raises HistoryGone: if the instant is older than what is kept.
        """
        base = next((b for b in reversed(self.bases) if b.as_of <= as_of), None)
        if base is None or self.find(as_of) is None:
            raise HistoryGone(f"the membership at {instant_text(as_of)} is not kept any more")
        return base.table, [e.table for e in self.after(base.as_of, as_of)]

    def audiences_table(self, edge: Edge) -> str | None:
        """Name a table that tells of the audiences at an edge's instant, or none if none is kept."""
        if not edge.dropped:
            return edge.table
        return next((b.table for b in self.bases if b.as_of == edge.as_of), None)

    @classmethod
    def from_entries(cls, entries: Iterable[Entry]) -> Timeline:
        """Add up the rows of a sync's own log.

        :raises LedgerUnreadable: if a row does not fit those before it.
        """
        drawn = _Drawing()
        for entry in entries:
            if entry.log == SYNC_LOG:
                drawn.sequence = entry.sequence
                try:
                    getattr(drawn, f"add_{entry.event.value}")(entry)
                except (AttributeError, KeyError, TypeError, ValueError):
                    raise _misunderstood(entry) from None
        return cls(
            edges=tuple(drawn.edges[at] for at in sorted(drawn.edges)),
            bases=tuple(sorted(drawn.bases, key=lambda b: b.as_of)),
            strays=frozenset(drawn.strays),
            sequence=drawn.sequence,
            writer=drawn.writer,
        )


@dataclass(slots=True)
class _Drawing:
    """A timeline while its rows are added up, one method per event."""

    edges: dict[datetime, Edge] = field(default_factory=dict)
    bases: list[Base] = field(default_factory=list)
    strays: set[str] = field(default_factory=set)
    sequence: int = 0
    writer: str = ""

    def add_started(self, entry: Entry) -> None:
        self.writer = str(entry.detail["table"])
        self.strays.add(self.writer)

    def add_first(self, entry: Entry) -> None:
        self.add_change_set(entry)
        self.bases.append(Base(as_of=entry.as_of, table=entry.detail["table"]))

    def add_change_set(self, entry: Entry) -> None:
        detail, previous = entry.detail, entry.detail["previous_as_of"]
        if replaced := self.edges.get(entry.as_of):
            self.strays.add(replaced.table)
        self.strays |= {b.table for b in self.bases if b.as_of >= entry.as_of}
        self.bases = [b for b in self.bases if b.as_of < entry.as_of]
        self.strays.discard(detail["table"])
        self.edges[entry.as_of] = Edge(
            as_of=entry.as_of,
            previous_as_of=instant(previous) if previous else None,
            table=detail["table"],
            rows=detail["rows"],
            slice_rows=detail["slice_rows"],
            counts=detail["counts"],
            recorded=detail,
        )

    def add_base(self, entry: Entry) -> None:
        self.bases.append(Base(as_of=entry.as_of, table=entry.detail["table"]))
        self.strays.discard(entry.detail["table"])

    def add_sealed(self, entry: Entry) -> None:
        self.edges[entry.as_of] = replace(self.edges[entry.as_of], sealed=True)

    def add_dropped(self, entry: Entry) -> None:
        names = set(entry.detail["tables"])
        for at, edge in self.edges.items():
            if edge.table in names:
                self.edges[at] = replace(edge, dropped=True)
        self.bases = [b for b in self.bases if b.table not in names]
        self.strays -= names


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far a delivery has come.

    :param log: the delivery's id.
    :param attached: the instant at which the destination was attached, or none if it was not yet.
    :param snapshot: what to send first to a destination that knows nobody: its row's detail.
    :param cursor: the instant up to which everything is delivered; none while nothing is.
    :param sending: the instant of a change set of which something may have been sent, if it is not delivered.
    :param progress: the detail of the last row that tells how far that change set got.
    :param sequence: number of the last row of the delivery's log.
    """

    log: str
    attached: datetime | None = None
    on_first_run: str = ""
    snapshot: Mapping[str, Any] | None = None
    cursor: datetime | None = None
    sending: datetime | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0

    @property
    def needs_after(self) -> datetime | None:
        """The instant whose membership, and all changes after it, this delivery may still need."""
        return self.cursor or self.attached

    @classmethod
    def from_entries(cls, log: str, entries: Iterable[Entry]) -> Standing:
        """Add up the rows of a delivery's log."""
        standing = cls(log=log)
        for entry in entries:
            if entry.log == log:
                try:
                    standing = replace(_advance(standing, entry), sequence=entry.sequence)
                except (AttributeError, KeyError, TypeError):
                    raise _misunderstood(entry) from None
        return standing


def _misunderstood(entry: Entry) -> LedgerUnreadable:
    return LedgerUnreadable(
        f"row {entry.sequence} of the ledger's log {entry.log!r}, {entry.event.value} as of "
        f"{instant_text(entry.as_of)}, does not fit the rows before it: restore the ledger from a backup"
    )


def _advance(standing: Standing, entry: Entry) -> Standing:
    if entry.event is Event.ATTACHED:
        known = entry.detail["on_first_run"]
        cursor = entry.as_of if known == "baseline" else None
        return replace(standing, attached=entry.as_of, on_first_run=known, cursor=cursor)
    if entry.event is Event.SNAPSHOT:
        return replace(standing, snapshot=entry.detail)
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
