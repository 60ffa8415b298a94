"""Has DAGs run for the tests by an Airflow process of its own: real tasks, real retries, one run after the other.

This is the tests' side of it; ``process.py`` is the other. What a task prints or logs lands in a file, so that a
test can search all of it. Nothing is shared with a test but files: a DuckDB file is free when a run is over.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.airflow.canaries import SECRET
from tests.engines.mysql import DRIVER_HOME

ROOT = Path(__file__).resolve().parents[2]

# The driver of MySQL is beside the environment, once it is built.
_PATH = os.pathsep.join([str(ROOT), str(DRIVER_HOME)])
_numbers = itertools.count()

_DAG = """
import datetime
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow_kinesis_audience.operators import *

again = dict(retries={retries}, retry_delay=datetime.timedelta(0))
with DAG({dag_id!r}, schedule={schedule}, default_args=again) as dag:
{tasks}
"""
_DIFF = "    diff = AudienceDiffOperator(task_id='diff', **{diff!r})"
_PUBLISH = "    {operator}(task_id='publish', **dict(dict(change_set={change_set}), **{publish!r}))"
_ALONE = "    {operator}(task_id={task_id!r}, **{arguments!r})"


DIFF = {
    "warehouse_conn_id": "warehouse",
    "sql": "SELECT user_id, email, city FROM members",
    "audience_id": "gs72ns",
    "audience_name": "Lapsed 90 days",
    "identities": {"email": "Email"},
    "properties": ["city"],
    "sync_id": "lapsed",
}
PUBLISH = {"message_format": "amplitude_cohort", "aws_conn_id": "aws"}


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """What became of a task.

    A mapped task's id ends with its index, ``[0]``.

    :ivar tries: how often it was started; ``seconds`` is how long the last try took.
    :ivar xcom: its XComs by key.
    :ivar events: its asset events in order: the asset's name, and the event's extra.
    """

    state: str
    tries: int
    seconds: float | None
    xcom: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.xcom["return_value"])


@dataclass(frozen=True, kw_only=True)
class Run:
    """What became of a DAG run, and all that was printed and logged during it."""

    state: str
    tasks: Mapping[str, TaskRun]
    log: str
    peak_mib: float
    seconds: float

    def __getitem__(self, task_id: str) -> TaskRun:
        return self.tasks[task_id]


def audience_dag(
    diff: Mapping[str, Any] | None,
    publish: Mapping[str, Any] | None = None,
    *,
    retries: int = 0,
    schedule: str = "None",
) -> tuple[str, str]:
    """Write the text of a DAG with a diff task, a publish task, or both.

    :param schedule: Python text, ``CronDataIntervalTimetable`` is imported.
    :returns: the DAG's id, which no other has, and the text.
    """
    dag_id = f"audience_{os.getpid()}_{next(_numbers)}"
    tasks = [_DIFF.format(diff=dict(diff))] if diff is not None else []
    if publish is not None:
        upstream = "diff.output" if diff is not None else "None"
        operator = f"AudienceTo{'Firehose' if 'delivery_stream_name' in publish else 'Kinesis'}Operator"
        tasks.append(_PUBLISH.format(operator=operator, change_set=upstream, publish=dict(publish)))
    text = _DAG.format(dag_id=dag_id, retries=retries, schedule=schedule, tasks="\n".join(tasks))
    return dag_id, text


class Airflow:
    """A process that runs DAGs; a context manager.

    :param home: an AIRFLOW_HOME whose metadata database is migrated; DAG files go to its ``dags``.
    :param environment: further variables of the process.
    """

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.dags = home / "dags"
        self._environment = {**os.environ, "PYTHONPATH": _PATH, "COLUMNS": "1000", **(environment or {})}

    def __enter__(self) -> Airflow:
        # Python never looks again where no folder was when it began.
        DRIVER_HOME.mkdir(exist_ok=True)
        self._stack = contextlib.ExitStack()
        # Opened to append: the process writes at the end, whatever is read here meanwhile.
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="audience-output-"))
        self._log = Path(folder) / "output.log"
        output = self._stack.enter_context(self._log.open("ab"))
        answers, answer = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.airflow.process", str(answer)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[answer],
            env=self._environment,
            cwd=ROOT,
        )
        os.close(answer)
        self._answers = self._stack.enter_context(os.fdopen(answers))
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._stack.close()

    @contextlib.contextmanager
    def dag_file(self, dag_id: str, text: str, *, beside: Mapping[str, str] | None = None) -> Iterator[Path]:
        """Put a DAG file into the DAG folder, and other files beside it."""
        files = {f"{dag_id}.py": text, **(beside or {})}
        for name, content in files.items():
            (self.dags / name).write_text(content)
        try:
            yield self.dags / f"{dag_id}.py"
        finally:
            for name in files:
                (self.dags / name).unlink()

    def run(
        self,
        dag_file: Path,
        *,
        connections: Mapping[str, str],
        logical_date: datetime | None = None,
        run_after: datetime | None = None,
        conf: Mapping[str, Any] | None = None,
        supervised: bool = False,
        short_pauses: bool = False,
        dag: str = "dag",
    ) -> Run:
        """Run the DAG of a file once, its tasks with their retries.

        :param dag: under which name the file has it.
        :param connections: connection id to its URI or JSON.
        :param conf: the run's configuration.
        :param logical_date: none for a run without one, which speaks for ``run_after``.
        :param supervised: run each task as a worker does: in a process of its own, with a log file of its own.
        :param short_pauses: a stream that accepts nothing for a second is waited for, and the pause is over at
            once. The task gets back what it left, which ``dag.test`` does not give it.
        """
        assert self._process.stdin is not None
        order = {
            "file": str(dag_file),
            "environment": {f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()},
            "logical_date": logical_date and logical_date.isoformat(),
            "run_after": run_after and run_after.isoformat(),
            "conf": dict(conf or {}),
            "supervised": supervised,
            "short_pauses": short_pauses,
            "dag": dag,
        }
        start = self._log.stat().st_size
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        line = self._answers.readline()
        log = self._log_from(start)
        if not line:
            raise RuntimeError(f"the Airflow process ended with {self._process.wait(60)}:\n{log[-8000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the DAG could not be run: {answer['error']}\n{log[-8000:]}")
        answer["tasks"] = {name: TaskRun(**task) for name, task in answer["tasks"].items()}
        return Run(**answer, log=log)

    def output(self) -> str:
        """Return all that the process has printed and logged so far."""
        return self._log_from(0)

    def _log_from(self, start: int) -> str:
        return self._log.read_bytes()[start:].decode(errors="replace")


def one_task_dag(
    operator: str, task_id: str, arguments: Mapping[str, Any], *, schedule: str = "None", retries: int = 0
) -> tuple[str, str]:
    """Write the text of a DAG with one task of this package's; see :func:`audience_dag`."""
    dag_id = f"alone_{os.getpid()}_{next(_numbers)}"
    task = _ALONE.format(operator=operator, task_id=task_id, arguments=dict(arguments))
    return dag_id, _DAG.format(dag_id=dag_id, retries=retries, schedule=schedule, tasks=task)


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, number, hour, tzinfo=UTC)


