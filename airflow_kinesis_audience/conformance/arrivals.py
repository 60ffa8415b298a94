"""The order in which a consumer gets messages: as they were put, or as a stream may bring them.

An arrival order is a list of positions in what was put; a position may be there more than once. Every message
arrives at least once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random


def in_order(chance: Random, partitions: Sequence[int]) -> list[int]:
    """Each message once, in the order in which it was put."""
    return [*range(len(partitions))]


def repeated(chance: Random, partitions: Sequence[int]) -> list[int]:
    """A reader restarts from an older checkpoint, so that it gets messages again, after newer ones."""
    found: list[int] = []
    at = 0
    while at < len(partitions):
        stop = min(at + chance.randint(1, 8), len(partitions))
        found += range(at, stop)
        at = max(0, stop - chance.randint(1, 6)) if chance.random() < 0.5 else stop
    return found


def late(chance: Random, partitions: Sequence[int]) -> list[int]:
    """Some messages arrive after all others, as from a retry, or from a shard that was not read for a time."""
    order = [*range(len(partitions))]
    held = set(chance.sample(order, max(1, len(order) // 4)))
    last = sorted(held)
    chance.shuffle(last)
    return [n for n in order if n not in held] + last


def resharded(chance: Random, partitions: Sequence[int]) -> list[int]:
    """Two shards become four, and the four are read beside the two; the order holds within a shard alone."""
    cut = chance.randint(1, max(1, len(partitions) - 1))
    shards: dict[tuple[int, int], list[int]] = {}
    for n, partition in enumerate(partitions):
        shards.setdefault((2, partition % 2) if n < cut else (4, partition % 4), []).append(n)
    found = []
    while shards:
        name = chance.choice(sorted(shards))
        found.append(shards[name].pop(0))
        if not shards[name]:
            del shards[name]
    return found


def shuffled(chance: Random, partitions: Sequence[int]) -> list[int]:
    """Any order, a third of the messages twice."""
    order = [*range(len(partitions))]
    found = order + chance.sample(order, len(order) // 3)
    chance.shuffle(found)
    return found


ARRIVALS: dict[str, Callable[[Random, Sequence[int]], list[int]]] = {
    "in order": in_order,
    "repeated": repeated,
    "late": late,
    "resharded": resharded,
    "shuffled": shuffled,
}
"""By name, how messages arrive."""
