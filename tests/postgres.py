"""A real PostgreSQL server for the tests: made in a directory of its own, stopped by its own process id.

It listens on 127.0.0.1 alone, writes nothing to disk that it waits for, and takes everybody on that address as
its superuser. PostgreSQL refuses to run as root, so root starts it as another user. Never a server that was
there before: the tests drop databases.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

HOW_TO_INSTALL = (
    "no PostgreSQL server here (looked on PATH and in /usr/lib/postgresql); "
    "on Debian and Ubuntu: apt-get install postgresql"
)
_MEMORY, _ENOUGH_BYTES = Path("/dev/shm"), 4 * 2**30
START_SECONDS = 30
STOP_SECONDS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running server.

    :param port: on 127.0.0.1.
    :param log: what it writes, such as the statements of a database with ``log_statement``.
    """

    port: int
    log: Path | None = None

    def dsn(self, database: str = "postgres") -> str:
        """Return the URI of a database, as psycopg and an Airflow connection take it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction, as CREATE DATABASE wants it."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(statement.encode())


def find_programs() -> Path | None:
    """Return the directory of the newest server's programs, or none where there is no server."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    on_path = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    for directory in (*debian, *on_path):
        if all(os.access(directory / program, os.X_OK) for program in ("initdb", "postgres")):
            return directory
    return None


@contextmanager
def running_server(programs: Path, *, in_memory: bool = False) -> Iterator[Server]:
    """Make and start a server; stop it and remove what it wrote at the end.

    :param programs: from :func:`find_programs`.
    :param in_memory: keep its files in memory where there is enough: a new database has a thousand.
    :raises RuntimeError: if it does not come up, with the end of its log.
    """
    account = account_of("postgres", "nobody")
    # under the system's own directory: root's pytest directories are closed to other users
    home = Path(tempfile.mkdtemp(prefix="audience-postgres-", dir=_MEMORY if in_memory and _is_large() else None))
    try:
        if account:
            os.chown(home, account["user"], account["group"])
        initdb = [programs / "initdb", "--pgdata", home / "data", "--username", "postgres", "--auth", "trust"]
        local = ["--encoding", "UTF8", "--locale", "C", "--no-sync"]
        made = subprocess.run([*initdb, *local], cwd=home, capture_output=True, text=True, check=False, **account)
        if made.returncode:
            raise RuntimeError(f"initdb ended with {made.returncode}: {made.stderr.strip()[-2000:]}")
        process, port = _start(programs, home, account)
        try:
            yield Server(port=port, log=home / "log")
        finally:
            _stop(process)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _is_large() -> bool:
    return _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES


def _version(directory: Path) -> float:
    try:
        return float(directory.parent.name)
    except ValueError:
        return 0.0


def account_of(*names: str) -> dict[str, Any]:
    """Return whom to run a server as that does not run as root: nobody else unless we are root."""
    if os.geteuid() != 0:
        return {}
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError(f"the server does not run as root, and there is no user {' or '.join(names)}")


def _start(programs: Path, home: Path, account: dict[str, Any]) -> tuple[subprocess.Popen[bytes], int]:
    log = home / "log"
    for _ in range(3):  # a free port may be gone again before the server has it
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",  # the path of a temporary directory may be too long for one
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": 40,
        }
        if home.parent == _MEMORY:
            settings["max_wal_size"] = "256MB"
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [programs / "postgres", "-D", home / "data", *options],
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **account,
            )
        if _answers(process, port):
            return process, port
        _stop(process)
    raise RuntimeError(f"PostgreSQL did not start; the end of its log: {log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(Server(port=port).dsn(), connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return process.poll() is None
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server: SIGINT closes connections and writes out, SIGQUIT ends it at once."""
    for how in (signal.SIGINT, signal.SIGQUIT):
        if process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()
