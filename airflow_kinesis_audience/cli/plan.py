"""``plan``: what a DAG's diff task would find if it ran now, what would stop it, and what is still undelivered.

A dry run: it reads the source and the state, and writes neither tables, nor rows of the ledger, nor anything of
Airflow's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from airflow_kinesis_audience.cli import dag_task
from airflow_kinesis_audience.cli.masking import mask, one_line
from airflow_kinesis_audience.cli.rendering import Rendered, render_plan
from airflow_kinesis_audience.core.changes.plan import Plan, make_plan
from airflow_kinesis_audience.core.changes.planned_rows import PlannedRows
from airflow_kinesis_audience.core.changes.source_guards import describe_unknown_exclusive
from airflow_kinesis_audience.core.model.audience import COUNTS
from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.core.state.status import DeliveryLag, find_lags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_audience.core.changes.planned_rows import Sampled

_SIGNS = {"entered": "+", "exited": "-", "updated": "~"}
_MOST_AUDIENCES = 20
STOPPED = 3
"""Exit code if a guard would stop the run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("dag_file", type=Path, help="the DAG file")
    parser.add_argument("--task", help="task_id or dag_id.task_id, if the file has more than one diff task")
    parser.add_argument(
        "--as-of",
        type=instant,
        metavar="INSTANT",
        help="the instant to plan for, such as 2026-01-31T00:00:00Z; default: now. Templates see it as the run's "
        "logical date and as both ends of its data interval",
    )
    parser.add_argument(
        "--sample", type=int, default=5, metavar="N", help="changes to show per action (default: 5)"
    )
    parser.add_argument(
        "--render",
        type=int,
        default=0,
        metavar="N",
        help="also show the messages of the first N changes of each audience, with masked values, as each publish "
        "task of the file would put them",
    )
    parser.add_argument("--show", action="store_true", help="show user ids and values; they are masked by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = f"It ends with {STOPPED} if a guard would stop the run."


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Print what would be found."""
    from airflow_kinesis_audience.operators.run_context import run_as_of

    task = dag_task.find_diff(given.dag_file, given.task)
    untriggerable = dag_task.find_untriggerable(task)
    context = dag_task.render(task, given.as_of)
    with task.open_state(task.default_sync_id, run_as_of(context, task.as_of), tag=None) as ledger:
        found = make_plan(
            ledger,
            task.build_source(ledger.warehouse.origin.dialect),
            run_as_of(context, task.as_of),
            guards=task.build_guards(),
            reuse_deleted=task.reuse_deleted,
            insert=task.on_covered == "insert",
            correct=task.on_covered == "correct",
            rows=PlannedRows(sample=max(0, given.sample), leading=max(0, given.render)),
        )
    behind = find_lags(ledger.state)
    rendered = [*render_plan(task, found, given.as_of)] if given.render > 0 else []
    if given.json:
        printed = {**as_json(found, behind, show=given.show), "untriggerable": untriggerable}
        printed |= {"messages": [*map(_rendered_json, rendered)]} if given.render > 0 else {}
        print(json.dumps(printed, indent=2), file=out)
    else:
        lines = [*describe(found, behind, show=given.show)]
        lines += [line for one in rendered for line in _describe_rendered(one)]
        lines += [f"  a triggered run would fail: {untriggerable}"] if untriggerable else []
        print("\n".join(map(one_line, lines)), file=out)
    return STOPPED if found.stopped else 0


def as_json(found: Plan, behind: Sequence[DeliveryLag], *, show: bool) -> dict[str, Any]:
    """Render a plan as JSON values."""
    counted = found.recorded or {n: found.total(n) for n in COUNTS}
    return {
        "sync_id": found.sync_id,
        "as_of": instant_text(found.as_of),
        "previous_as_of": instant_text(found.previous_as_of) if found.previous_as_of else None,
        "recorded": found.recorded is not None,
        "confirmed": found.confirmed,
        **{n: counted[n] for n in COUNTS},
        **{
            name: found.total(name) if found.recorded is None else found.recorded.get(name, 0)
            for name in ("excluded", "outranked")
        },
        "audiences": {str(a.audience_id): {n: getattr(a, n) for n in COUNTS} for a in found.named},
        "unknown_exclusive": [*found.unknown_exclusive],
        "stopped": [str(b) for b in found.stopped],
        "sample": [_sample_json(s, show=show) for s in found.sample],
        "destinations": {b.destination: {"change_sets": b.change_sets, "changes": b.changes} for b in behind},
    }


def _sample_json(sampled: Sampled, *, show: bool) -> dict[str, Any]:
    shown = {"action": sampled.action, "audience_id": sampled.audience_id, "updated": sampled.updated}
    if not show:
        return {**shown, "user": mask(sampled.user_id), "values": sorted(sampled.values)}
    values = {label: {"old": old, "new": new} for label, (old, new) in sampled.values.items()}
    return {**shown, "user_id": sampled.user_id, "values": values}


def describe(found: Plan, behind: Sequence[DeliveryLag], *, show: bool) -> Iterator[str]:
    """Render a plan in lines."""
    yield f"{found.sync_id} as of {instant_text(found.as_of)}; nothing is written by this plan"
    if found.recorded is not None:
        yield "  this instant already has a change set, which a run would return again: " + _counts(found.recorded)
    else:
        yield from _describe_changes(found, show=show)
    for b in behind:
        pending = f"{b.change_sets:,} change sets ({b.changes:,} changes) before it"
        due = pending if b.change_sets else "this change set alone"
        yield f"  {b.destination} ({b.message_format}) would receive {due}"


def _describe_changes(found: Plan, *, show: bool) -> Iterator[str]:
    if found.previous_as_of is None:
        yield (
            "  first run: the publish task sends every member as entered, unless its on_first_run is 'baseline' "
            "or 'fail'"
        )
    else:
        yield f"  compared with the membership as of {instant_text(found.previous_as_of)}"
    yield f"  {_counts({n: found.total(n) for n in COUNTS})}"
    if found.confirmed:
        yield "  what is published is already right: a run would add nothing"
    yield from _describe_left_out(found)
    if len(found.named) > 1:
        for a in found.named[:_MOST_AUDIENCES]:
            yield f"    {a.audience_id}: {_counts({n: getattr(a, n) for n in COUNTS})}"
        if more := len(found.named) - _MOST_AUDIENCES:
            yield from [f"    and {more:,} more audiences"] if more > 0 else []
    for breach in found.stopped:
        yield f"  a guard would stop it: {breach}"
    for sampled in found.sample:
        yield f"    {_SIGNS[sampled.action]} {_describe_sampled(sampled, show=show)}"


def _describe_left_out(found: Plan) -> Iterator[str]:
    if excluded := found.total("excluded"):
        yield f"  {excluded:,} rows of the source are excluded (exclude_sql, consent_column)"
    if outranked := found.total("outranked"):
        yield f"  the users of {outranked:,} rows are in an audience before it (exclusive_by)"
    if found.unknown_exclusive:
        yield f"  {describe_unknown_exclusive(found.unknown_exclusive)}"


def _describe_rendered(rendered: Rendered) -> Iterator[str]:
    yield f"  {rendered.destination} ({rendered.message_format}), with masked values:"
    if rendered.missing:
        yield f"    {rendered.missing}"
    for change, messages in rendered.changes:
        yield from (f"    {_SIGNS[change.action]} {message.decode().rstrip()}" for message in messages)
        if not messages:
            yield f"    {_SIGNS[change.action]} {change.audience_id}: the format sends nothing of this change"


def _rendered_json(rendered: Rendered) -> dict[str, Any]:
    return {
        "destination": rendered.destination,
        "message_format": rendered.message_format,
        "missing": rendered.missing or None,
        "changes": [
            {"action": c.action, "audience_id": c.audience_id, "messages": [m.decode() for m in messages]}
            for c, messages in rendered.changes
        ],
    }


def _counts(counted: Any) -> str:
    return ", ".join(f"{counted[n]:,} {n}" for n in COUNTS)


def _describe_sampled(sampled: Sampled, *, show: bool) -> str:
    who = f"{sampled.audience_id} {sampled.user_id if show else mask(sampled.user_id)}"
    changed = {n: v for n, v in sampled.values.items() if sampled.action != "updated" or v[0] != v[1]}
    if not show:
        return f"{who} {', '.join(sorted(changed))}".rstrip()
    shown = [f"{n}={_show(sampled.action, *v)}" for n, v in sorted(changed.items())]
    return f"{who} {', '.join(shown)}".rstrip()


def _show(action: str, old: str | None, new: str | None) -> str:
    if action == "updated":
        return f"{old} -> {new}"
    return str(old if action == "exited" else new)
