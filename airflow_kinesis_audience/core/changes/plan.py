"""What a run would find if it ran now: the change set of ``sync.py``, selected and not written.

The statement is the run's own, wrapped so that counts and a few rows come out of it instead of a table; source and
state are read in it once. Nothing is created, written or recorded. What a plan returns of single members is for a
person to look at, masked or not; nothing of it goes to a log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.baseline import (
    check_audiences,
    check_mapping,
    describe_source,
    find_baseline,
    settle_numbers,
)
from airflow_kinesis_audience.core.changes.change_set import select_changes
from airflow_kinesis_audience.core.changes.counts import AudienceCounts, count_audiences, describe_left_out
from airflow_kinesis_audience.core.changes.earlier import Earlier
from airflow_kinesis_audience.core.changes.insertion import place
from airflow_kinesis_audience.core.changes.planned_rows import (
    COUNT,
    LEADING,
    REWRITTEN,
    PlannedRows,
    PlanStep,
    Sampled,
    make_sampled,
    select_plan,
)
from airflow_kinesis_audience.core.changes.source_guards import (
    find_invalid_rows,
    find_lost_exclusion,
    find_unknown_exclusive,
    find_unsure_exits,
)
from airflow_kinesis_audience.core.changes.source_rows import select_first_base
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.source.columns import read_source
from airflow_kinesis_audience.core.sql.statements import render
from airflow_kinesis_audience.core.sql.types import data_type
from airflow_kinesis_audience.core.state.membership import Tables, select_base
from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
from airflow_kinesis_audience.core.state.rows import AUDIENCE, select_audience_rows
from airflow_kinesis_audience.core.state.status import read_state
from airflow_kinesis_audience.core.state.tombstones import without_forgotten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.guards import Breach, Guards
    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.timeline import Timeline


_FEW = PlannedRows()


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run would do.

    :param as_of: the instant of its change set; of a correction, later than the run's own.
    :param previous_as_of: the membership that it would be compared with; none on a first run.
    :param confirmed: of a correction, that what is published is right: a run would add nothing.
    :param recorded: the summary of the change set for this instant, if there is one that is never computed again.
    :param stopped: what a guard would stop it by.
    :param leading: the first changes of each audience, in the order in which they would be delivered.
    :param layout: of the change set; none where it is recorded.
    :param unknown_exclusive: what ``exclusive_by`` lists and is no audience.
    """

    sync_id: str
    as_of: datetime
    previous_as_of: datetime | None
    audiences: Sequence[AudienceCounts] = ()
    stopped: Sequence[Breach] = ()
    sample: Sequence[Sampled] = ()
    recorded: Mapping[str, Any] | None = None
    leading: Sequence[Sampled] = ()
    layout: TableLayout | None = None
    confirmed: bool = False
    unknown_exclusive: Sequence[str] = ()

    @property
    def named(self) -> Sequence[AudienceCounts]:
        """The audiences, without what was counted of rows that name none."""
        return [a for a in self.audiences if a.audience_id is not None]

    def total(self, name: str) -> int:
        """Add up a count of all audiences: what a summary has, ``excluded`` and ``outranked`` among it."""
        return sum(getattr(a, name) for a in self.audiences)


