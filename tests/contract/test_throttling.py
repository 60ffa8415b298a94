"""A delivery finds the rate limit of each shard, against shards with the token buckets of real ones.

Bounds here are loose, since a test must not fail because a machine is busy; the benchmark of that name has the
strict ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.producer.records import Destination
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from tests.contract.test_stream_faults import connection
from tests.shards import BYTES, RECORDS, Endpoint, make_partition_groups, sharded_kinesis

pytestmark = pytest.mark.slow

SECONDS = 6
ONE = "shardId-000000000001"


def put(
    shards: int, size: int, disturb: Callable[[Endpoint], Any] = lambda _endpoint: None, *, after: float = 0.0
) -> dict[str, Any]:
    """Deliver what shards take in some seconds; return what each took and throttled.

    :param disturb: what happens to the stream, and how many seconds ``after`` the beginning.
    """
    count = int(shards * SECONDS * min(RECORDS, BYTES / size))
    with sharded_kinesis(shards) as endpoint, connection(endpoint.url):
        hook = KinesisStreamHook("audience-changes")
        hook.check()
        timer = threading.Timer(after, disturb, [endpoint])
        timer.start()
        destination = Destination(put=hook.put, limits=hook.limits)
        how = {"acknowledged": AcknowledgedOrdinals(), "on_progress": lambda _: None}
        result = produce(make_partition_groups(count, size), destination, **how)
        timer.join()
        found = endpoint.report()
    assert result.failure is None
    assert result.delivered == sum(found["taken"].values()) == count // 16 * 16
    assert found["out_of_order"] == 0, "the order of a key is kept, whatever is throttled"
    return found


def share_throttled(found: dict[str, Any], *shards: str) -> float:
    taken, throttled = (sum(found[n][s] for s in shards or found[n]) for n in ("taken", "throttled"))
    return float(throttled / (taken + throttled))


def share_used(found: dict[str, Any], shard: str, size: int) -> float:
    """Return which part a shard has taken of what it could have taken until its last record."""
    return float(found["taken"][shard] / (min(RECORDS, BYTES / size) * found["offered"][shard]))


def is_used(found: dict[str, Any], size: int, *shards: str) -> bool:
    return all(share_used(found, shard, size) > 0.8 for shard in shards or found["taken"])


def in_one_of_three(keeps_pace: Callable[[dict[str, Any]], bool], attempt: Callable[[], dict[str, Any]]) -> bool:
    """Return whether a delivery keeps its shards' pace: a busy machine slows one attempt, a fault slows all."""
    for _ in range(3):
        found = attempt()
        if keeps_pace(found):
            return True
        print(f"slower than the shards: {found}")
    return False


@pytest.mark.parametrize(("shards", "size"), [(1, 100), (4, 100), (4, 50_000), (8, 1_000)])
def test_each_shard_is_put_to_as_fast_as_it_takes(shards: int, size: int) -> None:
    def keeps_pace(found: dict[str, Any]) -> bool:
        few = share_throttled(found) < 0.2  # nearly all of it in the first second, when nothing is known
        return few and is_used(found, size)

    assert in_one_of_three(keeps_pace, lambda: put(shards, size))


def test_a_shard_that_others_fill_is_put_to_less_and_no_other_is_slowed() -> None:
    def keeps_pace(found: dict[str, Any]) -> bool:
        others = [shard for shard in found["taken"] if shard != ONE]
        few = share_throttled(found) < 0.15 and share_throttled(found, *others) < 0.1
        return few and is_used(found, 1_000)

    assert in_one_of_three(keeps_pace, lambda: put(4, 1_000, lambda endpoint: endpoint.share(ONE, 0.7)))


@pytest.mark.parametrize(
    "reshard",
    [
        lambda endpoint: endpoint.split(ONE),
        lambda endpoint: endpoint.merge("shardId-000000000000", ONE),
    ],
    ids=["split", "merge"],
)
def test_a_stream_that_is_resharded_is_put_to_as_it_then_is(reshard: Callable[[Endpoint], Any]) -> None:
    def keeps_pace(found: dict[str, Any]) -> bool:
        new = [shard for shard in found["taken"] if shard > "shardId-000000000003"]
        untouched = [f"shardId-00000000000{n}" for n in (2, 3)]
        are_put_to = bool(new) and all(found["taken"][shard] > RECORDS for shard in new)
        return are_put_to and share_throttled(found) < 0.15 and is_used(found, 1_000, *untouched)

    assert in_one_of_three(keeps_pace, lambda: put(4, 1_000, reshard, after=SECONDS / 3))
