"""A real Airflow on this machine for tests: api-server, scheduler with LocalExecutor, and dag-processor.

It has a home and a metadata database of its own, listens on one free port of 127.0.0.1, and is spoken to as its
users do: over the REST API with a login, and with the ``airflow`` command. Each part leads a session, which a task
never leaves although it has a process group of its own; whatever happened, the sessions are ended with all that is
in them. Nothing is waited for blindly: a part that ended and a wait that took too long show the end of every log.
Its users are those of the simple auth manager, who all may see everything, or of FAB's, who have roles.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx

ROOT = Path(__file__).resolve().parents[2]
USER = "keeper"
PARALLELISM = 2
START_SECONDS = 300
COMMAND_SECONDS = 240
API_SECONDS = 60
RUN_SECONDS = 300
END_SECONDS = 15
POLL_SECONDS = 0.5
LOG_TAIL = 3_000

_IMPORTED = (
    "airflow.sdk.execution_time.task_runner",
    "airflow.providers.postgres.hooks.postgres",
    "airflow_kinesis_audience.operators",
    "pyarrow",
    "sqlglot.dialects.postgres",
)
"""The scheduler forks its workers and these their tasks, which need not each import again what it has imported."""
_PARTS = {
    "api-server": ("-m", "airflow", "api-server"),
    "scheduler": (
        "-c",
        f"import {', '.join(_IMPORTED)}; from airflow.__main__ import main; main()",
        "scheduler",
        # The server of task logs would listen on all interfaces.
        "--skip-serve-logs",
    ),
    "dag-processor": ("-m", "airflow", "dag-processor"),
}
# Only where it is asked for: since Airflow 3.3 a task that waits for a person needs none.
_TRIGGERER = {"triggerer": ("-m", "airflow", "triggerer", "--skip-serve-logs")}
_FINISHED = ("success", "failed")
_FAB = {
    "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
    # Tests log in more often than five times in forty seconds.
    "AIRFLOW__FAB__AUTH_RATE_LIMITED": "False",
}


class AirflowFailed(AssertionError):
    """A part of Airflow ended, or did not do in time what was waited for."""


@dataclass(frozen=True, kw_only=True)
class RunningAirflow:
    """An Airflow that is running; made by :func:`running_airflow`.

    :ivar api: a client of the REST API that is logged in as ``USER``.
    :ivar home: AIRFLOW_HOME.
    :ivar password: of ``USER``.
    """

    home: Path
    environment: Mapping[str, str]
    password: str = field(repr=False)
    api: httpx.Client = field(repr=False)
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def command(self, *arguments: str) -> str:
        """Run an ``airflow`` command to its end and return what it printed."""
        command = [sys.executable, "-m", "airflow", *arguments]
        told = {"env": self.environment, "cwd": self.home, "timeout": COMMAND_SECONDS}
        ended = subprocess.run(command, capture_output=True, text=True, check=False, **told)
        if ended.returncode:
            said = (ended.stdout + ended.stderr)[-LOG_TAIL:]
            raise AirflowFailed(f"airflow {' '.join(arguments)} ended with {ended.returncode}:\n{said}")
        return ended.stdout

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Make a request to the API, and return the JSON of its answer.

        :param path: under ``/api/v2/``.
        """
        answer = self.api.request(method, f"/api/v2/{path}", **options)
        if answer.is_error:
            raise AirflowFailed(f"{method} {path}: answered with {answer.status_code}, {answer.text[:LOG_TAIL]}")
        return answer.json()

    def wait_for(self, what: str, found: Callable[[], Any], seconds: float = RUN_SECONDS) -> Any:
        """Look again and again until there is something, and return it.

        :param what: for the message where it does not come.
        """
        deadline = time.monotonic() + seconds
        while True:
            for name, process in self.parts.items():
                if process.poll() is not None:
                    raise AirflowFailed(f"the {name} ended with {process.returncode}\n{self.logs()}")
            if there := found():
                return there
            if time.monotonic() > deadline:
                raise AirflowFailed(f"no {what} after {seconds:g} s\n{self.logs()}")
            time.sleep(POLL_SECONDS)

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG as the API tells of them, by logical date."""
        path = f"dags/{dag_id}/dagRuns"
        return list(self.ask("GET", path, params={"order_by": "logical_date", "limit": 100})["dag_runs"])

    def finished(self, dag_id: str, run_id: str) -> str:
        """Wait for a run to end, and return its state."""
        path = f"dags/{dag_id}/dagRuns/{run_id}"

        def ended() -> str | None:
            state = str(self.ask("GET", path)["state"])
            return state if state in _FINISHED else None

        return str(self.wait_for(f"end of the run {run_id} of {dag_id}", ended))

    def expect(self, state: str, dag_id: str, run_id: str) -> None:
        """Wait for a run to end.

        :raises AirflowFailed: with its tasks' states and logs, if it ends in another state.
        """
        if (ended := self.finished(dag_id, run_id)) != state:
            states = self.states(dag_id, run_id)
            said = [f"{dag_id} ended as {ended}, expected {state}: {states}", self.logs_of(run_id), self.logs()]
            raise AirflowFailed("\n".join(said))

    def logs_of(self, run_id: str) -> str:
        """Return the end of every log of a run's tasks."""
        return _tails(sorted(self.home.rglob(f"run_id={run_id}/**/*.log")))

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run, by task id."""
        found = self.ask("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the states of a run's tasks."""
        return {task_id: task["state"] for task_id, task in self.tasks(dag_id, run_id).items()}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return an XCom of a task."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        value = self.ask("GET", path, params={"deserialize": "false"})["value"]
        return json.loads(value) if isinstance(value, str) else value

    def wait_for_question(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Wait until a task has asked a person and can take the answer.

        In ``awaiting_input`` alone it can't: Airflow 3.3 takes one that is answered before the scheduler has noted
        the end of its process for killed, and has it ask again.
        """
        finished = f"TaskInstance Finished: dag_id={dag_id}, task_id={task_id}, run_id={run_id},"

        def noted() -> bool:
            lines = (self.home / "scheduler.log").read_text(errors="replace").splitlines()
            return any(finished in line and ", state=awaiting_input," in line for line in lines)

        self.wait_for(f"question of the task {task_id} of the run {run_id}", noted)

    def add_user(self, name: str, permissions: Iterable[tuple[str, str]]) -> None:
        """Add a user with a role of the same name and ``USER``'s password; needs the users of FAB.

        :param permissions: action and resource, as FAB calls them; no more than these are given.
        """
        actions = [{"action": {"name": a}, "resource": {"name": r}} for a, r in permissions]
        person = {"username": name, "first_name": name, "last_name": name, "email": f"{name}@example.com"}
        for path, body in (
            ("roles", {"name": name, "actions": actions}),
            ("users", {**person, "roles": [{"name": name}], "password": self.password}),
        ):
            answer = self.api.post(f"/auth/fab/v1/{path}", json=body)
            if answer.is_error:
                raise AirflowFailed(f"no user {name}: answered with {answer.status_code}, {answer.text}")

    def log_in(self, name: str = USER) -> httpx.Client:
        """Return a client of the REST API, to be closed, that is logged in as somebody.

        :raises httpx.TransportError: if nobody listens yet.
        """
        api = httpx.Client(base_url=self.api.base_url, trust_env=False, timeout=API_SECONDS)
        try:
            _log_in(api, name, self.password)
        except BaseException:
            api.close()
            raise
        return api

    def logs(self) -> str:
        """Return the end of every log of a part, and of the newest logs of tasks."""
        newest = sorted((self.home / "logs").rglob("attempt=*.log"), key=lambda path: path.stat().st_mtime)[-2:]
        files = [*(self.home / f"{name}.log" for name in self.parts), *newest]
        return _tails(file for file in files if file.exists())


@contextlib.contextmanager
def running_airflow(
    database: str,
    *,
    dags: Mapping[str, str],
    connections: Mapping[str, str],
    beside: Mapping[str, str] | None = None,
    auth: Literal["simple", "fab"] = "simple",
    paused: bool = False,
    triggerer: bool = False,
    parallelism: int = PARALLELISM,
) -> Iterator[RunningAirflow]:
    """Start an Airflow, wait until it can run each of the DAGs, and end it.

    :param database: URI of an empty PostgreSQL database for Airflow's own tables.
    :param dags: DAG id to the text of a file with this DAG.
    :param connections: connection id to its URI or JSON.
    :param beside: name to text of other files in the folder of the DAGs.
    :param auth: whose users there are; ``USER`` may do everything in both.
    :param paused: whether a DAG is paused at first.
    :param triggerer: whether tasks can be deferred.
    :param parallelism: how many worker slots there are.
    :raises AirflowFailed: if it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="audience-running-airflow-") as directory:
        home, password, port = Path(directory), secrets.token_hex(), _free_port()
        _write_home(home, password, {**{f"{d}.py": text for d, text in dags.items()}, **(beside or {})})
        given = {f"AIRFLOW_CONN_{name.upper()}": made_of for name, made_of in connections.items()}
        given["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = str(paused)
        settings = {**_settings(home, database, port), **(_FAB if auth == "fab" else {}), **given}
        settings["AIRFLOW__CORE__PARALLELISM"] = str(parallelism)
        paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
        environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(paths)}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=API_SECONDS) as api:
            airflow = RunningAirflow(home=home, environment=environment, password=password, api=api)
            airflow.command("db", "migrate")
            if auth == "fab":
                airflow.command("users", "create", *_admin(password))
            try:
                for name, command in {**_PARTS, **(_TRIGGERER if triggerer else {})}.items():
                    airflow.parts[name] = _start(name, command, airflow)
                airflow.wait_for("login", lambda: _can_log_in(api, password), START_SECONDS)
                for dag_id in dags:
                    airflow.wait_for(f"DAG {dag_id}", partial(_is_there, airflow, dag_id), START_SECONDS)
                yield airflow
            finally:
                _end(airflow.parts.values())


