"""A value is itself, whatever its column's collation, scale or file: on every engine, in every role.

Two texts are one only if their bytes are. A number is one however many zeros are written after it. What has no
exact text is refused before anything is computed, in a sentence that says what to write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pytest
from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import SchemaChanged
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.contract.test_state_model import Crowd, engine, place, user
from tests.engines import ENGINES
from tests.warehouses import LET_ALL_THROUGH, Stream, day, read_membership

__all__ = ["engine", "place"]

UPDATE = replace(LET_ALL_THROUGH, on_schema_change="update")
DROP = replace(LET_ALL_THROUGH, on_invalid_rows="drop")
MARKING = ("state.rows", "state.membership", "readers.profiles")
PROFILES: dict[str, Any] = {"message_format": "adobe_profile", "options": {}, "name": "profiles"}
COUNTED = ("entered", "exited", "updated", "members")
ALIKE = {
    "duckdb": "NOCASE",
    "duckdb without keys": "NOCASE",
    "parquet": "NOCASE",
    "postgres": "alike",
    "mysql": "utf8mb4_general_ci",
    "spark": "UTF8_LCASE",
}
"""A collation of each engine by which Bob is bob."""


def collated(
    crowd: Crowd, engine: str, columns: Sequence[str] = ("audience", "title", "uid", "email", "city")
) -> Any:
    """Give a source whose texts all have a collation that holds what differs in case equal."""
    if engine not in ALIKE:
        pytest.skip("its stand-in has no collations")
    if engine == "postgres":
        crowd.place.source.execute(
            "CREATE COLLATION IF NOT EXISTS alike "
            "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    name = crowd.table.sql(dialect=crowd.place.source.dialect.name, identify=True)
    texts = ", ".join(f"{c} COLLATE {ALIKE[engine]} AS {c}" for c in columns)
    return crowd.source(query=f"SELECT {texts} FROM {name}")


def counts(summary: Any) -> list[int]:
    return [summary[n] for n in COUNTED]


@pytest.mark.parametrize("many", [False, True], ids=["one audience", "many"])
def test_bytes_decide_who_left_who_came_and_what_changed(place, engine, many):
    crowd = Crowd(place, many=many)
    crowd.write(user("Bob", city="Bonn"), user("eve", city="bonn", email="E@x"), user("ann", city="Rome"))
    assert counts(crowd.run(0, source=collated(crowd, engine))) == [3, 0, 0, 3]
    crowd.write(user("bob", city="Bonn"), user("eve", city="Bonn", email="E@x"), user("ann", city="Rome"))
    assert counts(crowd.run(1, source=collated(crowd, engine))) == [1, 1, 1, 3]
    assert {u: c[0] for (_, u), c in crowd.changes(1).items()} == {
        "Bob": "exited",
        "bob": "entered",
        "eve": "updated",
    }
    crowd.write(user("bob", city="Bonn"), user("eve", city="Bonn", email="e@x"), user("ann", city="Rome"))
    assert counts(crowd.run(2, source=collated(crowd, engine))) == [0, 0, 1, 3]
    assert counts(crowd.run(3, source=collated(crowd, engine))) == [0, 0, 0, 3]


def test_two_whose_ids_differ_in_case_alone_are_two_even_where_repetitions_are_dropped(place, engine):
    crowd = Crowd(place, many=True, guards=DROP)
    crowd.write(user("Bob", "A"), user("bob", "A"), user("bob", "a"), user("bob", "a"), user("BOB", "a"))
    found = crowd.run(0, source=collated(crowd, engine))
    assert (counts(found), found["dropped_rows"]) == ([4, 0, 0, 4], 1)
    crowd.drain(0)
    assert {a: crowd.stream.consume().members(a) for a in "Aa"} == {"A": {"Bob", "bob"}, "a": {"bob", "BOB"}}
    crowd.write(user("Bob", "A"), user("bob", "a"))
    crowd.run(1, source=collated(crowd, engine))
    crowd.drain(1)
    assert {a: crowd.stream.consume().members(a) for a in "Aa"} == {"A": {"Bob"}, "a": {"bob"}}


def test_a_state_that_was_written_with_a_collation_is_read_by_its_bytes(place, engine, monkeypatch):
    crowd = Crowd(place)
    crowd.write(user("Bob", city="Bonn"), user("eve", city="bonn"))
    with monkeypatch.context() as before:
        for marks in ("source.texts.by_bytes", *(f"{m}.state_by_bytes" for m in MARKING)):
            before.setattr(f"airflow_kinesis_audience.core.{marks}", lambda value: value)
        crowd.run(0, source=collated(crowd, engine))
        crowd.drain(0)
        crowd.drain(0, **PROFILES)
        crowd.write(user("Bob", city="Bonn"), user("eve", city="bonn"), user("ann"))
        crowd.run(1, source=collated(crowd, engine))
    crowd.write(user("bob", city="Bonn"), user("eve", city="Bonn"), user("ann"))
    assert counts(crowd.run(2, source=collated(crowd, engine))) == [1, 1, 1, 3]
    crowd.drain(2)
    assert {name for _, name in crowd.members(2)} == {"bob", "eve", "ann"}
    before = len(crowd.stream.messages)
    crowd.drain(2, **PROFILES)
    profiles = list(map(json.loads, crowd.stream.messages[before:]))
    assert sorted(p["identityMap"]["crmid"][0]["id"] for p in profiles) == ["Bob", "ann", "bob", "eve"]


def test_a_default_collation_of_duckdb_decides_nothing(tmp_path):
    path = str(tmp_path / "w.duckdb")

    def connect() -> Any:
        connection = duckdb.connect(path)
        connection.execute("SET default_collation = 'NOCASE'")
        return connection

    with DuckDbWarehouse(connect, DIALECTS["duckdb"]) as warehouse:
        from tests.warehouses import People

        people = People(warehouse, many=True)
        people.put("Bob", "bob", city="Bonn", audience="a")
        people.put("bob", city="Bonn", audience="A")
        assert people.run(0)["members"] == 3
        people.change("bob", city="bonn")  # of whoever the default collation calls so
        people.warehouse.execute(f"DELETE FROM {people.table} WHERE md5(uid) = md5('Bob')")
        assert counts(people.run(1)) == [0, 1, 2, 2]
        assert set(read_membership(people.ledger(), day(1))) == {("a", "bob"), ("A", "bob")}


@pytest.fixture
def numbers(place) -> Crowd:
    crowd = Crowd(place)
    crowd.types = {**crowd.types, "uid": "DECIMAL(18, 0)", "email": "BIGINT", "audience": "BIGINT"}
    crowd.write(user("7", "1", email=4711), user("10", "1", email=2**53 + 1), user("100", "1"))
    return crowd


@pytest.mark.parametrize("many", [False, True], ids=["one audience", "many"])
def test_a_number_of_another_scale_is_the_same_key_and_the_same_identity(numbers, many):
    numbers.many = many
    assert counts(numbers.run(0)) == [3, 0, 0, 3]
    wider = {"uid": "DECIMAL(20, 2)", "email": "DECIMAL(20, 2)", "audience": "DECIMAL(9, 3)"}
    numbers.types = {**numbers.types, **wider}
    numbers.write(user("7", "1", email=4711), user("10", "1", email=2**53 + 1), user("100.50", "1", email="0.50"))
    assert counts(numbers.run(1)) == [1, 1, 0, 3]
    audience = "1" if many else "vips"
    assert {k: (c[0], c[1]["Email"]) for k, c in numbers.changes(1).items()} == {
        (audience, "100"): ("exited", None),
        (audience, "100.5"): ("entered", "0.5"),
    }
    numbers.types = {**numbers.types, "uid": "DECIMAL(22, 4)"}
    numbers.write(user("7", "1", email=4711), user("10", "1", email=2**53 + 1), user("100.50", "1", email="0.50"))
    assert counts(numbers.run(2)) == [0, 0, 0, 3]


def test_a_number_is_written_with_all_its_digits_and_no_exponent(place):
    crowd = Crowd(place)
    crowd.types = {**crowd.types, "uid": "DECIMAL(38, 10)", "email": "DECIMAL(38, 10)"}
    given = ("0", "0.0000000001", "-12.5", "1200", "1234567890123456789012345678", "9007199254740993")
    crowd.write(*(user(n, email=n) for n in given))
    crowd.run(0)
    assert {k[1] for k in crowd.members(0)} == set(given)
    crowd.write()
    crowd.run(1)
    assert {u: c[2]["Email"] for (_, u), c in crowd.changes(1).items()} == {n: n for n in given}


@pytest.mark.parametrize("kind", ["DECIMAL(20, 2)", "BIGINT"])
def test_a_key_or_an_identity_that_loses_its_decimals_is_a_changed_mapping(place, kind):
    to = "BIGINT" if kind != "BIGINT" else "DATE"
    crowd = Crowd(place)
    crowd.types = {**crowd.types, "email": kind}
    crowd.write(user("u", email=7))
    crowd.run(0)
    crowd.types = {**crowd.types, "email": to}
    crowd.write(user("u", email=8 if to == "BIGINT" else "2026-01-01"))
    with pytest.raises(SchemaChanged, match="the values of identity 'Email' were of kind"):
        crowd.run(1)
    crowd.guards = UPDATE
    assert counts(crowd.run(1)) == [0, 0, 1, 1]


def test_a_key_that_loses_its_decimals_is_another_key(place):
    crowd = Crowd(place)
    crowd.types = {**crowd.types, "uid": "DECIMAL(20, 2)"}
    crowd.write(user("7.25"))
    crowd.run(0)
    crowd.types = {**crowd.types, "uid": "BIGINT"}
    crowd.write(user("7"))
    with pytest.raises(SchemaChanged, match=r"(?i)'uid' were of kind decimal and are of kind integer"):
        crowd.run(1)


@pytest.mark.parametrize("role", ["uid", "audience", "email"])
@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT"])
def test_a_float_as_a_key_or_an_identity_is_refused_with_the_cast_to_write(place, role, kind):
    crowd = Crowd(place, many=True)
    crowd.types = {**crowd.types, role: kind}
    crowd.write(user("7", "1", email=4711))
    with pytest.raises(
        ValueError, match=rf"(?i)'{role}' is a .*, whose values are not exact.*: CAST\({role} AS "
    ) as refused:
        crowd.run(0)
    # What it says is right: the engine takes it.
    cast = str(refused.value).rpartition("for example: ")[2]
    name = crowd.table.sql(dialect=place.source.dialect.name, identify=True)
    others = ", ".join(c for c in ("audience", "uid", "email", "city", "title") if c != role)
    assert counts(crowd.run(0, source=crowd.source(query=f"SELECT {others}, {cast} FROM {name}"))) == [1, 0, 0, 1]


def test_addresses_at_gmail_are_one_however_they_are_written(place):
    written = (
        "A.d.a+news@Gmail.com",
        " ada@googlemail.com\t",
        "a.d.a@gmail.com.au",
        "+x@gmail.com",
        "a.b+c@x.com",
    )
    crowd = Crowd(place, rules={"email": IdentityRule(normalize="gmail")})
    crowd.write()
    crowd.run(0)
    crowd.write(*(user(str(n), email=text) for n, text in enumerate(written)))
    crowd.run(1)
    assert {u: c[1]["Email"] for (_, u), c in crowd.changes(1).items()} == {
        "0": "ada@gmail.com",
        "1": "ada@googlemail.com",
        "2": "a.d.a@gmail.com.au",
        "3": "+x@gmail.com",
        "4": "a.b+c@x.com",
    }


def test_a_list_of_floats_is_refused_with_the_cast_of_a_list(place, engine):
    if (several := ENGINES[engine].lists) is None:
        pytest.skip("the engine has no lists")
    crowd, dialect = Crowd(place), place.source.dialect.name
    a, b = (exp.cast(exp.Literal.number(n), "DOUBLE").sql(dialect=dialect) for n in (7, 8))
    query = f"SELECT 'u' AS uid, {several.format(a=a, b=b)} AS email, 'x' AS city"
    with pytest.raises(ValueError, match=r"'email' is a .*, whose values are not exact") as refused:
        crowd.run(0, source=crowd.source(query=query))
    cast = str(refused.value).rpartition("for example: ")[2]
    right = f"SELECT uid, {cast}, city FROM ({query}) AS given"
    crowd.run(0, source=crowd.source(query=right))
    crowd.run(1, source=crowd.source(query=f"{right} WHERE 1 = 0"))
    assert {u: sorted(c[2]["Email"]) for (_, u), c in crowd.changes(1).items()} == {"u": ["7", "8"]}


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write ids as versions did that knew of no scale."""

    def run(crowd: Crowd, number: int) -> None:
        from airflow_kinesis_audience.core.source import layout as layout_module
        from airflow_kinesis_audience.core.source import texts as texts_module

        with monkeypatch.context() as before:
            before.setattr(texts_module, "without_zeros", lambda number: number)
            kind_of = layout_module.text_kind
            before.setattr(
                layout_module,
                "text_kind",
                lambda *a, role, **k: (
                    "exact" if role == "key" and kind_of(*a, role=role) in ("decimal", "whole") else ""
                ),
            )
            crowd.run(number)

    return run


