"""A Kinesis endpoint on this machine whose shards take what real ones take: 1,000 records and 1 MB a second each.

Each shard has a range of the hash ring and two token buckets, which fill evenly and hold a second's worth; a
record that finds one of them too low is throttled in the words of the service. A test can split and merge shards,
and let other producers put to them. It runs in a process of its own, so that a client under test has one to
itself.
"""

from __future__ import annotations

import base64
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

from airflow_kinesis_audience.core.producer.records import Record
from tests.scripted_kinesis import THROTTLE, Raw, ScriptedKinesis, Whole

HASH_KEYS = 2**128
PARTITION_GROUPS, PARTITIONS = 16, 64
ORDERING_KEYS = 100
"""Of a partition group: so many users, each with records in an order."""

DIGITS = 9
RECORDS, BYTES = 1_000, 1_000_000
"""What a shard takes in a second."""


@dataclass
class Shard:
    """One shard; others that put to it take a share of what it could take."""

    name: str
    low: int
    high: int
    others: float = 0.0
    records: float = float(RECORDS)
    bytes: float = float(BYTES)
    filled_at: float = field(default_factory=time.monotonic)
    taken: int = 0
    throttled: int = 0
    offered: float = 1.0
    until_now: float = 1.0

    def take(self, size: int) -> bool:
        """Take a record if there are tokens for it."""
        now = time.monotonic()
        left = (now - self.filled_at) * (1.0 - self.others)
        self.filled_at = now
        if self.taken + self.throttled:
            self.until_now += left
        self.records = min(RECORDS, self.records + left * RECORDS)
        self.bytes = min(BYTES, self.bytes + left * BYTES)
        has_tokens = self.records >= 1 and self.bytes >= size
        if has_tokens:
            self.records -= 1
            self.bytes -= size
        self.taken += has_tokens
        self.throttled += not has_tokens
        if has_tokens:
            self.offered = self.until_now
        return has_tokens


