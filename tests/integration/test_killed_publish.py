"""A real process is killed in the middle of a delivery and started again: nothing is lost and little sent twice.

The process publishes a DuckDB file over the real SDK to an endpoint on this machine, which takes everything,
slowly. What the ledger knew at the kill is read from the file, so that what was in flight can be counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.in_flight import MAX_IN_FLIGHT_REQUESTS
from airflow_kinesis_audience.core.state import commits
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.ledger import Ledger
from tests.integration.publish_once import BATCH, delivery_to
from tests.scripted_kinesis import TAKE, Arrived, ScriptedKinesis
from tests.warehouses import People, Stream, day, members_of, open_duckdb, open_outbox, read_standing

SCHEMA = "state"
SCRIPT = Path(__file__).with_name("publish_once.py")
WAIT_SECONDS = 240


class SlowKinesis(ScriptedKinesis):
    """An endpoint that takes everything and thinks for a moment before each answer."""

    def decide(self, entries):
        time.sleep(0.03)
        return super().decide(entries)


@pytest.fixture
def kinesis():
    with SlowKinesis(script=lambda _number, _records: TAKE) as serving:
        yield serving


def start(file: Path, kinesis: ScriptedKinesis) -> subprocess.Popen[str]:
    extra = {"endpoint_url": kinesis.endpoint_url, "region_name": "eu-west-1"}
    told = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(told),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, SCRIPT, file, SCHEMA, *(instant_text(day(number)) for number in range(2))]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], kinesis: ScriptedKinesis, requests: int) -> None:
    """Wait until the endpoint has had some requests."""
    deadline = time.monotonic() + WAIT_SECONDS
    while len(kinesis.requests) < requests:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "the process sent too little"
        time.sleep(0.001)


def kill_after(process: subprocess.Popen[str], kinesis: ScriptedKinesis, requests: int) -> None:
    """Wait until the endpoint has had some requests, and end the process without notice."""
    wait_for(process, kinesis, requests)
    process.kill()
    process.wait()
    process.stderr.close()


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, said


def settle(kinesis: ScriptedKinesis) -> None:
    """Wait until requests that a killed process had sent off are through."""
    known = -1
    while known != len(kinesis.requests):
        known = len(kinesis.requests)
        time.sleep(0.3)


def content(records: list[Arrived]) -> list[tuple[bytes, str, int]]:
    return [(r.data, r.partition_key, r.hash_key) for r in records]


def ids(records: list[Arrived]) -> set[str]:
    return {json.loads(r.data)["message_id"] for r in records}


def write_history(people: People, stream: Stream, destination: str) -> None:
    """Write two days, of which a consumer had the first from another destination already."""
    people.put(*(f"u{n}" for n in range(120)), city="Bern")
    people.run(0)
    people.take(*(f"u{n}" for n in range(0, 60)))
    people.put(*(f"v{n}" for n in range(300)), city="Zürich")
    for number in range(60, 90):
        people.change(f"u{number}", city="Rome")
    people.run(1)
    for number in range(2):
        open_outbox(people.ledger(), stream, delivery_to(destination)).drain(day(number))


def undisturbed(folder, destination: str) -> Stream:
    """Give what the destination gets where nothing is killed."""
    stream = Stream()
    with open_duckdb(folder / "undisturbed.duckdb") as warehouse:
        write_history(People(warehouse, schema=SCHEMA), stream, destination)
    return stream


@pytest.mark.slow
@pytest.mark.parametrize("kills", [[3], [25], [5, 30]], ids=["in the first", "in the second", "in both"])
def test_a_killed_process_is_followed_by_one_that_sends_what_is_missing(tmp_path, kinesis, monkeypatch, kills):
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 50)
    monkeypatch.setattr(commits, "draw_epoch", str)  # so that two states of one history have the same ids
    destination = "kinesis://eu-west-1/audience-changes"
    expected = undisturbed(tmp_path, destination)
    file = tmp_path / "warehouse.duckdb"
    with open_duckdb(file) as warehouse:
        people = People(warehouse, schema=SCHEMA)
        write_history(people, Stream(), "kinesis://eu-west-1/another")
        members = people.members()
    known_ids: set[str] = set()
    for requests in kills:
        kill_after(start(file, kinesis), kinesis, requests)
        settle(kinesis)
        known_ids |= acknowledged_ids(file, expected, destination)
    first = len(kinesis.taken)
    assert 0 < len(set(content(kinesis.taken))) < len(expected.taken), "it was killed too late"
    finish(start(file, kinesis))
    again = kinesis.taken[first:]

    assert set(content(kinesis.taken)) == {(r.data, r.partition_key, r.hash_key) for r in expected.taken}
    assert not ids(again) & known_ids, "what was written down as acknowledged is not put again"
    times = Counter(content(kinesis.taken)).values()
    assert sum(times) - len(times) <= len(kills) * MAX_IN_FLIGHT_REQUESTS * BATCH
    assert len(ids(kinesis.taken)) == len(set(content(kinesis.taken))), "an id has one content for ever"
    read = Stream()
    read.taken = list(kinesis.taken)
    assert members_of(read.consume()) == members


@pytest.mark.slow
def test_a_process_that_is_asked_to_end_writes_down_what_it_has_sent(tmp_path, kinesis, monkeypatch):
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 50)
    monkeypatch.setattr(commits, "draw_epoch", str)
    destination = "kinesis://eu-west-1/audience-changes"
    expected = undisturbed(tmp_path, destination)
    file = tmp_path / "warehouse.duckdb"
    with open_duckdb(file) as warehouse:
        write_history(People(warehouse, schema=SCHEMA), Stream(), "kinesis://eu-west-1/another")
    process = start(file, kinesis)
    wait_for(process, kinesis, 3)
    process.terminate()
    _, said = process.communicate(timeout=WAIT_SECONDS)
    assert "TaskEnded: the task was ended from outside" in said
    first = len(kinesis.taken)
    assert 0 < first < len(expected.taken), "it was ended too late"
    assert acknowledged_ids(file, expected, destination) == ids(kinesis.taken)
    finish(start(file, kinesis))
    assert not ids(kinesis.taken[first:]) & ids(kinesis.taken[:first]), "nothing is put again"
    assert len(kinesis.taken) == len(expected.taken)


def acknowledged_ids(file: Path, expected: Stream, destination: str) -> set[str]:
    """Read from the ledger which messages a killed process knew to be taken."""
    with open_duckdb(file) as warehouse:
        standing = read_standing(Ledger(warehouse, SCHEMA, "dag.diff"), delivery_to(destination))
    if standing.checkpoint is None:
        return set()
    settled = AcknowledgedOrdinals.of(standing.checkpoint.acknowledged)
    when = str(int(standing.sending.timestamp()))
    told = [json.loads(r.data) for r in expected.taken if r.ordinal in settled]
    return {m["message_id"] for m in told if m["computed_time"] == when}
