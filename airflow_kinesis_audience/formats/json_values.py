"""Values as JSON without loss, a column at a time.

Every format turns warehouse values into JSON here and nowhere else, so that a number means the same in all of
them. A value that has no exact JSON is an error, never an approximation, and the error names the column and the
type, never the value. The invariant: one fragment per value, in order, valid JSON on a single line.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn
from airflow_kinesis_audience.core.model.arrow_values import binary, false

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


Plain = bool | int | float | str | date | datetime | None
"""What orjson writes without loss."""

LARGEST_EXACT_INTEGER = 2**53
"""Readers that keep JSON numbers as doubles, JavaScript among them, are exact up to here."""

_SEPARATOR = b",\n  "
# orjson writes exactly these types without loss; a NaN or an infinity it writes as null.
_AS_THEY_ARE = frozenset({str, bool, float, NoneType})
_SAFE_WITH_BOUND = _AS_THEY_ARE | {int}
_ESCAPED_IN_JSON = bytes(range(0x20)) + b'"\\'
"""What JSON has no plain way to write within a text; all other UTF-8 stands for itself."""


def render_column(name: str, column: Sequence[Any]) -> list[bytes]:
    """Render a column as one JSON fragment per value.

    Booleans, integers up to 2^53 either way and finite floats keep their kind; larger integers and decimals become
    strings; aware datetimes RFC 3339 in UTC; dates ``YYYY-MM-DD``; none and what is not a number become null.

    :param name: what to call the column in an error, for example ``property city``.
    :raises ValueError: on a naive datetime, a lone surrogate or any other type; a retry does not help.
    """
    if len(column) == 0:
        return []
    try:
        text = orjson.dumps(_plain(name, column), option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:
        raise ValueError(f"{name} has text with a lone surrogate; expected text that UTF-8 can encode") from None
    # Indented, every element stands on a line of its own, and inside a string a newline is always escaped:
    # splitting there is exact. Splitting the compact text at `","` is not: a string may end in `",`.
    return text[len(b"[\n  ") : -len(b"\n]")].split(_SEPARATOR)


def render_texts(name: str, column: Sequence[str]) -> list[bytes]:
    """Render a column that must be text throughout, such as user ids.

    :raises ValueError: if anything in it is not text; a retry does not help.
    """
    return render_column(name, require_texts(name, column))


def require_texts(name: str, column: Sequence[str]) -> Sequence[str]:
    """Return a column that is text throughout.

    :raises ValueError: if anything in it is not text; a retry does not help.
    """
    if isinstance(column, ArrowColumn) and column.is_text:
        return column
    if other := set(map(type, column)) - {str}:
        raise ValueError(f"{name} has {_type_names(other)}; expected text in every row: cast it in the query")
    return column


def render_array(name: str, column: Sequence[Any]) -> pa.Array:
    """Render a column as :func:`render_column` does, into one Arrow array of bytes.

    Text that needs no escape, whole numbers and booleans never become values of Python on the way.
    """
    found = _render_plain(column.array) if isinstance(column, ArrowColumn) else None
    if found is None:
        return pa.array(render_column(name, column), type=pa.large_binary())
    return pc.fill_null(found, binary(b"null")) if found.null_count else found


def find_differing(name: str, one: Sequence[Any], other: Sequence[Any]) -> pa.Array:
    """Find the rows whose two values are rendered differently; two that are NULL are the same."""
    if not (isinstance(one, ArrowColumn) and isinstance(other, ArrowColumn) and _equal_as_rendered(one, other)):
        return pc.not_equal(render_array(name, one), render_array(name, other))
    differs = pc.fill_null(pc.not_equal(one.array, other.array), false())
    return pc.or_(differs, pc.xor(one.array.is_null(), other.array.is_null()))


def _equal_as_rendered(one: ArrowColumn, other: ArrowColumn) -> bool:
    """Whether values are the same in JSON just where they are in Arrow: for floats that need not be so."""
    exact = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_date)
    return one.array.type == other.array.type and any(holds(one.array.type) for holds in exact)


def _render_plain(array: pa.Array) -> pa.Array | None:
    """Render what is the same in JSON as in Arrow's own text; none if a value of it is not."""
    if pa.types.is_boolean(array.type):
        return array.cast(pa.large_string()).cast(pa.large_binary())
    if pa.types.is_integer(array.type):
        bounds = pc.min_max(array).as_py()
        low, high = bounds["min"] or 0, bounds["max"] or 0
        exact = low >= -LARGEST_EXACT_INTEGER and high <= LARGEST_EXACT_INTEGER
        return array.cast(pa.large_string()).cast(pa.large_binary()) if exact else None
    if pa.types.is_date(array.type) or (pa.types.is_timestamp(array.type) and array.type.tz == "UTC"):
        return _quoted(_render_times(array)) if _in_python(array) else None
    if not pa.types.is_string(array.type) or _has_escapes(array):
        return None
    return _quoted(array)


