"""One run of a sync: read the source, find what differs, look at it, record it.

The next change set is always taken from the newest membership in the ledger. A table is announced before it is
written and counts only once it is recorded; whatever happens in between leaves the baseline where it was. A
change set is computed again only while no delivery relies on it.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import Source, instant_text
from airflow_kinesis_audience.diff import select_audience_rows, select_changes, select_counts
from airflow_kinesis_audience.exceptions import (
    GuardTripped,
    LedgerConflict,
    RunSuperseded,
    SchemaChanged,
    WarehouseRefused,
)
from airflow_kinesis_audience.guards import AudienceCounts, Guards, find_invalid_rows
from airflow_kinesis_audience.layout import Layout, describe_differences, layout_of
from airflow_kinesis_audience.ledger import SYNC_LOG, Event, Ledger
from airflow_kinesis_audience.membership import select_compacted, select_first_base
from airflow_kinesis_audience.sql import check_query, drop_table, render, table, table_name, write_table
from airflow_kinesis_audience.timeline import Edge, Timeline, read_standings

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE_ROWS = 20_000
"""Rows of a slice: what a publishing task holds at once."""

MOST_EDGES = 48
"""Change sets since the last base, after which a new base is written whatever their size."""

FEW_AUDIENCES = 20
"""Up to so many audiences a summary tells of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upkeep:
    """When old state is folded up, and when it goes.

    :param compaction_share: changes since the last base, as a share of the members, that make a new base.
    :param keep_history: how long a membership can be asked for.
    """

    compaction_share: float = 0.25
    keep_history: timedelta = timedelta(days=90)


