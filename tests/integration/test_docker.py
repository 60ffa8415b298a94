"""The stack of docker/, without containers: its files are checked, and its commands run as processes.

What each service runs, with which variables, and how its health is told, is read out of the compose file. Names of
hosts and paths of containers are put in other words, nothing else. That images build and containers start is not
seen here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import psycopg
import pytest
import yaml
from botocore.exceptions import BotoCoreError

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo import cdnow

if TYPE_CHECKING:
    from tests.postgres import Server

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
SEED_SECONDS, START_SECONDS, RUN_SECONDS = 300, 180, 240


def tool(name: str) -> str:
    """Find a program of the environment."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def told(*command: str) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3_000:]
    return ended.stdout


def test_the_compose_file_is_as_the_specification_says() -> None:
    told(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml")


def test_the_dockerfile_breaks_no_rule_of_hadolint() -> None:
    told(tool("hadolint"), "docker/Dockerfile")


def test_what_the_package_is_built_with_is_of_the_locked_versions() -> None:
    [installed] = re.findall(r"--constraint /constraints\.txt (.*) \\\n.*--no-build-isolation", DOCKERFILE)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    needed += re.findall(r'^NODE = "(.*)"', (ROOT / "scripts" / "hatch_build.py").read_text(), re.MULTILINE)
    assert set(installed.split()) == {re.split("[<>=]", requirement)[0] for requirement in needed}
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert set(installed.split()) <= set(locked)


def test_every_service_is_hardened_pinned_and_none_is_root() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] in ("50000:0", "postgres"), name
        pinned = re.fullmatch(r"[\w/-]+:\d+\.\d[\w.-]*@sha256:[0-9a-f]{64}", service["image"])
        assert pinned or service["image"] == "airflow-kinesis-audience:local", name
        assert "healthcheck" in service or name == "seed", name
    published = [p for s in COMPOSE["services"].values() for p in s.get("ports", ())]
    assert all(p.startswith("127.0.0.1:") for p in published)
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert all(re.search(r":\d+\.\d+\.\d+[\w-]*@sha256:[0-9a-f]{64}$", image) for image in images)
    assert "USER 50000:0" in (DOCKER / "Dockerfile").read_text()


