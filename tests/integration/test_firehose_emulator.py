"""The door to Firehose against an emulator that lands in S3: what goes in comes out, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from airflow_kinesis_audience.delivery import deliver
from airflow_kinesis_audience.demo.local_kinesis import emulator
from airflow_kinesis_audience.exceptions import DestinationRefused
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.messages import Record
from airflow_kinesis_audience.settled import Settled

BUCKET = "landed"
STREAM = "audience-changes"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Clients beside the hook's, a bucket, and a delivery stream into it."""
    with emulator() as endpoint_url:
        extra = {"endpoint_url": endpoint_url, "region_name": "us-east-1"}
        told = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(told))
        found = {
            service: boto3.client(service, endpoint_url=endpoint_url, region_name="us-east-1")
            for service in ("firehose", "s3")
        }
        found["s3"].create_bucket(Bucket=BUCKET)
        found["firehose"].create_delivery_stream(
            DeliveryStreamName=STREAM,
            DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration={
                "RoleARN": "arn:aws:iam::123456789012:role/firehose",
                "BucketARN": f"arn:aws:s3:::{BUCKET}",
            },
        )
        yield found


def read_lines(s3: Any) -> list[bytes]:
    """Read the lines of all objects that have landed."""
    found = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    objects = [s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in found]
    assert all(landed.endswith(b"\n") for landed in objects)
    return [line for landed in objects for line in landed.splitlines()]


def test_what_is_delivered_lands_line_by_line(clients: dict[str, Any]) -> None:
    hook = FirehoseStreamHook(STREAM)
    hook.check()
    documents = [json.dumps({"n": n, "text": "é" * (n % 40)}).encode() for n in range(1_200)]
    records = [Record(n, d + hook.record_end, "key", 0, 1, lane=str(n)) for n, d in enumerate(documents)]
    tally = deliver(records, hook.put, limits=hook.limits, settled=Settled(), on_progress=lambda _tally: None)
    assert (tally.failure, tally.delivered) == (None, 1_200)
    assert tally.requests < 10
    assert sorted(read_lines(clients["s3"])) == sorted(documents)


@pytest.mark.usefixtures("clients")
def test_a_missing_delivery_stream_is_refused_before_and_while_putting() -> None:
    hook = FirehoseStreamHook("nobody-made-it")
    for attempt in (hook.check, lambda: hook.put([Record(0, b"{}\n", "key", 0, 1)])):
        with pytest.raises(DestinationRefused, match="delivery stream nobody-made-it does not exist in us-east-1"):
            attempt()
