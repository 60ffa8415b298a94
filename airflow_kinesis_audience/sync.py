"""One run of a sync: read the source, find what differs, look at it, record it.

The next change set is always taken from the newest membership in the ledger. A table counts only once it is
recorded; whatever happens before leaves the baseline where it was. A change set is computed again only while no
delivery relies on it and nobody has let it through. What a guard stops is dropped, or held for a person to
release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import Source, instant_text
from airflow_kinesis_audience.counting import add_up
from airflow_kinesis_audience.diff import select_audience_rows, select_changes, select_found
from airflow_kinesis_audience.exceptions import AudienceDeleted, GuardTripped, SchemaChanged
from airflow_kinesis_audience.extent import choose_slice_rows
from airflow_kinesis_audience.guards import (
    NO_PERMISSION,
    AudienceCounts,
    Breach,
    Guards,
    Permission,
    deleted_before,
    find_invalid_rows,
)
from airflow_kinesis_audience.layout import (
    Layout,
    describe_differences,
    describe_key_differences,
    in_given_letters,
    layout_of,
)
from airflow_kinesis_audience.ledger import Event, Ledger
from airflow_kinesis_audience.recording import Recorder
from airflow_kinesis_audience.source import read_source, select_first_base
from airflow_kinesis_audience.sql import check_query, drop_table, render, table, write_table
from airflow_kinesis_audience.standing import find_attached
from airflow_kinesis_audience.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlglot import exp

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
    invalid: Sequence[Breach]


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
        origin = self.warehouse.origin
        query = check_query(self.source.query, origin.dialect)
        types = origin.read_types(query)
        self.source = in_given_letters(self.source, types, origin.dialect)
        layout = layout_of(self.source, types, origin.dialect, kept_in=self.warehouse.dialect)
        self.ledger.prepare()
        timeline = self.recorder.read()
        previous = None
        if timeline.closed is not None:
            self.check_reuse(timeline.closed, as_of, reuse_deleted)
        elif (there := timeline.find_settled(as_of)) is not None:
            return there.summary(self.ledger.sync_id)
        else:
            previous = next((e for e in reversed(timeline.edges) if e.as_of < as_of), None)
        breaches = []
        if previous is not None:
            breaches = self.find_schema_changes(previous.layout, layout, permission=permission, hold=hold)
            if describe_differences(previous.layout, layout):
                layout = layout.retiring(previous.layout, self.warehouse.dialect)
            kinds = types if origin is self.warehouse else layout.kept_types
            timeline = self.upkeep.write_base(self.recorder, timeline, previous, layout, kinds)
        read, within = read_source(self.warehouse, self.source, layout, query)
        twice = self.warehouse.may_read_twice(query)
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

    def find_schema_changes(
        self, published: Layout, asked: Layout, *, permission: Permission = NO_PERMISSION, hold: bool
    ) -> list[Breach]:
        """Find what of the mapping is another; whatever nobody lets through, or holds, is an error."""
        if differences := describe_key_differences(published, asked):
            raise SchemaChanged(
                "the key is not the one that the published membership was written with: "
                f"{'; '.join(differences)}. Everybody would exit and enter, so nothing was computed. Rename or "
                "cast the column in the query to what it was, or give the new key a sync_id of its own"
            )
        differences = describe_differences(published, asked)
        if not differences or self.guards.on_schema_change == "update":
            return []
        breach = Breach(None, f"the mapping has changed: {'; '.join(differences)} (on_schema_change is fail)")
        if not hold and not permission.covers(breach):
            raise SchemaChanged(
                "the mapping is not the one that the published membership was written with: "
                f"{'; '.join(differences)}. Nothing was computed. Restore the mapping, or say "
                'on_schema_change="update" to tell destinations of the members whose values are others by it, or '
                "give the new mapping a sync_id of its own"
            )
        return [breach]

    def _compute(
        self, step: _Step, breaches: list[Breach], permission: Permission, *, hold: bool, reuse_deleted: bool
    ) -> tuple[Edge, bool]:
        """Write the change set, look at it, and record it or hold it."""
        first = step.previous is None
        name = self.recorder.announce(step.timeline, "base" if first else "changes", step.as_of)
        try:
            with self.recorder.unless_overtaken(name, step.as_of):
                audiences = self._write(step, name, permission, hold=hold)
            self.counts = audiences.counts
            self.check_audiences(step.as_of, audiences.counts, reuse_deleted)
            breaches = [*breaches, *audiences.invalid, *self.guards.find_breaches(audiences.counts)]
            stopped = [b for b in breaches if not permission.covers(b)]
            if stopped and not hold:
                raise self._tripped(stopped)
        except (AudienceDeleted, GuardTripped):
            self.recorder.drop([name], step.as_of)
            raise
        detail = self._describe(step, name, audiences.counts)
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
        counts = self._count(step, name)
        invalid = find_invalid_rows(counts)
        drops = self.guards.on_invalid_rows == "drop"
        accepted = drops or hold or all(permission.covers(b) for b in invalid)
        if accepted and any(a.duplicate_rows for a in counts if a.audience_id is not None):
            drop_table(self.warehouse, table(self.ledger.schema, name))
            self._write_table(step, name, once=True)
            counts = self._count(step, name)
        return _Written(counts=counts, invalid=[] if drops else invalid)

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

    def check_audiences(self, as_of: datetime, audiences: Sequence[AudienceCounts], reuse_deleted: bool) -> None:
        """Refuse an audience that is new here under the id of one that was deleted."""
        if not (
            fresh := {a.audience_id for a in audiences if a.audience_id and a.members and not a.previous_members}
        ):
            return
        deleted = self.ledger.read_closed_audiences()
        for audience_id in sorted(fresh & deleted.keys()):
            if not reuse_deleted or deleted[audience_id] >= as_of:
                raise deleted_before(f"audience {audience_id!r}", deleted[audience_id], as_of)

    def check_reuse(self, closed: datetime, as_of: datetime, reuse_deleted: bool) -> None:
        """Refuse a sync that was deleted, unless it may begin anew and its end is told."""
        if not reuse_deleted or as_of <= closed:
            raise deleted_before(f"sync {self.ledger.sync_id!r}", closed, as_of)
        if untold := find_attached(self.ledger.read()):
            raise AudienceDeleted(
                f"sync {self.ledger.sync_id!r} was deleted, and not told so: {', '.join(untold)}; run the "
                "AudienceDeleteOperator of that destination first. Nothing was computed"
            )

    def _tripped(self, stopped: Sequence[Breach]) -> GuardTripped:
        return GuardTripped(
            f"the change set of sync {self.ledger.sync_id!r} was stopped: {'; '.join(map(str, stopped))}. "
            "If the source is wrong, mend it and clear this task. If it is right, let one run through: trigger "
            'one with the configuration {"let_through": true}, or name the audiences: {"let_through": ["id", …]}. '
            "Nothing was sent and the baseline is unchanged",
            [str(b) for b in stopped],
        )

    def _count(self, step: _Step, name: str) -> list[AudienceCounts]:
        before_in = step.timeline.audiences_table(step.previous) if step.previous else None
        schema, dialect, read = self.ledger.schema, self.warehouse.dialect, self.warehouse.read_rows
        return add_up(
            step.layout,
            read(render(select_found(schema, name), dialect)),
            before=None if before_in is None else read(render(select_audience_rows(schema, before_in), dialect)),
            expected=self.source.audience_id,
        )

    def _describe(self, step: _Step, name: str, audiences: Sequence[AudienceCounts]) -> dict[str, Any]:
        total = {n: sum(getattr(a, n) for a in audiences) for n in _COUNTED}
        changes = total["entered"] + total["exited"] + total["updated"]
        where = (self.warehouse, self.ledger.schema, name, step.layout)
        slice_rows = choose_slice_rows(*where, most_rows=SLICE_ROWS, both_sides=step.previous is not None)
        detail: dict[str, Any] = {
            "table": name,
            "previous_as_of": instant_text(step.previous.as_of) if step.previous else None,
            "rows": total["members"] if step.previous is None else changes,
            "slice_rows": slice_rows,
            "layout": step.layout.as_json(),
            "counts": {**total, "changes": changes},
        }
        if dropped := sum(a.dropped_rows for a in audiences):
            detail["dropped_rows"] = dropped
        if len(audiences) <= FEW_AUDIENCES:
            detail["audiences"] = {str(a.audience_id): {n: getattr(a, n) for n in _COUNTED} for a in audiences}
        return detail