def test_ids_that_an_older_version_wrote_without_decimals_go_on_in_any_scale(numbers, as_before):
    as_before(numbers, 0)
    numbers.types = {**numbers.types, "uid": "DECIMAL(20, 2)"}
    numbers.write(user("7", "1", email=4711), user("10", "1", email=2**53 + 1))
    assert counts(numbers.run(1)) == [0, 1, 0, 2]


def test_ids_that_an_older_version_wrote_with_zeros_are_never_everybodys_exit(numbers, as_before):
    numbers.types = {**numbers.types, "uid": "DECIMAL(20, 2)"}
    numbers.write(user("7", "1"), user("8", "1"))
    as_before(numbers, 0)
    if {u for _, u in numbers.members(0)} == {"7", "8"}:
        pytest.skip("the engine writes no such zeros")
    with pytest.raises(SchemaChanged, match="An earlier version published them with trailing zeros"):
        numbers.run(1)


@pytest.mark.parametrize("place", ["mysql"], indirect=True)
def test_ids_that_an_older_version_filled_with_zeros_are_never_everybodys_exit(place, monkeypatch):
    crowd = Crowd(place, expressions={"uid": "NULL"}, defined={"uid": "INT(6) ZEROFILL NULL"})
    crowd.types = {name: kind for name, kind in crowd.types.items() if name != "uid"}
    crowd.write({"uid": 7}, {"uid": 8})
    with monkeypatch.context() as before:
        before.setattr("airflow_kinesis_audience.hooks.warehouses.mysql_types._ZEROFILL", 0)
        crowd.run(0)
    assert {u for _, u in crowd.members(0)} == {"000007", "000008"}
    with pytest.raises(SchemaChanged, match="or leading ones"):
        crowd.run(1)
    assert counts(crowd.run(1, source=recast(crowd, as_text(crowd)))) == [0, 0, 0, 2]


