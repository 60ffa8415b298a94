"""A Kinesis, a Firehose and an S3 that are only played, in memory: what they hold is gone when this ends.

One request after the other: moto numbers the records of a shard without a lock, and of two that come at once it
can lose one.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
from threading import Thread

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ROLE = "arn:aws:iam::123456789012:role/firehose"


def make_streams(endpoint_url: str, stream: str | None, delivery_stream: str | None) -> None:
    """Make streams in the region that the docs name; a delivery stream with a bucket of its name."""
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    where = {"endpoint_url": endpoint_url, **keys}
    if stream:
        boto3.client("kinesis", **where).create_stream(StreamName=stream, ShardCount=4)
    if delivery_stream:
        boto3.client("s3", **where).create_bucket(Bucket=delivery_stream)
        boto3.client("firehose", **where).create_delivery_stream(
            DeliveryStreamName=delivery_stream,
            DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration={"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{delivery_stream}"},
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4567)
    parser.add_argument("--stream", help="make a data stream of this name, of four shards")
    parser.add_argument("--delivery-stream", help="make a Firehose delivery stream of this name, and its bucket")
    given = parser.parse_args()
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server(given.host, given.port, app, threaded=False, request_handler=MotoRequestHandler)
    # It waits for the server, which takes requests once it serves.
    wanted = (f"http://127.0.0.1:{given.port}", given.stream, given.delivery_stream)
    Thread(target=make_streams, args=wanted, daemon=True).start()
    # What a container is ended with means the same as a key that is pressed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
