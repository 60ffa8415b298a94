"""Finds a diff task in a DAG file and renders it, as a run that somebody triggers now would.

No run is made and nothing is written to Airflow's database: the context has the instants, the DAG's parameters,
variables and connections, and no task instance.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.operators import checks

if TYPE_CHECKING:
    from airflow_kinesis_audience.operators import AudienceDiffOperator, EventsToKinesisOperator


def find_diff(path: Path, task: str | None) -> AudienceDiffOperator:
    """Find a diff task.

    :param path: the DAG file.
    :param task: its id, or ``dag_id.task_id``; may be none where the file has one alone.
    :raises ValueError: if there is none, or more than one is meant.
    """
    from airflow_kinesis_audience.operators import AudienceDiffOperator
    from airflow_kinesis_audience.operators.state_arguments import check_not_shared

    found = {f"{dag.dag_id}.{t.task_id}": t for dag in load(path) for t in dag.tasks}
    diffs = {name: t for name, t in found.items() if isinstance(t, AudienceDiffOperator)}
    others = {name: t for name, t in found.items() if name not in diffs}
    mapped = {n: t for n, t in others.items() if getattr(t, "operator_class", None) is AudienceDiffOperator}
    diffs |= {f"{name}[{n}]": one for name, t in mapped.items() for n, one in enumerate(_unmap(t))}
    wanted = {n: t for n, t in diffs.items() if task in (None, n, n.partition(".")[2])}
    if len(wanted) == 1:
        [(name, chosen)] = wanted.items()
        if name.endswith("]"):
            check_not_shared(chosen)
        return chosen
    if mapped and not diffs:
        raise ValueError(f"{', '.join(mapped)} is mapped, but not with expand_kwargs over a list in the file")
    named = ", ".join(sorted(diffs)) or "none"
    raise ValueError(f"{path} has these diff tasks: {named}; choose one with --task")


def _unmap(mapped: Any) -> list[AudienceDiffOperator]:
    """Make the tasks of one that is mapped over a list which stands in the file."""
    given = mapped.expand_input.value
    return [mapped.unmap(arguments) for arguments in given] if isinstance(given, list) else []


def load(path: Path) -> list[Any]:
    """Import a DAG file; gives its DAGs.

    :raises ValueError: if it cannot be imported.
    """
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # where it was until Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    if not path.is_file():
        raise ValueError(f"{path} is not a file; expected a DAG file")
    bag = DagBag(dag_folder=str(path.resolve()), safe_mode=False)
    for trace in bag.import_errors.values():
        raise ValueError(f"{path} cannot be imported: {trace.strip().splitlines()[-1]}")
    return list(bag.dags.values())


def render(
    task: AudienceDiffOperator | EventsToKinesisOperator, as_of: datetime | None, *, scheduled: bool | None = None
) -> Any:
    """Render the task's templates in place; gives the context.

    :raises ValueError: if a run cannot have this instant.
    """
    context = make_context(task, as_of, scheduled=scheduled)
    checks.render(task, context)
    return context


def find_untriggerable(task: Any) -> str | None:
    """Find why a run without a logical date could not render a task that its schedule's runs can."""
    try:
        render(copy.copy(task), None, scheduled=False)
    except ValueError as error:
        return str(error)
    return None


def make_context(task: Any, as_of: datetime | None, *, scheduled: bool | None = None) -> Any:
    """Make the context of a run: of the DAG's schedule, or triggered without a logical date if it has none.

    :param as_of: the run's logical date, and both ends of its data interval; by default now.
    :param scheduled: by default whether the DAG has a schedule, or an instant is given.
    """
    from airflow.sdk.execution_time.context import ConnectionAccessor, MacrosAccessor, VariableAccessor

    at = instant(as_of or datetime.now(UTC))
    dag: Any = task.dag
    if scheduled is None:
        scheduled = as_of is not None or dag.timetable.can_be_scheduled
    of_date = dict.fromkeys(
        ("logical_date", "data_interval_start", "data_interval_end"), at if scheduled else None
    )
    run = SimpleNamespace(conf={}, dag_id=dag.dag_id, run_id="plan", run_after=at, run_type="manual", **of_date)
    return {
        "dag": dag,
        "task": task,
        "dag_run": run,
        "run_id": run.run_id,
        "params": dag.params.dump(),
        "macros": MacrosAccessor(),
        "var": {n: VariableAccessor(deserialize_json=n == "json") for n in ("json", "value")},
        "conn": ConnectionAccessor(),
        **(_of_logical_date(at) if scheduled else {}),
    }


def _of_logical_date(at: datetime) -> dict[str, Any]:
    """Return what Airflow gives to templates of a run that has a logical date, and to those alone."""
    day, text = at.date().isoformat(), at.isoformat()
    return {
        "logical_date": at,
        "data_interval_start": at,
        "data_interval_end": at,
        "ds": day,
        "ds_nodash": day.replace("-", ""),
        "ts": text,
        "ts_nodash": at.strftime("%Y%m%dT%H%M%S"),
        "ts_nodash_with_tz": text.replace("-", "").replace(":", ""),
    }
