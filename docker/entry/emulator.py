"""A Kinesis, a Firehose and an S3 that are only played, in memory: what they hold is gone when this ends.

One request after the other: moto numbers the records of a shard without a lock, and of two that come at once it
can lose one.
"""

from __future__ import annotations

import argparse

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args()
    app = DomainDispatcherApplication(create_backend_app)
    make_server(given.host, given.port, app, threaded=False, request_handler=MotoRequestHandler).serve_forever()
