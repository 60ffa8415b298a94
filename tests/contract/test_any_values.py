"""Any values of any type in any role, on every engine, against plain Python: who came, who left, what changed.

What is expected is computed here and knows no SQL: a value's text is the one that Python writes, and two values
are one if these texts are. Each run of the tests draws other values; the end of its output says how to draw them
again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.core.exceptions import WarehouseRefused
from tests.contract.test_state_model import Crowd, engine, place
from tests.contract.test_values import collated

__all__ = ["engine", "place"]

ROLES = ("key", "identity", "property", "audience id")
COLUMN = {"key": "uid", "identity": "email", "property": "thing", "audience id": "audience"}
LABEL = {"identity": "Email", "property": "thing"}
NASTY = (
    "Bob",
    "bob",
    "BOB",
    "ß",
    "ss",
    "SS",
    "é",
    "e\u0301",
    "É",
    "i",
    "I",
    "\u0131",
    "İ",
    "a ",
    "a",
    " a",
    "\t",
    "7",
    "7.0",
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type, what may stand in a column of it, and what is told of that.

    :param type_name: as DuckDB calls it.
    :param text: how a key or an identity is written, and ``told`` what comes of a property.
    :param heard: makes of what came of an identity what ``text`` gives.
    :param has_text: whether a value can be written at all; where one cannot, nothing is sent of the run.
    :param engines: those that have the type, if not all do.
    """

    type_name: str
    values: st.SearchStrategy[Any]
    text: Callable[[Any], Any] = str
    told: Callable[[Any], Any] = lambda value: value
    heard: Callable[[Any], Any] = lambda value: value
    has_text: Callable[[Any], bool] = lambda value: True
    roles: tuple[str, ...] = ROLES
    engines: tuple[str, ...] = ()

    def written(self, value: Any) -> Any:
        """Give what the author's table is made of."""
        if isinstance(value, Decimal):
            return format(value, "f")
        return str(value) if isinstance(value, uuid.UUID) else value


def number_text(number: Decimal) -> str:
    """Write a number without an exponent, and without zeros after its last decimal."""
    plain = format(number, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def decimals(digits: int, scale: int) -> Kind:
    bound = 10**digits - 1
    whole = st.integers(-bound, bound) | st.integers(-12, 12).map(lambda n: n * 10**scale)
    return Kind(
        type_name=f"DECIMAL({digits}, {scale})",
        # Of a text, since arithmetic rounds to 28 digits.
        values=whole.map(lambda n: Decimal(f"{n}E-{scale}")),
        text=number_text,
        told=lambda v: format(v, "f"),
    )


texts = st.sampled_from(NASTY) | st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6
)
instants = st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))
DUCKDB = ("duckdb", "duckdb without keys", "parquet")
KINDS = (
    Kind(type_name="TEXT", values=texts),
    Kind(type_name="BIGINT", values=st.integers(-(2**63), 2**63 - 1)),
    Kind(type_name="INTEGER", values=st.integers(-(2**31), 2**31 - 1)),
    decimals(18, 0),
    decimals(20, 2),
    decimals(30, 10),
    Kind(type_name="HUGEINT", values=st.integers(-(2**120), 2**120), told=str, engines=DUCKDB),
    Kind(type_name="UUID", values=st.uuids(), told=str, engines=(*DUCKDB, "postgres", "redshift")),
    Kind(type_name="DATE", values=st.dates(date(1000, 1, 1)), text=date.isoformat),
    Kind(type_name="BOOLEAN", values=st.booleans(), roles=("property",)),
    Kind(type_name="TIMESTAMPTZ", values=instants, roles=("property",)),
    Kind(type_name="DOUBLE", values=st.integers(-(10**15), 10**15).map(lambda n: n / 1000), roles=("property",)),
    # Of six digits, as many as any engine keeps of a float of 32 bits.
    Kind(type_name="FLOAT", values=st.integers(-999_999, 999_999).map(lambda n: n / 1000), roles=("property",)),
)
NUMBERS = ("BIGINT", "DECIMAL(18, 0)", "DECIMAL(20, 2)", "DECIMAL(30, 10)")
"""Types in which the same whole number is the same key; from the second on they have decimals or could have."""


State = Mapping[str, Any]
"""Text of a key to its value; or a user to the value of an identity or a property."""


def states(kind: Kind, role: str) -> st.SearchStrategy[list[State]]:
    if role in LABEL:
        one = st.dictionaries(st.sampled_from(("u1", "u2", "u3", "u4")), st.none() | kind.values, max_size=4)
    else:
        one = st.lists(kind.values, max_size=4).map(lambda found: {kind.text(v): v for v in found})
    # A state goes on from the one before: most of it stays as it is.
    return st.lists(st.tuples(one, st.sets(st.integers(0, 3))), min_size=2, max_size=3).map(grown)


