"""Values of types that one engine has and others lack, in any role, against plain Python.

Bytes, lists, enums, numbers with a mask: what is taken is the right value, and what has no one text is refused
with what to write in the query, which the engine then takes. What is drawn, and how to draw it again, is as in
``test_any_values.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.test_any_values import (
    COLUMN,
    LABEL,
    NASTY,
    ROLES,
    SOME,
    Kind,
    State,
    check,
    crowd_of,
    number_text,
    rows_of,
    states,
    texts,
)
from tests.contract.test_state_model import Crowd, engine, place

__all__ = ["engine", "place"]

KEYS = ("key", "audience id")
NOT_A_PROPERTY = ("key", "identity", "audience id")


@dataclass(frozen=True, kw_only=True)
class Own(Kind):
    """A type as its engine calls it; its roles are those in which a column of it is taken as it is.

    :param sql: writes a value, or NULL, in the engine's SQL.
    :param column: how a table's definition writes the type, where no expression has it.
    :param cast: what becomes of a value once the query has what a refusal says; none if only that it is taken is
        to be seen.
    """

    sql: Callable[[Any], str]
    column: str = ""
    cast: Callable[[Any], str] | None = None

    def written(self, value: Any) -> Any:
        return self.sql(value)


def plain(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def cast_to(type_name: str, write: Callable[[Any], str] = str) -> Callable[[Any], str]:
    """Write values by a cast, and lists of them by one of a list."""
    return lambda v: f"CAST({'NULL' if v is None else write(v)} AS {type_name})"


def listed(write: Callable[[Any], str], begin: str = "[", end: str = "]") -> Callable[[Any], str]:
    return lambda values: begin + ", ".join("NULL" if v is None else write(v) for v in values) + end


def is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def lists_of(kind: Kind, sql: Callable[[Any], str]) -> Own:
    """Make the kind of lists of a kind's values: of its roles it has one, and each value counts once."""

    def told(values: Any) -> Any:
        return frozenset(t for t in (kind.text(v) for v in values if v is not None) if t) or None

    def heard(values: Any) -> Any:
        assert values is None or len(values) == len(set(values))
        return values if values is None else frozenset(values)

    return Own(
        type_name=f"list of {kind.type_name}",
        values=st.lists(st.none() | kind.values, max_size=4).map(tuple),
        sql=sql,
        text=told,
        heard=heard,
        has_text=lambda values: all(v is None or kind.has_text(v) for v in values),
        roles=("identity",),
    )


def refused(type_name: str, values: st.SearchStrategy[Any], sql: Callable[[Any], str], **given: Any) -> Own:
    """Make a kind that no role takes."""
    return Own(type_name=type_name, values=values, sql=sql, text=repr, roles=(), **given)


whole = st.integers(-(2**31), 2**31 - 1)
cents = st.integers(-9_999_999, 9_999_999).map(lambda n: Decimal(n) / 100)
short = st.binary(min_size=1, max_size=4) | st.sampled_from(NASTY).map(str.encode)
moods = st.sampled_from(("Bob", "bob", "ß", "a b", "7"))
MOODS = "('Bob', 'bob', 'ß', 'a b', '7')"
TEXT, WHOLE, CENTS = (
    Kind(type_name="TEXT", values=texts | st.just("")),
    Kind(type_name="INTEGER", values=whole),
    Kind(type_name="DECIMAL(9, 2)", values=cents, text=number_text, told=lambda v: format(v, ".2f")),
)
UUID = Kind(type_name="UUID", values=st.uuids())
DATE = Kind(type_name="DATE", values=st.dates(date(1000, 1, 1)), text=date.isoformat)


def duckdb_bytes(value: bytes) -> str:
    """Write bytes as DuckDB does: the printable ones of ASCII as they are, but for a backslash and quotes."""
    return "".join(chr(b) if 32 <= b < 127 and chr(b) not in "\\'\"" else f"\\x{b:02X}" for b in value)


def _duckdb() -> Sequence[Own]:
    bytes_ = Own(
        type_name="BLOB",
        values=short,
        text=duckdb_bytes,
        sql=cast_to("BLOB", lambda v: f"unhex('{v.hex()}')"),
        roles=NOT_A_PROPERTY,
        cast=duckdb_bytes,
    )
    enum = Own(type_name="ENUM", values=moods, sql=cast_to(f"ENUM {MOODS}", plain))

    def lists(kind: Kind, element: str, write: Callable[[Any], str] = str) -> Own:
        return lists_of(kind, cast_to(f"{element}[]", listed(write)))

    return (
        bytes_,
        enum,
        lists(TEXT, "TEXT", plain),
        lists(WHOLE, "INTEGER"),
        lists(CENTS, "DECIMAL(9, 2)"),
        lists(UUID, "UUID", lambda v: plain(str(v))),
        lists(DATE, "DATE", lambda v: plain(v.isoformat())),
        lists(bytes_, "BLOB", lambda v: f"unhex('{v.hex()}')"),
        lists(enum, f"ENUM {MOODS}", plain),
        refused(
            "list of lists",
            st.lists(st.lists(whole, max_size=2).map(tuple), max_size=2).map(tuple),
            cast_to("INTEGER[][]", listed(listed(str))),
        ),
        refused("STRUCT", whole, cast_to("STRUCT(a INTEGER)", lambda v: f"{{'a': {v}}}")),
        refused("MAP", whole, cast_to("MAP(VARCHAR, INTEGER)", lambda v: f"MAP {{'a': {v}}}")),
        refused("UNION", whole, cast_to("UNION(a INTEGER, b VARCHAR)", str)),
    )


