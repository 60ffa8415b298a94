"""Which partition a user's messages belong to, and its key on the stream's hash ring.

Nothing private is in a key. The invariant: a user of an audience has the same key for ever, so that a stream keeps
the order of the user's messages.
"""

from __future__ import annotations

import hashlib
import re

_MEMBER_BUCKETS = 16**3
_HASH_KEYS = 2**128


def read_partitions(given: int | str) -> int:
    """Read a number of partitions per audience.

    :raises ValueError: if it is none; a retry does not help.
    """
    text = str(given).strip()
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= _MEMBER_BUCKETS or int(text).bit_count() != 1:
        raise ValueError(f"partitions is {given}; expected a power of two from 1 to 4,096")
    return int(text)


def partition_number(bucket: str, partitions: int) -> int:
    """Return which of an audience's partitions a user's bucket belongs to; it ascends with the bucket.

    :param bucket: three hexadecimal digits, from :class:`~airflow_kinesis_audience.core.model.audience.Changes`.
    :param partitions: a power of two up to 4,096.
    """
    return int(bucket, 16) * partitions // _MEMBER_BUCKETS


def digits_of(partitions: int) -> int:
    """Return how many of a bucket's digits decide its partition."""
    return max(1, -(-(partitions.bit_length() - 1) // 4))


def partition_of(audience_id: str, bucket: str, partitions: int) -> tuple[str, int]:
    """Return the partition key and explicit hash key for a user's bucket of an audience.

    Keys lie in the middle of equal parts of the hash ring, so that uniform shards get equal shares
    where ``partitions`` is a multiple of their number. A key holds a digest of the audience id and one of
    ``partitions`` numbers, no more.

    :param bucket: three hexadecimal digits, from :class:`~airflow_kinesis_audience.core.model.audience.Changes`.
    :param partitions: a power of two up to 4,096.
    """
    number = partition_number(bucket, partitions)
    digest = hashlib.blake2b(audience_id.encode(), digest_size=8).hexdigest()
    return f"{digest}-{number}", (2 * number + 1) * _HASH_KEYS // (2 * partitions)
