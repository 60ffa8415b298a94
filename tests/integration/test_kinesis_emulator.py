"""The hook of Kinesis against an emulator: what goes in comes out, where it should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from airflow_kinesis_audience.core.exceptions import DestinationRefused
from airflow_kinesis_audience.core.model.partitioning import partition_of
from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals, AcknowledgedRanges
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.producer.records import Destination, Record
from airflow_kinesis_audience.demo.local_kinesis import emulator
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook

SHARDS = 4
PARTITIONS = 16


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    """Address of an emulated AWS."""
    with emulator() as address:
        yield address


@pytest.fixture
def client(endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client beside the hook's; the hook finds the emulator through its Airflow connection."""
    extra = {"endpoint_url": endpoint_url, "region_name": "eu-west-1"}
    told = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(told))
    return boto3.client("kinesis", endpoint_url=endpoint_url, region_name="eu-west-1")


@pytest.fixture
def stream(client: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name[:100].replace("[", "-").replace("]", "")
    client.create_stream(StreamName=name, ShardCount=SHARDS)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    yield name
    client.delete_stream(StreamName=name)


def read_shards(client: Any, stream: str) -> list[list[dict[str, Any]]]:
    """Read the records of each shard."""
    found = []
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        found.append(client.get_records(ShardIterator=iterator["ShardIterator"])["Records"])
    return found


def records_of(count: int) -> list[Record]:
    """Give records of users in every bucket, the users of a bucket one after the other."""
    found = []
    for n in range(count):
        key, hash_key = partition_of("lapsed", f"{n * 61 % 4096:03x}", PARTITIONS)
        found.append(Record(n, f'{{"n": {n}}}'.encode(), key, hash_key, 1))
    return found


def test_what_is_delivered_is_in_the_stream_in_the_order_of_each_key(client: Any, stream: str) -> None:
    records = records_of(400)
    hook = KinesisStreamHook(stream)
    hook.check()
    settled = AcknowledgedOrdinals()
    destination = Destination(put=hook.put, limits=hook.limits)
    tally = produce([records], destination, acknowledged=settled, on_progress=lambda _: None)
    assert (tally.failure, tally.delivered) == (None, 400)
    assert settled.ranges == AcknowledgedRanges(below=400, above=())

    expected: dict[str, list[bytes]] = {}
    found: dict[str, list[bytes]] = {}
    for record in records:
        expected.setdefault(record.partition_key, []).append(record.data)
    for shard in read_shards(client, stream):
        for record in shard:
            found.setdefault(record["PartitionKey"], []).append(record["Data"])
    assert found == expected


def test_partitions_are_spread_over_uniform_shards_in_equal_shares(client: Any, stream: str) -> None:
    hook = KinesisStreamHook(stream)
    hook.put(records_of(400))
    keys = [{record["PartitionKey"] for record in shard} for shard in read_shards(client, stream)]
    assert [len(shard) for shard in keys] == [PARTITIONS // SHARDS] * SHARDS
    assert len(set.union(*keys)) == PARTITIONS


def test_a_stream_by_its_arn_is_the_same_stream(client: Any, stream: str) -> None:
    arn = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    hook = KinesisStreamHook(arn)
    hook.check()
    hook.put(records_of(3))
    assert sum(map(len, read_shards(client, stream))) == 3


@pytest.mark.usefixtures("client")
def test_a_missing_stream_is_refused_before_and_while_putting() -> None:
    hook = KinesisStreamHook("nobody-made-it")
    for attempt in (hook.check, lambda: hook.put(records_of(1))):
        with pytest.raises(DestinationRefused, match=r"nobody-made-it does not exist in eu-west-1.*create-stream"):
            attempt()
