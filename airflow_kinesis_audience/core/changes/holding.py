"""Audiences that are held alone: a change set counts without those that a guard stopped, and each may be approved.

The table that a run wrote has the rows of all audiences, and is kept. What counts is a second one, made of it
without the rows of those that are held; the row of such an audience is that of the membership before, so that the
next run compares it with what was published of it. Pure: counts and statements, nothing is read or written here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.counts import AudienceCounts
from airflow_kinesis_audience.core.changes.source_guards import find_unsure_exits
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.collations import state_by_bytes
from airflow_kinesis_audience.core.sql.statements import column, null_like, table, text
from airflow_kinesis_audience.core.state.rows import (
    AUDIENCE,
    AUDIENCE_COLUMNS,
    audience_rows,
    base_columns,
    change_columns,
    kept_columns,
    numbered,
    padded,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.earlier import Earlier
    from airflow_kinesis_audience.core.changes.guards import Breach, Guards, Permission
    from airflow_kinesis_audience.core.changes.writing import Step, Written
    from airflow_kinesis_audience.core.source.layout import TableLayout

MOST_HELD = 100
"""So many audiences are held alone at most: where a guard stops more, the source as a whole is to be looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What the guards say of a change set.

    :param breaches: what they found of all that is to count, or to be held as a whole.
    :param stopped: those of them that nobody lets through; they hold it as a whole, or fail it.
    :param held: the audiences that are held alone, and why each is.
    """

    breaches: Sequence[Breach]
    stopped: Sequence[Breach] = ()
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def judge(
    guards: Guards,
    permission: Permission,
    step: Step,
    written: Written,
    known: Earlier,
    *,
    alone: bool,
    together: Collection[str] = (),
) -> Judgement:
    """Find what breaks a guard, and which audiences are held alone.

    None is if no other audience is left, if they are very many, or if without them something of the sync as a
    whole is still wrong.

    :param known: of earlier runs.
    :param alone: whether audiences may be held alone.
    :param together: audiences of which none is held without the others.
    """
    counts, invalid = written.counts, written.invalid
    found = [*step.breaches, *invalid, *guards.find_breaches(counts, known.exits_of_day, known.usual)]
    whole = Judgement(breaches=found, stopped=[b for b in found if not permission.covers(b)])
    held: dict[str, tuple[str, ...]] = {}
    for breach in whole.stopped:
        if breach.audience_id is not None:
            held[breach.audience_id] = (*held.get(breach.audience_id, ()), str(breach))
    held |= _find_held_with(held, [a for a in counts if a.audience_id in together])
    others = {a.audience_id for a in counts if a.audience_id is not None} - held.keys()
    if not alone or not held or not others or len(held) > MOST_HELD:
        return whole
    left = count_without(counts, held)
    invalid = find_unsure_exits(left) if guards.on_invalid_rows == "drop" else invalid
    found = [*step.breaches, *invalid, *guards.find_breaches(left, known.exits_of_day, known.usual)]
    found = [b for b in found if b.audience_id not in held]
    return Judgement(breaches=found, held=held) if all(map(permission.covers, found)) else whole


def _find_held_with(
    held: Mapping[str, tuple[str, ...]], together: Iterable[AudienceCounts]
) -> dict[str, tuple[str, ...]]:
    """Find who is held with others: whoever moves between them would otherwise be in two of them, or in none."""
    named = {a.audience_id: a for a in together if a.audience_id is not None}
    if not (first := sorted(held.keys() & named)):
        return {}
    why = f"is held with audience {first[0]!r}, because a user is in one of them alone (exclusive_by)"
    return {a: (f"audience {a!r}: {why}",) for a in named if a not in held}


def count_without(counts: Sequence[AudienceCounts], held: Collection[str]) -> list[AudienceCounts]:
    """Count audiences that are held as what was published of them; one of which nothing was is not there."""
    return [
        _unchanged(a) if a.audience_id in held else a
        for a in counts
        if a.audience_id not in held or a.previous_members
    ]


def _unchanged(a: AudienceCounts) -> AudienceCounts:
    return AudienceCounts(
        audience_id=a.audience_id,
        audience_name=a.audience_name,
        source_rows=a.previous_members,
        invalid_rows=0,
        duplicate_rows=0,
        previous_members=a.previous_members,
        members=a.previous_members,
        entered=0,
        exited=0,
        updated=0,
    )


def select_without(
    schema: str, name: str, layout: TableLayout, held: Iterable[str], *, before_in: str | None
) -> exp.Query:
    """Build what of a table counts without the audiences that are held.

    :param name: of the table of a change set, or of a first base.
    :param before_in: the table that has the audiences before; none where it is a first base.
    """
    origin, is_held = table(schema, name), _is_among(held)
    is_first = before_in is None
    names = base_columns(layout) if is_first else change_columns(layout)
    given = kept_columns(layout, [n for n in names if n not in ("position", "bucket", *AUDIENCE_COLUMNS)])
    rows = exp.select(*(e.as_(n) for n, e in given.items())).from_(origin)
    rows = rows.where(column("action").neq(AUDIENCE), exp.not_(is_held))
    audiences: exp.Query = _audiences(origin, names, _is_other(is_held))
    if before_in is not None:
        audiences = exp.union(audiences, _audiences(table(schema, before_in), names, is_held), distinct=False)
    found = table(None, "found")
    own = numbered(names, found) if not is_first else padded({n: column(n) for n in given}, names).from_(found)
    return exp.union(own, audiences, distinct=False).with_("found", as_=rows, copy=False)


def select_approved(
    schema: str,
    name: str,
    layout: TableLayout,
    approved: Iterable[str],
    as_of: datetime,
    *,
    newest_in: str,
    is_first: bool,
) -> exp.Query:
    """Build the change set of audiences that were held, out of the table that has what was found of them.

    :param as_of: its instant: who enters is a member since then.
    :param newest_in: the table that has the audiences as of now.
    :param is_first: the table is a first base, of which every member enters.
    """
    names, origin, is_chosen = change_columns(layout), table(schema, name), _is_among(approved)
    old = [c.old for c in layout.columns]
    without = ("position", "bucket", *AUDIENCE_COLUMNS, *((*old, "updated") if is_first else ()))
    given = kept_columns(layout, [n for n in names if n not in without])
    since = text(instant_text(as_of))
    if is_first:
        given |= {c.old: null_like(column(c.new)) for c in layout.columns}
        given |= {
            "action": text(Action.ENTERED.value),
            "updated": exp.cast(exp.null(), "TEXT"),
            "member_since": since,
        }
    else:
        has_entered = column("action").eq(Action.ENTERED.value)
        given["member_since"] = exp.case().when(has_entered, since).else_(given["member_since"])
    rows = exp.select(*(e.as_(n) for n, e in given.items())).from_(origin)
    rows = rows.where(column("action").neq(AUDIENCE), is_chosen)
    audiences = exp.union(
        _audiences(origin, names, is_chosen),
        _audiences(table(schema, newest_in), names, _is_other(is_chosen)),
        distinct=False,
    )
    own = numbered(names, table(None, "found"))
    return exp.union(own, audiences, distinct=False).with_("found", as_=rows, copy=False)


def _audiences(origin: exp.Table, names: Sequence[str], condition: exp.Expr) -> exp.Select:
    return audience_rows(origin, names).where(column("action").eq(AUDIENCE), condition.copy())


def _is_among(audiences: Iterable[str]) -> exp.Expr:
    return exp.In(this=state_by_bytes(column("audience_id")), expressions=[text(a) for a in sorted(audiences)])


def _is_other(is_among: exp.Expr) -> exp.Expr:
    """Build the opposite, which rows of no audience are, too."""
    return exp.or_(column("audience_id").is_(exp.null()), exp.not_(is_among.copy()))
