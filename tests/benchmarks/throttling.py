"""How much of what a stream's shards take is used, and how many records are throttled on the way.

The endpoint has token buckets per shard as the real one has them (``tests/shards.py``). A shard begins with a
second's tokens; what it could have taken is that and what came in until it took its last record. Records are put
as by the operators, through the same hook. There is no peer: the bound is the service's own.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.producer.records import Destination
from airflow_kinesis_audience.demo.local_airflow import point_airflow_to
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from tests.benchmarks.delivery import point_clients_to
from tests.shards import BYTES, RECORDS, Endpoint, make_partition_groups, sharded_kinesis

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.producer.records import Record

SECONDS = 40
USED, THROTTLED = 0.95, 0.05


@dataclass(frozen=True)
class Case:
    """A stream and a load that keeps it busy for some time.

    :param size: of a record in bytes.
    :param disturb: what happens to the stream meanwhile.
    """

    name: str
    shards: int
    size: int
    disturb: Callable[[Endpoint], None] = lambda _endpoint: None

    def partition_groups(self) -> list[Iterator[Record]]:
        """Make what the shards take in that time, spread evenly, in partition groups as a delivery has."""
        return make_partition_groups(int(self.shards * SECONDS * min(RECORDS, BYTES / self.size)), self.size)


def split_one(endpoint: Endpoint) -> None:
    time.sleep(SECONDS / 3)
    endpoint.split("shardId-000000000001")


def heat_one(endpoint: Endpoint) -> None:
    endpoint.share("shardId-000000000001", 0.5)


CASES = (
    Case("1 shard, 100 B", 1, 100),
    Case("1 shard, 100 KB", 1, 100_000),
    Case("4 shards, 100 B", 4, 100),
    Case("4 shards, 100 KB", 4, 100_000),
    Case("16 shards, 100 B", 16, 100),
    Case("16 shards, 100 KB", 16, 100_000),
    Case("4 shards, one is split", 4, 1_500, split_one),
    Case("4 shards, others fill half of one", 4, 1_500, heat_one),
)


def main() -> bool:
    """Measure, print, and return whether the bounds are kept."""
    with tempfile.TemporaryDirectory(prefix="audience-benchmark-") as home:
        point_airflow_to(Path(home))
        logging.disable(logging.WARNING)
        print(f"{'stream and records':36}{'seconds':>9}{'records/s':>11}{'MB/s':>7}{'used':>8}{'throttled':>10}")
        kept = [measure(case) for case in CASES]
    return all(kept)


def measure(case: Case) -> bool:
    """Deliver once, print a line, and return whether the bounds are kept."""
    with sharded_kinesis(case.shards) as endpoint:
        point_clients_to(endpoint.url)
        hook = KinesisStreamHook("changes")
        hook.check()
        disturbance = threading.Thread(target=case.disturb, args=(endpoint,))
        disturbance.start()
        result = produce(
            case.partition_groups(),
            Destination(put=hook.put, limits=hook.limits),
            acknowledged=AcknowledgedOrdinals(),
            on_progress=lambda _: None,
        )
        disturbance.join()
        if result.failure:
            raise result.failure
        report = endpoint.report()
    taken, throttled, seconds = sum(report["taken"].values()), sum(report["throttled"].values()), report["seconds"]
    used = taken / (min(RECORDS, BYTES / case.size) * sum(report["offered"].values()))
    share = throttled / (taken + throttled)
    rates = f"{taken / seconds:>11,.0f}{report['bytes'] / seconds / 1e6:>7.2f}"
    is_kept = used >= USED and share < THROTTLED
    print(f"{case.name:36}{seconds:>9.1f}{rates}{used:>8.1%}{share:>10.2%}{'' if is_kept else '  NOT kept'}")
    return is_kept


if __name__ == "__main__":
    main()
