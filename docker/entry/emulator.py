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


def make_stream(endpoint_url: str, name: str) -> None:
    """Make a stream in the region that the docs name."""
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    boto3.client("kinesis", endpoint_url=endpoint_url, **keys).create_stream(StreamName=name, ShardCount=4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--stream", help="make a data stream of this name, of four shards")
    given = parser.parse_args()
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server(given.host, given.port, app, threaded=False, request_handler=MotoRequestHandler)
    if given.stream:
        # It waits for the server, which takes requests once it serves.
        Thread(target=make_stream, args=(f"http://127.0.0.1:{given.port}", given.stream), daemon=True).start()
    # What a container is ended with means the same as a key that is pressed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
