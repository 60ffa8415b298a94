"""SQL of a plan: counts and a few rows of a change set that is not written, and what such a row says.

It builds statements and runs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.sql.statements import column, table, text, union_all
from airflow_kinesis_audience.core.state.rows import AUDIENCE, MEMBER, bucket_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.membership import Tables

_PLANNED = "planned"
REWRITTEN = "base in the new layout"
COUNT, _SAMPLE, LEADING = "count", "sample", "leading"
_SHOWN = (Action.ENTERED.value, Action.EXITED.value, Action.UPDATED.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRows:
    """How many rows a plan gives.

    :param sample: per action, at most.
    :param leading: of each audience, the first ones in the order in which they would be delivered.
    """

    sample: int = 5
    leading: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanStep:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One change that would be delivered.

    :param values: label of each identity and property that is known, to the old value and the new one, as text.
        Where an identity and a property share one, it begins with the role: ``identity plan``.
    :param filled: the state columns, new and old, that are not NULL, and ``changed`` the old ones that differ from
        the new.
    """

    action: str
    audience_id: str
    user_id: str
    updated: str | None
    values: Mapping[str, tuple[str | None, str | None]]
    filled: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()


def make_sampled(step: PlanStep, change: tuple[Any, ...], values: Sequence[str | None]) -> Sampled:
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
    names = [*(c.new for c in step.layout.columns), *(c.old for c in step.layout.columns)]
    return Sampled(
        action=action,
        audience_id=audience_id,
        user_id=user_id,
        updated=updated,
        values=known,
        filled=frozenset(n for n, value in zip(names, values, strict=True) if value is not None),
        changed=frozenset(
            c.old
            for c, old, new in zip(step.layout.columns, values[shown:], values[:shown], strict=True)
            if old != new
        ),
    )


def select_plan(step: PlanStep, planned: exp.Query, rows: PlannedRows) -> exp.Query:
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
            what=text(COUNT),
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
            .limit(rows.sample)
        )
        branches.append(exp.select(exp.Star()).from_(some.subquery(f"some_{action}", copy=False)))
    if rows.leading:
        branches.append(_select_leading(step, own, rows.leading))
    whole = union_all(branches)
    named = [(REWRITTEN, step.rewritten)] if step.rewritten is not None else []
    for name, body in (*named, (_PLANNED, planned)):
        alias = exp.TableAlias(this=exp.to_identifier(name, quoted=True))
        whole = whole.with_(alias, as_=body, materialized=True, copy=False)
    return whole


def _select_leading(step: PlanStep, own: Mapping[str, exp.Expr], rows: int) -> exp.Select:
    """Build the first changes of each audience, numbered in the order of a change set's rows."""
    order = [exp.Ordered(this=e) for e in (column("action"), bucket_of(column("user_id")), column("user_id"))]
    number = exp.Window(
        this=exp.RowNumber(), partition_by=[column("audience_id")], order=exp.Order(expressions=order)
    )
    ranked = exp.select(exp.Star(), number.as_("rank_in_audience")).from_(table(None, _PLANNED))
    ranked = ranked.where(column("action").neq(AUDIENCE))
    return (
        _row(step, what=text(LEADING), one=column("rank_in_audience"), **own)
        .from_(ranked.subquery("ranked", copy=False))
        .where(column("rank_in_audience") <= exp.Literal.number(rows))
    )


def _row(step: PlanStep, **given: exp.Expr) -> exp.Select:
    """Build a row of the plan: every column is there, as text."""
    mapped = (*(c.new for c in step.layout.columns), *(c.old for c in step.layout.columns))
    names = ("what", "audience_id", "action", "user_id", "updated", "one", "two", "wrong", *mapped)
    return exp.select(*(exp.cast(given.get(n, exp.null()), "TEXT").as_(n) for n in names))