def make_plan(
    ledger: Ledger,
    source: Source,
    as_of: datetime,
    *,
    guards: Guards | None = None,
    reuse_deleted: bool = False,
    insert: bool = False,
    correct: bool = False,
    rows: PlannedRows = _FEW,
) -> Plan:
    """Find what a run for an instant would find, and what would stop it.

    :param insert: where a later run covers the instant, and it has no change set, plan the one that is inserted.
    :param correct: the same, and where the instant is published already, plan the change set that corrects it.
    :param rows: how many rows to give.
    :raises RunSuperseded: if a later run covers the instant, and nothing is to be inserted, or can be.
    :raises SchemaChanged: if the key is not the one of the published membership.
    :raises AudienceDeleted: if the sync or an audience of it was deleted.
    """
    sync, asked = Sync(ledger, source, guards=guards), describe_source(ledger.warehouse, source, ledger.sync_id)
    timeline = read_state(ledger).timeline
    placed = place(timeline, as_of, insert=insert, correct=correct)
    if isinstance(placed, RecordedChangeSet):
        found = placed.summary(ledger.sync_id)
        return Plan(sync_id=ledger.sync_id, as_of=as_of, previous_as_of=placed.previous_as_of, recorded=found)
    as_of = placed.as_of
    baseline = find_baseline(ledger, asked, as_of, reuse_deleted=reuse_deleted)
    if placed.gap is not None:
        placed.gap.check_layout(timeline, baseline.layout, differs=bool(baseline.differences))
    stopped, previous = check_mapping(baseline, sync.guards, hold=True), baseline.previous
    read = read_source(ledger.warehouse, asked.source, baseline.layout, asked.query, asked.exclusion)
    layout = settle_numbers(baseline.layout, read.numbers, previous)
    step = PlanStep(layout=layout, read=without_forgotten(read.select, ledger), query=read.query, as_of=as_of)
    if previous is not None:
        step = _step_from(sync, timeline, previous, step, asked.kept_types(layout))
    counts, sample, leading = _select(sync, step, rows)
    if timeline.change_sets:
        check_audiences(ledger, as_of, counts, reuse_deleted=reuse_deleted)
    if previous is not None:
        stopped += find_lost_exclusion(describe_left_out(counts, source), previous.detail)
    stopped += (find_unsure_exits if sync.guards.on_invalid_rows == "drop" else find_invalid_rows)(counts)
    known = Earlier.of(timeline, as_of, previous, layout)
    stopped += sync.guards.find_breaches(counts, known.exits_of_day, known.usual)
    differs = bool(stopped) or any(a.entered or a.exited or a.updated for a in counts)
    return Plan(
        sync_id=ledger.sync_id,
        as_of=as_of,
        previous_as_of=previous.as_of if previous else None,
        audiences=counts,
        stopped=stopped,
        sample=sample,
        leading=leading,
        layout=layout,
        unknown_exclusive=find_unknown_exclusive(counts, source),
        confirmed=not differs and placed.find_confirmed(timeline) is not None,
    )


def _step_from(
    sync: Sync, timeline: Timeline, previous: RecordedChangeSet, step: PlanStep, types: Mapping[str, str]
) -> PlanStep:
    """Say from which membership; one that a run would first write anew is selected in the statement itself."""
    schema, dialect, layout = sync.ledger.schema, sync.warehouse.dialect, step.layout
    rewritten = None
    if timeline.find_base(previous.as_of, layout) is not None:
        tables = timeline.tables(schema, previous.as_of, layout)
    else:
        known = timeline.tables(schema, previous.as_of)
        named = {c: data_type(t, dialect) for c, t in types.items()}
        rewritten = select_base(known, layout, types=named)
        tables = Tables(schema="", layout=layout, base=REWRITTEN)
    return replace(step, tables=tables, rewritten=rewritten, audiences_in=timeline.audiences_table(previous))


_Selected = tuple[list[AudienceCounts], list[Sampled], list[Sampled]]


def _select(sync: Sync, step: PlanStep, rows: PlannedRows) -> _Selected:
    """Select, and once more with each user's rows numbered, if some would be dropped for which that counts."""
    found = _select_once(sync, step, rows, deduplicate=False)
    if sync.guards.on_invalid_rows == "drop" and any(a.are_to_be_numbered for a in found[0]):
        return _select_once(sync, step, rows, deduplicate=True)
    return found


def _select_once(sync: Sync, step: PlanStep, rows: PlannedRows, *, deduplicate: bool) -> _Selected:
    read, dialect = sync.warehouse.read_rows, sync.warehouse.dialect
    how = {"deduplicate": deduplicate, "nulls": sync.guards.usual}
    if step.tables is None:
        planned = select_first_base(step.read, step.layout, step.as_of, **how)
    else:
        planned = select_changes(step.read, step.tables, step.as_of, dialect, **how)
    statement = select_plan(step, planned, rows)
    counted: list[tuple[Any, ...]] = []
    sample: list[Sampled] = []
    leading: list[tuple[int, Sampled]] = []
    for what, audience_id, action, user_id, updated, one, two, wrong, *values in read(
        render(statement, dialect, query=step.query)
    ):
        if what == AUDIENCE:
            counted.append((audience_id, AUDIENCE, 1, 0, action, int(one), int(two), wrong))
        elif what == COUNT:
            counted.append((audience_id, action, int(one), int(two)))
        elif what == LEADING:
            leading.append((int(one), make_sampled(step, (action, audience_id, user_id, updated), values)))
        else:
            sample.append(make_sampled(step, (action, audience_id, user_id, updated), values))
    before = None
    if step.audiences_in is not None:
        before = read(render(select_audience_rows(sync.ledger.schema, step.audiences_in), dialect))
    counts = count_audiences(step.layout, counted, before=before, expected=sync.source.audience_id)
    sample.sort(key=lambda s: (s.action, s.audience_id, s.user_id))
    leading.sort(key=lambda found: (found[1].audience_id, found[0]))
    return counts, sample, [one for _, one in leading]
