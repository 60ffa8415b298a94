"""Records go out as they were made, whatever patches the SDK in the process, as tracers do; on either destination.

The real tracers run in processes of their own; what else a patch could do is done here by hand.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wrapt
from botocore.client import BaseClient

from airflow_kinesis_audience.core.exceptions import DestinationRefused
from airflow_kinesis_audience.core.producer.records import Record, Status
from airflow_kinesis_audience.hooks.streams import put_request
from tests.contract.test_stream_faults import HOOK_CLASSES, connection
from tests.engines.tracers import CONTEXT, documents, put_under
from tests.scripted_kinesis import ScriptedKinesis

both = pytest.mark.parametrize("service", HOOK_CLASSES)
BATCH = [Record(n, text.encode(), f"key-{n}", n << 100, 1) for n, text in enumerate(documents())]
MORE = {"DD_DATA_STREAMS_ENABLED": "true", "DD_TRACE_CLOUD_REQUEST_PAYLOAD_TAGGING": "all"}


@pytest.mark.parametrize(
    ("tracer", "environment"), [("datadog", {}), ("datadog", MORE), ("opentelemetry", {}), ("xray", {})], ids=str
)
def test_under_a_real_tracer_every_attempt_has_the_bytes_of_the_records(
    tracer: str, environment: dict[str, str]
) -> None:
    found = put_under(tracer, **environment)
    assert [[base64.b64decode(data).decode() for data in r] for r in found["requests"]] == [documents()] * 4
    assert found["statuses"] == [["delivered"] * 4] * 4
    assert found["spans"] == 4
    assert len([line for line in found["logged"] if "patched in this process" in line]) == 1


@pytest.fixture
def kinesis() -> Iterator[ScriptedKinesis]:
    put_request._say_once.cache_clear()
    with ScriptedKinesis() as kinesis, connection(kinesis.endpoint_url):
        yield kinesis


def with_context(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "Data": json.dumps({CONTEXT: "x"}).encode()}


def writes_into_each(parameters: dict[str, Any]) -> None:
    for record in parameters["Records"]:
        record.update(with_context(record))


def puts_others_in_their_place(parameters: dict[str, Any]) -> None:
    parameters["Records"] = [with_context({"PartitionKey": "key-0"})] * 3


def needs_the_first(parameters: dict[str, Any]) -> None:
    first = parameters["Records"][0]
    first.update(with_context(first))


def needs_the_data(parameters: dict[str, Any]) -> None:
    for record in parameters["Records"]:
        json.loads(record["Data"])
    assert parameters["Records"]


def takes_them_out(parameters: dict[str, Any]) -> None:
    del parameters["Records"]


PATCHES = [writes_into_each, puts_others_in_their_place, needs_the_first, needs_the_data, takes_them_out]


@both
@pytest.mark.parametrize("by", ["wrapt", "hand"])
@pytest.mark.parametrize("change", PATCHES, ids=lambda change: change.__name__)
def test_a_patch_of_the_sdk_s_calls_changes_no_byte(
    service: str,
    change: Callable[[dict[str, Any]], None],
    by: str,
    kinesis: ScriptedKinesis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wrapper(wrapped: Any, _instance: Any, arguments: Any, keywords: Any) -> Any:
        change(arguments[1])
        return wrapped(*arguments, **keywords)

    own = BaseClient._make_api_call

    def by_hand(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        change(parameters)
        return own(client, operation, parameters)

    patched = wrapt.FunctionWrapper(own, wrapper) if by == "wrapt" else by_hand
    monkeypatch.setattr(BaseClient, "_make_api_call", patched)
    with caplog.at_level(logging.INFO):
        hook = HOOK_CLASSES[service]("s")
        outcomes = [hook.put(BATCH) for _ in range(2)]
    assert {outcome.status for put in outcomes for outcome in put} == {Status.DELIVERED}
    assert [[arrived.data for arrived in r] for r in kinesis.requests] == [[r.data for r in BATCH]] * 2
    assert caplog.text.count("patched in this process (tests)") == 1


@pytest.mark.parametrize(
    "event", ["provide-client-params", "before-parameter-build", "before-call", "request-created", "before-sign"]
)
@both
def test_a_handler_of_the_sdk_s_events_changes_no_byte(service: str, event: str, kinesis: ScriptedKinesis) -> None:
    hook = HOOK_CLASSES[service]("s")
    meta = hook.conn.meta
    met: list[str] = []

    def handler(**given: Any) -> None:
        met.append(event)
        if event == "before-call":
            given["params"]["body"] = changed(given["params"]["body"])
        elif "request" in given:
            given["request"].data = changed(given["request"].data)
            given["request"].headers["Content-Length"] = str(len(given["request"].data))
        else:
            puts_others_in_their_place(given["params"])

    meta.events.register_first(f"{event}.{service}.{meta.method_to_api_mapping[hook.call.method]}", handler)
    assert {outcome.status for outcome in hook.put(BATCH)} == {Status.DELIVERED}
    assert met == [event]
    assert [arrived.data for arrived in kinesis.taken] == [r.data for r in BATCH]


def changed(body: bytes) -> bytes:
    document = json.loads(body)
    for entry in document["Records"]:
        entry["Data"] = base64.b64encode(b'{"_datadog": 1}').decode()
    return json.dumps(document).encode()


@both
def test_a_body_that_is_changed_after_it_was_signed_is_not_sent(service: str, kinesis: ScriptedKinesis) -> None:
    hook = HOOK_CLASSES[service]("s")
    meta = hook.conn.meta

    def handler(request: Any, **_: Any) -> None:
        request.body = changed(request.body)

    event = f"before-send.{service}.{meta.method_to_api_mapping[hook.call.method]}"
    meta.events.register_first(event, handler)
    with pytest.raises(DestinationRefused, match=r"was changed by .* after it was signed.*nothing was sent"):
        hook.put(BATCH)
    assert kinesis.requests == []


@both
def test_with_an_sdk_whose_serializer_is_not_met_a_patch_s_bytes_are_not_sent(
    service: str, kinesis: ScriptedKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = HOOK_CLASSES[service]("s")
    own, serializer = BaseClient._make_api_call, hook.conn._serializer

    def patched(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        for record in parameters["Records"]:
            record.update(with_context(record))
        return own(client, operation, parameters)

    assert hook.put(BATCH)[0].status is Status.DELIVERED
    hook.conn._serializer = serializer
    assert hook.put(BATCH)[0].status is Status.DELIVERED
    monkeypatch.setattr(BaseClient, "_make_api_call", patched)
    with pytest.raises(DestinationRefused, match="nothing was sent"):
        hook.put(BATCH)
    assert [[arrived.data for arrived in r] for r in kinesis.requests] == [[r.data for r in BATCH]] * 2


@both
def test_without_a_patch_nothing_is_said(
    service: str, kinesis: ScriptedKinesis, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert HOOK_CLASSES[service]("s").put(BATCH)[0].status is Status.DELIVERED
    assert "patched" not in caplog.text
