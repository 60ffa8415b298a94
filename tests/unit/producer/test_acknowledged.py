"""Which records are acknowledged: the same as a plain set of numbers, and small."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import ValidationError, convert
from msgspec.json import decode, encode

from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals, AcknowledgedRanges

ORDINALS = st.lists(st.integers(0, 60))


def acknowledged_of(ordinals: list[int]) -> AcknowledgedOrdinals:
    acknowledged = AcknowledgedOrdinals()
    for ordinal in ordinals:
        acknowledged.add(ordinal)
    return acknowledged


@given(ORDINALS)
def test_it_holds_what_a_plain_set_holds(ordinals: list[int]) -> None:
    acknowledged = acknowledged_of(ordinals)
    assert {n for n in range(62) if n in acknowledged} == set(ordinals)
    assert len(acknowledged) == len(set(ordinals))


@given(ORDINALS)
def test_it_keeps_as_few_ranges_as_there_are_gaps(ordinals: list[int]) -> None:
    held = set(ordinals)
    beginnings = [n for n in held if n - 1 not in held]
    found = acknowledged_of(ordinals).ranges
    assert found.below == next(n for n in range(62) if n not in held)
    assert len(found.above) == len([n for n in beginnings if n > found.below])


@given(ORDINALS, ORDINALS)
def test_it_goes_on_from_its_json_as_if_nothing_had_happened(first: list[int], then: list[int]) -> None:
    resumed = AcknowledgedOrdinals.of(decode(encode(acknowledged_of(first).ranges), type=AcknowledgedRanges))
    for ordinal in then:
        resumed.add(ordinal)
    assert resumed.ranges == acknowledged_of(first + then).ranges


@given(st.permutations(range(40)))
def test_the_order_of_acknowledgements_leaves_no_trace(ordinals: list[int]) -> None:
    assert acknowledged_of(ordinals).ranges == AcknowledgedRanges(below=40, above=())


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"below": 3},
        {"below": None, "above": []},
        {"below": -1, "above": []},
        {"below": 1.5, "above": []},
        {"below": True, "above": []},
        {"below": 3, "above": [[3, 5]]},
        {"below": 3, "above": [[5, 5]]},
        {"below": 3, "above": [[6, 5]]},
        {"below": 3, "above": [[5, 7], [7, 9]]},
        {"below": 3, "above": [[9, 12], [5, 7]]},
        {"below": 3, "above": [[5]]},
        {"below": 3, "above": [["5", "7"]]},
        {"below": 3, "above": 7},
    ],
)
def test_a_checkpoint_that_is_only_nearly_right_is_unreadable(found: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        convert(found, AcknowledgedRanges)