def _write_home(home: Path, password: str, files: Mapping[str, str]) -> None:
    (home / "dags").mkdir()
    for name, text in files.items():
        (home / "dags" / name).write_text(text)
    (home / "passwords.json").write_text(json.dumps({USER: password}))


def _settings(home: Path, database: str, port: int) -> dict[str, str]:
    # Named with the driver, for both of Airflow's engines: psycopg 3 is the one that the tests need anyway.
    engine = database.replace("postgresql://", "postgresql+psycopg://")
    settings = {
        "CORE__DAGS_FOLDER": home / "dags",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
        "DATABASE__SQL_ALCHEMY_CONN": engine,
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": engine,
        "LOGGING__BASE_LOG_FOLDER": home / "logs",
        # What a scheduler says is waited for here.
        "LOGGING__LOGGING_LEVEL": "INFO",
        "API__HOST": "127.0.0.1",
        "API__PORT": port,
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        # The parts are separate processes and must agree on these.
        "API__SECRET_KEY": secrets.token_urlsafe(),
        "API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.1,
        # A worker at times sees a task's end only when it looks up for its next heartbeat.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        # Other tests have the machine's other half, and more of it at times.
        "WORKERS__EXECUTION_API_TIMEOUT": 60,
        "CORE__DAGBAG_IMPORT_TIMEOUT": 240,
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": 240,
    }
    return {"AIRFLOW_HOME": str(home), **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()}}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _start(name: str, command: Sequence[str], airflow: RunningAirflow) -> subprocess.Popen[bytes]:
    with (airflow.home / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=airflow.environment,
            cwd=airflow.home,
            start_new_session=True,
        )