OWN_OF_POSTGRES = (
    "CREATE EXTENSION citext",
    f"CREATE TYPE mood AS ENUM {MOODS}",
    "CREATE TYPE pair AS (a INT, b TEXT)",
    "CREATE DOMAIN address AS text",
    "CREATE DOMAIN price AS numeric(9, 2)",
)


def _postgres() -> Sequence[Own]:
    def of(type_name: str, values: Any, write: Callable[[Any], str] = plain, **given: Any) -> Own:
        return Own(type_name=type_name, values=values, sql=cast_to(type_name, write), **given)

    def write_bytes(value: bytes) -> str:
        return rf"'\x{value.hex()}'"

    bytes_ = of(
        "bytea",
        short,
        write_bytes,
        text=lambda v: rf"\x{v.hex()}",
        cast=lambda v: rf"\x{v.hex()}",
        roles=NOT_A_PROPERTY,
    )
    own = (
        bytes_,
        of("citext", texts),
        of("mood", moods, roles=NOT_A_PROPERTY, cast=str),
        of("address", texts),
        of("price", cents, str, text=number_text, told=CENTS.told),
        of("bit varying(8)", st.text("01", min_size=1, max_size=8), roles=NOT_A_PROPERTY, cast=str),
    )
    lists = (
        (TEXT, "citext", plain),
        (TEXT, "address", plain),
        (Kind(type_name="mood", values=moods), "mood", plain),
        (WHOLE, "integer", str),
        (CENTS, "price", str),
        (UUID, "uuid", lambda v: plain(str(v))),
        (DATE, "date", lambda v: plain(v.isoformat())),
        (bytes_, "bytea", write_bytes),
    )
    return (
        *own,
        *(lists_of(k, cast_to(f"{name}[]", listed(write, "ARRAY["))) for k, name, write in lists),
        refused("oid", st.integers(0, 2**31), cast_to("oid"), cast=str),
        refused("regclass", st.sampled_from(("pg_class", "pg_type")), cast_to("regclass", plain), cast=str),
        refused("list of oid", st.tuples(st.integers(0, 9)), cast_to("oid[]", listed(str, "ARRAY["))),
        refused("row", whole, cast_to("pair", lambda v: f"ROW({v}, 'x')")),
        refused("list of rows", whole, cast_to("pair[]", lambda v: f"ARRAY[CAST(ROW({v}, 'x') AS pair)]")),
    )


def _mysql() -> Sequence[Own]:
    def of(column: str, values: Any, write: Callable[[Any], str], **given: Any) -> Own:
        def sql(value: Any) -> str:
            return "NULL" if value is None else write(value)

        return Own(type_name=column, column=f"{column} NULL", values=values, sql=sql, **given)

    def bytes_(column: str, given: Callable[[bytes], bytes] = bytes) -> Own:
        return of(
            column,
            short.filter(lambda v: given(v).decode(errors="replace") != ""),
            lambda v: f"x'{v.hex()}'",
            text=lambda v: given(v).decode(errors="backslashreplace"),
            has_text=is_utf8,
            roles=NOT_A_PROPERTY,
            cast=lambda v: given(v).hex().upper(),
        )

    def number(column: str, values: Any, **given: Any) -> Own:
        return of(column, values, str, **given)

    # A SET has its members in the order of its definition.
    sets = st.sampled_from(("Bob", "ß", "Bob,ß", "a b", "Bob,a b", "ß,a b", "Bob,ß,a b"))
    masked = st.integers(0, 99_999).map(lambda n: Decimal(n) / 100)
    return (
        bytes_("BINARY(8)", lambda v: v.ljust(8, b"\0")),
        bytes_("VARBINARY(9)"),
        bytes_("BLOB"),
        number("BIT(16)", st.integers(0, 2**16 - 1), roles=(), text=repr, cast=str),
        number("INT(9) ZEROFILL", st.integers(0, 2**32 - 1)),
        number("BIGINT(20) UNSIGNED ZEROFILL", st.integers(0, 99) | st.just(2**64 - 1), told=str),
        number("DECIMAL(9, 2) ZEROFILL", masked, text=number_text, told=CENTS.told),
        number("YEAR", st.just(0) | st.integers(1901, 2155)),
        of("ENUM('Bob', 'ß', 'a b')", st.sampled_from(("Bob", "ß", "a b")), plain),
        of("SET('Bob', 'ß', 'a b')", sets, plain),
    )


