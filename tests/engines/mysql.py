"""A real MariaDB server for the tests: made in a directory of its own, stopped by its own process id.

It listens on 127.0.0.1 alone, writes nothing to disk that it waits for, and lets everybody on that address in as
root. It refuses to run as root, so root starts it as another user. Its driver has no wheels and is not in
requirements.lock, so that who has no compiler can do without: here it is built once, beside the environment.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.mysql import MySqlWarehouse
from tests.postgres import account_of, free_port

SERVER_MISSING = "no MariaDB server here; on Debian and Ubuntu: apt-get install mariadb-server"
DRIVER_MISSING = (
    "mysqlclient is not here and could not be built; "
    "on Debian and Ubuntu: apt-get install gcc pkg-config libmariadb-dev python3-dev"
)
DRIVER = "mysqlclient==2.3.2"
DRIVER_HOME = Path(sys.prefix) / "mysqlclient"
START_SECONDS = 60
STOP_SECONDS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running server.

    :param port: on 127.0.0.1.
    """

    port: int

    def connect(self, database: str = "", **more: Any) -> Any:
        """Open a connection of the driver."""
        import MySQLdb

        return MySQLdb.connect(**{"host": "127.0.0.1", "port": self.port, "user": "root", "db": database, **more})

    def open(self, database: str, **more: Any) -> MySqlWarehouse:
        """Open a database."""
        return MySqlWarehouse(lambda: self.connect(database, **more), DIALECTS["mysql"])

    def execute(self, *statements: str) -> None:
        """Run statements."""
        with contextlib.closing(self.connect()) as connection:
            for statement in statements:
                connection.query(statement)

    def made(self) -> list[str]:
        """List the databases that are not the server's own."""
        with contextlib.closing(self.connect()) as connection, contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("SHOW DATABASES")
            own = {"information_schema", "mysql", "performance_schema", "sys"}
            return [name for (name,) in cursor.fetchall() if name not in own]


def find_driver() -> bool:
    """Tell whether the driver is here; the first time, pip builds it."""
    if DRIVER_HOME.as_posix() not in sys.path:
        sys.path.append(DRIVER_HOME.as_posix())
    if _imports_driver():
        return True
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(DRIVER_HOME), DRIVER]
    subprocess.run(pip, capture_output=True, check=False)
    importlib.invalidate_caches()
    return _imports_driver()


def find_programs() -> tuple[str, str] | None:
    """Return the programs that make and run a server, or none where there is no server."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = [shutil.which(name, path=path) for name in ("mariadb-install-db", "mariadbd")]
    return (found[0], found[1]) if found[0] and found[1] else None


@contextmanager
def running_server(programs: tuple[str, str]) -> Iterator[Server]:
    """Make and start a server; stop it and remove what it wrote at the end.

    :param programs: from :func:`find_programs`.
    :raises RuntimeError: if it does not come up, with the end of its log.
    """
    install, program = programs
    account = account_of("mysql", "nobody")
    home = Path(tempfile.mkdtemp(prefix="audience-mariadb-"))
    try:
        if account:
            os.chown(home, account["user"], account["group"])
        options = [
            f"--datadir={home / 'data'}",
            f"--tmpdir={home}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        made = subprocess.run(
            [install, "--no-defaults", *options], cwd=home, capture_output=True, text=True, check=False, **account
        )
        if made.returncode:
            raise RuntimeError(f"mariadb-install-db ended with {made.returncode}: {made.stderr.strip()[-2000:]}")
        process, port = _start(program, home, account)
        try:
            yield Server(port=port)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _imports_driver() -> bool:
    try:
        import MySQLdb  # noqa: F401
    except ImportError:
        return False
    return True


def _start(program: str, home: Path, account: dict[str, Any]) -> tuple[subprocess.Popen[bytes], int]:
    log = home / "log"
    for _ in range(3):  # a free port may be gone again before the server has it
        port = free_port()
        settings = {
            "datadir": home / "data",
            "bind-address": "127.0.0.1",
            "port": port,
            # A server that starts clears away what looks like a temporary table there, another server's too.
            "tmpdir": home,
            "socket": home / "socket",
            "pid-file": home / "pid",
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-flush-method": "nosync",
            "sync-frm": "off",
            "innodb-buffer-pool-size": "64M",
            "max-connections": 40,
            # As a server is that nobody has set up: nothing of it may change what a sync finds.
            "character-set-server": "latin1",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [program, "--no-defaults", *options],
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **account,
            )
        if _answers(process, port):
            return process, port
        _stop(process)
    raise RuntimeError(f"MariaDB did not start; the end of its log: {log.read_text(errors='replace')[-2000:]}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as greeted:
            if greeted.recv(1):
                return process.poll() is None
        time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
