"""An Airflow of the demo's own: a home in the demo's directory, and runs of the example DAG, one per day.

Settings, connections and credentials of the user never get in: the variables that could bring them are dropped
from this process. Nothing here imports Airflow before they are, because Airflow reads them on import.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import FrameType
from typing import IO, Any

DAG_VARIABLE = "dag"
_SHIPPED = Path(__file__).parent / "dags"
_REPOSITORY = Path(__file__).parents[2] / "dags"
_MIGRATION_SECONDS = 300


class RunFailed(Exception):
    """A run of the DAG did not end well; Airflow's log says why."""


class Stopped(BaseException):
    """Somebody wants the demo to stop. Not ``KeyboardInterrupt``, which Python itself takes note of on its way."""


class Stop:
    """Remembers that somebody wants to stop: a running task takes the exception for its own failure."""

    exit_code = 0

    def listen(self) -> None:
        """Raise :class:`Stopped` on the signals of Ctrl-C and of a plain ``kill``."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._remember)

    def check(self) -> None:
        """Raise :class:`Stopped` if it was raised before."""
        if self.exit_code:
            raise Stopped

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.exit_code = 128 + number
        raise Stopped


def find_dag_file(name: str) -> Path:
    """Find an example DAG, as a wheel ships it or in the repository."""
    for folder in (_SHIPPED, _REPOSITORY):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"the example DAG {name} is neither in {_REPOSITORY} nor in {_SHIPPED}; run the demo from the repository, "
        "or reinstall the package"
    )


def set_up(home: Path, dag_file: str, connections: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the home with the DAG in it, and this process's variables; the database is still to be migrated.

    :param dag_file: name of the example DAG's file.
    :param connections: connection id to what the connection is made of.
    """
    point_airflow_to(home)
    shutil.copy(find_dag_file(dag_file), home / "dags")
    for name, connection in connections.items():
        os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)


def point_airflow_to(home: Path) -> None:
    """Make an empty home and point this process to it, away from whatever Airflow or account the user has."""
    (home / "dags").mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_"))]:
        del os.environ[name]
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS="False",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home / 'airflow.db'}",
        AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(home / "logs"),
        AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        # a proxy could not reach a server on this machine
        NO_PROXY="127.0.0.1,localhost",
        no_proxy="127.0.0.1,localhost",
    )


@contextlib.contextmanager
def migrated(log: IO[bytes]) -> Iterator[None]:
    """Migrate the metadata database while the body runs; it is ready when the body is left.

    :raises RunFailed: if it could not be migrated.
    """
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:  # noqa: S603
        try:
            yield
            code = process.wait(_MIGRATION_SECONDS)
        except BaseException:
            process.kill()
            raise
    if code:
        raise RunFailed(f"airflow db migrate ended with exit code {code}")


class DailyRuns:
    """The example DAG, to be run for one day after the other."""

    def __init__(self, home: Path, dag_file: str, stop: Stop) -> None:
        self._stop = stop
        self._dag: Any = runpy.run_path(str(home / "dags" / dag_file))[DAG_VARIABLE]
        [last] = self._dag.leaves
        self._publishes = last.task_id
        for task in self._dag.tasks:
            # As many attempts as in production, but whoever watches does not wait minutes for the next.
            task.retry_delay = timedelta(seconds=1)

    def run(self, day: date) -> Mapping[str, Any]:
        """Run the DAG as of midnight UTC of a day, and return what its last task returned.

        :raises RunFailed: if a task failed.
        """
        self._stop.check()
        run = self._dag.test(logical_date=datetime.combine(day, time(), UTC))
        self._stop.check()
        states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
        if missed := sorted(task_id for task_id, state in states.items() if state != "success"):
            failed = ", ".join(f"{task_id} ({states[task_id]})" for task_id in missed)
            raise RunFailed(f"the run as of {day} did not succeed: {failed}")
        name = self._publishes
        summary: Mapping[str, Any] = run.get_task_instance(name).xcom_pull(task_ids=name)
        return summary
