"""What a run would find if it ran now: the change set of ``sync.py``, selected and not written.

The statement is the run's own, wrapped so that counts and a few rows come out of it instead of a table; source and
state are read in it once. Nothing is created, written or recorded. What a plan returns of single members is for a
person to look at, masked or not; nothing of it goes to a log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from airflow_kinesis_audience.core.changes.baseline import (
    check_audiences,
    check_mapping,
    describe_source,
    find_baseline,
    settle_numbers,
)
from airflow_kinesis_audience.core.changes.change_set import select_changes
from airflow_kinesis_audience.core.changes.counts import AudienceCounts, count_audiences, count_exits_of_day
from airflow_kinesis_audience.core.changes.guards import Breach, Guards, find_invalid_rows, find_unsure_exits
from airflow_kinesis_audience.core.changes.insertion import place
from airflow_kinesis_audience.core.changes.source_rows import select_first_base
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Action, Source
from airflow_kinesis_audience.core.source.columns import read_source
from airflow_kinesis_audience.core.sql.statements import column, render, table, text, union_all
from airflow_kinesis_audience.core.sql.types import data_type
from airflow_kinesis_audience.core.state.membership import Tables, select_base
from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
from airflow_kinesis_audience.core.state.rows import AUDIENCE, MEMBER, select_audience_rows
from airflow_kinesis_audience.core.state.status import read_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.timeline import Timeline

_PLANNED = "planned"
_REWRITTEN = "base in the new layout"
_COUNT, _SAMPLE = "count", "sample"
_SHOWN = (Action.ENTERED.value, Action.EXITED.value, Action.UPDATED.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One change that would be delivered.

    :param values: label of each identity and property that is known, to the old value and the new one, as text.
        Where an identity and a property share one, it begins with the role: ``identity plan``.
    """

    action: str
    audience_id: str
    user_id: str
    updated: str | None
    values: Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run would do.

    :param as_of: the instant of its change set; of a correction, later than the run's own.
    :param previous_as_of: the membership that it would be compared with; none on a first run.
    :param recorded: the summary of the change set for this instant, if there is one that is never computed again.
    :param stopped: what a guard would stop it by.
    """

    sync_id: str
    as_of: datetime
    previous_as_of: datetime | None
    audiences: Sequence[AudienceCounts] = ()
    stopped: Sequence[Breach] = ()
    sample: Sequence[Sampled] = ()
    recorded: Mapping[str, Any] | None = None

    @property
    def named(self) -> Sequence[AudienceCounts]:
        """The audiences, without what was counted of rows that name none."""
        return [a for a in self.audiences if a.audience_id is not None]

    def total(self, name: str) -> int:
        """Add up a count of all audiences: ``entered``, ``exited``, ``updated``, ``members``."""
        return sum(getattr(a, name) for a in self.audiences)


@dataclass(frozen=True, kw_only=True, slots=True)
class _PlanStep:
    """What is to be selected: as :mod:`~airflow_kinesis_audience.core.changes.sync` would write it.

    :param rewritten: the base that a run would write first, because the mapping is another.
    """

    layout: TableLayout
    read: exp.Select
    query: str | None
    as_of: datetime
    tables: Tables | None = None
    rewritten: exp.Query | None = None
    audiences_in: str | None = None


def make_plan(
    ledger: Ledger,
    source: Source,
    as_of: datetime,
    *,
    guards: Guards | None = None,
    reuse_deleted: bool = False,
    insert: bool = False,
    correct: bool = False,
    sample_rows: int = 5,
) -> Plan:
    """Find what a run for an instant would find, and what would stop it.

    :param insert: where a later run covers the instant, and it has no change set, plan the one that is inserted.
    :param correct: the same, and where the instant is published already, plan the change set that corrects it.
    :param sample_rows: most rows to show per action.
    :raises RunSuperseded: if a later run covers the instant, and nothing is to be inserted, or can be.
    :raises SchemaChanged: if the key is not the one of the published membership.
    :raises AudienceDeleted: if the sync or an audience of it was deleted.
    """
    sync, asked = Sync(ledger, source, guards=guards), describe_source(ledger.warehouse, source)
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
    read = read_source(ledger.warehouse, asked.source, baseline.layout, asked.query)
    layout = settle_numbers(baseline.layout, read.numbers, previous)
    step = _PlanStep(layout=layout, read=read.select, query=read.query, as_of=as_of)
    if previous is not None:
        step = _step_from(sync, timeline, previous, step, asked.kept_types(layout))
    counts, sample = _select(sync, step, sample_rows)
    if timeline.change_sets:
        check_audiences(ledger, as_of, counts, reuse_deleted=reuse_deleted)
    stopped += (find_unsure_exits if sync.guards.on_invalid_rows == "drop" else find_invalid_rows)(counts)
    return Plan(
        sync_id=ledger.sync_id,
        as_of=as_of,
        previous_as_of=previous.as_of if previous else None,
        audiences=counts,
        stopped=[*stopped, *sync.guards.find_breaches(counts, count_exits_of_day(timeline.change_sets, as_of))],
        sample=sample,
    )


def _step_from(
    sync: Sync, timeline: Timeline, previous: RecordedChangeSet, step: _PlanStep, types: Mapping[str, str]
) -> _PlanStep:
    """Say from which membership; one that a run would first write anew is selected in the statement itself."""
    schema, dialect, layout = sync.ledger.schema, sync.warehouse.dialect, step.layout
    rewritten = None
    if timeline.find_base(previous.as_of, layout) is not None:
        tables = timeline.tables(schema, previous.as_of, layout)
    else:
        known = timeline.tables(schema, previous.as_of)
        named = {c: data_type(t, dialect) for c, t in types.items()}
        rewritten = select_base(known, layout, types=named)
        tables = Tables(schema="", layout=layout, base=_REWRITTEN)
    return replace(step, tables=tables, rewritten=rewritten, audiences_in=timeline.audiences_table(previous))


def _select(sync: Sync, step: _PlanStep, rows: int) -> tuple[list[AudienceCounts], list[Sampled]]:
    """Select, and once more with each user's rows numbered, if some would be dropped for which that counts."""
    counts, sample = _select_once(sync, step, rows, deduplicate=False)
    if sync.guards.on_invalid_rows == "drop" and any(a.are_to_be_numbered for a in counts):
        return _select_once(sync, step, rows, deduplicate=True)
    return counts, sample


