"""The policies of docs/aws.md are enough, and nothing in them is too much, by an emulator that enforces IAM.

The emulator (moto) checks signatures and actions; of a resource it knows no more than "*", so that the policies'
resources are read here and not enforced. Nothing was run against real IAM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import urllib3

from airflow_kinesis_audience.core.exceptions import AudienceError
from airflow_kinesis_audience.core.producer.records import Record, Status
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.streams.stream_hook import StreamHook

AWS = Path(__file__).parents[2] / "docs" / "aws.md"
PUTS = {"kinesis": "kinesis:PutRecords", "firehose": "firehose:PutRecordBatch"}
LOOKS = {"kinesis": "kinesis:DescribeStreamSummary", "firehose": "firehose:DescribeDeliveryStream"}
HOOK_CLASSES: dict[str, type[StreamHook]] = {"kinesis": KinesisStreamHook, "firehose": FirehoseStreamHook}
both = pytest.mark.parametrize("service", HOOK_CLASSES)


def policies() -> list[dict[str, Any]]:
    """Read the statements of the page, each with its actions and its resource."""
    found = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", AWS.read_text(), re.DOTALL)]
    return [s for policy in found for s in policy.get("Statement", []) if "Principal" not in s]


def actions_of(statement: dict[str, Any]) -> list[str]:
    given = statement["Action"]
    return [given] if isinstance(given, str) else list(given)


@dataclass
class Iam:
    """An emulated AWS with one stream of each kind, and a login that may do what it is told that it may."""

    url: str

    def __post_init__(self) -> None:
        self._iam = boto3.client("iam", endpoint_url=self.url)
        boto3.client("kinesis", endpoint_url=self.url).create_stream(StreamName="audience-changes", ShardCount=1)
        s3 = boto3.client("s3", endpoint_url=self.url)
        s3.create_bucket(Bucket="landing")
        boto3.client("firehose", endpoint_url=self.url).create_delivery_stream(
            DeliveryStreamName="audience-changes",
            S3DestinationConfiguration={
                "RoleARN": "arn:aws:iam::123456789012:role/r",
                "BucketARN": "arn:aws:s3:::landing",
            },
        )
        self._iam.create_user(UserName="loader")
        self.key = self._iam.create_access_key(UserName="loader")["AccessKey"]

    def allow(self, actions: Sequence[str]) -> None:
        """Give the login a policy of its own, and enforce policies from here on."""
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._iam.put_user_policy(UserName="loader", PolicyName="p", PolicyDocument=document)
        self.enforce_after("0")

    def enforce_after(self, requests: str) -> None:
        self.tell_emulator("reset-auth", requests)

    def tell_emulator(self, what: str, told: str = "") -> None:
        answer = urllib3.request("POST", f"{self.url}/moto-api/{what}", body=told.encode())
        assert answer.status == 200

    def open(self, service: str, monkeypatch: pytest.MonkeyPatch) -> StreamHook:
        told = {
            "conn_type": "aws",
            "login": self.key["AccessKeyId"],
            "password": self.key["SecretAccessKey"],
            "extra": {"endpoint_url": self.url, "region_name": "us-east-1"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_LEAST", json.dumps(told))
        return HOOK_CLASSES[service]("audience-changes", aws_conn_id="least")


@pytest.fixture
def iam() -> Iterator[Iam]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urllib3.request("POST", f"http://{host}:{port}/moto-api/reset")  # of what other tests of this process made
    made = Iam(f"http://{host}:{port}")
    yield made
    made.enforce_after("inf")
    made.tell_emulator("reset")
    server.stop()


def is_taken(hook: StreamHook) -> bool:
    """Look at the stream as a task does first, and put one record."""
    try:
        hook.check()
        [outcome] = hook.put([Record(0, b"{}", "key", 1, 1)])
    except AudienceError:
        return False
    return outcome.status is Status.DELIVERED


@both
def test_the_policy_of_the_docs_is_enough(iam: Iam, monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    [statement] = [s for s in policies() if PUTS[service] in actions_of(s)]
    iam.allow(actions_of(statement))
    assert is_taken(iam.open(service, monkeypatch))


@both
def test_to_put_alone_is_enough(iam: Iam, monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    iam.allow([PUTS[service]])
    assert is_taken(iam.open(service, monkeypatch))


VENDORS = {
    "Amplitude": ("kinesis", ["kinesis:PutRecord", "kinesis:PutRecords", "iam:SimulatePrincipalPolicy"]),
    "Adobe": ("kinesis", ["kinesis:ListStreams", "kinesis:PutRecord", "kinesis:PutRecords"]),
}
"""The service of each vendor's page, and the actions that its policy allows.

mParticle's, with ``PutRecord`` alone, are in ``tests/contract/test_vendor_policies.py``: the emulator denies in a
form that these services do not have, so that what is denied cannot be read.
"""


@pytest.mark.parametrize("page", VENDORS)
def test_the_policy_of_a_vendor_s_own_page_is_enough(iam: Iam, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    service, actions = VENDORS[page]
    iam.allow(actions)
    assert is_taken(iam.open(service, monkeypatch))
    assert all(f"`{action}`" in AWS.read_text() for action in actions)


@both
def test_without_the_permission_to_put_nothing_is_taken(
    iam: Iam, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    iam.allow([LOOKS[service], *(put for other, put in PUTS.items() if other != service)])
    assert not is_taken(iam.open(service, monkeypatch))


@both
def test_a_secret_that_is_wrong_takes_nothing(iam: Iam, monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    iam.allow([PUTS[service]])
    iam.key = {**iam.key, "SecretAccessKey": "wrong"}
    assert not is_taken(iam.open(service, monkeypatch))


def test_every_statement_of_the_docs_names_its_resource_and_no_wildcard() -> None:
    found = policies()
    assert {*PUTS.values(), *LOOKS.values()} <= {a for s in found for a in actions_of(s)}
    for statement in found:
        assert statement["Resource"].startswith("arn:aws:")
        assert "*" not in statement["Resource"] + "".join(actions_of(statement))
