"""A user's partition is stable, says nothing private, and gives uniform shards equal shares."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.model.partitioning import partition_number, partition_of
from tests.changes import bucket_of

RING = 2**128
BUCKETS = [f"{number:03x}" for number in range(16**3)]
PARTITIONS = st.sampled_from([2**power for power in range(13)])


@given(st.text(min_size=1), st.sampled_from(BUCKETS), PARTITIONS)
def test_key_and_hash_key_are_within_what_kinesis_takes(audience_id, bucket, partitions):
    key, hash_key = partition_of(audience_id, bucket, partitions)
    assert 1 <= len(key) <= 256
    assert key.isascii()
    assert 0 <= hash_key < RING


def test_a_partition_does_not_move_between_versions():
    # Written down once: a release that moves users to other partitions mixes up the order of their messages.
    assert partition_of("gs72ns", "abc", 16) == ("c8d95cb260c078f2-10", 21 * 2**123)
    assert partition_of("gs72ns", "000", 1)[1] == 2**127
    assert partition_of("gs72ns", "fff", 4096)[1] == RING - 2**115


@given(st.text("xyz@.", min_size=5), st.text("uvw@.", min_size=5), PARTITIONS)
def test_a_key_holds_neither_the_user_nor_the_audience(audience_id, user_id, partitions):
    key, _ = partition_of(audience_id, bucket_of(user_id), partitions)
    assert audience_id not in key
    assert user_id not in key


@given(st.sampled_from(BUCKETS), PARTITIONS)
def test_audiences_have_keys_of_their_own_on_the_same_place_of_the_ring(bucket, partitions):
    (key, place), (other_key, other_place) = (partition_of(a, bucket, partitions) for a in ("a", "b"))
    assert key != other_key
    assert place == other_place


@given(PARTITIONS)
def test_one_partition_has_one_key_and_one_place_and_its_number_ascends_with_the_bucket(partitions):
    seen = [(partition_number(bucket, partitions), *partition_of("a", bucket, partitions)) for bucket in BUCKETS]
    assert [number for number, _, _ in seen] == sorted(number for number, _, _ in seen)
    for column in range(3):
        assert len({row[column] for row in seen}) == len(set(seen)) == partitions


@pytest.mark.parametrize("shards", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("partitions", [16, 64, 4096])
def test_uniform_shards_get_equal_shares(shards, partitions):
    of_users = Counter(partition_of("a", bucket, partitions)[1] * shards // RING for bucket in BUCKETS)
    assert set(of_users) == set(range(shards))
    assert set(of_users.values()) == {len(BUCKETS) // shards}
