"""For a notebook: what a diff task would find now, as a pandas frame. Nothing is written or recorded.

What it returns is personal data, and is never logged.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.changes.planned_rows import PlannedRows
from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.hooks.warehouses.dbapi import as_frame
from airflow_kinesis_audience.operators import AudienceDiffOperator

if TYPE_CHECKING:
    import pandas as pd

    from airflow_kinesis_audience.core.changes.planned_rows import Sampled

MOST_ROWS = 100_000
"""How many changes a frame has at most, by default."""

_ACTIONS = ("entered", "exited", "updated")


def compute_changes(
    warehouse_conn_id: str, *, as_of: datetime | str | None = None, most_rows: int = MOST_ROWS, **arguments: Any
) -> pd.DataFrame:
    """Compute who would enter, leave or change if a diff task ran now; it costs as much as the diff.

    :param warehouse_conn_id: Airflow connection of the warehouse.
    :param as_of: the instant to compute for; default: now.
    :param most_rows: most changes to return per action. If there are more, it is an error and not a part.
    :param arguments: those of the diff task, such as ``sql``, ``audience_id`` and ``identities``. ``sync_id`` is
        the task's, by default ``dag_id.task_id``. Templates are not rendered.
    :returns: a row per change: ``audience_id``, ``user_id``, ``action``, ``updated``, and two columns per identity
        and property: ``Email`` has the present value, ``old Email`` the published one. All columns are text. The
        frame's ``attrs`` has the counts: ``entered``, ``exited``, ``updated``, ``members``, and ``stopped``, a
        sentence for each guard that would stop the run.
    :raises ValueError: if an argument is wrong, or there are more changes.
    :raises AudienceError: if the warehouse cannot be read, as for a task.
    """
    if not arguments.get("sync_id"):
        raise ValueError("set sync_id to the id of the task's sync, which by default is dag_id.task_id")
    task = AudienceDiffOperator(task_id="compute_changes", warehouse_conn_id=warehouse_conn_id, **arguments)
    at = instant(as_of or datetime.now(UTC))
    with task.open_state(str(task.sync_id), at, tag=None) as ledger:
        source = task.build_source(ledger.warehouse.origin.dialect)
        plan = make_plan(ledger, source, at, guards=task.build_guards(), rows=PlannedRows(sample=most_rows))
    counts = {name: plan.total(name) for name in (*_ACTIONS, "members")} if plan.recorded is None else None
    if counts is None:
        raise ValueError(
            f"{plan.sync_id!r} has a change set as of this instant: read it with history.changes_frame"
        )
    if too_many := [f"{counts[a]:,} {a}" for a in _ACTIONS if counts[a] > most_rows]:
        raise ValueError(f"there are more changes than most_rows, which is {most_rows:,}: {', '.join(too_many)}")
    frame = _frame(plan.sample)
    frame.attrs |= {**counts, "stopped": [str(breach) for breach in plan.stopped]}
    return frame


def _frame(changes: Any) -> pd.DataFrame:
    import pyarrow as pa

    found: list[Sampled] = list(changes)
    columns: dict[str, list[str | None]] = {
        name: [getattr(change, name) for change in found]
        for name in ("audience_id", "user_id", "action", "updated")
    }
    for label in dict.fromkeys(label for change in found for label in change.values):
        columns[label] = [change.values.get(label, (None, None))[1] for change in found]
        columns[f"old {label}"] = [change.values.get(label, (None, None))[0] for change in found]
    return as_frame(pa.RecordBatch.from_pydict({n: pa.array(c, pa.string()) for n, c in columns.items()}))
