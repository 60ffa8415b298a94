"""Columns: whether Arrow's way to JSON gives the bytes that the way over values of Python gives."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn
from airflow_kinesis_audience.formats.json_values import render_array, render_column

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", '"', "\\", "a\nb", "\x00", "\x1f", "\x7f", "\u2028", "😀", "null", '","', "plain"]
)
COLUMNS = {
    pa.string(): TEXT,
    pa.int64(): st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 0]),
    pa.bool_(): st.booleans(),
    pa.float64(): st.floats(),
    pa.date32(): st.dates(),
    pa.timestamp("us", tz="UTC"): st.datetimes(timezones=st.just(UTC))
    | st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0)),
}


@given(st.sampled_from(list(COLUMNS)).flatmap(lambda t: st.tuples(st.just(t), st.lists(st.none() | COLUMNS[t]))))
def test_any_column_is_rendered_the_same_with_arrow_and_by_values(column: tuple[pa.DataType, list[Any]]) -> None:
    kind, values = column

    rendered = render_array("property x", ArrowColumn(pa.array(values, kind)))

    assert rendered.to_pylist() == render_column("property x", values)


@given(st.lists(st.none() | TEXT, min_size=2), st.data())
def test_a_part_of_a_column_is_rendered_as_that_part(values: list[str | None], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(values)))
    part = pa.array(values, pa.string()).slice(start)

    assert render_array("property x", ArrowColumn(part)).to_pylist() == render_column("property x", values[start:])


def test_a_column_is_a_sequence_of_plain_values() -> None:
    values = [datetime(2026, 1, 31, tzinfo=UTC).date(), None, date(2026, 2, 1)]
    column = ArrowColumn(pa.array(values, pa.date32()))

    assert (len(column), list(column), column[1:], column[0]) == (3, values, values[1:], values[0])
    assert column == values
    assert "2026" not in repr(column)


@pytest.mark.parametrize(("values", "is_text"), [(["a", "b"], True), (["a", None], False), ([], True)])
def test_a_column_with_a_missing_value_is_not_text_throughout(values: list[str | None], is_text: bool) -> None:
    assert ArrowColumn(pa.array(values, pa.string())).is_text is is_text
