"""Values that are made by their bytes are what pyarrow's own conversion gives."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.model.arrow_values import binary, false, integer, integers, texts

NUMBERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(TEXTS))
def test_texts(values: list[str]) -> None:
    made = texts(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.string()))


@given(st.lists(NUMBERS))
def test_integers(values: list[int]) -> None:
    made = integers(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.int64()))


@given(st.binary(), NUMBERS)
def test_single_values(value: bytes, number: int) -> None:
    assert binary(value).equals(pa.scalar(value, pa.large_binary()))
    assert integer(number).equals(pa.scalar(number, pa.int64()))
    assert false().equals(pa.scalar(value=False))


def test_a_number_that_has_more_bits_is_an_error() -> None:
    with pytest.raises(OverflowError):
        integer(2**63)
