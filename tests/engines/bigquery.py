"""BigQuery as bqemulator plays it: its REST interface to Google's own client, its dialect on DuckDB.

The emulator runs in a process and an environment of its own. What it takes is no proof that BigQuery takes it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from tests.engines.environments import add_packages, packages

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.bigquery import BigQueryWarehouse

START_SECONDS = 60
_PROGRAM = """
import os, sys
from bqemulator.cli import main
from duckdb_extensions import import_extension
os.makedirs(os.environ["HOME"], exist_ok=True)
for name in ("icu", "json", "spatial"):
    import_extension(name)
sys.exit(main())
"""


@contextmanager
def running_emulator() -> Iterator[int]:
    """Start the emulator; gives the port of its REST interface on 127.0.0.1."""
    ports = []
    for _ in range(2):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
    home = packages("bigquery")
    # DuckDB's extensions come as packages, and are put below the home that it knows.
    variables = {**os.environ, "PYTHONPATH": str(home), "PYTHONNOUSERSITE": "1", "HOME": str(home / "home")}
    given = ["start", "--rest-port", str(ports[0]), "--grpc-port", str(ports[1]), "--project", "test"]
    with subprocess.Popen(
        [sys.executable, "-S", "-P", "-c", _PROGRAM, *given],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", ports[0]), 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError("bqemulator did not start") from None
                    time.sleep(0.1)
            yield ports[0]
        finally:
            process.terminate()


def open_bigquery(port: int) -> BigQueryWarehouse:
    """Open the emulator's warehouse."""
    client_of(port).execute("CREATE SCHEMA IF NOT EXISTS people")
    return client_of(port)


def client_of(port: int) -> BigQueryWarehouse:
    """Open a warehouse whose client asks a port of this machine."""
    add_packages("google")
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    from airflow_kinesis_audience.hooks.warehouses.bigquery import BigQueryWarehouse

    def connect() -> Any:
        options = ClientOptions(api_endpoint=f"http://127.0.0.1:{port}")
        given = bigquery.QueryJobConfig(default_dataset="test.people")
        return bigquery.Client(
            project="test",
            credentials=AnonymousCredentials(),
            client_options=options,
            default_query_job_config=given,
        )

    return BigQueryWarehouse(connect, DIALECTS["gcpbigquery"])
