"""What every test stands on: an Airflow of its own, a real PostgreSQL, and no way out of this machine.

The first lines run before anything imports Airflow, which reads its settings on import: no test ever sees the
Airflow, the AWS account or the connections of whoever runs it. What is dear (a migrated metadata database, a
server) is made once and only for tests that ask. What was not run stands at the end, with the reason.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.demo.local_airflow import point_airflow_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engines import spark
    from tests.engines.mysql import Server as MariaDb
    from tests.postgres import Server

_HOME = Path(tempfile.mkdtemp(prefix="audience-airflow-"))
_OWNER = os.getpid()
point_airflow_to(_HOME)
os.environ.update(
    AIRFLOW__CORE__PARALLELISM="2",
    # an account that exists nowhere, and no asking around for another
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="us-east-1",
)

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from hypothesis import core as hypothesis_core  # noqa: E402

_SEED: pytest.StashKey[Any] = pytest.StashKey()
settings.register_profile("default", deadline=None, print_blob=True, derandomize=False)
settings.register_profile(
    "nightly",
    deadline=None,
    print_blob=True,
    max_examples=2_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def _refuse_other_machines(event: str, arguments: tuple[Any, ...]) -> None:
    """Let a test reach this machine alone; a forgotten endpoint fails at once rather than call AWS."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not _is_this_machine(host):
        raise PermissionError(f"a test wanted to reach {host!r}; tests reach 127.0.0.1 alone")


def _is_this_machine(host: str | bytes | None) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", os.uname().nodename):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


sys.addaudithook(_refuse_other_machines)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow-engines", action="store_true", help="run all tests on slow engines, and the longest stories, too"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("slow_engine") or item.get_closest_marker("long_story")
    if marker and not item.config.getoption("--slow-engines"):
        what = "a story of minutes" if marker.name == "long_story" else "on an engine where each takes long"
        pytest.skip(f"{what}: run with --slow-engines")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of what Hypothesis draws, another one each time, so that it can be said at the end."""
    given = config.getoption("--hypothesis-seed", None)
    chosen = getattr(config, "workerinput", {}).get("seed") or given or secrets.randbelow(2**32)
    hypothesis_core.global_force_seed = config.stash[_SEED] = int(chosen) if str(chosen).isdigit() else chosen


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist the same seed."""
    node.workerinput["seed"] = node.config.stash[_SEED]


def pytest_unconfigure() -> None:
    if os.getpid() == _OWNER:  # not in a process that a test forked
        shutil.rmtree(_HOME, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what was not run, and why: a green line alone hides it; and how to draw the same values."""
    seed = terminalreporter.config.stash[_SEED]
    terminalreporter.line(f"values were drawn with: pytest --hypothesis-seed={seed}, of each test by itself")
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", ()))
    if left_out := len(terminalreporter.stats.get("deselected", ())):
        reasons["left out by -m, -k or --deselect"] = left_out
    if not reasons:
        return
    terminalreporter.section("not run, and why")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count:4} {'test' if count == 1 else 'tests'}: {reason}")


def _reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """Migrate the metadata database, once; gives AIRFLOW_HOME."""
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    migrated = subprocess.run(command, capture_output=True, text=True, check=False)
    if migrated.returncode:
        pytest.fail(f"airflow db migrate ended with {migrated.returncode}:\n{migrated.stderr[-4000:]}")
    return _HOME


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Start a PostgreSQL server; skips where there is none to start."""
    from tests.postgres import HOW_TO_INSTALL, find_programs, running_server

    programs = find_programs()
    if programs is None:
        pytest.skip(HOW_TO_INSTALL)
    with running_server(programs, in_memory=True) as server:
        yield server


@pytest.fixture(scope="session")
def bigquery_port() -> Iterator[int]:
    """Start BigQuery's emulator; gives its port on 127.0.0.1."""
    from tests.engines.bigquery import running_emulator

    with running_emulator() as port:
        yield port


@pytest.fixture(scope="session")
def fakesnow_port() -> Iterator[int]:
    """Start fakesnow, Snowflake's stand-in; gives its port on 127.0.0.1."""
    from tests.engines.snowflake import running_fakesnow

    with running_fakesnow() as port:
        yield port


@pytest.fixture(scope="session")
def postgres_dsn(postgres_server: Server) -> str:
    """URI of the server's own database, one for all tests: leave nothing in it."""
    return postgres_server.dsn()


@pytest.fixture(scope="session")
def spark_server() -> Iterator[spark.Server]:
    """Start Spark's Thrift server; skips where there is no Java for it, or where it can't be installed."""
    from tests.engines.spark import HOW_TO_INSTALL, find_java, install, running_server

    java = find_java()
    if java is None:
        pytest.skip(HOW_TO_INSTALL)
    try:
        home = install()
    except RuntimeError as error:
        pytest.skip(str(error))
    with running_server(java, home) as server:
        yield server


_numbers = itertools.count()


@pytest.fixture
def postgres_database(postgres_server: Server) -> Iterator[str]:
    """URI of a fresh, empty database that is dropped after the test."""
    name = f"test_{next(_numbers)}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.dsn(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MariaDb]:
    """Start a MariaDB server; skips where there is none to start, or no driver."""
    from tests.engines import mysql

    programs = mysql.find_programs()
    if programs is None:
        pytest.skip(mysql.SERVER_MISSING)
    if not mysql.find_driver():
        pytest.skip(mysql.DRIVER_MISSING)
    with mysql.running_server(programs) as server:
        yield server


@pytest.fixture
def mysql_database(mysql_server: MariaDb) -> Iterator[str]:
    """Name of a fresh, empty database; it and all that a test made beside it are dropped after the test."""
    name = f"test_{next(_numbers)}"
    # A collation that holds Bob equal to bob, and a space at the end nothing.
    mysql_server.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    yield name
    mysql_server.execute(*(f"DROP DATABASE `{made.replace('`', '``')}`" for made in mysql_server.made()))
