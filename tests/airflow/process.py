"""``python -m tests.airflow.process``: the Airflow process that ``running.py`` talks to.

It gets DAG files, one JSON document a line on its standard input, runs each as ``dag.test`` does, and says what
became of it on the file descriptor that it was given. Standard output and error are the tasks'.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

_WHOSE = ("dag_id", "run_id", "task_id", "map_index")


def serve(answers: int) -> None:
    """Run what is asked for until nothing more is."""
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            order = json.loads(line)
            before = dict(os.environ)
            os.environ.update(order["environment"])
            try:
                answer = run(order)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            os.environ.clear()
            os.environ.update(before)
            # What was logged is in the file before the answer comes.
            sys.stdout.flush()
            sys.stderr.flush()
            out.write(json.dumps(answer) + "\n")
            out.flush()


def run(order: Mapping[str, Any]) -> dict[str, Any]:
    """Run the DAG of a file once."""
    from airflow.sdk.definitions import dag as definitions

    from airflow_kinesis_audience.core.producer.backoff import RetryPolicy

    path = Path(order["file"])
    dates = {n: order[n] and datetime.fromisoformat(order[n]) for n in ("logical_date", "run_after")}
    started = time.monotonic()
    with contextlib.ExitStack() as changed:
        if order["supervised"]:
            changed.enter_context(patch.object(definitions, "_run_task", run_supervised))
        if order["short_pauses"]:
            changed.enter_context(patch.object(definitions, "_run_inline_trigger", lambda *_: None))
            changed.enter_context(patch("airflow_kinesis_audience.operators.delivery_operator.SLOW_SECONDS", 1.0))
            impatient = functools.partial(RetryPolicy, longest_delay_seconds=0.5)
            changed.enter_context(patch("airflow_kinesis_audience.core.producer.backoff.RetryPolicy", impatient))
        finished = getattr(load(path), order["dag"]).test(**dates, run_conf=order["conf"])
    return {
        "state": str(finished.state),
        "tasks": {
            task.task_id + (f"[{task.map_index}]" if task.map_index >= 0 else ""): {
                "state": str(task.state),
                "tries": task.try_number,
                "seconds": task.duration,
                "xcom": read_xcoms(task),
                "events": read_asset_events(task),
            }
            for task in finished.get_task_instances()
        },
        "peak_mib": peak_mib(),
        "seconds": time.monotonic() - started,
    }


def load(path: Path) -> Any:
    """Import a DAG file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_supervised(*, ti: Any, task: Any, run_triggerer: bool) -> None:
    """Run a task as a worker does; takes the place of what ``dag.test`` does, in this process, for speed."""
    from airflow.executors.workloads import BundleInfo
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor, supervise_task
    from airflow.utils.state import TaskInstanceState

    ti.set_state(TaskInstanceState.QUEUED)
    supervise_task(
        ti=TaskInstanceDTO.model_validate(ti, from_attributes=True),
        bundle_info=BundleInfo(name="dags-folder"),
        dag_rel_path=Path(task.dag.fileloc).name,
        token="",
        client=InProcessTestSupervisor._api_client(task.dag),
        log_path=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.try_number}.log",
    )
    ti.refresh_from_db()


def read_xcoms(task: Any) -> dict[str, Any]:
    """Read a task's XComs by key."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    found = select(XComModel.key, XComModel.value)
    query = found.where(*(getattr(XComModel, n) == getattr(task, n) for n in _WHOSE))
    with create_session() as session:
        rows: Sequence[Any] = session.execute(query).all()
    # Airflow keeps links as they are, everything else as JSON.
    return {
        key: json.loads(value) if isinstance(value, str) and not key.startswith("_link_") else value
        for key, value in rows
    }


def read_asset_events(task: Any) -> list[dict[str, Any]]:
    """Read the asset events of a task: the asset's name and the event's extra, in order."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = (
        select(AssetModel.name, AssetEvent.extra)
        .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        .where(*(getattr(AssetEvent, f"source_{n}") == getattr(task, n) for n in _WHOSE))
        .order_by(AssetEvent.id)
    )
    with create_session() as session:
        return [{"asset": name, "extra": extra} for name, extra in session.execute(query)]


def peak_mib() -> float:
    """Return the most memory that this process has held since it started its program."""
    # Not getrusage: that begins at what the parent held when it started this process.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
