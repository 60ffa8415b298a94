"""Reads a Kinesis data stream from its shards, also while they are split and merged; it unpacks its records.

A shard that comes of another is read after it. Nothing is written to the stream, and no consumer is registered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from airflow_kinesis_audience.consumer.aggregated import split_record
from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete, DestinationRefused

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook

_RECORDS = 1_000
_BUSY = ("LimitExceededException", "ProvisionedThroughputExceededException")
_BUSY_SECONDS = 1.0


class Arrived(NamedTuple):
    """A message as the stream holds it: the number of its shard, when it came, and its bytes."""

    shard: str
    at: datetime
    data: bytes


class Stream:
    """A stream that is being read.

    :param since: from when on, by default everything that is kept.
    :param only_new: nothing of what is there already.
    """

    def __init__(self, hook: KinesisStreamHook, *, since: datetime | None, only_new: bool) -> None:
        self._client, self._address = hook.client_once(), dict(hook.address)
        self._by_arn = self._address if hook.arn else {}
        self._name = hook.name
        self._start: dict[str, Any] = {"ShardIteratorType": "LATEST" if only_new else "TRIM_HORIZON"}
        if since is not None:
            self._start = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": since}
        self._iterators: dict[str, str] = {}
        self._known: set[str] = set()
        listed = self._ask("list_shards", **self._address)
        shards = list(listed["Shards"])
        while token := listed.get("NextToken"):
            listed = self._ask("list_shards", NextToken=token)
            shards += listed["Shards"]
        ids = {s["ShardId"] for s in shards}
        for shard in shards:
            # A child whose parent is still there comes after it; its own turn begins when the parent's ends.
            parents = {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")}
            if only_new or not parents & ids:
                self._begin(shard["ShardId"], self._start)

    @property
    def ended(self) -> bool:
        """Return whether no shard is left, as when the stream is being deleted."""
        return not self._iterators

    def read(self) -> Iterator[Arrived]:
        """Read on to where the stream ends now."""
        waiting = list(self._iterators)
        while waiting:
            shard_id = waiting.pop(0)
            where = {"ShardIterator": self._iterators[shard_id], **self._by_arn}
            answer = self._ask("get_records", **where, Limit=_RECORDS)
            for record in answer["Records"]:
                yield from self._unpack(shard_id, record)
            if (following := answer.get("NextShardIterator")) is None:
                del self._iterators[shard_id]
                for child in self._children(shard_id, answer):
                    self._begin(child, {"ShardIteratorType": "TRIM_HORIZON"})
                    waiting += [child] if child in self._iterators else []
            else:
                self._iterators[shard_id] = following
                if answer["Records"] or answer.get("MillisBehindLatest"):
                    waiting.append(shard_id)

    def _begin(self, shard_id: str, start: Mapping[str, Any]) -> None:
        if shard_id not in self._known:
            self._known.add(shard_id)
            answer = self._ask("get_shard_iterator", **self._address, ShardId=shard_id, **start)
            self._iterators[shard_id] = answer["ShardIterator"]

    def _children(self, shard_id: str, answer: Mapping[str, Any]) -> list[str]:
        """Find the shards that come of one."""
        children = answer.get("ChildShards")
        if children is None:
            listed = self._ask("list_shards", **self._address)["Shards"]
            children = [s for s in listed if shard_id in (s.get("ParentShardId"), s.get("AdjacentParentShardId"))]
        return [s["ShardId"] for s in children]

    def _unpack(self, shard_id: str, record: Mapping[str, Any]) -> Iterator[Arrived]:
        shard, at = shard_id.rpartition("-")[2].lstrip("0") or "0", record["ApproximateArrivalTimestamp"]
        for message in split_record(record["Data"]):
            yield Arrived(shard, at, message)

    def _ask(self, operation: str, **arguments: Any) -> Any:
        while True:
            try:
                return getattr(self._client, operation)(**arguments)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code not in _BUSY:
                    raise DestinationRefused(
                        f"stream {self._name} cannot be read ({code} of {operation}); check its name, the region, "
                        "and that the login may kinesis:ListShards, kinesis:GetShardIterator, kinesis:GetRecords"
                    ) from None
                time.sleep(_BUSY_SECONDS)
            except BotoCoreError as error:
                raise DeliveryIncomplete(
                    f"stream {self._name} cannot be reached ({type(error).__name__}); check the connection's "
                    "endpoint_url and the network"
                ) from None
