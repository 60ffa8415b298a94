"""Values become JSON without loss, whatever else is in their column."""

from __future__ import annotations

import enum
import json
from collections import UserString
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.formats.json_values import render_column, render_texts

BERLIN_SUMMER = timezone(timedelta(hours=2))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
AWARE = st.datetimes(
    min_value=datetime(2, 1, 1),
    max_value=datetime(9998, 1, 1),
    timezones=st.sampled_from([UTC, BERLIN_SUMMER, timezone(timedelta(hours=-9, minutes=-30))]),
)


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Moment(datetime):
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"null"),
        (True, b"true"),
        (False, b"false"),
        (0, b"0"),
        (2**53, b"9007199254740992"),
        (2**53 + 1, b'"9007199254740993"'),
        (-(2**53), b"-9007199254740992"),
        (-(2**53) - 1, b'"-9007199254740993"'),
        (2**200, f'"{2**200}"'.encode()),
        (1.0, b"1.0"),
        (0.1, b"0.1"),
        (float("nan"), b"null"),
        (float("inf"), b"null"),
        (float("-inf"), b"null"),
        (Decimal("10.50"), b'"10.50"'),
        (Decimal("0E-8"), b'"0.00000000"'),
        (Decimal("123456789012345678901234567890.1"), b'"123456789012345678901234567890.1"'),
        (Decimal("NaN"), b"null"),
        (Decimal("-Infinity"), b"null"),
        ("", b'""'),
        ('a"b\\c\n\x00', b'"a\\"b\\\\c\\n\\u0000"'),
        ("Zoë 🦇", '"Zoë 🦇"'.encode()),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b'"2026-01-02T03:04:05Z"'),
        (datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=UTC), b'"2026-01-02T03:04:05.000060Z"'),
        (datetime(2026, 7, 1, 0, 30, tzinfo=BERLIN_SUMMER), b'"2026-06-30T22:30:00Z"'),
        (Moment(2026, 7, 1, 0, 30, 0, 5, tzinfo=BERLIN_SUMMER), b'"2026-06-30T22:30:00.000005Z"'),
        (date(2026, 1, 2), b'"2026-01-02"'),
        (Color.RED, b'"red"'),
        (Level.HIGH, b"3"),
    ],
)
def test_a_value_is_rendered_the_same_alone_and_beside_any_other_type(value, expected):
    others = ["text", 7, 2**60, 0.5, True, Decimal(1), None, date(2020, 2, 2), datetime(2020, 2, 2, tzinfo=UTC)]
    assert render_column("x", [value]) == [expected]
    assert render_column("x", [*others, value, *others])[len(others)] == expected


def test_an_empty_column_has_no_fragments():
    assert render_column("x", []) == []


def test_an_integer_column_with_nulls_stays_a_column_of_integers():
    assert render_column("x", [1, None, 3]) == [b"1", b"null", b"3"]


@given(st.lists(PLAIN))
def test_every_value_is_one_fragment_on_one_line_that_reads_back(column):
    fragments = render_column("x", column)
    assert len(fragments) == len(column)
    assert not any(b"\n" in fragment for fragment in fragments)
    for fragment, value in zip(fragments, column, strict=True):
        read = json.loads(fragment, parse_constant=pytest.fail)
        if isinstance(value, float) and (value != value or abs(value) == float("inf")):
            assert read is None
        elif type(value) is int and abs(value) > 2**53:
            assert read == str(value)
        else:
            assert (type(read), read) == (type(value), value)


@given(st.lists(st.text(alphabet='",\n \\[]ab')))
def test_text_that_looks_like_the_separator_is_not_split(column):
    assert [json.loads(fragment) for fragment in render_column("x", column)] == column


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=9)))
def test_decimals_keep_every_digit_and_their_scale(column):
    read = [json.loads(fragment) for fragment in render_column("x", column)]
    assert [Decimal(text).as_tuple() for text in read] == [value.as_tuple() for value in column]
    assert not any("E" in text for text in read)


@given(st.lists(AWARE))
def test_timestamps_are_the_same_instant_in_utc_with_microseconds_only_if_there_are_any(column):
    for fragment, value in zip(render_column("x", column), column, strict=True):
        text = json.loads(fragment)
        assert datetime.fromisoformat(text) == value
        assert text.endswith("Z")
        assert ("." in text) == bool(value.microsecond)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"secret", "bytes"),
        ({"secret": 1}, "dict"),
        (["secret"], "list"),
        (UserString("secret"), "UserString"),
        (time(1, 2), "time"),
        (timedelta(days=1), "timedelta"),
        (1j, "complex"),
    ],
)
def test_any_other_type_is_refused_by_name_and_type_without_the_value(value, found):
    with pytest.raises(ValueError, match=rf"^property city has {found}; expected") as caught:
        render_column("property city", ["secret", value, 2**60])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [datetime, Moment])
def test_a_naive_timestamp_is_refused(kind):
    with pytest.raises(ValueError, match=r"^property seen has a timestamp without time zone") as caught:
        render_column("property seen", [None, kind(1999, 12, 31)])
    assert "1999" not in str(caught.value)


def test_a_timestamp_that_utc_cannot_express_is_refused():
    with pytest.raises(ValueError, match="outside the years"):
        render_column("property seen", [datetime.min.replace(tzinfo=BERLIN_SUMMER)])


@pytest.mark.parametrize("others", [[], [1], [Decimal(1)]])
def test_a_lone_surrogate_is_refused_without_the_value(others):
    with pytest.raises(ValueError, match=r"^property city has text with a lone surrogate") as caught:
        render_column("property city", ["secret\ud800", *others])
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_column_of_text_takes_nothing_but_text():
    assert render_texts("user_id", ["7", "é"]) == [b'"7"', '"é"'.encode()]
    with pytest.raises(ValueError, match=r"^user_id has NoneType and int; expected text"):
        render_texts("user_id", ["7", 7, None])
