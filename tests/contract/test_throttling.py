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


@pytest.mark.parametrize(("shards", "size"), [(1, 100), (4, 100), (4, 50_000), (8, 1_000)])
def test_each_shard_is_put_to_as_fast_as_it_takes(shards: int, size: int) -> None:
    found = put(shards, size)
    assert share_throttled(found) < 0.2, "nearly all of it in the first second, when nothing is known"
    assert all(share_used(found, shard, size) > 0.8 for shard in found["taken"])


def test_a_shard_that_others_fill_is_put_to_less_and_no_other_is_slowed() -> None:
    found = put(4, 1_000, lambda endpoint: endpoint.share(ONE, 0.7))
    assert share_throttled(found) < 0.15
    others = [shard for shard in found["taken"] if shard != ONE]
    assert share_throttled(found, *others) < 0.1
    assert all(share_used(found, shard, 1_000) > 0.8 for shard in found["taken"])


@pytest.mark.parametrize(
    "reshard",
    [
        lambda endpoint: endpoint.split(ONE),
        lambda endpoint: endpoint.merge("shardId-000000000000", ONE),
    ],
    ids=["split", "merge"],
)
def test_a_stream_that_is_resharded_is_put_to_as_it_then_is(reshard: Callable[[Endpoint], Any]) -> None:
    found = put(4, 1_000, reshard, after=SECONDS / 3)
    assert len(found["taken"]) > 4
    assert share_throttled(found) < 0.15
    untouched = [f"shardId-00000000000{n}" for n in (2, 3)]
    assert all(share_used(found, shard, 1_000) > 0.8 for shard in untouched)
    assert all(found["taken"][shard] > RECORDS for shard in found["taken"] if shard > "shardId-000000000003")