class Sync:
    """Runs of one sync against its warehouse and ledger.

    :param ledger: the sync's ledger; it holds the warehouse and the schema.
    :param source: who belongs.
    :param guards: bounds within which a change set is believed.
    """

    def __init__(
        self, ledger: Ledger, source: Source, *, guards: Guards | None = None, upkeep: Upkeep | None = None
    ) -> None:
        self.ledger = ledger
        self.warehouse = ledger.warehouse
        self.source = source
        self.guards = guards or Guards()
        self.upkeep = upkeep or Upkeep()

    def run(self, as_of: datetime) -> dict[str, Any]:
        """Compute and record the change set that leads to an instant, or find that it is there.

        :returns: the summary: ``sync_id``, ``as_of``, ``previous_as_of``, ``entered``, ``exited``, ``updated``,
            ``members``, and ``audiences`` where there are few. Counts, never rows.
        :raises RunSuperseded: if a later run covers the instant.
        :raises GuardTripped: if the source has rows that cannot be told apart or named, or a bound is broken.
        :raises SchemaChanged: if the mapping is not the one of the published membership.
        """
        query = check_query(self.source.query, self.warehouse.dialect)
        layout = layout_of(self.source, self.warehouse.read_types(query), self.warehouse.dialect)
        self.ledger.prepare()
        timeline = self._read()
        if (there := _already_there(timeline, as_of)) is not None:
            return self._summary(there)
        previous = next((e for e in reversed(timeline.edges) if e.as_of < as_of), None)
        if previous is not None:
            _check_layout(previous.layout, layout)
            timeline = self._compact(timeline, previous)
        edge = self._compute(timeline, previous, layout, query, as_of)
        self._drop_unneeded(as_of)
        return self._summary(edge)

    def _read(self) -> Timeline:
        return Timeline.from_entries(self.ledger.read())

    def _compute(
        self, timeline: Timeline, previous: Edge | None, layout: Layout, query: str, as_of: datetime
    ) -> Edge:
        schema = self.ledger.schema
        if previous is None:
            statement = select_first_base(self.source, layout, as_of)
        else:
            base, changes = timeline.tables(previous.as_of)
            statement = select_changes(self.source, layout, schema, base, changes, as_of)
        event = Event.FIRST if previous is None else Event.CHANGE_SET
        name = self._announce(timeline, "base" if previous is None else "changes", as_of)
        with self._unless_overtaken(name, as_of):
            write_table(
                self.warehouse, table(schema, name), statement, source_query=query, sliced=previous is not None
            )
            audiences = self._count(name, layout, timeline.audiences_table(previous) if previous else None)
        try:
            self._guard(audiences)
        except GuardTripped:
            self._drop([name], as_of)
            raise
        counts = _total(audiences)
        detail = {
            "table": name,
            "previous_as_of": instant_text(previous.as_of) if previous else None,
            "rows": counts["members"] if previous is None else counts["changes"],
            "slice_rows": SLICE_ROWS,
            "layout": layout.as_json(),
            "counts": counts,
        }
        if len(audiences) <= FEW_AUDIENCES:
            detail["audiences"] = {
                str(a.audience_id): {n: getattr(a, n) for n in ("entered", "exited", "updated", "members")}
                for a in audiences
            }
        found = self._record(name, event, as_of, detail).find(as_of)
        assert found is not None  # noqa: S101
        return found

    def _guard(self, audiences: list[AudienceCounts]) -> None:
        if problems := find_invalid_rows(audiences):
            raise GuardTripped(
                f"the source of sync {self.ledger.sync_id!r} has rows that cannot be sent: {'; '.join(problems)}. "
                "Every row needs a user id, once per audience. Mend the table or the query and clear this task; "
                "nothing was sent and the baseline is unchanged"
            )
        if problems := self.guards.find_breaches(audiences):
            raise GuardTripped(
                f"the change set of sync {self.ledger.sync_id!r} was stopped: {'; '.join(problems)}. "
                "If the source is wrong, mend it and clear this task; if it is right, widen the bound for this "
                "run. Nothing was sent and the baseline is unchanged"
            )

    def _announce(self, timeline: Timeline, what: str, as_of: datetime) -> str:
        """Write down the name of a table before it is made, so that a later run can clear it away."""
        name = table_name(what, self.ledger.sync_id, as_of, uuid.uuid4().hex[:6])
        self.ledger.append(SYNC_LOG, timeline.sequence, Event.STARTED, as_of=as_of, detail={"table": name})
        return name

    def _record(self, name: str, event: Event, as_of: datetime, detail: dict[str, Any]) -> Timeline:
        """Make a written table count, unless another run has begun to write one since it was announced."""
        while True:
            timeline = self._read()
            current = timeline.find(as_of)
            sealed = event is not Event.BASE and current is not None and current.sealed
            if timeline.writer != name or sealed:
                raise self._overtaken(name, as_of)
            with contextlib.suppress(LedgerConflict):
                self.ledger.append(SYNC_LOG, timeline.sequence, event, as_of=as_of, detail=detail)
                return self._read()

    @contextlib.contextmanager
    def _unless_overtaken(self, name: str, as_of: datetime) -> Iterator[None]:
        """Tell a failure over tables that another run cleared away, where a retry helps, from a wrong one."""
        try:
            yield
        except WarehouseRefused:
            if self._read().writer != name:
                raise self._overtaken(name, as_of) from None
            raise

    def _overtaken(self, name: str, as_of: datetime) -> LedgerConflict:
        self._drop([name], as_of)
        return LedgerConflict(
            f"another run of sync {self.ledger.sync_id!r} has begun since this one did, or a delivery of "
            f"{instant_text(as_of)} has; try again: the next attempt goes on from what it wrote. "
            "To run one at a time, set max_active_tis_per_dag=1"
        )

    def _count(self, name: str, layout: Layout, before_in: str | None) -> list[AudienceCounts]:
        read = self.warehouse.read_rows
        schema, dialect = self.ledger.schema, self.warehouse.dialect
        source = {a: (rows, bad) for a, _, rows, bad in read(render(select_audience_rows(schema, name), dialect))}
        actions: dict[str | None, dict[str, tuple[int, int]]] = {}
        for audience_id, action, rows, users in read(render(select_counts(layout, schema, name), dialect)):
            actions.setdefault(audience_id, {})[action] = (rows, users)
        before: dict[str | None, int] = {}
        if before_in is not None:
            query = render(select_audience_rows(schema, before_in), dialect)
            before = {a: rows - bad for a, _, rows, bad in read(query)}
        if self.source.audience_id is not None:
            source.setdefault(self.source.audience_id, (0, 0))
        return [
            AudienceCounts.of(
                audience_id,
                source=source.get(audience_id, (0, 0)),
                actions=actions.get(audience_id, {}),
                previous=None if before_in is None else before.get(audience_id, 0),
            )
            for audience_id in dict.fromkeys([*source, *before])
        ]

    def _compact(self, timeline: Timeline, newest: Edge) -> Timeline:
        """Write a new base when the change sets since the last one have grown to a share of the members."""
        base = next(b for b in reversed(timeline.bases) if b.as_of <= newest.as_of)
        edges = timeline.after(base.as_of, newest.as_of)
        changed = sum(e.rows for e in edges)
        if changed <= newest.counts["members"] * self.upkeep.compaction_share and len(edges) < MOST_EDGES:
            return timeline
        if not edges:
            return timeline
        name = self._announce(timeline, "base", newest.as_of)
        origin, changes = timeline.tables(newest.as_of)
        statement = select_compacted(newest.layout, self.ledger.schema, origin, changes)
        with self._unless_overtaken(name, newest.as_of):
            write_table(self.warehouse, table(self.ledger.schema, name), statement)
        return self._record(name, Event.BASE, newest.as_of, {"table": name})

    def _drop_unneeded(self, as_of: datetime) -> None:
        """Drop what no membership within the retention and no delivery needs any more."""
        entries = self.ledger.read()
        timeline = Timeline.from_entries(entries)
        needed_after = [as_of - self.upkeep.keep_history]
        needed_after += [s.needs_after for s in read_standings(entries) if s.needs_after]
        oldest = next((b for b in reversed(timeline.bases) if b.as_of <= min(needed_after)), None)
        # What another run is writing at this moment looks like a stray, and counts as soon as it is recorded.
        names = set(timeline.strays - {timeline.writer})
        if oldest is not None:
            names |= {e.table for e in timeline.edges if e.as_of <= oldest.as_of and not e.dropped}
            names |= {b.table for b in timeline.bases if b.as_of < oldest.as_of}
            names.discard(oldest.table)
        if names:
            self._drop(sorted(names), as_of)

    def _drop(self, names: list[str], as_of: datetime) -> None:
        for name in names:
            drop_table(self.warehouse, table(self.ledger.schema, name))
        after = self._read().sequence
        # Where another run was faster the tables are gone all the same, and a later run drops them once more.
        with contextlib.suppress(LedgerConflict):
            self.ledger.append(SYNC_LOG, after, Event.DROPPED, as_of=as_of, detail={"tables": names})

    def _summary(self, edge: Edge) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "sync_id": self.ledger.sync_id,
            "as_of": instant_text(edge.as_of),
            "previous_as_of": instant_text(edge.previous_as_of) if edge.previous_as_of else None,
            **{n: edge.counts[n] for n in ("entered", "exited", "updated", "members")},
        }
        if "audiences" in edge.recorded:
            summary["audiences"] = edge.recorded["audiences"]
        return summary


def _already_there(timeline: Timeline, as_of: datetime) -> Edge | None:
    """Find the edge that a run leads to if it is not to be computed (again).

    :raises RunSuperseded: if a later run covers the instant.
    """
    newest = timeline.newest
    if newest is None or as_of > newest.as_of:
        return None
    edge = timeline.find(as_of)
    if edge is None:
        raise RunSuperseded(
            f"this run speaks for {instant_text(as_of)}, and a later run has already covered it with the change "
            f"set as of {instant_text(newest.as_of)}; there is nothing left to compute"
        )
    return None if edge is newest and not edge.sealed else edge


def _check_layout(published: Layout, asked: Layout) -> None:
    if differences := describe_differences(published, asked):
        raise SchemaChanged(
            "the mapping is not the one that the published membership was written with: "
            f"{'; '.join(differences)}. Nothing was computed. Restore the mapping, or give the new one a sync_id "
            "of its own"
        )


def _total(audiences: list[AudienceCounts]) -> dict[str, int]:
    names = ("entered", "exited", "updated", "members")
    total = {n: sum(getattr(a, n) for a in audiences) for n in names}
    return {**total, "changes": total["entered"] + total["exited"] + total["updated"]}