def _select_once(
    sync: Sync, step: _PlanStep, rows: int, *, deduplicate: bool
) -> tuple[list[AudienceCounts], list[Sampled]]:
    read, dialect = sync.warehouse.read_rows, sync.warehouse.dialect
    if step.tables is None:
        planned = select_first_base(step.read, step.layout, step.as_of, deduplicate=deduplicate)
    else:
        planned = select_changes(step.read, step.tables, step.as_of, dialect, deduplicate=deduplicate)
    statement = _select_plan(step, planned, rows)
    counted: list[tuple[Any, ...]] = []
    sample = []
    for what, audience_id, action, user_id, updated, one, two, wrong, *values in read(
        render(statement, dialect, query=step.query)
    ):
        if what == AUDIENCE:
            counted.append((audience_id, AUDIENCE, 1, 0, action, int(one), int(two), wrong))
        elif what == _COUNT:
            counted.append((audience_id, action, int(one), int(two)))
        else:
            sample.append(_sampled(step, (action, audience_id, user_id, updated), values))
    before = None
    if step.audiences_in is not None:
        before = read(render(select_audience_rows(sync.ledger.schema, step.audiences_in), dialect))
    counts = count_audiences(step.layout, counted, before=before, expected=sync.source.audience_id)
    return counts, sorted(sample, key=lambda s: (s.action, s.audience_id, s.user_id))


def _sampled(step: _PlanStep, change: tuple[Any, ...], values: Sequence[str | None]) -> Sampled:
    action, audience_id, user_id, updated = change
    shown = len(values) // 2
    labels = [{c.label for c in of_role} for of_role in (step.layout.identities, step.layout.properties)]
    shared = set.intersection(*labels)
    known: dict[str, tuple[str | None, str | None]] = {}
    for c, old, new in zip(step.layout.columns, values[shown:], values[:shown], strict=True):
        label = f"{c.role} {c.label}" if c.label in shared else c.label
        # Of a column that is mapped in another way than before, the retired one has what was and this one what is.
        was, is_ = known.get(label, (None, None))
        if old is not None or new is not None:
            known[label] = (was if old is None else old, is_ if new is None else new)
    action = Action.ENTERED.value if action == MEMBER else action
    return Sampled(action=action, audience_id=audience_id, user_id=user_id, updated=updated, values=known)


def _select_plan(step: _PlanStep, planned: exp.Query, rows: int) -> exp.Query:
    """Build the one statement of a plan: counts and sample out of the planned rows, all as text."""
    first = step.tables is None
    found = table(None, _PLANNED)
    branches: list[exp.Query] = [
        _row(
            step,
            what=text(AUDIENCE),
            audience_id=column("audience_id"),
            action=column("audience_name"),
            one=column("source_rows"),
            two=column("invalid_rows"),
            wrong=column("wrong_identities"),
        )
        .from_(found)
        .where(column("action").eq(AUDIENCE)),
        _row(
            step,
            what=text(_COUNT),
            audience_id=column("audience_id"),
            action=column("action"),
            one=exp.Count(this=exp.Star()),
            two=exp.Count(this=exp.Distinct(expressions=[column("user_id")])),
        )
        .from_(found.copy())
        .where(column("action").neq(AUDIENCE))
        .group_by(column("audience_id", _PLANNED), column("action", _PLANNED)),
    ]
    own = {c.new: column(c.new) for c in step.layout.columns}
    own |= {} if first else {c.old: column(c.old) for c in step.layout.columns}
    own |= {n: column(n) for n in ("audience_id", "action", "user_id")}
    own |= {} if first else {"updated": column("updated")}
    for action in (MEMBER,) if first else _SHOWN:
        some = (
            _row(step, what=text(_SAMPLE), **own)
            .from_(found.copy())
            .where(column("action").eq(action))
            .order_by(column("audience_id", _PLANNED), column("user_id", _PLANNED))
            .limit(rows)
        )
        branches.append(exp.select(exp.Star()).from_(some.subquery(f"some_{action}", copy=False)))
    whole = union_all(branches)
    named = [(_REWRITTEN, step.rewritten)] if step.rewritten is not None else []
    for name, body in (*named, (_PLANNED, planned)):
        alias = exp.TableAlias(this=exp.to_identifier(name, quoted=True))
        whole = whole.with_(alias, as_=body, materialized=True, copy=False)
    return whole


def _row(step: _PlanStep, **given: exp.Expr) -> exp.Select:
    """Build a row of the plan: every column is there, as text."""
    mapped = (*(c.new for c in step.layout.columns), *(c.old for c in step.layout.columns))
    names = ("what", "audience_id", "action", "user_id", "updated", "one", "two", "wrong", *mapped)
    return exp.select(*(exp.cast(given.get(n, exp.null()), "TEXT").as_(n) for n in names))
