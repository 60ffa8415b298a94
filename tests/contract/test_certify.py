"""``certify`` on an emulator over HTTP: it finds what is right, and each fault that is put in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest

from airflow_kinesis_audience.cli import certifying, commands
from airflow_kinesis_audience.cli.certify_stream import StoredRecord, StreamReader
from airflow_kinesis_audience.demo.local_kinesis import emulator

pytestmark = pytest.mark.slow

STREAM = "certified"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An emulator with an empty stream of two shards, and the connection to it."""
    with emulator() as endpoint_url:
        login = {"login": "someone", "password": "secret"}
        extra = {"endpoint_url": endpoint_url, "region_name": "eu-west-1"}
        connection = json.dumps({"conn_type": "aws", **login, "extra": extra})
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection)
        where = {"endpoint_url": endpoint_url, "region_name": "eu-west-1"}
        keys = {"aws_access_key_id": "someone", "aws_secret_access_key": "secret"}
        client = boto3.client("kinesis", **where, **keys)
        client.create_stream(StreamName=STREAM, ShardCount=2)
        yield client


def certify(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = commands.main(["certify", STREAM, "--members", "1000", *more])
    return code, capsys.readouterr().out


def lose_one(stored: list[StoredRecord]) -> list[StoredRecord]:
    return stored[:-1]


def swap(stored: list[StoredRecord]) -> list[StoredRecord]:
    return stored[::-1]


def change_bytes(stored: list[StoredRecord]) -> list[StoredRecord]:
    return [replace(stored[0], data=stored[0].data + b" "), *stored]


def repeat_all(stored: list[StoredRecord]) -> list[StoredRecord]:
    return [record for record in stored for _ in range(3)]


FAULTS = [
    (lose_one, "membership", "a consumer lacks"),
    (swap, "order", "came after a newer one"),
    (change_bytes, "duplicates", "1 message ids have different bytes"),
    (repeat_all, "duplicates", "messages came twice; expected at most 80"),
]


def test_nothing_is_put_before_somebody_agrees(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = certify(capsys)
    assert (code, "This puts about 281 records" in said, "Nothing was put" in said) == (0, True, True)
    assert all_records(client) == []


def test_a_stream_that_is_missing_is_refused_before_anything_is_put(
    client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client.delete_stream(StreamName=STREAM)
    code, said = certify(capsys, "--yes")
    assert code == 3
    [line] = said.splitlines()
    assert line.startswith(f"✗ {STREAM}, grants: ")
    assert "does not exist" in line


def all_records(client: Any) -> list[bytes]:
    found = []
    for shard in client.list_shards(StreamName=STREAM)["Shards"]:
        where = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = client.get_shard_iterator(StreamName=STREAM, **where)["ShardIterator"]
        while records := (answer := client.get_records(ShardIterator=iterator))["Records"]:
            found += [record["Data"] for record in records]
            iterator = answer["NextShardIterator"]
    return found


def test_a_stream_that_works_is_certified_and_the_audience_ends(
    client: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[StoredRecord] = []
    read = StreamReader.read
    monkeypatch.setattr(StreamReader, "read", lambda reader, audience: kept.extend(read(reader, audience)) or kept)
    code, said = certify(capsys, "--yes", "--json")
    report = json.loads(said)
    found = {f["what"]: (f["ok"], f["text"]) for f in report["findings"]}
    assert code == 0, said
    assert [f["what"] for f in report["findings"]] == [
        *("grants", "kill", "resume", "delivery", "delivery", "membership", "order", "duplicates"),
        *("throttling", "clean-up"),
    ]
    assert {what for what, (ok, _) in found.items() if ok is not True} == {"throttling"}, "moto limits nothing"
    assert "exactly the 1,000 members" in found["membership"][1]
    documents = [json.loads(data) for data in all_records(client)]
    assert {d["cohort_id"] for d in documents} == {documents[0]["cohort_id"]}
    assert [d["lifecycle"]["event"] for d in documents if "lifecycle" in d] == ["deleted"]
    last: dict[str, tuple[str, bool]] = {}
    for d in documents:
        for user in d["users"]:
            last[user["user_id"]] = max(
                last.get(user["user_id"], ("", False)), (d["computed_time"], d["in_cohort"])
            )
    assert len(last) == 1000
    assert all(is_member for _, is_member in last.values())
    for break_it, what, sentence in FAULTS:
        checked = {name: (ok, text) for name, ok, text in certifying.check_stored(break_it(kept), set(last))}
        assert [name for name, (ok, _) in checked.items() if not ok] == [what], "each fault is found, and alone"
        assert sentence in checked[what][1]
