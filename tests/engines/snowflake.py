"""Snowflake as fakesnow plays it: its connector's real protocol over HTTP, its dialect on DuckDB.

The server runs in a process and an environment of its own, since it pins another sqlglot; what speaks to it is the
real connector. What it takes is no proof that Snowflake takes it, and the documentation says so.
"""

from __future__ import annotations

import datetime as clock
import ipaddress
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from tests.engines.environments import add_packages, packages

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.snowflake import SnowflakeWarehouse

START_SECONDS = 60
_numbers = itertools.count()


@contextmanager
def running_fakesnow(*tls: Path) -> Iterator[int]:
    """Start the server; gives its port on 127.0.0.1.

    :param tls: certificate and key, for Airflow's hook, which speaks TLS alone.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    variables = {**os.environ, "PYTHONPATH": str(packages("fakesnow")), "PYTHONNOUSERSITE": "1"}
    script = Path(__file__).with_name("fakesnow_server.py")
    command = [sys.executable, "-S", "-P", str(script), str(port), *map(str, tls)]
    with subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL) as process:
        try:
            _await(process, port)
            yield port
        finally:
            process.terminate()


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("fakesnow did not start; what it said stands above") from None
            time.sleep(0.1)
        else:
            return


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = clock.datetime.now(clock.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - clock.timedelta(days=1))
        .not_valid_after(now + clock.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return certificate, secret


def fresh_database() -> str:
    """Name a database that no test has used."""
    return f"TEST_{next(_numbers)}"


def open_fakesnow(port: int, database: str, *, protocol: str = "http") -> SnowflakeWarehouse:
    """Open a database of the running server."""
    add_packages("snowflake")
    from snowflake.connector import connect

    from airflow_kinesis_audience.hooks.warehouses.snowflake import SnowflakeWarehouse

    settings: dict[str, Any] = {
        "account": "fake",
        "user": "test",
        "password": "test",
        "host": "127.0.0.1",
        "port": port,
        "protocol": protocol,
        "disable_ocsp_checks": True,
        "database": database,
        "schema": "PUBLIC",
        "session_parameters": SESSION,
    }
    return SnowflakeWarehouse(lambda: connect(**settings), DIALECTS["snowflake"])


SESSION = {
    "CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False,
    # fakesnow is in UTC in any case, ends no statement with its session, and knows no statements for either
    "nop_regexes": ["ALTER SESSION SET (TIMEZONE|ABORT_DETACHED_QUERY)"],
}
