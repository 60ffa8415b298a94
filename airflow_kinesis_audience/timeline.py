"""What the rows of a sync's own log add up to: its line of time.

Pure: rows in, frozen values out; nothing is read or written. Change sets are edges on one line, contiguous and
ascending. A change set that was computed again replaces the one before it, together with any base made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant, instant_text
from airflow_kinesis_audience.exceptions import HistoryGone, RunSuperseded
from airflow_kinesis_audience.layout import Layout
from airflow_kinesis_audience.ledger import SYNC_LOG, Entry, misunderstood
from airflow_kinesis_audience.membership import Tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A change set, from one membership to the next; the first edge's table is a base.

    :param rows: changes in it; for the first edge, members.
    :param slice_rows: rows of a slice, fixed when the table was written.
    :param sealed: a delivery relies on it, or it was let through as it is, so it is never computed again.
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

    def summary(self, sync_id: str) -> dict[str, Any]:
        """Sum the change set up: counts, and sentences about it, never rows."""
        summary: dict[str, Any] = {
            "sync_id": sync_id,
            "as_of": instant_text(self.as_of),
            "previous_as_of": instant_text(self.previous_as_of) if self.previous_as_of else None,
            **{n: self.counts[n] for n in ("entered", "exited", "updated", "members")},
        }
        told = ("audiences", "dropped_rows", "let_through")
        return summary | {n: self.recorded[n] for n in told if n in self.recorded}


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A full copy of a membership, in the layout of the change sets that come after it."""

    as_of: datetime
    table: str
    recorded_layout: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The state of a sync.

    :param edges: ascending, the first one begins the line.
    :param bases: ascending, only those that still stand.
    :param strays: tables that were begun and never counted, or were replaced.
    :param held: a change set that waits for a person, if any; it is not on the line.
    :param closed: the instant at which the sync's audiences were deleted, if they were, and ``closing`` how.
    :param sequence: number of the last row of the sync's own log.
    :param writer: the table that the run that began last is writing, or has written.
    """

    edges: tuple[Edge, ...] = ()
    bases: tuple[Base, ...] = ()
    strays: frozenset[str] = frozenset()
    held: Edge | None = None
    closed: datetime | None = None
    closing: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0
    writer: str = ""

    @property
    def newest(self) -> Edge | None:
        """The newest edge."""
        return self.edges[-1] if self.edges else None

    def find(self, as_of: datetime) -> Edge | None:
        """Find the edge that leads to an instant."""
        return next((e for e in reversed(self.edges) if e.as_of == as_of), None)

    def find_settled(self, as_of: datetime) -> Edge | None:
        """Find the edge that leads to an instant if it is not to be computed (again).

        :raises RunSuperseded: if a later run covers the instant.
        """
        newest = self.newest
        if newest is None or as_of > newest.as_of:
            return None
        edge = self.find(as_of)
        if edge is None:
            raise RunSuperseded(
                f"this run speaks for {instant_text(as_of)}, and a later run has already covered it with the "
                f"change set as of {instant_text(newest.as_of)}; there is nothing left to compute"
            )
        return None if edge is newest and not edge.sealed else edge

    def after(self, cursor: datetime, until: datetime) -> list[Edge]:
        """List the edges that lead from one instant to another.

        :raises HistoryGone: if one of them is no longer kept.
        """
        edges = [e for e in self.edges if cursor < e.as_of <= until]
        if gone := [instant_text(e.as_of) for e in edges if e.dropped]:
            raise HistoryGone(f"the change sets {', '.join(gone)} are older than keep_history and were dropped")
        return edges

    def tables(self, schema: str, as_of: datetime, layout: Layout | None = None) -> Tables:
        """Name the tables that make up the membership at an edge's instant.

        :param layout: as which the rows are to be read, by default the edge's own.
        :raises HistoryGone: if the instant is older than what is kept, or was never kept in that layout.
        """
        base = self.find_base(as_of, layout)
        if base is None:
            raise HistoryGone(f"the membership at {instant_text(as_of)} is not kept any more")
        changes = [(e.table, instant_text(e.as_of)) for e in self.after(base.as_of, as_of)]
        read_as = Layout.from_json(base.recorded_layout)
        return Tables(schema=schema, layout=read_as, base=base.table, changes=changes)

    def find_base(self, as_of: datetime, layout: Layout | None = None) -> Base | None:
        """Find the base on which the membership at an edge's instant stands, in a layout; see :meth:`tables`."""
        edge = self.find(as_of)
        if edge is None:
            return None
        asked = layout.as_json() if layout else edge.recorded["layout"]
        for base in reversed(self.bases):
            edges = [e for e in self.edges if base.as_of < e.as_of <= as_of]
            layouts = [base.recorded_layout, *(e.recorded["layout"] for e in edges)]
            if base.as_of <= as_of and _all_match(asked, layouts):
                return base
        return None

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
                    raise misunderstood(entry) from None
        return cls(
            edges=tuple(drawn.edges[at] for at in sorted(drawn.edges)),
            bases=tuple(sorted(drawn.bases, key=lambda b: b.as_of)),
            strays=frozenset(drawn.strays - ({drawn.held.table} if drawn.held else set())),
            held=drawn.held,
            closed=drawn.closed,
            closing=drawn.closing,
            sequence=drawn.sequence,
            writer=drawn.writer,
        )