def example_settings() -> dict[str, str]:
    lines = (DOCKER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_what_the_compose_file_asks_for_is_in_the_example_of_the_settings() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    assert asked == example_settings().keys()


def test_what_the_dockerfile_copies_is_there() -> None:
    for source in re.findall(r"^COPY (?!--)(\S+) ", (DOCKER / "Dockerfile").read_text(), re.MULTILINE):
        assert (ROOT / source).exists(), source


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Stack:
    """The services as processes; each leads a session of its own, which is ended whole."""

    home: Path
    postgres: str
    ports: dict[str, int] = field(
        default_factory=lambda: {n: free_port() for n in ("emulator", "api", "scheduler")}
    )
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def words(self, text: str) -> str:
        """Put what a container would see in the words of this machine."""
        settings = {**example_settings(), "SEED_DAYS": "2", "AIRFLOW_PORT": str(self.ports["api"])}
        text = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: settings[found[1]], text)
        for there, here in {
            "@postgres:5432": f"@{self.postgres}",
            "emulator:5000": f"127.0.0.1:{self.ports['emulator']}",
            "127.0.0.1:5000": f"127.0.0.1:{self.ports['emulator']}",
            "api-server:8080": f"127.0.0.1:{self.ports['api']}",
            "127.0.0.1:8080": f"127.0.0.1:{self.ports['api']}",
            "127.0.0.1:8974": f"127.0.0.1:{self.ports['scheduler']}",
            "/opt/audience/entry": str(DOCKER / "entry"),
            "/opt/audience/state": str(self.home / "state"),
            "/opt/airflow/dags": str(self.home / "dags"),
            "/opt/airflow/logs": str(self.home / "logs"),
        }.items():
            text = text.replace(there, here)
        return text

    def environment(self, service: str) -> dict[str, str]:
        given: Mapping[str, str] = COMPOSE["services"][service].get("environment", {})
        own = {name: self.words(str(value)) for name, value in given.items()}
        outer = {n: v for n, v in os.environ.items() if not n.startswith(("AIRFLOW", "AWS"))}
        return {
            **outer,
            **own,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.home / "airflow"),
            "AIRFLOW__API__PORT": str(self.ports["api"]),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self.ports["scheduler"]),
            "NO_PROXY": "127.0.0.1",
        }

    def command(self, words: list[str]) -> list[str]:
        changed = [self.words(word) for word in words]
        if "emulator.py" in "".join(changed):
            changed[changed.index("--host=0.0.0.0")] = "--host=127.0.0.1"
            changed[changed.index("--port") + 1] = str(self.ports["emulator"])
        # The server of task logs would listen on all interfaces.
        return [*changed, "--skip-serve-logs"] if changed[:2] in (["airflow", "scheduler"],) else changed

    def start(self, service: str) -> subprocess.Popen[bytes]:
        command = self.command(COMPOSE["services"][service]["command"])
        with (self.home / f"{service}.log").open("ab") as log:
            self.processes[service] = subprocess.Popen(
                command,
                env=self.environment(service),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[service]

    def healthy(self, service: str) -> bool:
        first, *check = COMPOSE["services"][service]["healthcheck"]["test"]
        assert first == "CMD"
        ended = subprocess.run(
            self.command(check), env=self.environment(service), cwd=self.home, capture_output=True, check=False
        )
        return ended.returncode == 0

    def wait_until(self, what: str, found: Any, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            if there := found():
                return there
            ended = {n: p.returncode for n, p in self.processes.items() if n != "seed" and p.poll() is not None}
            assert not ended, f"ended: {ended}\n{self.logs()}"
            assert time.monotonic() < deadline, f"no {what} after {seconds:g} s\n{self.logs()}"
            time.sleep(1)

    def logs(self) -> str:
        return "\n".join(
            f"--- {p.name}\n{p.read_text(errors='replace')[-2_000:]}" for p in self.home.glob("*.log")
        )

    def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(15)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres_server: Server) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    for name in ("state", "logs", "airflow"):
        (home / name).mkdir()
    shutil.copytree(ROOT / "dags", home / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    postgres_server.execute("CREATE ROLE airflow SUPERUSER LOGIN")
    postgres_server.execute("CREATE DATABASE airflow OWNER airflow")
    where = re.sub(r"^.*@|/.*$", "", postgres_server.dsn().partition("://")[2])
    stack = Stack(home=home, postgres=where)
    try:
        stack.start("emulator")
        stack.wait_until("emulator", lambda: stack.healthy("emulator"), 60)
        yield stack
    finally:
        stack.stop()
        for name in ("airflow", "warehouse"):
            postgres_server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        for role in ("airflow", "audience"):
            postgres_server.execute(f"DROP ROLE IF EXISTS {role}")


@pytest.fixture(scope="module")
def seeded(stack: Stack) -> Stack:
    code = stack.start("seed").wait(SEED_SECONDS)
    assert code == 0, stack.logs()
    return stack


def lapsed_today(days_ago: int) -> set[str]:
    """Who has lapsed as of a day, by the purchases, which are moved so that today is the first of September."""
    day = datetime(1997, 9, 1, tzinfo=UTC).date()
    last: dict[str, Any] = {}
    for p in cdnow.read_purchases():
        if (day - p.purchased_on).days > days_ago:
            last[p.customer_id] = max(p.purchased_on, last.get(p.customer_id, p.purchased_on))
    return {c for c, on in last.items() if (day - on).days - days_ago > 90}


def believed(stack: Stack) -> AudienceConsumer:
    """What a consumer of the stream believes of the cohort."""
    told = json.loads(stack.environment("seed")["AIRFLOW_CONN_AWS_DEFAULT"])
    client: Any = boto3.client(
        "kinesis", aws_access_key_id=told["login"], aws_secret_access_key=told["password"], **told["extra"]
    )
    consumer = AudienceConsumer()
    for shard in client.list_shards(StreamName="audience-changes")["Shards"]:
        where = {"StreamName": "audience-changes", "ShardId": shard["ShardId"]}
        iterator = client.get_shard_iterator(**where, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        behind = 1
        while behind:
            answer = client.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                if b'"cohort_id"' in record["Data"]:
                    consumer.apply(record["Data"])
            iterator, behind = answer["NextShardIterator"], answer["MillisBehindLatest"]
    return consumer


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_seeding_leaves_a_warehouse_streams_and_days_of_audiences(seeded: Stack) -> None:
    dsn = seeded.environment("seed")["AIRFLOW_CONN_WAREHOUSE"].replace("postgres://", "postgresql://")
    with psycopg.connect(dsn) as warehouse:
        [[purchases]] = warehouse.execute("SELECT count(*) FROM marts.purchases").fetchall()
        edges = dict(
            warehouse.execute(
                "SELECT sync_id, count(*) FROM airflow_audience.ledger "
                "WHERE event IN ('first', 'change_set') GROUP BY sync_id"
            ).fetchall()
        )
    assert purchases == len(cdnow.read_purchases())
    assert edges == {"lapsed_customers.diff": 2, "customer_profiles.diff": 2, "lapsed_to_firehose.diff": 2}
    assert believed(seeded).members("lapsed_90_days") == lapsed_today(days_ago=1)


@pytest.mark.long_story
@pytest.mark.timeout(600)
def test_the_parts_become_healthy_show_what_is_there_and_go_on_from_it(seeded: Stack) -> None:
    for part in PARTS:
        seeded.start(part)
    for part in PARTS:
        seeded.wait_until(f"health of the {part}", lambda part=part: seeded.healthy(part), START_SECONDS)
    password = example_settings()["AIRFLOW_ADMIN_PASSWORD"]
    with httpx.Client(base_url=f"http://127.0.0.1:{seeded.ports['api']}", trust_env=False, timeout=60) as api:
        login = api.post("/auth/token", json={"username": "keeper", "password": password})
        api.headers["Authorization"] = f"Bearer {login.raise_for_status().json()['access_token']}"
        events = api.get("/api/v2/assets/events", params={"limit": 100}).raise_for_status().json()["asset_events"]
        assert {e["extra"]["sync_id"] for e in events} >= {"lapsed_customers.diff", "customer_profiles.diff"}

        def today_is_done() -> bool:
            runs = api.get("/api/v2/dags/lapsed_customers/dagRuns").raise_for_status().json()["dag_runs"]
            return any(r["run_type"] == "scheduled" and r["state"] == "success" for r in runs)

        seeded.wait_until("run of today", today_is_done, RUN_SECONDS)
    assert believed(seeded).members("lapsed_90_days") == lapsed_today(days_ago=0)


@pytest.mark.slow
def test_the_emulator_by_itself_has_the_stream_that_the_start_page_asks_it_for(tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable,
        DOCKER / "entry" / "emulator.py",
        "--port",
        str(port),
        "--stream",
        "audience-changes",
    ]
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            kinesis: Any = boto3.client("kinesis", endpoint_url=f"http://127.0.0.1:{port}", **keys)
            deadline = time.monotonic() + 60
            found: list[str] = []
            while not found and time.monotonic() < deadline:
                with contextlib.suppress(BotoCoreError):
                    found = kinesis.list_streams()["StreamNames"]
                time.sleep(0.2)
            assert found == ["audience-changes"]
            process.terminate()
            assert process.wait(15) == 0
        finally:
            process.kill()
