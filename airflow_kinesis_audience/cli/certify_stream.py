"""Reads back what ``certify`` has put on a stream: the messages about one audience, shard by shard, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook

_PAUSE_SECONDS = 0.25
"""A shard allows five reads a second."""
_QUIET_READS = 3
"""After so many empty reads at its end, a shard has no more."""
_BUSY = ("ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException")


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as the stream has it."""

    shard: str
    data: bytes


class StreamReader:
    """Reads a stream from its beginning: not every emulator can read from a time on."""

    def __init__(self, hook: KinesisStreamHook) -> None:
        self._hook = hook

    def check(self) -> int:
        """Return how many shards can be read.

        :raises ValueError: if the login is not allowed to read.
        """
        shards = self._list_shards()
        self._ask("get_records", ShardIterator=self._start(shards[0]), Limit=1)
        return len(shards)

    def read(self, audience_id: str) -> list[StoredRecord]:
        """Read the records that name an audience; others are not looked at."""
        mark = f'"{audience_id}"'.encode()
        return [
            stored for shard in self._list_shards() for stored in self._read_shard(shard) if mark in stored.data
        ]

    def _list_shards(self) -> list[str]:
        return [shard["ShardId"] for shard in self._ask("list_shards", **self._hook.address)["Shards"]]

    def _start(self, shard: str) -> str:
        where = {"ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        return str(self._ask("get_shard_iterator", **self._hook.address, **where)["ShardIterator"])

    def _read_shard(self, shard: str) -> Iterator[StoredRecord]:
        iterator, quiet = self._start(shard), 0
        while iterator and quiet < _QUIET_READS:
            response = self._ask("get_records", ShardIterator=iterator)
            for record in response["Records"]:
                yield StoredRecord(shard, record["Data"])
            is_at_end = not response["Records"] and not response.get("MillisBehindLatest")
            quiet = quiet + 1 if is_at_end else 0
            iterator = response.get("NextShardIterator")
            time.sleep(_PAUSE_SECONDS)

    def _ask(self, call: str, **arguments: Any) -> Any:
        """Call AWS, and wait while it limits the reads.

        :raises ValueError: if it refuses, with what to grant.
        """
        while True:
            try:
                return getattr(self._hook.conn, call)(**arguments)
            except BotoCoreError as error:
                failed = type(error).__name__
            except ClientError as error:
                failed = error.response["Error"]["Code"]
                if failed in _BUSY:
                    time.sleep(1.0)
                    continue
            raise ValueError(
                f"{call} failed with {failed}. To read back what was put, the login needs kinesis:ListShards, "
                "kinesis:GetShardIterator and kinesis:GetRecords on the stream; publishing does not. If "
                "AWS was not reachable, repeat the check"
            )
