"""A Kinesis on this machine: one stream on a free port of 127.0.0.1, and everything that was put to it.

It lives in this process and ends with it. Only the demo's own client and the connection that the demo gives to
Airflow speak to it; no credentials of the user are read.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

STREAM = "audience-changes"
SHARDS = 4
REGION = "us-east-1"
_LOGIN = "demo"


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the destination holds it.

    :param place: the shard, or the object of a bucket.
    """

    place: str
    partition_key: str
    data: bytes


class LocalKinesis:
    """A running local Kinesis with the demo's stream; made by :func:`local_kinesis`."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        self._client: Any = make_client("kinesis", endpoint_url)
        self._client.create_stream(StreamName=STREAM, ShardCount=SHARDS)
        self._client.get_waiter("stream_exists").wait(
            StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )

    @property
    def connection(self) -> Mapping[str, Any]:
        """The Airflow connection to it."""
        return connection_to(self.endpoint_url)

    def describe(self) -> str:
        """Say what it is."""
        return f"at {self.endpoint_url}, a stream of {SHARDS} shards"

    def read_all(self) -> list[Stored]:
        """Read the stream from its beginning, shard by shard."""
        shards = self._client.get_paginator("list_shards").paginate(StreamName=STREAM)
        ids = [shard["ShardId"] for page in shards for shard in page["Shards"]]
        return [stored for shard_id in ids for stored in self._read_shard(shard_id)]

    def _read_shard(self, shard_id: str) -> Iterator[Stored]:
        iterator = self._client.get_shard_iterator(
            StreamName=STREAM, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        behind = 1
        while behind and iterator:
            answer = self._client.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                yield Stored(shard_id, record["PartitionKey"], record["Data"])
            iterator, behind = answer.get("NextShardIterator"), answer["MillisBehindLatest"]


def make_client(service: str, endpoint_url: str) -> Any:
    """Make a client of the demo's own."""
    import boto3
    from botocore.config import Config

    make: Any = boto3.client
    return make(
        service,
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=_LOGIN,
        aws_secret_access_key=_LOGIN,
        config=Config(proxies={}, connect_timeout=5, read_timeout=30),
    )


def connection_to(endpoint_url: str) -> Mapping[str, Any]:
    """Describe the Airflow connection to an emulated AWS."""
    extra = {"endpoint_url": endpoint_url, "region_name": REGION}
    return {"conn_type": "aws", "login": _LOGIN, "password": _LOGIN, "extra": extra}


@contextlib.contextmanager
def local_kinesis() -> Iterator[LocalKinesis]:
    """Run a local Kinesis with an empty stream."""
    with emulator() as endpoint_url:
        yield LocalKinesis(endpoint_url)


@contextlib.contextmanager
def emulator() -> Iterator[str]:
    """Run an emulated AWS, with nothing in it, on a free port of 127.0.0.1; gives its address."""
    from moto.core.base_backend import BackendDict
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    BackendDict.reset()
    # Its own threaded server would take requests side by side, and moto numbers the records of a shard without a
    # lock: of two that come at once it can lose one. So one request after the other.
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=MotoRequestHandler)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    thread = threading.Thread(target=server.serve_forever, name="local-kinesis", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