@dataclass(frozen=True)
class Deployed:
    """A DAG that is in the DAG folder, with its connections."""

    airflow: Airflow
    file: Path
    connections: Mapping[str, str]

    @property
    def adopted(self) -> dict[str, str]:
        """Arguments of a diff task in a DAG of another name that goes on with this one's state."""
        return {"adopt_state_of": f"{self.file.stem}.diff"}

    def run(self, logical_date: datetime | None, **how: Any) -> Run:
        """Run it once; see :meth:`Airflow.run`."""
        return self.airflow.run(
            self.file,
            connections=self.connections,
            logical_date=logical_date,
            **how,
        )


@contextlib.contextmanager
def deployed(
    airflow: Airflow,
    warehouse: str,
    stream: str | None,
    diff: Mapping[str, Any] | None,
    publish: Mapping[str, Any] | None = None,
    *,
    beside: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[Deployed]:
    """Put a DAG of these tasks into the DAG folder, with connections ``warehouse`` and ``aws``."""
    dag_id, text = audience_dag(diff, publish and {**PUBLISH, **publish}, **options)
    connections = {"warehouse": warehouse, **({"aws": stream} if stream else {})}
    with airflow.dag_file(dag_id, text, beside=beside) as file:
        yield Deployed(airflow, file, connections)


def aws(endpoint_url: str) -> str:
    """Return an Airflow connection to an AWS that is on this machine."""
    login = {"login": "AKIACANARY", "password": SECRET}
    return json.dumps({"conn_type": "aws", **login, "extra": {"endpoint_url": endpoint_url}})