def _clickhouse() -> Sequence[Own]:
    def unhex(value: bytes) -> str:
        return f"unhex('{value.hex()}')"

    def array(element: str, write: Callable[[Any], str]) -> Callable[[Any], str]:
        # It is never NULL.
        written = listed(write)
        return lambda v: f"CAST({written(v or ())} AS Array(Nullable({element})))"

    string = Own(
        type_name="String",
        values=short,
        sql=cast_to("Nullable(String)", unhex),
        text=lambda v: v.decode(errors="backslashreplace"),
        told=lambda v: v.decode(errors="backslashreplace"),
        has_text=is_utf8,
        cast=lambda v: v.hex().upper(),
    )
    return (
        string,
        Own(type_name="Enum8", values=moods, sql=cast_to(f"Nullable(Enum8{MOODS})", plain)),
        lists_of(string, array("String", unhex)),
        lists_of(CENTS, array("Decimal(9, 2)", lambda v: plain(str(v)))),
        refused("list of lists", whole, lambda v: "[[0]]" if v is None else f"[[{v}]]"),
        refused("Tuple", whole, lambda v: f"tuple('a', {v or 0})"),
        refused("Map", whole, lambda v: f"map('a', {v or 0})"),
    )


_DUCKDB = _duckdb()
OWN: Mapping[str, Sequence[Own]] = {
    **dict.fromkeys(("duckdb", "parquet"), _DUCKDB),
    "postgres": _postgres(),
    "mysql": _mysql(),
    "clickhouse": _clickhouse(),
}


@pytest.fixture
def own_place(place: Any, engine: str) -> Any:
    if engine not in OWN:
        pytest.skip("no types of its own are known here")
    for statement in OWN_OF_POSTGRES if engine == "postgres" else ():
        place.source.execute(statement)
    return place


@contextmanager
def crowd_with(place: Any, role: str, kind: Own) -> Iterator[Crowd]:
    """Open a crowd whose column of the role has the kind."""
    column = COLUMN[role]
    with crowd_of(place, role, "TEXT") as crowd:
        crowd.types = {name: type_name for name, type_name in crowd.types.items() if name != column}
        crowd.expressions = {column: kind.sql(None)}
        crowd.defined = {column: kind.column} if kind.column else {}
        yield crowd


@settings(SOME, max_examples=2)
@given(data=st.data())
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.slow
def test_an_engine_s_own_values_are_right_or_refused_with_what_to_write(own_place, engine, role, data):
    kind = data.draw(st.sampled_from(OWN[engine]), label="type")
    look_at(own_place, role, kind, data.draw(states(kind, role), label="states"))


def test_what_has_no_one_text_is_refused_in_every_role(own_place, engine):
    for kind, role in itertools.product((k for k in OWN[engine] if not k.roles), ROLES):
        with crowd_with(own_place, role, kind) as crowd:
            crowd.write()
            with pytest.raises(ValueError, match=rf"column '{COLUMN[role]}' is of type .*, for example: "):
                crowd.run(0)


def look_at(place: Any, role: str, kind: Own, history: list[State]) -> None:
    with crowd_with(place, role, kind) as crowd:
        if role in kind.roles:
            said = check(crowd, history, role, kind)
        else:
            crowd.write(*rows_of(history[0], role, kind))
            with pytest.raises(ValueError, match=rf"column '{COLUMN[role]}' is of type") as stopped:
                crowd.run(0)
            said = str(stopped.value)
    if not said:
        return
    # What it says is right: the engine takes it.
    cast = said.rpartition("for example: ")[2].replace("column", COLUMN[role])
    with crowd_with(place, role, kind) as crowd:
        source = recast(crowd, role, cast)
        if kind.cast is None:
            one = dict([(name, v) for name, v in history[0].items() if v is None or kind.has_text(v)][:1])
            crowd.write(*rows_of(one, role, kind))
            assert crowd.run(0, source=source)["members"] == len(one)
            return
        if role not in LABEL:
            history = [{kind.cast(v): v for v in state.values()} for state in history]
        written = replace(kind, text=kind.cast, told=kind.cast, has_text=lambda _: True)
        check(crowd, history, role, written, source)


def recast(crowd: Crowd, role: str, cast: str) -> Any:
    name = crowd.table.sql(dialect=crowd.place.source.dialect.name, identify=True)
    columns = {n: n for n in ("audience", "title", "uid", "email", "thing")} | {COLUMN[role]: cast}
    return crowd.source(query=f"SELECT {', '.join(columns.values())} FROM {name}")
