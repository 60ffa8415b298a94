"""Loads: two million changes in one delivery with one member too large for it, a thousand audiences, 5 MiB values.

Each runs in a process of its own, on a DuckDB file within the bounds that the package gives it, against a stream
in the same process that takes everything at once. What is compared is the memory of the process as the delivery
goes on: it must not grow with what was delivered. And the sums: every change is delivered or rejected.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import orjson

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS, Outcome, Record, Status
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.warehouses import LET_ALL_THROUGH, day, small_delivery

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.report import Progress, Report

BOUNDS = {"memory_limit": "192MB", "threads": 2}
"""As the hook of DuckDB has them, unless a connection says otherwise."""

GROWTH = 0.15
"""By so much may the memory in the second half of a delivery lie above that in the first: allocators breathe."""

TOO_LARGE = 5 * 2**20
LARGE = 900_000
"""Characters of a value that no record holds, and of one that a record just holds."""

MEMBERS = (
    "CREATE TABLE members AS SELECT 'a' || (i % {audiences}) AS audience, md5(CAST(i AS VARCHAR)) AS uid, "
    "'member' || i || '@mail.example' AS email, 'city ' || (i % 1000) AS city FROM range({count}) AS t(i)"
)


@dataclass(frozen=True)
class Case:
    """A load.

    :param changes: members of the source, all of whom enter.
    :param too_large: members besides whose value no record holds, and ``large`` those whose value one just holds.
    """

    name: str
    changes: int
    audiences: int = 1
    too_large: int = 0
    large: int = 0
    bounds: dict[str, Any] = field(default_factory=lambda: dict(BOUNDS))


CASES = (
    Case("500,000 changes", 500_000),
    Case("2,000,000 changes, one of them too large", 2_000_000, too_large=1),
    Case("1,000 audiences of 500 members", 500_000, audiences=1_000),
    # DuckDB itself needs several times the bytes of the values while it writes them.
    Case(
        "40 members of 5 MiB, 400 of 900 KB and 10,000 others",
        10_000,
        too_large=40,
        large=400,
        bounds=BOUNDS | {"memory_limit": "3GB"},
    ),
)


@dataclass
class Found:
    """What came of a load.

    :param memory: MiB that the process had while a part of the delivery was done, by tenth.
    """

    case: Case
    seconds: float
    report: Report
    messages: int
    users: int
    largest_audience: int
    smallest_audience: int
    memory: list[float]
    before_mib: float

    @property
    def growth(self) -> float:
        """By which share the second half lies above the first."""
        half = len(self.memory) // 2
        return max(self.memory[half:]) / max(self.memory[:half]) - 1

    @property
    def holds(self) -> bool:
        """Whether the sums match and the memory is flat."""
        case, report = self.case, self.report
        sums = report.delivered + report.rejected + report.omitted == case.changes + case.too_large + case.large
        whole = report.still_rejected == case.too_large and self.users == case.changes + case.large
        return sums and whole and self.growth <= GROWTH

    def describe(self) -> str:
        report, tenths = self.report, ", ".join(f"{m:.0f}" for m in self.memory)
        return "\n".join(
            [
                self.case.name,
                f"  {report.delivered:,} delivered, {report.rejected:,} rejected, in {self.messages:,} messages "
                f"and {self.seconds:.0f} s",
                f"  the consumer counts {self.users:,} users, {self.smallest_audience:,} to "
                f"{self.largest_audience:,} an audience",
                f"  memory of the process by tenths of the delivery, MiB: {tenths} (before it "
                f"{self.before_mib:.0f}); growth in the second half {self.growth:.0%}",
                f"  {'held' if self.holds else 'NOT HELD'}",
            ]
        )


class CountingStream:
    """Takes everything, and counts whom it is told of."""

    def __init__(self) -> None:
        self.users: Counter[str] = Counter()
        self.messages = 0
        self._lock = threading.Lock()

    def put(self, batch: Sequence[Record]) -> list[Outcome]:
        with self._lock:
            for record in batch:
                told = orjson.loads(record.data)
                self.users[told["cohort_id"]] += len(told["users"])
                self.messages += 1
        return [Outcome(Status.DELIVERED)] * len(batch)


def memory_mib() -> float:
    """Return what the process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def bear(case: Case, folder: Path) -> Found:
    """Run a load in this process."""
    path = folder / "load.duckdb"
    with duckdb.connect(str(path)) as own:
        own.execute(MEMBERS.format(audiences=case.audiences, count=case.changes))
        for count, size, who in ((case.too_large, TOO_LARGE, "huge"), (case.large, LARGE, "large")):
            rows = f"SELECT 'a0', '{who}' || i, NULL, repeat('x', {size}) FROM range({count}) AS t(i)"
            own.execute(f"INSERT INTO members {rows}")
    stream, tenths = CountingStream(), [0.0] * 10

    def watch(progress: Progress) -> None:
        tenth = min(9, 10 * progress.done // max(1, progress.total))
        tenths[tenth] = max(tenths[tenth], memory_mib())

    with DuckDbWarehouse(lambda: duckdb.connect(str(path), config=case.bounds), DIALECTS["duckdb"]) as warehouse:
        ledger = Ledger(warehouse, "state", "load")
        source = Source(
            query="SELECT * FROM members",
            user_id="uid",
            identities={"email": "Email"},
            properties={"city": "city"},
            audience_id_column="audience",
        )
        Sync(ledger, source, guards=LET_ALL_THROUGH).run(day(0))
        delivery = small_delivery(
            options={"max_users": 1_000, "user_properties": True}, limits=KINESIS_LIMITS, partitions=16
        )
        before, began = memory_mib(), time.monotonic()
        outbox = Outbox(ledger, delivery, stream.put, watch=watch)
        outbox.drain(day(0), on_rejected="skip")
        seconds = time.monotonic() - began
    return Found(
        case=case,
        seconds=seconds,
        report=outbox.report,
        messages=stream.messages,
        users=stream.users.total(),
        largest_audience=max(stream.users.values()),
        smallest_audience=min(stream.users.values()),
        memory=[m for m in tenths if m],
        before_mib=before,
    )


def _bear_and_print(case: Case) -> None:
    with tempfile.TemporaryDirectory(prefix="audience-load-") as folder:
        found = bear(case, Path(folder))
    print(found.describe(), flush=True)
    raise SystemExit(0 if found.holds else 1)


def main() -> bool:
    """Run every load in a process of its own."""
    held = True
    for case in CASES:
        process = multiprocessing.get_context("spawn").Process(target=_bear_and_print, args=(case,))
        process.start()
        process.join()
        held &= process.exitcode == 0
    return held
