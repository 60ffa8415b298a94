"""The side of ``certify`` that computes and delivers, on a DuckDB in a temporary file; also as a process to kill.

    python -m airflow_kinesis_audience.cli.certify_publisher ORDER.json

That process delivers some requests, prints ``waiting`` and waits until it is killed.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.delivery import Delivery
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.report import Progress
    from airflow_kinesis_audience.core.producer.records import Outcome, Record
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

USERS_PER_RECORD, RECORDS_PER_REQUEST = 5, 20
PUTS_BEFORE_KILL = 4
"""Requests after which the first process waits for its end."""
_OPTIONS = {"max_users": USERS_PER_RECORD}
_WAIT_SECONDS = 600.0


def read_order(path: Path) -> Mapping[str, Any]:
    """Read what both processes have to know."""
    order: Mapping[str, Any] = json.loads(path.read_text())
    return order


def instant_of(number: int) -> datetime:
    """Return the instant of a run: a day after that of the run before."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


class Publisher:
    """Computes and delivers the changes of the made-up audience."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._path, self._audience_id = order["warehouse"], order["audience_id"]
        self.hook = KinesisStreamHook(
            order["stream"], aws_conn_id=order["aws_conn_id"], region_name=order["region"]
        )
        self.throttled = 0
        self._newest = 0

    def write(self, members: Collection[str]) -> None:
        """Write who is a member."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"user_id": sorted(members)}), self._members)

    def compute(self, number: int) -> None:
        """Compute a change set."""
        query = f"SELECT user_id FROM read_parquet('{self._members}')"  # noqa: S608
        source = Source(
            query=query,
            user_id="user_id",
            identities={},
            properties={},
            audience_id=self._audience_id,
            audience_name=self._audience_id,
        )
        with self._open() as warehouse:
            Sync(self._ledger(warehouse), source, guards=Guards(max_exit_ratio=None)).run(instant_of(number))

    def publish(self, number: int, wait_after: int = 0) -> dict[str, Any]:
        """Deliver up to a run; returns the report.

        :param wait_after: wait for the end after so many requests, instead of delivering on.
        """
        self._newest = number
        with self._open() as warehouse:
            outbox = self._outbox(
                warehouse, _WaitingPut(self.hook.put, wait_after) if wait_after else self.hook.put
            )
            try:
                outbox.drain(instant_of(number))
            finally:
                report = asdict(outbox.report)
        return report

    def delete(self) -> None:
        """Announce that the audience is deleted."""
        with self._open() as warehouse:
            ledger = self._ledger(warehouse)
            close(ledger, instant_of(self._newest + 1), exits=False, delivery=self._delivery())
            announce_deletion(self._outbox(warehouse, self.hook.put))

    @property
    def _members(self) -> Path:
        return Path(self._path).with_name("members.parquet")

    def _open(self) -> DuckDbWarehouse:
        import duckdb

        return DuckDbWarehouse(lambda: duckdb.connect(self._path), DIALECTS["duckdb"])

    def _ledger(self, warehouse: Warehouse) -> Ledger:
        return Ledger(warehouse, "state", "certify.diff")

    def _delivery(self) -> Delivery:
        return Delivery(
            destination=self.hook.destination,
            connection=self.hook.aws_conn_id,
            message_format="amplitude_cohort",
            options=_OPTIONS,
            renderer=load_renderer("amplitude_cohort", _OPTIONS),
            limits=replace(self.hook.limits, records_per_request=RECORDS_PER_REQUEST),
            owner="certify",
        )

    def _outbox(self, warehouse: Warehouse, put: Any) -> Outbox:
        return Outbox(self._ledger(warehouse), self._delivery(), put, watch=self._watch)

    def _watch(self, progress: Progress) -> None:
        self.throttled = max(self.throttled, progress.result.throttles.total())


class _WaitingPut:
    """Puts some requests, and then waits for the end of the process."""

    def __init__(self, put: Any, most: int) -> None:
        self._put, self._most = put, most
        self._lock, self._count = threading.Lock(), 0

    def __call__(self, batch: Sequence[Record]) -> list[Outcome]:
        with self._lock:
            self._count += 1
            number = self._count
        if number > self._most:
            print("waiting", flush=True)
            time.sleep(_WAIT_SECONDS)
        found: list[Outcome] = self._put(batch)
        return found


if __name__ == "__main__":
    Publisher(read_order(Path(sys.argv[1]))).publish(0, wait_after=PUTS_BEFORE_KILL)
