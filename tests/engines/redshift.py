"""Redshift's hook, driver and statements on PostgreSQL, the engine that Redshift came from.

The driver sends the server what PostgreSQL refuses, and does not understand a version with a word in it: a relay
takes both out. What PostgreSQL has not, the type VARCHAR(MAX), sort keys and three functions, is created,
rewritten or left out for this run alone. Neither Redshift's planner nor its rules of comparison are run.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redshift_connector

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.redshift import RedshiftWarehouse

_VERSION = re.compile(rb"server_version\0([\d.]+)( \([^)]*\))\0")
_SORT_KEY = re.compile(r"(CREATE TABLE \S+) SORTKEY \([^)]*\)")
_AS_REDSHIFT = ((b"standard_conforming_strings", b"off"), (b"escape_string_warning", b"off"))
"""A backslash in a literal begins an escape."""

_FUNCTIONS = (
    "CREATE FUNCTION sha2(text, int) RETURNS text LANGUAGE sql "
    "AS $$ SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex') $$",
    "CREATE FUNCTION getdate() RETURNS timestamp LANGUAGE sql AS $$ SELECT current_timestamp::timestamp $$",
    "CREATE FUNCTION collated(text, text) RETURNS text LANGUAGE sql AS $$ SELECT $1 $$",
    "CREATE VIEW sys_query_history AS SELECT pid AS session_id, query AS query_text, "
    "CASE state WHEN 'active' THEN 'running' ELSE 'success' END AS status FROM pg_stat_activity",
    "CREATE AGGREGATE listagg(text, text) "
    "(sfunc = string_agg_transfn, stype = internal, finalfunc = string_agg_finalfn)",
)
"""What Redshift has and PostgreSQL calls otherwise; the history has what a session runs, or ran last."""

_KNOWN = (b"user", b"database", b"application_name")


class OnPostgres(RedshiftWarehouse):
    """Redshift's hook, with the one type and name that PostgreSQL has not, and without the one clause."""

    @staticmethod
    def _execute(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        known = sql.replace("VARCHAR(MAX)", "TEXT").replace("COLLATE(", "collated(")
        known = _SORT_KEY.sub(r"\1", known)
        RedshiftWarehouse._execute(cursor, known, parameters)


@contextmanager
def relay_to(port: int) -> Iterator[int]:
    """Relay to a PostgreSQL on this machine; gives the port that Redshift's driver can speak to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, port), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, port: int) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            server.sendall(_greeting(client))
            for here, there in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(here, there), daemon=True).start()


def _greeting(client: socket.socket) -> bytes:
    """Read the driver's first message, and leave in it what PostgreSQL knows."""
    stream = client.makefile("rb", buffering=0)
    (length,) = struct.unpack("!i", _exactly(stream, 4))
    body = _exactly(stream, length - 4)
    words = body[4:].rstrip(b"\0").split(b"\0")
    known = [(n, v) for n, v in zip(words[::2], words[1::2], strict=False) if n in _KNOWN]
    startup = body[:4] + b"".join(n + b"\0" + v + b"\0" for n, v in [*known, *_AS_REDSHIFT]) + b"\0"
    return struct.pack("!i", len(startup) + 4) + startup


def _exactly(stream: Any, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += stream.read(size - len(found)) or b"\0"
    return found


def _copy(here: socket.socket, there: socket.socket) -> None:
    with suppress(OSError):
        while data := here.recv(65_536):
            there.sendall(_VERSION.sub(_plain, data))
    for end in (here, there):
        with suppress(OSError):
            end.close()


def _plain(found: re.Match[bytes]) -> bytes:
    """Give the server's version without the name of whoever packed it, in as many letters."""
    return b"server_version\0" + found[1] + b"." + b"0" * (len(found[2]) - 1) + b"\0"


def open_redshift(port: int, dsn: str) -> OnPostgres:
    """Open a database behind the relay."""
    database = urlsplit(dsn).path.lstrip("/")
    with psycopg.connect(dsn, autocommit=True) as server, suppress(psycopg.errors.DuplicateFunction):
        for function in _FUNCTIONS:
            server.execute(function.encode())
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "user": "postgres",
        "password": "",
        "database": database,
        "ssl": False,
    }
    return OnPostgres(lambda: redshift_connector.connect(**settings), DIALECTS["redshift"])
