"""An Airflow connection that would be passed over, wholly or in part, is refused by name before all else.

What it says must never end in records at the real AWS that were meant for another endpoint.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_kinesis_audience.core.producer.records import Record, Status
from airflow_kinesis_audience.hooks.streams.connection import _KNOWN, _OPTIONS
from tests.contract.test_stream_faults import HOOK_CLASSES
from tests.scripted_kinesis import ScriptedKinesis

both = pytest.mark.parametrize("service", HOOK_CLASSES)
SECRET = "do-not-show"


def refusal_of(service: str, kinesis: ScriptedKinesis, patch: pytest.MonkeyPatch, **changes: Any) -> str:
    """Give what is said of a connection that is changed so, or nothing; nothing may be asked of any endpoint."""
    good = {"endpoint_url": kinesis.endpoint_url, "region_name": "eu-west-1"}
    fields = {"conn_type": "aws", "login": "testing", "password": SECRET, "extra": good | changes.pop("more", {})}
    patch.setenv("AIRFLOW_CONN_CHANGED", json.dumps(fields | changes))
    hook = HOOK_CLASSES[service]("s", aws_conn_id="changed")
    said = ""
    try:
        hook.check()
    except ValueError as refused:
        said = str(refused)
    if not said:
        assert hook.put([Record(0, b"{}", "key", 1, 1)])[0].status is Status.DELIVERED
        return ""
    assert kinesis.operations == []
    assert SECRET not in said
    assert "connection changed" in said
    return said


@pytest.mark.parametrize("kind", ["http", "generic", "s3", "emr", "redshift", "wasb", "sqlite", "AWS"])
@both
def test_a_connection_of_another_type_is_refused(service: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedKinesis() as kinesis:
        said = refusal_of(service, kinesis, monkeypatch, conn_type=kind)
    assert f"is of type {kind.lower()}; expected aws" in said.replace(kind, kind.lower())


@both
def test_the_default_connection_of_another_type_is_refused(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "http", "host": "127.0.0.1"}))
    with pytest.raises(ValueError, match="connection aws_default is of type http; expected aws"):
        HOOK_CLASSES[service]("s", region_name="eu-west-1").check()


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"config_kwargs": {"read_timout": 5}}, ["config_kwargs", "'read_timout'", "did you mean read_timeout?"]),
        ({"config_kwargs": {"frobnicate": 5}}, ["config_kwargs", "'frobnicate'", "remove it"]),
        ({"config_kwargs": {"read_timeout": "5"}}, ["read_timeout", "of type str; expected a number"]),
        ({"config_kwargs": {"max_pool_connections": True}}, ["max_pool_connections", "expected a number"]),
        ({"config_kwargs": {"tcp_keepalive": "false"}}, ["tcp_keepalive", "expected true or false"]),
        ({"config_kwargs": {"retries": 3}}, ["retries", "of type int; expected an object"]),
        ({"config_kwargs": {"retries": {"mode": SECRET}}}, ["config_kwargs", "InvalidRetryModeError"]),
        ({"config_kwargs": {"proxies": "http://x"}}, ["proxies", "expected an object"]),
        ({"config_kwargs": [1]}, ["config_kwargs", "of type list; expected an object"]),
        ({"config_kwargs": '{"read_timeout": 5}'}, ["config_kwargs", "of type str; expected an object"]),
        ({"service_config": "x"}, ["service_config", "expected an object"]),
        ({"service_config": {"kinesys": {}}}, ["service_config", "'kinesys'", "did you mean kinesis?"]),
        ({"service_config": {"Firehose": {}}}, ["service_config", "'Firehose'", "did you mean firehose?"]),
        ({"service_config": {"kinesis": {"endpoint": "http://x"}}}, ["kinesis", "'endpoint'", "endpoint_url"]),
        ({"service_config": {"firehose": {"endpoint_url": "x:1"}}}, ["endpoint_url", "firehose", "not a URL"]),
        ({"service_config": {"sts": "http://x"}}, ["sts", "expected an object"]),
        ({"endpoint_url": "localhost:4566"}, ["endpoint_url", "not a URL"]),
        ({"endpoint_url": 4566}, ["endpoint_url", "of type int; expected a text"]),
        ({"region_name": ["eu-west-1"]}, ["region_name", "expected a text"]),
        ({"verify": "false"}, ["verify", "expected true, false, or the path"]),
        ({"verify": 0}, ["verify", "expected true or false or a text"]),
        ({"session_kwarg": {}}, ["'session_kwarg'", "did you mean session_kwargs?"]),
        ({"role-arn": "x"}, ["'role-arn'", "did you mean role_arn?"]),
        ({"assume_role_kwargs": "x"}, ["assume_role_kwargs", "expected an object"]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
@both
def test_what_would_be_passed_over_or_fails_later_is_refused_by_name(
    service: str, more: dict[str, Any], parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedKinesis() as kinesis:
        said = refusal_of(service, kinesis, monkeypatch, more=more)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("extra", "meant"),
    [
        ({"host": "http://x"}, "endpoint_url"),
        ({"endpont_url": "http://x"}, "endpoint_url"),
        ({"Region": "x"}, "region_name"),
    ],
)
@both
def test_a_misspelt_endpoint_or_region_never_falls_through(
    service: str, extra: dict[str, Any], meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedKinesis() as kinesis:
        said = refusal_of(service, kinesis, monkeypatch, extra=extra)
    assert f"did you mean {meant}?" in said


@pytest.mark.parametrize("extra", ['{"endpoint_url": ', '["x"]', '"x"'])
@both
def test_an_extra_that_is_no_json_object_is_refused(
    service: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedKinesis() as kinesis:
        assert "not a JSON object" in refusal_of(service, kinesis, monkeypatch, extra=extra)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"config_kwargs": {"read_timeout": 7, "connect_timeout": 0.5, "retries": {"mode": "adaptive"}}},
        {"config_kwargs": {"signature_version": "v4", "tcp_keepalive": True, "proxies": {}}},
        {"config_kwargs": None, "service_config": {}, "verify": True, "role_arn": None},
        {"service_config": {"s3": {"bucket_name": "b"}, "kinesis": {}, "sts": {"test_endpoint_url": "http://x"}}},
        {"team": "growth", "region": "eu-west-1", "host": "somewhere"},
    ],
    ids=str,
)
@both
def test_what_is_right_or_nobody_s_business_is_taken(
    service: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedKinesis() as kinesis:
        assert refusal_of(service, kinesis, monkeypatch, more=more) == ""


def test_every_option_of_this_sdk_has_a_type_and_every_key_that_the_provider_reads_is_known() -> None:
    from botocore.config import Config

    assert set(_OPTIONS) <= set(Config.OPTION_DEFAULTS)
    texts = set(Config.OPTION_DEFAULTS) - set(_OPTIONS)
    assert texts == {
        "account_id_endpoint_mode",
        "auth_scheme_preference",
        "defaults_mode",
        "region_name",
        "request_checksum_calculation",
        "response_checksum_validation",
        "signature_version",
        "sigv4a_signing_region_set",
        "user_agent",
        "user_agent_appid",
        "user_agent_extra",
    }
    assert set(_KNOWN) >= {"endpoint_url", "config_kwargs", "service_config"}
