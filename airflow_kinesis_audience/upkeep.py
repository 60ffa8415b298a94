"""What keeps a sync's state small and readable: new bases, and the end of what nobody needs.

A base and the change sets after it are of one layout. When the change sets have grown, or the mapping is
another, a new base is written at the newest instant before the run goes on; it remembers who has left. What
neither the retention nor any delivery needs is dropped, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.kinds import data_type
from airflow_kinesis_audience.ledger import Event
from airflow_kinesis_audience.membership import Tables, select_base
from airflow_kinesis_audience.retelling import select_history
from airflow_kinesis_audience.sql import table, view_name, write_table, write_view
from airflow_kinesis_audience.standing import read_standings
from airflow_kinesis_audience.timeline import Edge, Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_audience.layout import Layout
    from airflow_kinesis_audience.recording import Recorder

MOST_EDGES = 48
"""Change sets since the last base, after which a new base is written whatever their size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upkeep:
    """When old state is folded up, and when it goes.

    :param compaction_share: changes since the last base, as a share of the members, that make a new base.
    :param keep_history: how long a membership can be asked for.
    :param keep_exits: how long it is remembered that somebody has left, or none for ever: a destination that is
        told everything anew is told of these exits, too.
    :param history_view: keep a view over all change sets, for people to look at.
    """

    compaction_share: float = 0.25
    keep_history: timedelta = timedelta(days=90)
    keep_exits: timedelta | None = None
    history_view: bool = False

    def write_base(
        self, recorder: Recorder, timeline: Timeline, newest: Edge, layout: Layout, types: Mapping[str, str]
    ) -> Timeline:
        """Write a new base at the newest edge, if that is due.

        :param layout: of the change set that comes next.
        :param types: column of the source to the engine's name of its type.
        """
        tables = self._find_tables(recorder, timeline, newest, layout)
        if tables is None:
            return timeline
        name = recorder.announce(timeline, "base", newest.as_of)
        dialect = recorder.ledger.warehouse.dialect
        statement = select_base(
            tables,
            layout,
            types={c: data_type(t, dialect) for c, t in types.items()},
            left_after=None if self.keep_exits is None else newest.as_of - self.keep_exits,
        )
        with recorder.unless_overtaken(name, newest.as_of):
            target = table(tables.schema, name)
            write_table(recorder.ledger.warehouse, target, statement, tells_audiences=True)
        return recorder.record(name, Event.BASE, newest.as_of, {"table": name, "layout": layout.as_json()})

    def _find_tables(self, recorder: Recorder, timeline: Timeline, newest: Edge, layout: Layout) -> Tables | None:
        """Find the tables to make a base of, or none if none is due."""
        schema = recorder.ledger.schema
        if timeline.find_base(newest.as_of, layout) is None:
            return timeline.tables(schema, newest.as_of)
        tables = timeline.tables(schema, newest.as_of, layout)
        names = {name for name, _ in tables.changes}
        changed = sum(e.rows for e in timeline.edges if e.table in names)
        few = changed <= newest.counts["members"] * self.compaction_share and len(names) < MOST_EDGES
        return None if few or not names else tables

    def drop_unneeded(self, recorder: Recorder, as_of: datetime) -> None:
        """Drop what no membership within the retention and no delivery needs any more."""
        entries = recorder.ledger.read()
        timeline = Timeline.from_entries(entries)
        needed_after = [as_of - self.keep_history]
        needed_after += [s.needs_after for s in read_standings(entries) if s.needs_after]
        newest = timeline.newest
        if newest is not None and newest.previous_as_of is not None and not newest.sealed:
            # It may be computed again, even in the layout of the one before it.
            needed_after.append(newest.previous_as_of)
        # What another run is writing at this moment looks like a stray, and counts as soon as it is recorded.
        strays = timeline.strays - {timeline.writer}
        names: set[str] = set()
        oldest = next((e for e in reversed(timeline.edges) if e.as_of <= min(needed_after)), None)
        if oldest is not None and (base := timeline.find_base(oldest.as_of)) is not None:
            names |= {e.table for e in timeline.edges if e.as_of <= base.as_of and not e.dropped}
            names |= {b.table for b in timeline.bases if b.as_of < base.as_of}
            names.discard(base.table)
        if self.history_view:
            # Before the tables go: an engine may refuse to drop what a view stands on.
            _write_view(recorder, timeline, names)
        if (names or strays) and recorder.retire(names, as_of):
            recorder.drop(names | strays, as_of)


def _write_view(recorder: Recorder, timeline: Timeline, dropped: set[str]) -> None:
    ledger = recorder.ledger
    kept = [b for b in timeline.bases if b.table not in dropped][:1]
    edges = [(b.table, instant_text(b.as_of)) for b in kept]
    edges += [
        (e.table, instant_text(e.as_of))
        for e in timeline.edges
        if not e.dropped and e.table not in dropped and e.previous_as_of is not None
    ]
    if edges:
        view = table(ledger.schema, view_name(ledger.sync_id))
        write_view(ledger.warehouse, view, select_history(ledger.schema, edges))