def grown(drawn: list[tuple[State, set[int]]]) -> list[State]:
    found: list[State] = []
    for state, gone in drawn:
        before = found[-1] if found else {}
        kept = {k: v for n, (k, v) in enumerate(before.items()) if n not in gone}
        found.append({**kept, **state})
    return found


def expect(before: State, now: State, role: str, told: Callable[[Any], Any]) -> dict[tuple[str, str], Any]:
    """Say what a change set has: member to action, new and old value of what the test is about."""

    def member(name: str) -> tuple[str, str]:
        return (name, "u") if role == "audience id" else ("vips", name)

    def value(state: State, name: str) -> Any:
        return None if role not in LABEL or state.get(name) is None else told(state[name])

    found = {}
    for name in {*before, *now}:
        is_, was = value(now, name), value(before, name)
        if name not in before:
            found[member(name)] = ("entered", is_, None)
        elif name not in now:
            found[member(name)] = ("exited", None, was)
        elif is_ != was:
            found[member(name)] = ("updated", is_, was)
    return found


def rows_of(state: State, role: str, kind: Kind) -> list[dict[str, Any]]:
    rows = ((name if role in LABEL else "u", kind.written(v)) for name, v in state.items())
    return [{"uid": user, "audience": "vips", COLUMN[role]: v} for user, v in rows]


def check(crowd: Crowd, history: list[State], role: str, kind: Kind, source: Any = None) -> str:
    """Run over each state, and compare each change set with what Python says; gives the last refusal's words."""
    before: State | None = None
    refusal = ""
    for number, state in enumerate(history):
        crowd.write(*rows_of(state, role, kind))
        if not all(v is None or kind.has_text(v) for v in state.values()):
            with pytest.raises(WarehouseRefused) as refused:
                crowd.run(number, source=source)
            refusal = str(refused.value)
            continue
        summary = crowd.run(number, source=source)
        assert summary["members"] == len(state)
        if before is not None:
            told = kind.text if role == "identity" else kind.told
            expected = expect(before, state, role, told)
            label = LABEL.get(role)
            found = {
                member: (action, *(kind.heard(values[label]) if label else None for values in (new, old)))
                for member, (action, new, old) in crowd.changes(number).items()
            }
            assert found == expected
        before = state
    return refusal


@contextmanager
def crowd_of(place: Any, role: str, type_name: str) -> Iterator[Crowd]:
    crowd = Crowd(place, many=role == "audience id")
    texts = dict.fromkeys(("audience", "title", "uid", "email", "city", "thing"), "TEXT")
    crowd.types = {**texts, COLUMN[role]: type_name}
    crowd.properties = ("thing",)
    try:
        yield crowd
    finally:
        crowd.ledger.warehouse.close()  # a server has connections for some examples, not for all


SOME = settings(
    max_examples=4,
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SOME
@given(data=st.data())
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.slow
def test_values_of_any_type_are_told_apart_as_python_tells_them(place, engine, role, data):
    fitting = [k for k in KINDS if role in k.roles and (not k.engines or engine in k.engines)]
    kind = data.draw(st.sampled_from(fitting), label="type")
    history = data.draw(states(kind, role), label="states")
    with crowd_of(place, role, kind.type_name) as crowd:
        check(crowd, history, role, kind)


@SOME
@given(data=st.data())
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.slow
def test_texts_are_told_apart_by_their_bytes_whatever_the_collation(place, engine, role, data):
    kind = KINDS[0]
    history = data.draw(states(kind, role), label="states")
    with crowd_of(place, role, kind.type_name) as crowd:
        source = collated(crowd, engine, ("audience", "title", "uid", "email", "thing"))
        check(crowd, history, role, kind, source)


@SOME
@given(data=st.data())
@pytest.mark.parametrize("role", ["key", "identity", "audience id"])
@pytest.mark.slow
def test_whole_numbers_are_the_same_in_any_scale_that_a_column_comes_to_have(place, engine, role, data):
    kind = Kind(type_name="BIGINT", values=st.integers(-(10**15), 10**15))
    history = data.draw(states(kind, role), label="states")
    first = data.draw(st.sampled_from(NUMBERS), label="first type")
    # Snowflake tells no NUMBER without decimals from an integer, which a column with decimals may not become.
    wider = NUMBERS[2:] if engine == "snowflake" else NUMBERS[1:]
    later = data.draw(st.lists(st.sampled_from(wider), min_size=3, max_size=3), label="later types")
    before: State = {}
    with crowd_of(place, role, first) as crowd:
        for number, (state, wider) in enumerate(zip(history, later, strict=False)):
            crowd.write(*rows_of(state, role, kind))
            assert crowd.run(number)["members"] == len(state)
            if number:
                expected = {m: c[0] for m, c in expect(before, state, role, str).items()}
                assert {member: change[0] for member, change in crowd.changes(number).items()} == expected
            before = state
            crowd.types = {**crowd.types, COLUMN[role]: wider}
