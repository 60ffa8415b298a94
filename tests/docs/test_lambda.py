"""The Lambda function of the docs: nothing is passed over, whatever is in a record and whatever DynamoDB answers.

DynamoDB is emulated; of what the emulator does not check, the answers of the real one are scripted. Lambda itself
is played: it sends again from the record on that the function names.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_kinesis_audience.conformance import check_consumer
from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.docs.messages import arriving, audience_message, cohort_message, encode, reference
from tests.docs.pages import blocks

KEYS = {"members": ("audience_id", "user_id"), "deletions": ("audience_id",), "set-aside": ("place",)}
Namespace = dict[str, Any]


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    """Return the names of the page's function, which stands before its three tables."""
    with emulator() as endpoint_url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint_url)
        for name, keys in KEYS.items():
            monkeypatch.setenv(f"{name.replace('-', '_').upper()}_TABLE", name)
            make_table(name, dict.fromkeys(keys, "S"))
        namespace: Namespace = {}
        exec(blocks("python", "docs/consumer-lambda.md")[0].text, namespace)  # noqa: S102
        yield namespace


def make_table(name: str, keys: dict[str, str]) -> None:
    boto3.resource("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": n, "KeyType": k} for n, k in zip(keys, ("HASH", "RANGE"), strict=False)],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": t} for n, t in keys.items()],
        BillingMode="PAY_PER_REQUEST",
    )


def records_of(messages: list[bytes]) -> list[dict[str, Any]]:
    return [
        {
            "eventID": f"shardId-000000000000:{n}",
            "kinesis": {
                "data": base64.b64encode(m).decode(),
                "sequenceNumber": str(n),
                "partitionKey": "key",
                "kinesisSchemaVersion": "1.0",
            },
        }
        for n, m in enumerate(messages)
    ]


def run(function: Namespace, messages: list[bytes], *, at_once: int = 10, tries: int = 20) -> int:
    """Play Lambda; return how often it had to send something again."""
    records, again = records_of(messages), 0
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
    while records:
        failures = function["handler"]({"Records": records[:at_once]}, context)["batchItemFailures"]
        numbers = [r["kinesis"]["sequenceNumber"] for r in records]
        done = numbers.index(failures[0]["itemIdentifier"]) if failures else at_once
        again += bool(failures)
        assert again <= tries, "the shard is blocked"
        records = records[done:]
    return again


def found(function: Namespace) -> dict[str, dict[str, Any]]:
    deleted = {i["audience_id"]: i["changed_at"] for i in function["deletions"].scan()["Items"]}
    state: dict[str, dict[str, Any]] = {}
    for item in function["members"].scan()["Items"]:
        if item["is_member"] and item["changed_at"] > deleted.get(item["audience_id"], -1):
            values = [item["properties"], item["identities"]]
            state.setdefault(item["audience_id"], {})[item["user_id"]] = json.loads(
                json.dumps(values, default=float)
            )
    return state


def aside(function: Namespace) -> list[tuple[Any, ...]]:
    items = function["set_aside_table"].scan()["Items"]
    return sorted((i["place"], i["message_id"], [*map(int, i["parts"])], i["reason"]) for i in items)


@pytest.mark.parametrize("kind", ["amplitude_cohort", "mparticle_audience"])
def test_it_ends_with_what_the_reference_says(function: Namespace, kind: str) -> None:
    messages = arriving(kind)[:60]  # the emulator takes its time
    assert run(function, messages) == 0
    assert found(function) == reference(messages)
    assert aside(function) == []


@pytest.mark.parametrize("message_format", ["amplitude_cohort", "mparticle_audience"])
def test_it_conforms(function: Namespace, message_format: str) -> None:
    def consume(messages: Sequence[bytes]) -> Mapping[str, Any]:
        assert run(function, [*messages]) == 0
        assert aside(function) == []
        kinds = ("properties", "identities")
        return {
            a: {u: dict(zip(kinds, values, strict=True)) for u, values in members.items()}
            for a, members in found(function).items()
        }

    report = check_consumer(consume, message_format, histories=10)
    assert report.passed, report


def test_records_that_hold_several_messages_are_taken_apart(function: Namespace) -> None:
    from aws_kinesis_agg.aggregator import AggRecord

    messages, packed = arriving("mparticle_audience")[:40], []
    messages.insert(4, b"no message")
    for start in range(0, len(messages), 7):
        record = AggRecord()
        for message in messages[start : start + 7]:
            record.add_user_record("key", message)
        packed.append(record.get_contents()[2])
    assert run(function, packed) == 0
    assert [place for place, *_ in aside(function)] == ["shardId-000000000000:0/4"]
    del messages[4]
    assert found(function) == reference(messages)


POISON = {
    "too many digits": (("u-bad", {"secret": 10**40 + 1}), "Inexact"),
    "too many digits of a fraction": (("u-bad", {"secret": Decimal("0." + "123456789" * 5)}), "Inexact"),
    "too large": (("u-bad", {"secret": Decimal("1e400")}), "Overflow"),
    "too small": (("u-bad", {"secret": Decimal("1e-400")}), "Underflow"),
    "nan": (("u-bad", {"secret": float("nan")}), "TypeError"),
    "infinity": (("u-bad", {"secret": float("-inf")}), "TypeError"),
    "half a pair": (("u-\ud800secret", {}), "UnicodeEncodeError"),
    "half a pair in a value": (("u-bad", {"note": "\udc00secret"}), "UnicodeEncodeError"),
    "no user": (("", {}), "ValidationException"),
    "long user": (("u-secret" * 200, {}), "ValidationException"),
    "large item": (("u-bad", {"secret": "ä" * 210_000}), "ValidationException"),
}


