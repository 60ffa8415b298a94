"""The AWS of a system test that is given none: emulated, on a free port of 127.0.0.1, with an empty bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def local_aws(bucket: str) -> Iterator[Mapping[str, Any]]:
    """Run it; gives the Airflow connection to it."""
    from airflow_kinesis_audience.demo.local_kinesis import connection_to, emulator, make_client

    with emulator() as endpoint_url:
        make_client("s3", endpoint_url).create_bucket(Bucket=bucket)
        yield connection_to(endpoint_url)
