"""A record that the library put together comes apart into the same messages, and no other record does."""

from __future__ import annotations

import hashlib

import pytest
from aws_kinesis_agg.aggregator import AggRecord
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.consumer import read_message, split_record

MARK = b"\xf3\x89\x9a\xc2"


def put_together(messages: list[bytes]) -> bytes:
    record = AggRecord()
    for n, message in enumerate(messages):
        assert record.add_user_record(f"key-{n % 3}", message, str(n % 2))
    return bytes(record.get_contents()[2])


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=300))
def test_what_the_library_put_together_comes_apart(messages: list[bytes]) -> None:
    assert split_record(put_together(messages)) == messages


@given(st.binary(max_size=60), st.booleans())
def test_any_other_record_comes_back_as_it_is(data: bytes, marked: bool) -> None:
    record = MARK + data if marked else data
    assert split_record(record) == [record]


def test_a_record_that_was_not_taken_apart_is_refused_by_what_takes_it_apart() -> None:
    with pytest.raises(ValueError, match="split it with split_record"):
        read_message(put_together([b"{}", b"{}"]))


@pytest.mark.parametrize("cut", [1, 16, 30])
def test_a_record_that_is_not_whole_comes_back_as_it_is(cut: int) -> None:
    record = put_together([b"one", b"two"])[:-cut]
    assert split_record(record) == [record]


@given(st.binary(max_size=40))
def test_a_frame_that_makes_no_sense_comes_back_as_it_is_or_apart(frame: bytes) -> None:
    record = MARK + frame + hashlib.md5(frame, usedforsecurity=False).digest()
    assert isinstance(split_record(record), list)


def test_fields_that_are_not_known_are_passed_over() -> None:
    frame = b"\x20\x05" + b"\x29" + bytes(8) + b"\x35" + bytes(4) + b"\x1a\x05\x08\x00\x1a\x01x"
    record = MARK + frame + hashlib.md5(frame, usedforsecurity=False).digest()
    assert split_record(record) == [b"x"]
