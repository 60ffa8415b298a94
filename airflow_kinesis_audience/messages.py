"""Messages, records and batches: how bytes are counted and grouped, the same on every attempt.

Nothing here sends, waits or looks at a clock. A :class:`Message` is what a format renders, a
:class:`Record` is that message as the destination stores it, and :func:`pack` is the one rule by which
anything is grouped under a bound: users into messages, records into batches.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

T = TypeVar("T")

_IDS = uuid.UUID("6f5f1d43-6c0e-5d2b-9d62-5a2f3c3b7c11")
_MEMBER_BUCKETS = 16**3
_HASH_KEYS = 2**128


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a destination takes in one request; sizes in bytes, data plus partition key.

    :param rate: what it takes in a second, in words, and ``remedy`` what to do where that is too little.
    :param shard_records: records that a shard takes in a second, and ``shard_bytes`` bytes, if there are shards.
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
    rate="a shard takes 1,000 records and 1 MB a second",
    remedy="add shards, switch the stream to on-demand mode, aggregate small messages, or look for another "
    "producer that fills it",
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
    rate="a delivery stream takes as many records, requests and bytes a second as its quota in the region says",
    remedy="have the quota raised at AWS, or look for another producer that fills it",
)
"""PutRecordBatch: 500 records, 1,000 KiB a record, 4 MiB a request.

Whether the bound of a request counts the bytes before or after Base64 is not said, so they fit either way.
Source: https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html
"""


class Direction(StrEnum):
    """Whether a message tells of users coming or going."""

    ENTER = "enter"
    EXIT = "exit"


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """What a format needs besides the changes.

    :param job: first part of every message id of this change set to this destination.
    :param partitions: number of partitions per audience, a power of two up to 4,096.
    :param message_bytes: most bytes of a message's document.
    """

    job: uuid.UUID
    partitions: int
    message_bytes: int


class Lifecycle(StrEnum):
    """What happens to a whole audience."""

    RESYNC_BEGIN = "resync_begin"
    """Everything that is true is about to be told again."""
    RESYNC_COMPLETE = "resync_complete"
    """All of it was acknowledged by the destination before this was put."""
    DELETED = "deleted"
    """The audience is no more: whatever was said of it until then is void."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What one message about a whole audience is to say.

    :param number: of the audience among those that are told of, from 0.
    :param time: the instant that the message speaks for.
    :param members: entries that the resync tells, and ``exits`` likewise: what a consumer checks its count by.
    """

    kind: Lifecycle
    number: int
    time: datetime
    audience_id: str
    audience_name: str
    members: int = 0
    exits: int = 0


class Message(NamedTuple):
    """One JSON document in a wire format.

    :param document: UTF-8 JSON on a single line, without a newline.
    :param partition: all messages about a user of an audience share one. See :func:`partition_of`.
    :param hash_key: where on the stream's hash ring the partition lies, 0 to 2^128 - 1.
    :param changes: how many changes of the change set it carries.
    :param lane: which messages of the change set are put in order; by default those of its partition. Where a
        message tells of one change alone, its lane may be that change's: it is never sent.
    """

    document: bytes
    partition: str
    hash_key: int
    changes: int
    lane: str = ""


class Record(NamedTuple):
    """The bytes put to a destination.

    :param ordinal: number of the record within its change set, from 0, without gaps.
    :param data: the message's bytes, with whatever ends a record at this destination.
    :param partition_key: 1 to 256 characters, nothing private in it.
    :param hash_key: the explicit hash key, 0 to 2^128 - 1.
    :param changes: how many changes of the change set it carries.
    :param lane: records of one lane are put one after the other; by default its partition key.
    :param messages: how many messages it holds.
    """

    ordinal: int
    data: bytes
    partition_key: str
    hash_key: int
    changes: int
    lane: str = ""
    messages: int = 1

    @property
    def order(self) -> str:
        """What it must be put in order with."""
        return self.lane or self.partition_key

    @property
    def size(self) -> int:
        """Bytes that count towards the limits."""
        return len(self.data) + len(self.partition_key)


class Status(StrEnum):
    """What became of one record in one put.

    ``throttled``: not taken, capacity was short. ``unknown``: no clear answer, it may have been taken.
    ``rejected``: not taken, and putting the same bytes again would not help.
    """

    DELIVERED = "delivered"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class Outcome(NamedTuple):
    """Status of one record in one put, with the destination's error code where there is one.

    :param shard: the shard that took it or did not, where the destination says so.
    """

    status: Status
    code: str = ""
    shard: str = ""


def pack(parts: Iterable[T], *, size: Callable[[T], int], max_count: int, max_bytes: int) -> Iterator[list[T]]:
    """Group parts in their order, each group as full as both bounds allow.

    :param parts: what to group; read lazily.
    :param size: bytes that a part adds to its group.
    :param max_count: most parts in a group.
    :param max_bytes: most bytes in a group. A part that is larger alone makes a group alone: whoever
        renders it decides what to do with it.
    """
    group: list[T] = []
    filled = 0
    for part in parts:
        added = size(part)
        if group and (len(group) >= max_count or filled + added > max_bytes):
            yield group
            group, filled = [], 0
        group.append(part)
        filled += added
    if group:
        yield group


def message_job(*, sync_id: str, previous_as_of: str, as_of: str, destination: str, rendering: str) -> uuid.UUID:
    """Derive the id that all messages of one change set to one destination share.

    :param rendering: a text that covers the format, its version and its options.
    """
    return uuid.uuid5(_IDS, json.dumps([sync_id, previous_as_of, as_of, destination, rendering]))


def partition_number(bucket: str, partitions: int) -> int:
    """Return which of an audience's partitions a user's bucket belongs to; it ascends with the bucket.

    :param bucket: three hexadecimal digits, from :class:`~airflow_kinesis_audience.audience.Changes`.
    :param partitions: a power of two up to 4,096.
    """
    return int(bucket, 16) * partitions // _MEMBER_BUCKETS


def digits_of(partitions: int) -> int:
    """Return how many of a bucket's digits tell its partition."""
    return max(1, -(-(partitions.bit_length() - 1) // 4))


def partition_of(audience_id: str, bucket: str, partitions: int) -> tuple[str, int]:
    """Return the partition key and explicit hash key for a user's bucket of an audience.

    Keys lie in the middle of equal parts of the hash ring, so that uniform shards get equal shares
    where ``partitions`` is a multiple of their number. A key tells the audience by a digest and one of
    ``partitions`` numbers, no more.

    :param bucket: three hexadecimal digits, from :class:`~airflow_kinesis_audience.audience.Changes`.
    :param partitions: a power of two up to 4,096.
    """
    number = partition_number(bucket, partitions)
    digest = hashlib.blake2b(audience_id.encode(), digest_size=8).hexdigest()
    return f"{digest}-{number}", (2 * number + 1) * _HASH_KEYS // (2 * partitions)