def _admin(password: str) -> tuple[str, ...]:
    names = ("--username", USER, "--firstname", USER, "--lastname", USER, "--email", f"{USER}@example.com")
    return (*names, "--role", "Admin", "--password", password)


def _can_log_in(api: httpx.Client, password: str) -> bool:
    try:
        _log_in(api, USER, password)
    except httpx.TransportError:  # nobody listens yet
        return False
    return True


def _log_in(api: httpx.Client, user: str, password: str) -> None:
    answer = api.post("/auth/token", json={"username": user, "password": password})
    answer.raise_for_status()
    api.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _is_there(airflow: RunningAirflow, dag_id: str) -> bool:
    """Tell whether a DAG is parsed; one that cannot be is worth no wait."""
    if errors := airflow.ask("GET", "importErrors")["import_errors"]:
        raise AirflowFailed(f"a DAG file cannot be imported: {errors[0]['stack_trace'][-LOG_TAIL:]}")
    return airflow.api.get(f"/api/v2/dags/{dag_id}/details").is_success


def _tails(files: Iterable[Path]) -> str:
    ends = ((file, file.read_bytes()[-LOG_TAIL:].decode(errors="replace")) for file in files)
    return "\n".join(f"--- the end of {file}:\n{end}" for file, end in ends)


def _end(parts: Iterable[subprocess.Popen[bytes]]) -> None:
    """End every process of the parts' sessions: first asked, for a part knows its children best, then not."""
    leaders = [part for part in parts if part.poll() is None or _sessions_left({part.pid})]
    sessions = {leader.pid for leader in leaders}
    for leader in leaders:
        leader.terminate()
    deadline = time.monotonic() + END_SECONDS
    # Not waited for with wait(): a leader that is not reaped yet keeps its number from being given away.
    while (left := _sessions_left(sessions)) and time.monotonic() < deadline:
        time.sleep(0.05)
    while left:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        left = _sessions_left(sessions)
    for leader in leaders:
        leader.wait()


def _sessions_left(sessions: Set[int]) -> list[int]:
    """Return the ids of all living processes of some sessions."""
    left = []
    for entry in Path("/proc").iterdir():
        # after the program's name in brackets: state, parent, process group, session
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                state, _, _, session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(session) in sessions and state != "Z":
                    left.append(int(entry.name))
    return left