class ShardedKinesis(ScriptedKinesis):
    """The endpoint; keeps numbers, and no records.

    :param latency_seconds: between a request and its answer.
    """

    def __init__(self, shards: int, latency_seconds: float) -> None:
        super().__init__()
        self._latency_seconds = latency_seconds
        self._made = 0
        self._shards: list[Shard] = []
        self._closed: list[Shard] = []
        self._open(*(HASH_KEYS * n // shards for n in range(shards + 1)))
        self._first_at = self._last_at = 0.0
        self._bytes = 0
        self._last_of: dict[int, int] = {}
        self._out_of_order = 0

    def _open(self, *bounds: int) -> None:
        for low, high in pairwise(bounds):
            self._shards.append(Shard(f"shardId-{self._made:012}", low, high))
            self._made += 1

    def decide(self, entries: Sequence[dict[str, str]]) -> Whole | Raw | list[dict[str, str]]:
        """Take of a request what the shards can."""
        if self._latency_seconds:
            time.sleep(self._latency_seconds)
        with self._lock:
            self._first_at = self._first_at or time.monotonic()
            answer = [self._decide_one(entry) for entry in entries]
            self._last_at = time.monotonic()
        return answer

    def _decide_one(self, entry: dict[str, str]) -> dict[str, str]:
        where, data = int(entry["ExplicitHashKey"]), entry["Data"]
        size = len(data) * 3 // 4 - data[-2:].count("=") + len(entry["PartitionKey"])
        shard = next(shard for shard in self._shards if shard.low <= where < shard.high)
        if not shard.take(size):
            said = f"Rate exceeded for shard {shard.name} in stream changes under account 123456789012."
            return {"ErrorCode": THROTTLE, "ErrorMessage": said}
        self._bytes += size
        # A record begins with its number and its ordering key; within a key the numbers must ascend.
        begins = base64.b64decode(data[: 4 * (2 * DIGITS) // 3])
        number, key = int(begins[:DIGITS]), int(begins[DIGITS:])
        self._out_of_order += number <= self._last_of.get(key, -1)
        self._last_of[key] = number
        return {"SequenceNumber": f"{shard.taken:020}", "ShardId": shard.name}

    def obey(self, order: str, *arguments: Any) -> Any:
        """Do what the other process asks for."""
        with self._lock:
            return getattr(self, f"_obey_{order}")(*arguments)

    def _obey_split(self, name: str) -> None:
        shard = self._close(name)
        self._open(shard.low, (shard.low + shard.high) // 2, shard.high)

    def _obey_merge(self, first: str, second: str) -> None:
        self._open(self._close(first).low, self._close(second).high)

    def _obey_share(self, name: str, others: float) -> None:
        next(shard for shard in self._shards if shard.name == name).others = others

    def _obey_report(self) -> dict[str, Any]:
        """Report what was taken and throttled so far, and of how many seconds' worth until the last was taken."""
        shards = self._closed + self._shards
        return {
            "taken": {shard.name: shard.taken for shard in shards},
            "throttled": {shard.name: shard.throttled for shard in shards},
            "offered": {shard.name: shard.offered for shard in shards},
            "bytes": self._bytes,
            "seconds": self._last_at - self._first_at,
            "out_of_order": self._out_of_order,
        }

    def _close(self, name: str) -> Shard:
        shard = next(shard for shard in self._shards if shard.name == name)
        self._shards.remove(shard)
        self._closed.append(shard)
        return shard


@dataclass
class Endpoint:
    """This process's side of it."""

    url: str
    _pipe: Connection

    def split(self, name: str) -> None:
        """Put two shards in the place of one."""
        self._ask("split", name)

    def merge(self, first: str, second: str) -> None:
        """Put one shard in the place of two that are neighbours."""
        self._ask("merge", first, second)

    def share(self, name: str, others: float) -> None:
        """Let others put to a shard so much of what it takes."""
        self._ask("share", name, others)

    def report(self) -> dict[str, Any]:
        """Return how many records each shard took and throttled, and bytes, seconds and records out of order."""
        return self._ask("report")  # type: ignore[no-any-return]

    def _ask(self, *order: Any) -> Any:
        self._pipe.send(order)
        return self._pipe.recv()


def make_partition_groups(count: int, size: int) -> list[Iterator[Record]]:
    """Make so many records of so many bytes, spread evenly over all shards, in partition groups as a delivery has.

    Each begins with its number and its ordering key.
    """
    return [_make_group(group, count // PARTITION_GROUPS, size) for group in range(PARTITION_GROUPS)]


def _make_group(group: int, count: int, size: int) -> Iterator[Record]:
    rest = os.urandom(size // 2).hex().encode()
    of_group = PARTITIONS // PARTITION_GROUPS
    for n in range(group * count, (group + 1) * count):
        partition, ordering_key = group * of_group + n % of_group, group * ORDERING_KEYS + n % ORDERING_KEYS
        begins = b"%0*d%0*d" % (DIGITS, n, DIGITS, ordering_key)
        key, hash_key = f"0123456789abcdef-{partition}", (2 * partition + 1) * HASH_KEYS // (2 * PARTITIONS)
        yield Record(n, begins + rest[len(begins) + len(key) :], key, hash_key, 1, f"{ordering_key}")


@contextmanager
def sharded_kinesis(shards: int, *, latency_seconds: float = 0.005) -> Iterator[Endpoint]:
    """Serve from a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, shards, latency_seconds), daemon=True)
    process.start()
    try:
        yield Endpoint(ours.recv(), ours)
    finally:
        ours.send(())
        process.join(30)


def _serve(pipe: Connection, shards: int, latency_seconds: float) -> None:
    with ShardedKinesis(shards, latency_seconds) as kinesis:
        pipe.send(kinesis.endpoint_url)
        while order := pipe.recv():
            pipe.send(kinesis.obey(*order))
