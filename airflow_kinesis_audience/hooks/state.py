"""Where a sync's state is: in the warehouse that has the author's tables, or apart from it, as files.

A task finds the state of another by what that one's summary says of it. Whoever opens a ledger here closes with it
every connection that it has opened.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import AudienceError, how_to_install
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.settings import logs_sql
from airflow_kinesis_audience.hooks.signals import ending_with_task
from airflow_kinesis_audience.hooks.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from typing import Any

    from airflow_kinesis_audience.hooks.files.object_storage import ObjectStorage
    from airflow_kinesis_audience.hooks.statement_tags import StatementTag
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse


_log = logging.getLogger(__name__)
_IS_DIRECTORY = re.compile(r"[^./\\\0][^/\\\0]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """How a state is found again: what one task hands to the next in its summary.

    :param warehouse_conn_id: Airflow connection of the author's tables.
    :param state_schema: the schema of the state, or its directory.
    :param state_path: the address under which the state is kept as files, if it is not in the warehouse.
    :param state_memory: what DuckDB may take of the worker's memory where there is a ``state_path``.
    """

    warehouse_conn_id: str
    state_schema: str
    state_path: str | None = None
    state_memory: str | None = None

    @property
    def location(self) -> str:
        """Where the state is within its warehouse, or beside it."""
        return f"{self.state_path or ''}/{self.state_schema}"

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> State:
        """Read it from another task's summary."""
        return cls(**{n: summary[n] for n in cls.__slots__ if summary.get(n) is not None})

    def to_summary(self) -> dict[str, str]:
        """Give what a task's summary says of it, for the tasks after that one."""
        return {n: getattr(self, n) for n in self.__slots__ if getattr(self, n) is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionSource:
    """An author's function that gives the rows of an audience.

    :param function: it, or its dotted path.
    :param as_of: the instant of the run, which it gets.
    """

    function: str | Callable[..., Any]
    as_of: datetime


@contextmanager
def open_ledger(
    state: State,
    sync_id: str,
    *,
    tag: StatementTag | None,
    reads_source: bool = False,
    source: FunctionSource | None = None,
) -> Iterator[Ledger]:
    """Open a sync's ledger, and with it the warehouse or the files of its state.

    :param tag: names the task in its statements; what an earlier attempt of it left at work is ended. None
        outside of a task.
    :param reads_source: whether the author's tables are read, too.
    :param source: the function that gives the rows, instead of a warehouse; only with a ``state_path``.
    :raises ValueError: if an address or a connection is none that is supported; a retry does not help.
    """
    if state.state_path is None:
        with open_warehouse(state.warehouse_conn_id) as warehouse, ending_with_task(warehouse):
            name_task(warehouse, tag, state)
            yield Ledger(warehouse, state.state_schema, sync_id)
        return
    if not _IS_DIRECTORY.fullmatch(state.state_schema):
        raise ValueError(
            f"state_schema is {state.state_schema!r}; with state_path it is the name of a directory, so it must "
            "not contain a slash or start with a dot"
        )
    # What files need is imported for them alone.
    from airflow_kinesis_audience.hooks.files.duckdb_parquet import SETTINGS, DuckDbParquetWarehouse
    from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable

    files = open_files(state.state_path)
    settings = SETTINGS if state.state_memory is None else {**SETTINGS, "memory_limit": state.state_memory}
    origin: SqlWarehouse | None = None
    if source is not None:
        from airflow_kinesis_audience.hooks.files.function_source import FunctionWarehouse

        origin = FunctionWarehouse(source.function, source.as_of, settings)
    elif reads_source:
        origin = open_warehouse(state.warehouse_conn_id)
    with DuckDbParquetWarehouse(files, origin, settings) as warehouse, ending_with_task(warehouse):
        name_task(warehouse.origin, tag, state)
        yield Ledger(warehouse, state.state_schema, sync_id, FileLedgerTable(files, state.state_schema, sync_id))


def name_task(warehouse: SqlWarehouse, tag: StatementTag | None, state: State) -> None:
    """Tag the statements of a warehouse, and end those of an earlier attempt that was killed."""
    if tag is not None:
        tag = replace(tag, state=state.location)
    warehouse.tag = tag
    warehouse.logs_sql = logs_sql()
    if tag is not None and tag.is_retry:
        try:
            if ended := warehouse.end_earlier_attempts():
                _log.warning("Ended %s statements that an earlier attempt of this task left at work", ended)
        except AudienceError as error:
            _log.warning("Not looked for statements that an earlier attempt of this task left at work: %s", error)


def open_files(address: str) -> ObjectStorage:
    """Open the files below an address, through Airflow's connection where the address names one.

    :param address: a path, or a URL such as ``s3://aws_default@bucket/audiences``.
    :raises ValueError: if it is none, or on a storage that is not supported; a retry does not help.
    """
    from airflow.sdk import ObjectStoragePath

    from airflow_kinesis_audience.hooks.files.object_storage import EXCLUSIVE, ObjectStorage

    if not address.strip():
        raise ValueError("state_path is empty; expected a URL such as s3://aws_default@bucket/audiences")
    try:
        path = ObjectStoragePath(address if "://" in address else f"file://{address}")
        fs = path.fs
    except ValueError:
        raise ValueError(
            f"state_path is {address!r}, a storage that Airflow does not support; expected one of "
            f"{', '.join(EXCLUSIVE)}"
        ) from None
    except ImportError as error:
        raise ValueError(
            f"state_path is {address!r}, and the package for its storage is not installed here ({error}); for S3, "
            f"{how_to_install('s3')}"
        ) from None
    return ObjectStorage(fs, path.path)
