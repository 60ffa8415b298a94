"""``certify`` on each emulator of Kinesis that is in the table of docs/testing.md, over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from airflow_kinesis_audience.cli import commands
from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.engines.environments import packages
from tests.postgres import free_port

pytestmark = pytest.mark.slow

STREAM = "certified"
START_SECONDS = 60


@contextmanager
def running(command: list[Any], url: str, **variables: str) -> Iterator[str]:
    """Start a server, and end it by its own process."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield url
        finally:
            process.kill()  # kinesis-local does not end by SIGTERM, and nothing of any of them is kept
            process.wait()


@contextmanager
def ministack() -> Iterator[str]:
    home, port = packages("ministack"), free_port()
    settings = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "SERVICES": "kinesis",
        "PYTHONPATH": str(home),
    }
    with running([sys.executable, home / "bin" / "ministack"], f"http://127.0.0.1:{port}", **settings) as url:
        yield url


def node_package(name: str) -> Path:
    """Install a package of npm in a folder beside the environment; skips where it can't be had."""
    if shutil.which("npm") is None:
        pytest.skip(f"{name} needs Node and npm, which are not here")
    home = Path(sys.prefix) / "engines" / name.replace("@", "-")
    if not (home / "node_modules").is_dir():
        fresh = Path(tempfile.mkdtemp(prefix=".npm-", dir=Path(sys.prefix)))
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", fresh, name]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            shutil.rmtree(fresh)
            pytest.skip(f"{name} could not be installed by npm")
        home.parent.mkdir(exist_ok=True)
        os.replace(fresh, home)
    return home / "node_modules" / name.partition("@")[0]


@contextmanager
def kinesis_local() -> Iterator[str]:
    package, port = node_package("kinesis-local@0.6.2"), free_port()
    ports = {"KINESIS_MOCK_PLAIN_PORT": str(port), "KINESIS_MOCK_TLS_PORT": str(free_port())}
    certificate = {"KINESIS_MOCK_CERT_PATH": str(package / "server.json")}
    with running(["node", package / "main.js"], f"http://127.0.0.1:{port}", **ports, **certificate) as url:
        yield url


@contextmanager
def kinesalite() -> Iterator[str]:
    package, port = node_package("kinesalite@3.3.3"), free_port()
    with running(["node", package / "cli.js", "--port", str(port)], f"http://127.0.0.1:{port}") as url:
        yield url


EMULATORS: Mapping[str, Callable[[], Any]] = {
    "moto": emulator,
    "ministack": ministack,
    "kinesis-local": kinesis_local,
    "kinesalite": kinesalite,
}


def test_each_emulator_of_the_table_is_tested() -> None:
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    rows = text.partition("| emulator | version |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == list(EMULATORS)


@pytest.mark.parametrize(
    "name", ["moto", *(pytest.param(n, marks=pytest.mark.slow_engine) for n in EMULATORS if n != "moto")]
)
def test_certify_finds_all_right(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with EMULATORS[name]() as endpoint_url:
        where = {"endpoint_url": endpoint_url, "region_name": "eu-west-1"}
        connection = {"conn_type": "aws", "login": "someone", "password": "secret", "extra": where}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        make_stream(boto3.client("kinesis", aws_access_key_id="someone", aws_secret_access_key="secret", **where))
        code = commands.main(["certify", STREAM, "--members", "1000", "--yes", "--json"])
    said = capsys.readouterr().out
    found = {f["what"]: f["ok"] for f in json.loads(said)["findings"]}
    assert code == 0, said
    assert {what for what, ok in found.items() if ok is not True} == {"throttling"}, "no emulator limits puts"


def make_stream(client: Any) -> None:
    """Make a stream of two shards, once the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.create_stream(StreamName=STREAM, ShardCount=2)
        except (ConnectionError, HTTPClientError, ClientError):
            assert time.monotonic() < deadline, "the emulator does not answer"
            time.sleep(0.2)
        else:
            break
    client.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