@pytest.fixture
def floats_before(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write ids of floats, as versions did that refused none."""

    def run(crowd: Crowd, number: int) -> None:
        from airflow_kinesis_audience.core.source import layout as layout_module

        with monkeypatch.context() as before:
            before.setattr(layout_module, "text_kind", lambda *a, role: "float" if role == "key" else "")
            crowd.run(number)

    return run


def recast(crowd: Crowd, cast: str) -> Any:
    name = crowd.table.sql(dialect=crowd.place.source.dialect.name, identify=True)
    return crowd.source(query=f"SELECT {cast} AS uid, email, city FROM {name}")


def as_text(crowd: Crowd, of: str = "uid") -> str:
    return crowd.place.source.dialect.types.as_text.format(column=of)


@pytest.mark.parametrize("kind", ["DOUBLE", "DECIMAL(10, 2)"])
def test_numbers_that_an_older_version_published_go_on_as_the_very_same_texts(
    place, kind, as_before, floats_before
):
    crowd = Crowd(place)
    crowd.types = {**crowd.types, "uid": kind}
    crowd.write(user("7"), user("8.25"), user("9"))
    (floats_before if kind == "DOUBLE" else as_before)(crowd, 0)
    crowd.write(user("7"), user("8.25", city="Bonn"), user("10"))
    with pytest.raises((ValueError, SchemaChanged)):
        crowd.run(1, source=recast(crowd, exp.cast(exp.column("uid"), "BIGINT").sql(place.source.dialect.name)))
    assert counts(crowd.run(1, source=recast(crowd, as_text(crowd)))) == [1, 1, 1, 3]
    assert counts(crowd.run(2, source=recast(crowd, as_text(crowd)))) == [0, 0, 0, 3]


@pytest.mark.parametrize("kind", ["DOUBLE", "DECIMAL(10, 2)"])
def test_texts_that_write_published_numbers_otherwise_are_never_an_exit_and_an_entry(
    place, kind, as_before, floats_before
):
    crowd = Crowd(place)
    crowd.types = {**crowd.types, "uid": kind}
    # Only one of many has another text, so that no guard would stop it.
    crowd.write(*(user(f"{n}.5") for n in range(30)), user("7"))
    (floats_before if kind == "DOUBLE" else as_before)(crowd, 0)
    [whole] = {u for _, u in crowd.members(0)} - {u for _, u in crowd.members(0) if ".5" in u}
    other = {"7": "7.0", "7.0": "7", "7.00": "7"}[whole]
    text = as_text(crowd)
    source = recast(crowd, f"CASE WHEN uid = 7 THEN '{other}' ELSE {text} END")
    before = crowd.tables()
    with pytest.raises(SchemaChanged, match="of user_id had numbers and now has texts"):
        crowd.run(1, source=source)
    assert crowd.tables() == before
    assert counts(crowd.run(1, source=recast(crowd, text))) == [0, 0, 0, 31]


def file_source(crowd: Crowd, path: Any, where: str = "") -> Any:
    columns = "{'uid': 'BIGINT', 'born': 'DATE', 'paid': 'DECIMAL(9, 2)', 'ratio': 'FLOAT'}"
    query = f"SELECT * FROM read_csv('{path}', header = true, columns = {columns}) {where}"
    return crowd.source(query=query, identities={"born": "Born"}, properties={"paid": "paid", "ratio": "ratio"})


@pytest.mark.parametrize("place", ["duckdb", "parquet"], indirect=True)
def test_a_value_out_of_a_file_is_the_value_and_not_its_spelling(place, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("uid,born,paid,ratio\n 8,2012/01/01,1.5,.10\n007,2012-1-2,2,1e1\n")
    crowd = Crowd(place)
    assert counts(crowd.run(0, source=file_source(crowd, path))) == [2, 0, 0, 2]
    # Nobody is left out, but DuckDB reads the file in another way.
    plan = file_source(crowd, path, "WHERE uid > 0 AND born > '2000-01-01' AND paid > 0 AND ratio > 0")
    assert counts(crowd.run(1, source=plan)) == [0, 0, 0, 2]
    path.write_text("uid,born,paid,ratio\n")
    assert counts(crowd.run(2, source=file_source(crowd, path))) == [0, 2, 0, 0]
    assert {k[1]: c[2] for k, c in crowd.changes(2).items()} == {
        "8": {"Born": "2012-01-01", "paid": "1.50", "ratio": 0.1},
        "7": {"Born": "2012-01-02", "paid": "2.00", "ratio": 10.0},
    }


def test_a_float_of_32_bits_is_told_as_it_is_written(place):
    crowd = Crowd(place, properties=("score",))
    crowd.types = {**crowd.types, "score": "FLOAT"}
    crowd.write()
    crowd.run(0)
    crowd.write(*(user(str(n), score=n) for n in (0.1, -2.5, 123.456)))
    crowd.run(1)
    assert {u: c[1]["score"] for (_, u), c in crowd.changes(1).items()} == {
        "0.1": 0.1,
        "-2.5": -2.5,
        "123.456": 123.456,
    }
    crowd.types = {**crowd.types, "score": "DOUBLE"}
    crowd.write(*(user(str(n), score=n) for n in (0.1, -2.5, 123.456)))
    if place.warehouse.dialect.name == "duckdb":
        assert counts(crowd.run(2)) == [0, 0, 0, 3]


DRIFTS = [
    ("DECIMAL(18, 2)", "HUGEINT"),
    ("UUID", "HUGEINT"),
    ("DECIMAL(18, 2)", "UUID"),
    ("DECIMAL(9, 1)", "DECIMAL(9, 3)"),
]
SAMPLES = {
    "HUGEINT": str(2**120),
    "UUID": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "DECIMAL(18, 2)": "1234567890123456.78",
    "DECIMAL(9, 1)": "7.5",
    "DECIMAL(9, 3)": "7.500",
}


@pytest.mark.parametrize(
    ("place", "kinds"),
    [
        (engine, way)
        for engine, drifts in (("duckdb", DRIFTS), ("parquet", DRIFTS), ("mysql", DRIFTS[-1:]))
        for kinds in drifts
        for way in (kinds, kinds[::-1])
    ],
    indirect=["place"],
    ids=str,
)
def test_an_exact_property_of_another_kind_is_a_changed_mapping_and_stops_no_later_run(place, kinds):
    crowd = Crowd(place, properties=("spend",))

    def write(kind: str) -> None:
        crowd.types = {**crowd.types, "spend": kind}
        crowd.write(user("u", spend=SAMPLES[kind]), user("v"))

    early, late = Stream(), Stream()

    def drain(stream: Stream, number: int, name: str) -> None:
        crowd.stream = stream
        crowd.drain(number, name=name, options={"user_properties": True})

    write(kinds[0])
    crowd.run(0)
    drain(early, 0, "early")
    write(kinds[1])
    with pytest.raises(SchemaChanged, match="property 'spend' was"):
        crowd.run(1)
    crowd.guards = UPDATE
    assert counts(crowd.run(1)) == [0, 0, 1, 2]
    assert {u: c[1]["spend"] for (_, u), c in crowd.changes(1).items()} == {"u": SAMPLES[kinds[1]]}
    crowd.write(user("u", spend=SAMPLES[kinds[1]]), user("v", spend=SAMPLES[kinds[1]]))
    assert counts(crowd.run(2)) == [0, 0, 1, 2]
    # A destination that comes late gets the digits that the first one got.
    for stream, name in ((early, "early"), (late, "late")):
        drain(stream, 2, name)
        told = stream.consume()
        assert [told.properties("vips", u) for u in "uv"] == [{"spend": SAMPLES[kinds[1]]}] * 2
    write(kinds[0])
    assert counts(crowd.run(3)) == [0, 0, 2, 2]
    crowd.write()
    assert counts(crowd.run(4)) == [0, 2, 0, 0]


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
@pytest.mark.parametrize("type_name", ["STRUCT(a INTEGER)", "MAP(VARCHAR, INTEGER)"])
def test_what_has_no_one_text_is_no_identity(place, type_name):
    crowd = Crowd(place)
    query = f"SELECT 'u' AS uid, CAST(NULL AS {type_name}) AS email, 'x' AS city"
    with pytest.raises(ValueError, match=r"'email' is of type .*, which has no single text"):
        crowd.run(0, source=crowd.source(query=query))


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
@pytest.mark.parametrize("value", ["CAST(7 AS OID)", "CAST(ROW(1, 'x') AS pair)", "ROW(1, 2)"])
def test_a_row_or_an_oid_of_postgresql_is_no_identity(place, value):
    place.source.execute("CREATE TYPE pair AS (a INT, b TEXT)")
    crowd = Crowd(place)
    query = f"SELECT 'u' AS uid, {value} AS email, 'x' AS city"
    with pytest.raises(ValueError, match=r"'email' is of type .*, which has no single text"):
        crowd.run(0, source=crowd.source(query=query))


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_citext_is_a_text_in_every_role(place):
    place.source.execute("CREATE EXTENSION citext")
    crowd = Crowd(place, many=True)
    name = crowd.table.sql(dialect="postgres", identify=True)
    texts = ", ".join(f"CAST({c} AS citext) AS {c}" for c in ("audience", "title", "uid", "email", "city"))
    source = crowd.source(query=f"SELECT {texts} FROM {name}")
    crowd.write(user("Bob", email="B@x", city="bonn"), user("eve", email="E@x", city="bonn"))
    crowd.run(0, source=source)
    crowd.write(user("bob", email="B@x", city="bonn"), user("eve", email="e@x", city="Bonn"))
    assert counts(crowd.run(1, source=source)) == [1, 1, 1, 2]


@pytest.fixture
def own_types(place) -> Any:
    for statement in (
        "CREATE EXTENSION citext",
        "CREATE TYPE mood AS ENUM ('glad', 'sad')",
        "CREATE TYPE pair AS (a INT, b TEXT)",
        "CREATE DOMAIN address AS text",
        "CREATE DOMAIN price AS numeric(9, 2)",
        "CREATE DOMAIN share AS double precision",
    ):
        place.source.execute(statement)
    return place


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("CAST(ARRAY['A@x', 'b@x'] AS citext[])", ["A@x", "b@x"]),
        ("CAST(ARRAY['sad', 'glad'] AS mood[])", ["glad", "sad"]),
        ("CAST(ARRAY['a@x', 'a@x', NULL, ''] AS address[])", ["a@x"]),
        ("CAST(ARRAY[7.10, 7] AS price[])", ["7", "7.1"]),
    ],
)
def test_a_list_of_a_type_that_only_the_database_has_is_a_list(own_types, listed, expected):
    crowd = Crowd(own_types)
    query = f"SELECT 'u' AS uid, {listed} AS email, 'x' AS city"
    crowd.run(0, source=crowd.source(query=f"SELECT * FROM ({query}) AS given WHERE 1 = 0"))
    crowd.run(1, source=crowd.source(query=query))
    assert [sorted(c[1]["Email"]) for c in crowd.changes(1).values()] == [expected]


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "listed", ["ARRAY[CAST(ROW(1, 'x') AS pair)]", "CAST(ARRAY[7] AS oid[])", "CAST(ARRAY[7] AS share[])"]
)
def test_a_list_of_what_has_no_one_text_is_no_identity(own_types, listed):
    crowd = Crowd(own_types)
    query = f"SELECT 'u' AS uid, {listed} AS email, 'x' AS city"
    with pytest.raises(
        ValueError, match=r"'email' is (of type .*, which has no single text|a .*, whose values are not exact)"
    ):
        crowd.run(0, source=crowd.source(query=query))
