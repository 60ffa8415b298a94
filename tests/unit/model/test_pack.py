"""Packing keeps the order, loses and invents nothing, and fills every group as far as both bounds allow."""

from __future__ import annotations

from itertools import count, islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.model.messages import pack

PARTS = st.lists(st.binary(max_size=12), max_size=60)
COUNTS = st.integers(1, 8)
BYTES = st.integers(0, 40)


def packed(parts, max_count, max_bytes):
    return list(pack(parts, size=len, max_count=max_count, max_bytes=max_bytes))


def size(group):
    return sum(map(len, group))


@given(PARTS, COUNTS, BYTES)
def test_the_groups_joined_are_the_parts_and_no_group_is_empty(parts, max_count, max_bytes):
    groups = packed(parts, max_count, max_bytes)
    assert [part for group in groups for part in group] == parts
    assert all(groups)


@given(PARTS, COUNTS, BYTES)
def test_both_bounds_hold_unless_a_part_alone_is_too_large(parts, max_count, max_bytes):
    for group in packed(parts, max_count, max_bytes):
        assert len(group) <= max_count
        assert size(group) <= max_bytes or len(group) == 1


@given(PARTS, COUNTS, BYTES)
def test_no_group_had_room_for_the_part_after_it(parts, max_count, max_bytes):
    for group, following in pairwise(packed(parts, max_count, max_bytes)):
        assert len(group) == max_count or size(group) + len(following[0]) > max_bytes


def test_a_part_that_is_too_large_stands_alone_between_full_groups():
    assert packed([b"a", b"b", b"cccccc", b"d", b"e"], 10, 3) == [[b"a", b"b"], [b"cccccc"], [b"d", b"e"]]


def test_parts_are_read_as_they_are_needed():
    groups = pack(map(str, count()), size=len, max_count=3, max_bytes=100)
    assert list(islice(groups, 2)) == [["0", "1", "2"], ["3", "4", "5"]]