def to_json(message: Any) -> bytes:
    """Write decimals as numbers, which ``json`` cannot."""
    numbers: dict[str, str] = {}

    def keep(value: Decimal) -> str:
        numbers[f'"number-{len(numbers)}"'] = str(value)
        return f"number-{len(numbers) - 1}"

    text = json.dumps(message, default=keep)
    for mark, number in numbers.items():
        text = text.replace(mark, number)
    return text.encode()


@pytest.mark.parametrize("kind", POISON)
def test_what_dynamodb_can_never_hold_is_set_aside_and_all_else_applied(
    function: Namespace, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, reason = POISON[kind]
    messages = [
        encode(cohort_message("m1")),
        to_json(cohort_message("m2", users=["u-2", bad, "u-4"])),
        encode(cohort_message("m3", users=["u-3"])),
    ]
    assert run(function, messages) == 0
    assert set(found(function)["a"]) == {"u-1", "u-2", "u-3", "u-4"}
    [(place, message_id, parts, why)] = aside(function)
    assert (place, message_id, parts) == ("shardId-000000000000:1", "m2", [1])
    assert why == reason
    assert "secret" not in caplog.text
    assert "message m2 at shardId-000000000000:1 was skipped" in caplog.text


def test_an_audience_that_is_too_long_for_a_key_and_what_is_no_message_are_set_aside(function: Namespace) -> None:
    deleted = {"event": "deleted"}
    messages = [
        encode(cohort_message("m1", cohort_id="a" * 2049)),
        encode(cohort_message("m2", cohort_id="", users=(), lifecycle=deleted)),
        b"secret",
        encode(audience_message("u-1", UserIdentities={"Email": "secret"})),
        b"[" * 100_000,
        encode(cohort_message()),
    ]
    assert run(function, messages) == 0
    assert [(m, p) for _, m, p, _ in aside(function)] == [("m1", [0]), ("m2", [0]), ("", []), ("", []), ("", [])]
    assert set(found(function)) == {"a"}


def test_who_left_does_not_stay_because_of_a_value_that_does_not_fit(function: Namespace) -> None:
    gone = cohort_message("m2", time=101, member=False, users=[("u-1", {"n": 10**40 + 1}), "u-2"])
    assert run(function, [encode(cohort_message(users=["u-1", "u-2"])), encode(gone)]) == 0
    assert found(function) == {}
    assert [parts for _, _, parts, _ in aside(function)] == [[0]]


class Refusing:
    """A table that refuses every third put, and the conditions of the others are looked at."""

    def __init__(self, table: Any, error: Callable[[], Exception]) -> None:
        self._table, self._error, self._asked = table, error, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def put_item(self, **asked: Any) -> Any:
        self._asked += 1
        if self._asked % 3 == 0:
            raise self._error()
        return self._table.put_item(**asked)


def answer(code: str) -> Callable[[], Exception]:
    return lambda: ClientError({"Error": {"Code": code, "Message": "u-secret"}}, "PutItem")


@pytest.mark.parametrize(
    "error",
    [
        *map(
            answer,
            ["ProvisionedThroughputExceededException", "ThrottlingException", "InternalServerError"],
        ),
        *map(answer, ["ResourceNotFoundException", "AccessDeniedException", "ExpiredTokenException"]),
        lambda: EndpointConnectionError(endpoint_url="http://x"),
    ],
)
def test_what_may_pass_is_repeated_and_never_set_aside(function: Namespace, error: Any) -> None:
    messages = arriving("mparticle_audience")[:12]
    for name in ("members", "set_aside_table"):
        function[name] = Refusing(function[name], error)
    assert run(function, messages) > 2
    assert found(function) == reference(messages)
    assert aside(function) == []


def test_a_message_that_cannot_even_be_set_aside_now_is_repeated(function: Namespace) -> None:
    function["set_aside_table"] = Refusing(function["set_aside_table"], answer("ThrottlingException"))
    assert run(function, [b"x", b"y", b"z", b"w"]) == 1
    assert len(aside(function)) == 4


@pytest.mark.parametrize(
    "keys", [{"audience_id": "N", "user_id": "S"}, {"audience_id": "S", "id": "S"}, {"id": "S"}]
)
def test_a_table_with_other_keys_is_no_fault_of_the_messages(function: Namespace, keys: dict[str, str]) -> None:
    function["members"].delete()
    make_table("members", keys)
    failures = function["handler"]({"Records": records_of([encode(cohort_message())])}, None)
    assert failures == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert aside(function) == []


def test_a_nesting_that_dynamodb_refuses_is_set_aside(function: Namespace) -> None:
    members = function["members"]

    class Shallow(Refusing):
        def put_item(self, **asked: Any) -> Any:
            if "[" * 32 in json.dumps(asked["Item"]):
                raise answer("ValidationException")()
            return members.put_item(**asked)

    function["members"] = Shallow(members, answer("unused"))
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    assert run(function, [encode(cohort_message(users=[("u-1", {"deep": deep}), "u-2"]))]) == 0
    assert set(found(function)["a"]) == {"u-2"}
    assert [(p, r) for _, _, p, r in aside(function)] == [([0], "ValidationException")]


def test_a_batch_for_which_the_time_is_too_short_goes_on_where_it_was(function: Namespace) -> None:
    records = records_of(arriving("amplitude_cohort"))
    hurry = SimpleNamespace(get_remaining_time_in_millis=lambda: 0)
    failures = function["handler"]({"Records": records[:5]}, hurry)
    assert failures == {"batchItemFailures": [{"itemIdentifier": "1"}]}


def test_it_logs_no_value(function: Namespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(function, [b'{"cohort_id": "secret"}', *arriving("amplitude_cohort")[:5]])
    assert "was skipped" in caplog.text
    assert "secret" not in caplog.text
