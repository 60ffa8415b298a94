"""ClickHouse as chDB runs it: the real engine, in this process, behind the client's own DB-API cursor.

There is one engine in a process, so that all places share it and differ in their databases. No server is started
and nothing goes over HTTP: that half of the client is not run.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from tests.engines.environments import add_packages

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.clickhouse import ClickHouseWarehouse

_lock = threading.Lock()


@cache
def _engine() -> Any:
    from chdb import session

    from airflow_kinesis_audience.hooks.warehouses.clickhouse import SETTINGS

    engine = session.Session(tempfile.mkdtemp(prefix="audience-clickhouse-"))
    for name, value in SETTINGS.items():
        engine.query(f"SET {name} = {value!r}")
    return engine


class _Client:
    """What of clickhouse-connect's client the hook uses, over chDB."""

    def query(self, query: str, parameters: Any = None, **_: Any) -> Any:
        from clickhouse_connect.driver.binding import finalize_query

        table = self._run(finalize_query(query, parameters, None))
        return _Result(table)

    @contextmanager
    def query_arrow_stream(self, query: str, use_strings: bool) -> Iterator[Iterator[pa.Table]]:
        yield iter([self._run(query)])

    def set_client_setting(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass

    @staticmethod
    def _run(query: str) -> pa.Table:
        from clickhouse_connect.driver.exceptions import DatabaseError

        with _lock:
            try:
                found = _engine().query(query, "ArrowStream").bytes()
            except Exception as error:
                raise DatabaseError(str(error)) from None
        return pa.ipc.open_stream(found).read_all() if found else pa.table({})


class _Result:
    summary: Sequence[Any] = ()

    def __init__(self, table: pa.Table) -> None:
        self.column_names = tuple(table.column_names)
        self.column_types = tuple(type("T", (), {"name": str(t)}) for t in table.schema.types)
        self.result_set = list(zip(*(c.to_pylist() for c in table.columns), strict=True))


def open_clickhouse() -> ClickHouseWarehouse:
    """Open the engine's warehouse."""
    add_packages("clickhouse")
    from airflow_kinesis_audience.hooks.warehouses.clickhouse import ClickHouseWarehouse

    return ClickHouseWarehouse(_Client, DIALECTS["clickhouse"])
