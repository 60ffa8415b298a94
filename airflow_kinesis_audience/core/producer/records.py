"""The wire side of a message: the record that is put, its outcome, and the destination with its limits.

A record never knows its format, and nothing here puts one. The same message gives the same bytes and keys on every
attempt, so that a consumer can drop what is delivered twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a destination takes in one request; sizes in bytes, data plus partition key.

    :param rate: its rate limit in words, and ``remedy`` what to do where that is too little.
    :param shard_records: records that a shard takes in a second, and ``shard_bytes`` the bytes; 0 without shards.
    """

    records_per_request: int
    record_bytes: int
    request_bytes: int
    rate: str = ""
    remedy: str = ""
    shard_records: int = 0
    shard_bytes: int = 0


KINESIS_LIMITS = Limits(
    records_per_request=500,
    record_bytes=1_000_000,
    request_bytes=5_000_000,
    rate="a shard accepts 1,000 records and 1 MB per second",
    remedy=(
        "add shards, switch the stream to on-demand mode, aggregate small messages, or look for another producer "
        "that uses it up"
    ),
    shard_records=1_000,
    shard_bytes=1_000_000,
)
"""PutRecords, under every endpoint's bounds: 500 records, 1 MiB a record, 5 MiB a request.

Source: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
"""


FIREHOSE_LIMITS = Limits(
    records_per_request=500,
    record_bytes=1_000_000,
    request_bytes=3_000_000,
    rate="its quota in the region limits a delivery stream's records, requests and bytes per second",
    remedy="ask AWS to raise the quota, or look for another producer that uses it up",
)
"""PutRecordBatch: 500 records, 1,000 KiB a record, 4 MiB a request.

AWS does not document whether the bound of a request counts bytes before or after Base64, so they fit either way.
Source: https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html
"""


class Record(NamedTuple):
    """The bytes put to a destination.

    :param ordinal: number of the record within its change set, from 0, without gaps.
    :param data: the message's bytes, with whatever ends a record at this destination.
    :param partition_key: 1 to 256 characters, nothing private in it.
    :param hash_key: the explicit hash key, 0 to 2^128 - 1.
    :param changes: how many changes of the change set it carries.
    :param ordering_key: records that share one are put one after the other; empty means the partition key.
    :param messages: how many messages it holds.
    """

    ordinal: int
    data: bytes
    partition_key: str
    hash_key: int
    changes: int
    ordering_key: str = ""
    messages: int = 1

    @property
    def effective_ordering_key(self) -> str:
        """The ordering key, or the partition key where there is none."""
        return self.ordering_key or self.partition_key

    @property
    def size(self) -> int:
        """Bytes that count towards the limits."""
        return len(self.data) + len(self.partition_key)


class Status(StrEnum):
    """The destination's answer for one record of one put.

    ``delivered``: acknowledged. ``throttled``: not taken, over the rate limit. ``unknown``: no clear answer, it
    may have been taken. ``rejected``: not taken, and the same bytes would be rejected again.
    """

    DELIVERED = "delivered"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class Outcome(NamedTuple):
    """Status of one record in one put, with the destination's error code where there is one.

    :param shard: the shard that took or throttled it, where the answer names one.
    """

    status: Status
    code: str = ""
    shard: str = ""


Put = Callable[[Sequence[Record]], list[Outcome]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where records are put.

    :param put: one request, called from several threads; returns one outcome per record, in order.
    :param name: its name in an error.
    """

    put: Put
    limits: Limits
    name: str = "the destination"
