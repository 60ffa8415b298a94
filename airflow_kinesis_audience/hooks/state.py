"""Where a sync's state is: in the warehouse that has the author's tables, or apart from it, as files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.hooks.file_ledger import FileRows
from airflow_kinesis_audience.hooks.files import EXCLUSIVE, Files
from airflow_kinesis_audience.hooks.lake import SETTINGS, LakeWarehouse
from airflow_kinesis_audience.hooks.warehouse import open_warehouse
from airflow_kinesis_audience.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """How a state is found again: what one task tells the next.

    :param warehouse_conn_id: Airflow connection of the author's tables.
    :param state_schema: the schema of the state, or its directory.
    :param state_path: the address under which the state is kept as files, if it is not in the warehouse.
    :param state_memory: what DuckDB may take of the worker's memory where there is a ``state_path``.
    """

    warehouse_conn_id: str
    state_schema: str
    state_path: str | None = None
    state_memory: str | None = None

    @classmethod
    def told_by(cls, summary: Mapping[str, Any]) -> State:
        """Read what another task has told."""
        return cls(**{n: summary[n] for n in cls.__slots__ if summary.get(n) is not None})

    def told(self) -> dict[str, str]:
        """Tell another task."""
        return {n: getattr(self, n) for n in self.__slots__ if getattr(self, n) is not None}


@contextmanager
def open_ledger(state: State, sync_id: str, *, reads_source: bool = False) -> Iterator[Ledger]:
    """Open a sync's ledger, and with it the warehouse or the files of its state.

    :param reads_source: whether the author's tables are read, too.
    :raises ValueError: if an address or a connection is none that is supported; a retry does not help.
    """
    if state.state_path is None:
        with open_warehouse(state.warehouse_conn_id) as warehouse:
            yield Ledger(warehouse, state.state_schema, sync_id)
        return
    files = open_files(state.state_path)
    settings = SETTINGS if state.state_memory is None else {**SETTINGS, "memory_limit": state.state_memory}
    origin = open_warehouse(state.warehouse_conn_id) if reads_source else None
    with LakeWarehouse(files, origin, settings) as warehouse:
        yield Ledger(warehouse, state.state_schema, sync_id, FileRows(files, state.state_schema, sync_id))


def open_files(address: str) -> Files:
    """Open the files below an address, through Airflow's connection where the address names one.

    :param address: a path, or a URL such as ``s3://aws_default@bucket/audiences``.
    :raises ValueError: if it is none, or on a storage that is not supported; a retry does not help.
    """
    from airflow.sdk import ObjectStoragePath

    if not address.strip():
        raise ValueError("state_path is empty; expected a URL such as s3://aws_default@bucket/audiences")
    try:
        path = ObjectStoragePath(address if "://" in address else f"file://{address}")
        fs = path.fs
    except ValueError:
        raise ValueError(
            f"state_path is {address!r}, on a storage that Airflow knows no file system of; expected one of "
            f"{', '.join(EXCLUSIVE)}"
        ) from None
    except ImportError as error:
        raise ValueError(
            f"state_path is {address!r}, and the package for its storage is not installed here ({error}); for S3: "
            "pip install airflow-kinesis-audience[s3]"
        ) from None
    return Files(fs, path.path)
