"""Partition groups: a delivery's partitions in up to sixteen groups, each read independently of the others.

The rows of a change set stand by partition. Read in their order they would fill one shard after the other, and a
slow shard would delay all; read by group they reach all shards at the same time. The rows of a group in one slice
are a chunk: it is rendered alone, and its records have numbers of their own, so that chunks are read in any order,
by any number of tasks, and give the same bytes and ids.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_PARTITION_GROUPS = 16
"""One for each first digit of a bucket."""

_CHUNK_RECORDS = 2**32
"""Numbers that a chunk has for its records, far more than it needs."""


class Part(NamedTuple):
    """Which part of a delivery a task sends, of how many: each part has its share of the partition groups."""

    number: int = 0
    of: int = 1


WHOLE = Part()


class Chunk(NamedTuple):
    """The rows of a partition group in a slice.

    :param start: number of its first record; the numbers of all its records are below ``stop``.
    :param changes: how many changes of the change set it holds.
    """

    group: int
    slice: int
    start: int
    stop: int
    changes: int


def count_partition_groups(partitions: int) -> int:
    """Return how many partition groups a delivery has."""
    return min(partitions, MOST_PARTITION_GROUPS)


def plan_chunks(
    counts: Mapping[tuple[int, str], int], *, slices: int, partitions: int, part: Part
) -> list[list[Chunk]]:
    """List the chunks of each partition group of a part, in the order in which they are read.

    :param counts: changes by slice and first digit of the bucket.
    """
    groups = count_partition_groups(partitions)
    own = range(part.number * groups // part.of, (part.number + 1) * groups // part.of)
    found: Counter[tuple[int, int]] = Counter()
    for (number, digit), changes in counts.items():
        found[int(digit, 16) * groups // MOST_PARTITION_GROUPS, number] += changes
    planned: list[list[Chunk]] = [[] for _ in own]
    for (group, number), changes in sorted(found.items()):
        if group in own:
            start = (group * slices + number) * _CHUNK_RECORDS
            planned[group - own.start].append(Chunk(group, number, start, start + _CHUNK_RECORDS, changes))
    return planned
