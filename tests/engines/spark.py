"""A real Spark for the tests: its Thrift server out of the pyspark wheel, stopped by its own process id.

It listens on 127.0.0.1 alone, keeps its catalog in memory and its tables in a directory of its own. The wheel is
400 MB, and so is installed once, beside the project's environment and apart from it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyhive import hive
from TCLIService import ttypes

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.databricks import DatabricksWarehouse
from airflow_kinesis_audience.hooks.warehouses.spark import SETTINGS, SparkWarehouse
from airflow_kinesis_audience.hooks.warehouses.thrift import ThriftConnection, ThriftCursor

VERSION = os.environ.get("SPARK_VERSION", "4.3.0")
JAVA = 17
HOW_TO_INSTALL = f"no Java {JAVA} or newer here; on Debian and Ubuntu: apt-get install openjdk-17-jre-headless"
START_SECONDS = 120
STOP_SECONDS = 20

_QUICK = {
    # Statements over a handful of rows: what makes large ones fast makes these slow.
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running server.

    :param port: on 127.0.0.1.
    :param pid: of its one process.
    """

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Read how long it has computed."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> Any:
        """Open a connection as Airflow's hook does."""
        return hive.connect(host="127.0.0.1", port=self.port, auth="NOSASL")

    def open(self) -> SparkWarehouse:
        return SparkWarehouse(self.connect, DIALECTS["hiveserver2"])

    def open_as_databricks(self) -> DatabricksWarehouse:
        """Open Databricks' hook, with its SQL, before this server: the nearest that runs here."""
        # A file of Parquet that another session added is not seen without it; Delta has a log for that.
        dialect = replace(DIALECTS["databricks"], before_read=DIALECTS["hiveserver2"].before_read)
        return DatabricksWarehouse(lambda: _Connector(self.connect()), dialect)


class _Connector(ThriftConnection):
    """Looks like the connection of Databricks' own connector."""

    def __init__(self, opened: Any) -> None:
        super().__init__(opened)
        for setting in SETTINGS:
            self.cursor().execute(setting)

    def cursor(self) -> _ArrowCursor:
        return _ArrowCursor(self._opened.client, self._opened.sessionHandle)


class _ArrowCursor(ThriftCursor):
    """Gives rows as Arrow tables of the types that the server tells, as Databricks' connector does."""

    def __enter__(self) -> _ArrowCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, statement: str) -> None:
        super().execute(statement)
        self._fetched: Iterator[list[pa.Array]] | None = None

    def fetchmany_arrow(self, rows: int) -> pa.Table:
        self._fetched = self._fetched or self.fetch_columns(rows)
        asked = ttypes.TGetResultSetMetadataReq(self.operation)
        described = self._client.GetResultSetMetadata(asked).schema.columns
        types = [_TYPES.get(c.typeDesc.types[0].primitiveEntry.type) for c in described]
        names = [c.columnName for c in described]
        columns = next(self._fetched, [pa.array([], pa.string()) for _ in described])
        arrays = [c if t is None else c.cast(t.unzoned).cast(t.zoned) for c, t in zip(columns, types, strict=True)]
        return pa.Table.from_arrays(arrays, names=names)


class _Type(NamedTuple):
    unzoned: pa.DataType
    zoned: pa.DataType


_TYPES = {
    ttypes.TTypeId.TIMESTAMP_TYPE: _Type(pa.timestamp("us"), pa.timestamp("us", tz="Etc/UTC")),
    ttypes.TTypeId.DATE_TYPE: _Type(pa.date32(), pa.date32()),
}


def find_java() -> Path | None:
    """Return a Java that Spark runs on: the one that is set, the one on PATH, or any; or none."""
    programs = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"] if "JAVA_HOME" in os.environ else []
    programs += [Path(on_path)] if (on_path := shutil.which("java")) else []
    programs += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    return next((p for p in programs if os.access(p, os.X_OK) and _version(p) >= JAVA), None)


def install() -> Path:
    """Return Spark's directory; the first time, pip fills it.

    :raises RuntimeError: if it cannot be had, with the end of what pip said.
    """
    home = Path(sys.prefix) / f"spark-{VERSION}"
    made = home / "pyspark" / "made"
    with (Path(sys.prefix) / "spark.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(home, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", home]
            done = subprocess.run([*pip, f"pyspark=={VERSION}"], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"pip could not install pyspark {VERSION}: {done.stderr.strip()[-2000:]}")
            made.touch()
    return home / "pyspark"


@contextmanager
def running_server(
    java: Path, home: Path, *, memory: str = "1g", settings: Mapping[str, str] = _QUICK
) -> Iterator[Server]:
    """Start a server; stop it and remove what it wrote at the end.

    :param java: from :func:`find_java`, and ``home`` from :func:`install`.
    :param memory: of its one process.
    :param settings: of Spark, besides those that keep it to itself.
    :raises RuntimeError: if it does not come up, with the end of its log.
    """
    directory = Path(tempfile.mkdtemp(prefix="audience-spark-"))
    try:
        process, port = _start(java, home, directory, memory, settings)
        try:
            yield Server(port=port, pid=process.pid)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _version(java: Path) -> int:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def _start(
    java: Path, home: Path, directory: Path, memory: str, settings: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    log = directory / "log"
    own = {
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": f"file:{directory / 'warehouse'}",
        "spark.local.dir": directory / "local",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    variables = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))},
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "JAVA_HOME": str(java.resolve().parents[1]),
    }
    for _ in range(3):  # a free port may be gone again before the server has it
        port = _free_port()
        command = [home / "bin" / "spark-submit", "--master", "local[2]", "--driver-memory", memory]
        for name, value in {**own, **settings}.items():
            command += ["--conf", f"{name}={value}"]
        command += ["--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2", "spark-internal"]
        for setting in (f"port={port}", "bind.host=127.0.0.1"):
            command += ["--hiveconf", f"hive.server2.thrift.{setting}"]
        command += ["--hiveconf", "hive.server2.authentication=NOSASL"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if _answers(process, port):
            return process, port
        _stop(process)
    raise RuntimeError(f"Spark did not start; the end of its log: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return process.poll() is None
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
