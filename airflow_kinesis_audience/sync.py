"""One run of a sync: read the source, find what differs, look at it, record it.

The next change set is always taken from the newest membership in the ledger. A table counts only once it is
recorded; whatever happens before leaves the baseline where it was. A change set is computed again only while no
delivery relies on it and nobody has let it through. What a guard stops is dropped, or held for a person to
release.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import Source, instant_text
from airflow_kinesis_audience.baseline import ask, check_audiences, check_mapping, find_baseline
from airflow_kinesis_audience.counting import add_up
from airflow_kinesis_audience.diff import select_audience_rows, select_changes, select_found
from airflow_kinesis_audience.exceptions import AudienceDeleted, GuardTripped
from airflow_kinesis_audience.extent import choose_slice_rows, measure_extent
from airflow_kinesis_audience.guards import (
    NO_PERMISSION,
    AudienceCounts,
    Breach,
    Guards,
    Permission,
    find_invalid_rows,
)
from airflow_kinesis_audience.ledger import Event, Ledger
from airflow_kinesis_audience.recording import Recorder
from airflow_kinesis_audience.source import read_source, select_first_base
from airflow_kinesis_audience.sql import drop_table, render, table, write_table
from airflow_kinesis_audience.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlglot import exp

    from airflow_kinesis_audience.layout import Layout
    from airflow_kinesis_audience.timeline import Edge, Timeline

SLICE_ROWS = 20_000
"""Rows of a slice: what a publishing task holds at once. They are fewer where values are long."""

FEW_AUDIENCES = 20
"""Up to so many audiences a summary tells of each."""

_COUNTED = ("entered", "exited", "updated", "members")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    """What a run is about to do: from which membership to which instant, in which layout."""

    timeline: Timeline
    previous: Edge | None
    layout: Layout
    as_of: datetime
    read: exp.Select
    query: str | None
    twice: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    """What a written table tells."""

    counts: Sequence[AudienceCounts]
    slice_rows: int
    invalid: Sequence[Breach] = ()


class Sync:
    """Runs of one sync against its warehouse and ledger.

    :param ledger: the sync's ledger; it holds the warehouse and the schema.
    :param source: who belongs.
    :param guards: bounds within which a change set is believed.
    :ivar counts: what the run found of each audience; nothing where it found its change set there already.
    """

    def __init__(
        self, ledger: Ledger, source: Source, *, guards: Guards | None = None, upkeep: Upkeep | None = None
    ) -> None:
        self.ledger = ledger
        self.warehouse = ledger.warehouse
        self.source = source
        self.guards = guards or Guards()
        self.upkeep = upkeep or Upkeep()
        self.recorder = Recorder(ledger)
        self.counts: Sequence[AudienceCounts] = ()

    def run(
        self,
        as_of: datetime,
        *,
        permission: Permission = NO_PERMISSION,
        hold: bool = False,
        reuse_deleted: bool = False,
    ) -> dict[str, Any]:
        """Compute and record the change set that leads to an instant, or find that it is there.

        :param permission: which breaches this run may pass with.
        :param hold: keep what a guard stops, for ``release``, instead of failing.
        :param reuse_deleted: begin anew although the sync, or an audience of this id, was deleted.
        :returns: the summary: ``sync_id``, ``as_of``, ``previous_as_of``, ``entered``, ``exited``, ``updated``,
            ``members``, and ``audiences`` where there are few; ``dropped_rows`` where rows were left out;
            ``let_through`` with the breaches it passed with; ``held`` and ``held_table`` if it is held. Counts and
            sentences, never rows.
        :raises RunSuperseded: if a later run covers the instant.
        :raises GuardTripped: if the source has rows that cannot be told apart or named, or a bound is broken.
        :raises SchemaChanged: if the mapping is not the one of the published membership.
        :raises AudienceDeleted: if the sync or an audience of it was deleted.
        """
        asked = ask(self.warehouse, self.source)
        self.ledger.prepare()
        timeline = self.recorder.read()
        if timeline.closed is None and (there := timeline.find_settled(as_of)) is not None:
            return there.summary(self.ledger.sync_id)
        baseline = find_baseline(self.ledger, timeline, asked, as_of, reuse_deleted=reuse_deleted)
        breaches = check_mapping(baseline, self.guards, permission=permission, hold=hold)
        previous, layout = baseline.previous, baseline.layout
        if previous is not None:
            timeline = self.upkeep.write_base(self.recorder, timeline, previous, layout, asked.kept_types(layout))
        read, within = read_source(self.warehouse, asked.source, layout, asked.query)
        twice = self.warehouse.may_read_twice(asked.query)
        step = _Step(
            timeline=timeline, previous=previous, layout=layout, as_of=as_of, read=read, query=within, twice=twice
        )
        edge, held = self._compute(step, breaches, permission, hold=hold, reuse_deleted=reuse_deleted)
        if held:
            return {
                **edge.summary(self.ledger.sync_id),
                "held": edge.recorded["breaches"],
                "held_table": edge.table,
            }
        self.upkeep.drop_unneeded(self.recorder, as_of)
        return edge.summary(self.ledger.sync_id)

    def _compute(
        self, step: _Step, breaches: list[Breach], permission: Permission, *, hold: bool, reuse_deleted: bool
    ) -> tuple[Edge, bool]:
        """Write the change set, look at it, and record it or hold it."""
        first = step.previous is None
        name = self.recorder.announce(step.timeline, "base" if first else "changes", step.as_of)
        try:
            with self.recorder.unless_overtaken(name, step.as_of):
                written = self._write(step, name, permission, hold=hold)
            self.counts = written.counts
            check_audiences(self.ledger, step.as_of, written.counts, reuse_deleted=reuse_deleted)
            breaches = [*breaches, *written.invalid, *self.guards.find_breaches(written.counts)]
            stopped = [b for b in breaches if not permission.covers(b)]
            if stopped and not hold:
                raise self._tripped(stopped)
        except (AudienceDeleted, GuardTripped):
            self.recorder.drop([name], step.as_of)
            raise
        detail = self._describe(step, name, written)
        if stopped:
            detail["breaches"] = [str(b) for b in breaches]
            held = self.recorder.record(name, Event.HELD, step.as_of, detail).held
            assert held is not None  # noqa: S101
            return held, True
        if breaches:
            detail["let_through"] = [str(b) for b in breaches]
        event = Event.FIRST if first else Event.CHANGE_SET
        found = self.recorder.record(name, event, step.as_of, detail).find(step.as_of)
        assert found is not None  # noqa: S101
        return found, False

    def _write(self, step: _Step, name: str, permission: Permission, *, hold: bool) -> _Written:
        """Write the table; once more, without rows that repeat a user, if there are any and they may go."""
        self._write_table(step, name, once=False)
        written = self._look_at(step, name)
        invalid = find_invalid_rows(written.counts)
        drops = self.guards.on_invalid_rows == "drop"
        accepted = drops or hold or all(permission.covers(b) for b in invalid)
        if accepted and any(a.duplicate_rows for a in written.counts if a.audience_id is not None):
            drop_table(self.warehouse, table(self.ledger.schema, name))
            self._write_table(step, name, once=True)
            written = self._look_at(step, name)
        return written if drops else replace(written, invalid=invalid)

    def _write_table(self, step: _Step, name: str, *, once: bool) -> None:
        schema = self.ledger.schema
        # Rows that were numbered are dear to number again.
        how = {"once": once, "kept": once or not step.twice}
        if step.previous is None:
            statement = select_first_base(step.read, step.layout, step.as_of, **how)
        else:
            tables = step.timeline.tables(schema, step.previous.as_of, step.layout)
            statement = select_changes(step.read, tables, step.as_of, self.warehouse.dialect, **how)
        write_table(
            self.warehouse,
            table(schema, name),
            statement,
            source_query=step.query,
            sliced_by="position" if step.previous is not None else "",
            tells_audiences=True,
        )

    def _tripped(self, stopped: Sequence[Breach]) -> GuardTripped:
        return GuardTripped(
            f"the change set of sync {self.ledger.sync_id!r} was stopped: {'; '.join(map(str, stopped))}. "
            "If the source is wrong, mend it and clear this task. If it is right, let one run through: trigger "
            'one with the configuration {"let_through": true}, or name the audiences: {"let_through": ["id", …]}. '
            "Nothing was sent and the baseline is unchanged",
            [str(b) for b in stopped],
        )

    def _look_at(self, step: _Step, name: str) -> _Written:
        before_in = step.timeline.audiences_table(step.previous) if step.previous else None
        schema, dialect, read = self.ledger.schema, self.warehouse.dialect, self.warehouse.read_rows
        measures = measure_extent(step.layout, both_sides=step.previous is not None)
        found = read(render(select_found(schema, name, *measures), dialect))
        counts = add_up(
            step.layout,
            (row[: -len(measures)] for row in found),
            before=None if before_in is None else read(render(select_audience_rows(schema, before_in), dialect)),
            expected=self.source.audience_id,
        )
        extents = [row[-len(measures) :] for row in found]
        return _Written(counts=counts, slice_rows=choose_slice_rows(step.layout, extents, most_rows=SLICE_ROWS))

    def _describe(self, step: _Step, name: str, written: _Written) -> dict[str, Any]:
        audiences = written.counts
        total = {n: sum(getattr(a, n) for a in audiences) for n in _COUNTED}
        changes = total["entered"] + total["exited"] + total["updated"]
        detail: dict[str, Any] = {
            "table": name,
            "previous_as_of": instant_text(step.previous.as_of) if step.previous else None,
            "rows": total["members"] if step.previous is None else changes,
            "slice_rows": written.slice_rows,
            "layout": step.layout.as_json(),
            "counts": {**total, "changes": changes},
        }
        if dropped := sum(a.dropped_rows for a in audiences):
            detail["dropped_rows"] = dropped
        if len(audiences) <= FEW_AUDIENCES:
            detail["audiences"] = {str(a.audience_id): {n: getattr(a, n) for n in _COUNTED} for a in audiences}
        return detail
