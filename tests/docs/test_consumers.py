"""The consumers of the docs, run: whatever the order and however often, they end with what the reference says.

DynamoDB is emulated and PostgreSQL is real. Of the Kinesis Client Library there is only the base class, as it is
written down for version 3 of the record processor's interface: its daemon is not run.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import types
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
import psycopg
import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AUDIENCES, USERS = ("a", "b"), [f"u-{n}" for n in range(12)]


def cohort_messages(chance: random.Random) -> list[bytes]:
    """Tell of many entries and exits, each instant once per audience and way."""
    told = []
    for instant in range(1, 30):
        for audience in AUDIENCES:
            some = chance.sample(USERS, 4)
            for member, users in ((True, some[:2]), (False, some[2:])):
                document = {
                    "cohort_id": audience,
                    "cohort_name": audience.upper(),
                    "in_cohort": member,
                    "computed_time": str(1_775_000_000 + instant),
                    "message_id": f"{instant}{audience}::{'enter' if member else 'exit'}::0",
                    "users": [{"user_id": u, "user_properties": {"spent": 1.5, "n": instant}} for u in users],
                }
                told.append(json.dumps(document).encode())
    return told


def audience_messages(chance: random.Random) -> list[bytes]:
    """Tell of entries, exits, and changes of identities, which are a removal and an addition of one time."""
    told = []
    for instant in range(1, 40):
        for audience in (90001, 90002):
            user = chance.choice(USERS)
            for member in chance.choice(((True,), (False,), (False, True))):
                document = {
                    "MembershipChangedTimestamp": str(1_775_000_000 + instant),
                    "AudienceId": audience,
                    "AudienceName": "x",
                    "IsMember": member,
                    "UserIdentities": {"CustomerId": user, "Email": f"{user}-{instant}@example.com"},
                }
                told.append(json.dumps(document).encode())
    return told


@pytest.fixture(params=[cohort_messages, audience_messages])
def arriving(request: pytest.FixtureRequest) -> list[bytes]:
    """Messages in a shuffled order, a third of them twice."""
    chance = random.Random(7)
    told = request.param(chance)
    arriving = told + chance.sample(told, len(told) // 3)
    chance.shuffle(arriving)
    return list(arriving)


def expected(messages: list[bytes]) -> dict[str, set[str]]:
    consumer = AudienceConsumer()
    for message in messages:
        consumer.apply(message)
    return {a: set(consumer.members(a)) for a in consumer.audiences() if consumer.members(a)}


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with emulator() as endpoint_url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint_url)
        monkeypatch.setenv("MEMBERS_TABLE", "audience-members")
        keys = ("audience_id", "HASH"), ("user_id", "RANGE")
        table = boto3.resource("dynamodb").create_table(
            TableName="audience-members",
            KeySchema=[{"AttributeName": n, "KeyType": k} for n, k in keys],
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n, _ in keys],
            BillingMode="PAY_PER_REQUEST",
        )
        yield table


def test_the_lambda_function_ends_with_what_the_reference_says(dynamodb: Any, arriving: list[bytes]) -> None:
    namespace: dict[str, Any] = {}
    exec(blocks("python", "docs/consumers.md")[1].text, namespace)  # noqa: S102
    records = [
        {"kinesis": {"data": base64.b64encode(m).decode(), "sequenceNumber": str(n)}}
        for n, m in enumerate(arriving)
    ]
    for start in range(0, len(records), 10):
        answer = namespace["handler"]({"Records": records[start : start + 10]}, None)
        assert answer == {"batchItemFailures": []}
    found: dict[str, set[str]] = {}
    for item in dynamodb.scan()["Items"]:
        if item["is_member"]:
            found.setdefault(item["audience_id"], set()).add(item["user_id"])
    assert found == expected(arriving)


def test_the_lambda_function_repeats_from_the_record_that_failed_on(dynamodb: Any) -> None:
    namespace: dict[str, Any] = {}
    exec(blocks("python", "docs/consumers.md")[1].text, namespace)  # noqa: S102
    messages = cohort_messages(random.Random(1))[:3]
    records = [
        {"kinesis": {"data": base64.b64encode(m).decode(), "sequenceNumber": str(n)}}
        for n, m in enumerate(messages)
    ]
    dynamodb.delete()
    assert namespace["handler"]({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "0"}]}


@pytest.fixture
def kclpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the client library that the docs import."""
    package, kcl, v3 = (types.ModuleType(n) for n in ("amazon_kclpy", "amazon_kclpy.kcl", "amazon_kclpy.v3"))
    processor = types.ModuleType("amazon_kclpy.v3.processor")
    processor.RecordProcessorBase = type("RecordProcessorBase", (), {})  # type: ignore[attr-defined]
    package.kcl, package.v3, v3.processor = kcl, v3, processor  # type: ignore[attr-defined]
    for module in (package, kcl, v3, processor):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("kclpy")
def test_the_record_processor_ends_with_what_the_reference_says(
    postgres_database: str, arriving: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMBERS_DATABASE", postgres_database)
    with psycopg.connect(postgres_database, autocommit=True) as database:
        database.execute(blocks("sql", "docs/consumers.md")[0].text.encode())
    namespace: dict[str, Any] = {"__name__": "consumer"}
    exec(blocks("python", "docs/consumers.md")[2].text, namespace)  # noqa: S102
    processor = namespace["AudienceProcessor"]()
    processor.initialize(types.SimpleNamespace(shard_id="0"))
    checkpoints: list[int] = []
    checkpointer = types.SimpleNamespace(checkpoint=lambda: checkpoints.append(1))
    for start in range(0, len(arriving), 25):
        records = [types.SimpleNamespace(binary_data=m) for m in arriving[start : start + 25]]
        processor.process_records(types.SimpleNamespace(records=records, checkpointer=checkpointer))
    processor.shutdown_requested(types.SimpleNamespace(checkpointer=checkpointer))
    processor.lease_lost(None)
    with psycopg.connect(postgres_database) as database:
        rows = database.execute("SELECT audience_id, user_id FROM audience_members WHERE is_member").fetchall()
    found: dict[str, set[str]] = {}
    for audience, user in rows:
        found.setdefault(audience, set()).add(user)
    assert found == expected(arriving)
    assert len(checkpoints) == -(-len(arriving) // 25) + 1


def test_the_query_over_files_of_firehose_ends_with_what_the_reference_says(tmp_path: Path) -> None:
    messages = audience_messages(random.Random(3))
    notice = {**json.loads(messages[0]), "UserIdentities": {}, "Lifecycle": {"Event": "resync_begin"}}
    for n, part in enumerate((messages[::2], messages[1::2], [json.dumps(notice).encode()])):
        file = tmp_path / "audience-changes" / f"2026/03/0{n + 1}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"".join(m + b"\n" for m in part))
    query = blocks("sql", "docs/consumers.md")[1].text
    with duckdb.connect() as database:
        rows = database.execute(query.replace("audience-changes/", f"{tmp_path}/audience-changes/")).fetchall()
    found: dict[str, set[str]] = {}
    for audience, user in rows:
        found.setdefault(str(audience), set()).add(user)
    assert found == expected(messages)
