"""One run of a sync: read the source, find what differs, check the guards, commit it.

The next change set is always taken from the newest membership in the ledger. A table counts only once it is
committed; whatever happens before leaves the baseline where it was. A change set is computed again only while no
delivery relies on it and nobody has let it through. What a guard stops is dropped, or held for a person to
approve.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.baseline import (
    check_audiences,
    check_mapping,
    describe_source,
    find_baseline,
    settle_numbers,
)
from airflow_kinesis_audience.core.changes.counts import describe_left_out, recorded_counts
from airflow_kinesis_audience.core.changes.earlier import Earlier
from airflow_kinesis_audience.core.changes.forgotten import inherit_tombstones, refuse_while_unfinished
from airflow_kinesis_audience.core.changes.guards import FEW_AUDIENCES, NO_PERMISSION, Guards, stop
from airflow_kinesis_audience.core.changes.holding import judge
from airflow_kinesis_audience.core.changes.insertion import Gap, place
from airflow_kinesis_audience.core.changes.key_texts import check_recast_keys
from airflow_kinesis_audience.core.changes.run_request import RunRequest
from airflow_kinesis_audience.core.changes.source_guards import (
    find_invalid_rows,
    find_lost_exclusion,
    find_unknown_exclusive,
    find_unsure_exits,
)
from airflow_kinesis_audience.core.changes.views import write_views
from airflow_kinesis_audience.core.changes.writing import Step, TableWriter, Written
from airflow_kinesis_audience.core.exceptions import AudienceDeleted, GuardTripped, SchemaChanged
from airflow_kinesis_audience.core.source.columns import read_source
from airflow_kinesis_audience.core.sql.statements import drop_table, table
from airflow_kinesis_audience.core.state.commits import NothingBegun, TableCommitter, begin_timeline
from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
from airflow_kinesis_audience.core.state.retention import Retention
from airflow_kinesis_audience.core.state.sync_details import (
    ChangeSetCommitted,
    ChangeSetHeld,
    ChangeSetInserted,
    GuardBounds,
    HeldAudiences,
)
from airflow_kinesis_audience.core.state.tombstones import without_forgotten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.authors import Author
    from airflow_kinesis_audience.core.changes.baseline import DescribedSource
    from airflow_kinesis_audience.core.changes.counts import AudienceCounts
    from airflow_kinesis_audience.core.changes.guards import Permission
    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.state.ledger import Ledger

_TRIES = 3
"""So often a run begins when another one begins at the same time."""


class Sync:
    """Runs of one sync against its warehouse and ledger.

    :param ledger: the sync's ledger; it holds the warehouse and the schema.
    :param source: who belongs.
    :param guards: bounds within which a change set is believed.
    :param author: the task that computes it; none checks nothing.
    :ivar counts: what the run found of each audience; nothing where it found its change set there already.
    """

    def __init__(
        self,
        ledger: Ledger,
        source: Source,
        *,
        guards: Guards | None = None,
        retention: Retention | None = None,
        author: Author | None = None,
    ) -> None:
        self.ledger = ledger
        self.warehouse = ledger.warehouse
        self.source = source
        self.guards = guards or Guards()
        self.retention = retention or Retention()
        self.author = author
        self.committer = TableCommitter(ledger)
        self.writer = TableWriter(self.committer, expected=source.audience_id)
        self.counts: Sequence[AudienceCounts] = ()
        self._unknown_exclusive: Sequence[str] = ()
        self._has_inherited = False

    def run(
        self,
        as_of: datetime,
        *,
        permission: Permission = NO_PERMISSION,
        hold: bool = False,
        hold_audiences: bool = False,
        reuse_deleted: bool = False,
        insert: bool = False,
        correct: bool = False,
    ) -> dict[str, Any]:
        """Compute and commit the change set that leads to an instant, or find that it is there.

        :param permission: which breaches this run may pass with.
        :param hold: keep what a guard stops, for ``approve``, instead of failing.
        :param hold_audiences: with ``hold``, keep no more than the audiences that a guard stops.
        :param reuse_deleted: begin anew although the sync, or an audience of this id, was deleted.
        :param insert: where a later run covers the instant, and it has no change set, insert one.
        :param correct: the same, and where its change set is published already, compute what differs from it by
            now, as a change set a second later.
        :returns: the summary: ``sync_id``, ``as_of``, ``previous_as_of``, ``entered``, ``exited``, ``updated``,
            ``members``, and ``audiences`` where there are few; ``dropped_rows`` and ``excluded`` where rows were;
            ``placeholders`` by identity; ``let_through`` with the breaches it passed; ``held`` and ``held_table``;
            ``held_audiences`` with the breaches of each that is held alone;
            ``unknown_exclusive`` with the ids in ``exclusive_by`` that no audience has;
            ``recorded`` if it was there already; ``confirmed`` if it was, too, and was computed again and is
            correct; ``corrects``; ``inserted``. Counts and sentences, never rows.
        :raises RunSuperseded: if a later run covers the instant.
        :raises GuardTripped: if the source has rows that repeat a user or name none, or a bound is broken.
        :raises SchemaChanged: if the mapping is not the one of the published membership.
        :raises AudienceDeleted: if the sync or an audience of it was deleted.
        :raises StateTaken: if another task keeps its state under this sync.
        """
        described = describe_source(self.warehouse, self.source, self.ledger.sync_id)
        timeline = self.ledger.prepare().timeline
        for left in reversed(range(_TRIES)):
            if self.author is not None:
                self.author.check(self.ledger.state, self.ledger.sync_id, as_of, self.source.queries)
            placed = place(timeline, as_of, insert=insert, correct=correct)
            if isinstance(placed, RecordedChangeSet):
                return {**placed.summary(self.ledger.sync_id), **timeline.held_of(placed), "recorded": True}
            run = RunRequest(
                placement=placed,
                permission=permission,
                hold=hold and placed.gap is None,
                hold_audiences=hold_audiences,
                reuse_deleted=reuse_deleted,
            )
            try:
                step = self._begin(run, described)
                break
            except NothingBegun:
                if not left:
                    raise
                timeline = self.ledger.read().timeline  # nothing was computed yet, so this run goes on from it
        found, held = self._compute(run, step)
        summary = found.summary(self.ledger.sync_id)
        if found.as_of != run.as_of:
            self.counts = ()
            summary["confirmed"] = True
        if self._unknown_exclusive:
            summary["unknown_exclusive"] = self._unknown_exclusive
        if held:
            return {**summary, "held": list(held), "held_table": found.table}
        summary |= self.committer.timeline.held_of(found)
        self.retention.expire(self.committer, run.as_of, write_views)
        return summary

    def _begin(self, run: RunRequest, described: DescribedSource) -> Step:
        """Find from where to compute, write a new base if one is due, and announce the table to be written."""
        baseline = find_baseline(self.ledger, described, run.as_of, reuse_deleted=run.reuse_deleted)
        breaches = check_mapping(baseline, self.guards, permission=run.permission, hold=run.hold)
        previous, layout = baseline.previous, baseline.layout
        if run.gap is not None:
            refuse_while_unfinished(self.ledger, "a change set that is inserted")
            run.gap.check_layout(self.committer.timeline, layout, differs=bool(baseline.differences))
        for edge in (previous, run.gap.following if run.gap else None):
            if edge is not None:
                self.retention.compact(self.committer, run.as_of, edge, layout, described.kept_types(layout))
        read = read_source(self.warehouse, described.source, layout, described.query, described.exclusion)
        step = Step(
            previous=previous,
            layout=settle_numbers(layout, read.numbers, previous),
            read=read.select,
            query=read.query,
            reads_twice=not described.joins_rows and self.warehouse.is_cheap_to_reread(described.query),
            table=self._announce(run.as_of, begins=previous is None),
            breaches=breaches,
            counts_nulls=self.guards.usual,
        )
        return replace(step, read=without_forgotten(read.select, self.ledger))

    def _announce(self, as_of: datetime, *, begins: bool) -> str:
        """Announce the table to be written; a sync that begins takes over who is forgotten."""
        # Not lazily: whoever forgets users must see that there is one sync more.
        name = self.committer.announce("base" if begins else "changes", as_of, lazy=not begins)
        if begins and not self._has_inherited:
            inherited, self._has_inherited = inherit_tombstones(self.committer), True
            if inherited:
                return self.committer.announce("base", as_of)
        return name

    def _compute(self, run: RunRequest, step: Step) -> tuple[RecordedChangeSet, Sequence[str]]:
        """Write the change set, look at it, and commit it or hold it; gives why it is held."""
        try:
            with self.committer.unless_fenced(step.table, run.as_of):
                written = self._write(run, step)
            self.counts = written.counts
            self._unknown_exclusive = find_unknown_exclusive(written.counts, self.source)
            left_out = describe_left_out(written.counts, self.source)
            if step.previous is not None:
                step.breaches.extend(find_lost_exclusion(left_out, step.previous.detail))
            step = replace(step, layout=settle_numbers(step.layout, written.numbers, step.previous))
            check_recast_keys(self.ledger, step.table, step.previous, step.layout)
            check_audiences(self.ledger, run.as_of, written.counts, reuse_deleted=run.reuse_deleted)
            known = Earlier.of(self.committer.timeline, run.as_of, step.previous, step.layout)
            # What is retired is known to one run alone: an audience that is held then would keep it for ever.
            alone = run.hold and run.hold_audiences and not step.layout.retired
            together = self.source.exclusive_audiences
            judgement = judge(self.guards, run.permission, step, written, known, alone=alone, together=together)
            if judgement.stopped and not run.hold:
                raise stop(self.ledger.sync_id, written.counts, judgement.stopped, run.permission)
        except (AudienceDeleted, GuardTripped, SchemaChanged):
            self.committer.drop([step.table], run.as_of, ended=True)
            raise
        if not judgement.stopped and not judgement.held and (there := self._find_confirmed(run, written)):
            self.committer.drop([step.table], run.as_of, ended=True)
            return there, ()
        apart = None
        if judgement.held:
            of_group = tuple(sorted(together & judgement.held.keys()))
            apart = HeldAudiences(table=step.table, breaches=judgement.held, together=of_group)
            step, written = self.writer.write_without(step, written, run.as_of, judgement.held)
            self.counts = written.counts
        sentences = tuple(map(str, judgement.breaches))
        author = self.author and self.author.sign(self.source.queries)
        described = self._describe(step, written) | {"corrects": run.placement.corrects, "author": author}
        # Of all that was read, also of audiences that are held.
        described |= {"held_audiences": apart, **left_out}
        if judgement.stopped:
            to_hold = ChangeSetHeld(**described, breaches=sentences)
            held = self.committer.commit(step.table, to_hold, run.as_of).held
            assert held is not None  # noqa: S101
            return held, sentences
        described["let_through"] = sentences
        if run.gap is not None:
            inserted = self._compensate(run.gap, step, described)
            timeline = self.committer.commit(inserted.compensation.table, inserted, run.as_of)
        else:
            detail = ChangeSetCommitted(**described) if step.previous else begin_timeline(**described)
            timeline = self.committer.commit(step.table, detail, run.as_of)
        found = timeline.find(run.as_of)
        assert found is not None  # noqa: S101
        return found, ()

    def _find_confirmed(self, run: RunRequest, written: Written) -> RecordedChangeSet | None:
        """Find the published change set that a correction leaves as it is, since nothing differs from it."""
        if recorded_counts(written.counts)["counts"].changes:
            return None
        return run.placement.find_confirmed(self.committer.timeline)

    def _compensate(self, gap: Gap, step: Step, described: dict[str, Any]) -> ChangeSetInserted:
        """Write the compensation of a change set that is inserted."""
        self.committer.seal_newest()
        inserted = RecordedChangeSet(as_of=gap.as_of, detail=ChangeSetCommitted(**described))
        of_table = replace(step, previous=inserted, table=self.writer.write_compensation(step, gap))
        compensation = self._describe(of_table, self.writer.count(of_table))
        compensation |= {"dropped_rows": 0, "placeholders": {}, "author": described["author"]}
        return ChangeSetInserted(
            **described, compensation=ChangeSetCommitted(**compensation), compensated_at=gap.compensated_at
        )

    def _write(self, run: RunRequest, step: Step) -> Written:
        """Write the table; once more with each user's rows numbered, if some may go for which that counts."""
        self.writer.write(step, run.as_of, deduplicate=False)
        written = self.writer.count(step)
        invalid = find_invalid_rows(written.counts)
        drops = self.guards.on_invalid_rows == "drop"
        accepted = drops or run.hold or all(run.permission.covers(b) for b in invalid)
        if accepted and any(a.are_to_be_numbered for a in written.counts):
            drop_table(self.warehouse, table(self.ledger.schema, step.table))
            self.writer.write(step, run.as_of, deduplicate=True)
            written = self.writer.count(step)
        return replace(written, invalid=find_unsure_exits(written.counts) if drops else invalid)

    def _describe(self, step: Step, written: Written) -> dict[str, Any]:
        recorded = recorded_counts(written.counts, learns=self.guards.usual)
        total = recorded["counts"]
        return {
            "table": step.table,
            "previous_as_of": step.previous.as_of if step.previous else None,
            "rows": total.members if step.previous is None else total.changes,
            "slice_rows": written.slice_rows,
            "layout": step.layout,
            "names": written.names if len(written.names) <= FEW_AUDIENCES else None,
            **recorded,
            "bounds": GuardBounds(**self.guards.bounds),
        }