def _quoted(array: pa.Array) -> pa.Array:
    quote, nothing = binary(b'"'), binary(b"")
    return pc.binary_join_element_wise(quote, array.cast(pa.large_binary()), quote, nothing)


def _in_python(array: pa.Array) -> bool:
    """Whether all dates or instants lie in the years that Python has; others are an error elsewhere."""
    try:
        pc.min_max(array).as_py()
    except (OverflowError, ValueError):
        return False
    return True


def _render_times(array: pa.Array) -> pa.Array:
    """Render dates, and instants with their microseconds only where there are any."""
    if pa.types.is_date(array.type):
        return array.cast(pa.string())
    whole = array.cast(pa.timestamp("s", "UTC"), safe=False)
    text = pc.if_else(pc.equal(whole.cast(array.type), array), whole.cast(pa.string()), array.cast(pa.string()))
    return pc.replace_substring(text, " ", "T")


def _has_escapes(array: pa.Array) -> bool:
    _, offsets, text = array.buffers()
    if text is None:
        return False
    ends = memoryview(offsets).cast("i")
    used = bytes(memoryview(text)[ends[array.offset] : ends[array.offset + len(array)]])
    return len(used.translate(None, _ESCAPED_IN_JSON)) < len(used)


def encode(document: Mapping[str, Any], what: str = "an audience's id or name") -> bytes:
    """Render a document whose values are plain or rendered.

    :param what: what in it may be wrong, for the error.
    :raises ValueError: if a text in it is none that UTF-8 can encode; a retry does not help.
    """
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        raise ValueError(f"{what} is not text that UTF-8 can encode; correct it at its source") from None


def _plain(name: str, column: Sequence[Any]) -> list[Plain]:
    kinds = set(map(type, column))
    if kinds <= _AS_THEY_ARE or (kinds <= _SAFE_WITH_BOUND and _all_exact(column)):
        return list(column)
    converters: dict[type, Callable[[Any], Plain]] = {kind: _converter(name, kind) for kind in kinds}
    try:
        return [converters[type(value)](value) for value in column]
    except ValueError as error:
        raise ValueError(f"{name} has {error}") from None


def _all_exact(column: Sequence[Any]) -> bool:
    integers = [value for value in column if type(value) is int]
    return min(integers) >= -LARGEST_EXACT_INTEGER and max(integers) <= LARGEST_EXACT_INTEGER


def _converter(name: str, kind: type) -> Callable[[Any], Plain]:
    if exact := _EXACT_CONVERTERS.get(kind):
        return exact
    # Narrow before wide: bool is an int, datetime is a date.
    for known, convert in _CONVERTERS:
        if issubclass(kind, known):
            return convert
    raise ValueError(
        f"{name} has {_type_names([kind])}; expected bool, int, float, Decimal, str, date, aware datetime or "
        f"NULL: cast it in the query"
    )


def _type_names(kinds: Iterable[type]) -> str:
    return " and ".join(sorted(kind.__name__ for kind in kinds))


def _same(value: Any) -> Plain:
    same: Plain = value
    return same


def _from_int(value: int) -> Plain:
    exact = -LARGEST_EXACT_INTEGER <= value <= LARGEST_EXACT_INTEGER
    return int(value) if exact else str(int(value))


def _from_float(value: float) -> Plain:
    return float(value) if math.isfinite(value) else None


def _from_decimal(value: Decimal) -> Plain:
    # Plain digits, as databases print them: str() would write a zero of scale 8 as 0E-8.
    return format(value, "f") if value.is_finite() else None


def _to_utc(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise ValueError("a timestamp without time zone; add its time zone in the query")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a timestamp outside the years 1 to 9999 in UTC; limit it in the query") from None


def _from_datetime(value: datetime) -> Plain:
    return _to_utc(value).isoformat()[: -len("+00:00")] + "Z"


_CONVERTERS: tuple[tuple[type, Callable[[Any], Plain]], ...] = (
    (NoneType, _same),
    (bool, _same),
    (int, _from_int),
    (float, _from_float),
    (str, str.__str__),
    (Decimal, _from_decimal),
    (datetime, _from_datetime),
    (date, date.isoformat),
)
# orjson writes these two ten times as fast as isoformat(), but none of their subclasses.
_EXACT_CONVERTERS: Mapping[type, Callable[[Any], Plain]] = {datetime: _to_utc, date: _same}
