"""A Firehose on this machine: one delivery stream into a bucket, both emulated, and every line that landed there.

It lives in this process and ends with it. Only the demo's own clients and the connection that the demo gives to
Airflow speak to it; no credentials of the user are read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_kinesis_audience.demo.local_kinesis import REGION, Stored, connection_to, emulator, make_client

STREAM = "audience-changes"
BUCKET = "audience-landing"
_ROLE = "arn:aws:iam::123456789012:role/firehose-to-bucket"
"""What writes to the bucket is Firehose itself, in a role of its own; the emulator does not look at it."""


class LocalFirehose:
    """A running local Firehose with the demo's delivery stream; made by :func:`local_firehose`."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        self._bucket: Any = make_client("s3", endpoint_url)
        self._bucket.create_bucket(Bucket=BUCKET)
        make_client("firehose", endpoint_url).create_delivery_stream(
            DeliveryStreamName=STREAM,
            DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration={"RoleARN": _ROLE, "BucketARN": f"arn:aws:s3:::{BUCKET}"},
        )

    @property
    def connection(self) -> Mapping[str, Any]:
        """The Airflow connection to it."""
        return connection_to(self.endpoint_url)

    def describe(self) -> str:
        """Say what it is."""
        return f"at {self.endpoint_url}, in {REGION}, a delivery stream into a bucket"

    def read_all(self) -> list[Stored]:
        """Read the lines of all objects in the bucket."""
        found = []
        for page in self._bucket.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for entry in page.get("Contents", []):
                landed = self._bucket.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
                found += [Stored(entry["Key"], "", line) for line in landed.splitlines()]
        return found


@contextlib.contextmanager
def local_firehose() -> Iterator[LocalFirehose]:
    """Run a local Firehose with an empty bucket."""
    with emulator() as endpoint_url:
        yield LocalFirehose(endpoint_url)