@dataclass(slots=True)
class _Drawing:
    """A timeline while its rows are added up, one method per event."""

    edges: dict[datetime, Edge] = field(default_factory=dict)
    bases: list[Base] = field(default_factory=list)
    strays: set[str] = field(default_factory=set)
    held: Edge | None = None
    closed: datetime | None = None
    closing: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0
    writer: str = ""

    def add_started(self, entry: Entry) -> None:
        self.writer = str(entry.detail["table"])
        self.strays.add(self.writer)

    def add_first(self, entry: Entry) -> None:
        if self.closed is not None:  # the line begins anew under an id that was deleted
            self.strays |= {e.table for e in self.edges.values()} | {b.table for b in self.bases}
            self.edges, self.bases, self.closed, self.closing = {}, [], None, {}
        self.add_change_set(entry)
        table, layout = entry.detail["table"], entry.detail["layout"]
        self.bases.append(Base(as_of=entry.as_of, table=table, recorded_layout=layout))

    def add_change_set(self, entry: Entry) -> None:
        if replaced := self.edges.get(entry.as_of):
            self.strays.add(replaced.table)
        self._let_go()
        self.strays |= {b.table for b in self.bases if b.as_of >= entry.as_of}
        self.bases = [b for b in self.bases if b.as_of < entry.as_of]
        self.strays.discard(entry.detail["table"])
        self.edges[entry.as_of] = _edge(entry)

    def add_held(self, entry: Entry) -> None:
        self._let_go()
        self.held = _edge(entry)

    def _let_go(self) -> None:
        """Whatever was held was computed from a membership that is the newest no longer."""
        if self.held is not None:
            self.strays.add(self.held.table)
        self.held = None

    def add_base(self, entry: Entry) -> None:
        table = entry.detail["table"]
        layout = entry.detail.get("layout") or self.edges[entry.as_of].recorded["layout"]
        self.bases.append(Base(as_of=entry.as_of, table=table, recorded_layout=layout))
        self.strays.discard(table)

    def add_closed(self, entry: Entry) -> None:
        self._let_go()
        self.closed, self.closing, self.writer = entry.as_of, entry.detail, ""

    def add_sealed(self, entry: Entry) -> None:
        self.edges[entry.as_of] = replace(self.edges[entry.as_of], sealed=True)

    def add_retired(self, entry: Entry) -> None:
        self.add_dropped(entry)
        self.strays |= set(entry.detail["tables"])

    def add_dropped(self, entry: Entry) -> None:
        names = set(entry.detail["tables"])
        if self.held is not None and self.held.table in names:
            self.held = None
        for at, edge in self.edges.items():
            if edge.table in names:
                self.edges[at] = replace(edge, dropped=True)
        self.bases = [b for b in self.bases if b.table not in names]
        self.strays -= names


def _edge(entry: Entry) -> Edge:
    detail, previous = entry.detail, entry.detail["previous_as_of"]
    return Edge(
        as_of=entry.as_of,
        previous_as_of=instant(previous) if previous else None,
        table=detail["table"],
        rows=detail["rows"],
        slice_rows=detail["slice_rows"],
        counts=detail["counts"],
        recorded=detail,
        sealed=bool(detail.get("let_through")),
    )


def _all_match(asked: Mapping[str, Any], layouts: Iterable[Mapping[str, Any]]) -> bool:
    others = [found for found in layouts if found != asked]
    return not others or all(Layout.from_json(asked).matches(Layout.from_json(found)) for found in others)
