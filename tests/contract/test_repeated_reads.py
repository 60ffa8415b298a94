"""What a change set has, however its engine finds it: rows twice in a source, and sources that are read twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.core.exceptions import GuardTripped
from tests.warehouses import LET_ALL_THROUGH, People, day, open_duckdb, read_membership

STRICT = replace(LET_ALL_THROUGH, on_invalid_rows="fail")
VALUES = st.tuples(st.sampled_from([None, "a@x.y", "b@x.y"]), st.sampled_from([None, "Bonn", "Ulm"]))
USERS = st.sampled_from([f"u{n}" for n in range(8)])
SOURCES = st.lists(st.tuples(USERS, VALUES), max_size=12)


def write(people: People, rows: Any) -> None:
    people.clear()
    for user, (email, city) in rows:
        people.put(user, email=email, city=city)


@pytest.mark.parametrize("many", [False, True], ids=["one audience", "many"])
@given(before=st.dictionaries(USERS, VALUES, min_size=1), after=SOURCES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_that_repeat_a_user_are_counted_whatever_of_them_is_published_already(warehouse, many, before, after):
    people = People(warehouse, many=many)
    write(people, before.items())
    people.run(1)
    write(people, after)
    users = dict(after)
    if repeated := len(after) - len(users):
        with pytest.raises(GuardTripped, match=rf"\b{repeated:,} of {len(after):,} rows .*repeat a user id"):
            people.run(2, guards=STRICT)
        return
    found = people.run(2, guards=STRICT)
    assert {n: found[n] for n in ("entered", "exited", "updated", "members")} == {
        "entered": len(users.keys() - before.keys()),
        "exited": len(before.keys() - users.keys()),
        "updated": sum(users[u] != before[u] for u in users.keys() & before.keys()),
        "members": len(users),
    }
    members = read_membership(people.ledger(), day(2))
    assert {user: values[1:] for (_, user), values in members.items()} == users


@pytest.fixture
def duckdb(tmp_path) -> Any:
    with open_duckdb(tmp_path / "people.duckdb") as warehouse:
        yield warehouse


def test_duckdb_compares_by_its_columns_what_has_another_signature_and_an_equal_value(duckdb):
    people = People(duckdb)
    people.put(*"abc", email="x@example.com", city="7")
    source = replace(people.source, query=f"SELECT *, CAST(city AS DECIMAL(9, 2)) AS n FROM {people.table}")
    people.run(1, source=replace(source, properties={"n": "n"}))
    wider = replace(source, query=source.query.replace("9, 2", "30, 2"), properties={"n": "n"})
    people.change("a", city="8")
    found = people.run(2, source=wider)
    assert (found["updated"], found["entered"], found["exited"]) == (1, 0, 0)


STABLE = [
    "SELECT * FROM {people}",
    "SELECT uid, email, city FROM {people}",
    "SELECT uid, city FROM {people} WHERE uid > '5 ('",
    "SELECT uid FROM {people} WHERE uid > '5'",
    "SELECT * FROM plain",
]
UNSURE = [
    "SELECT * FROM {people} WHERE random() < 2",
    "SELECT * FROM {people} TABLESAMPLE BERNOULLI (100 PERCENT)",
    "SELECT * FROM {people} LIMIT 2",
    "SELECT * FROM {people} WHERE uid IN (SELECT uid FROM {people})",
    "SELECT * REPLACE (uid || random() AS uid) FROM {people}",
    "SELECT audience, title, CAST(nextval('numbers') AS TEXT) AS uid, email, city FROM {people}",
    "SELECT * FROM {people} WHERE uid > CAST(uuid() AS TEXT)",
    "SELECT * FROM {people} WHERE drawn(uid)",
    "SELECT * FROM sampled",
    "SELECT * FROM computed",
    "SELECT * FROM 'people.csv'",
    "SELECT uid, max(email) AS email, max(city) AS city FROM {people} GROUP BY uid",
]


@pytest.mark.parametrize("query", [*STABLE, *UNSURE])
def test_duckdb_reads_twice_only_what_is_sure_to_come_twice(duckdb, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people = People(duckdb)
    duckdb.execute(f"INSERT INTO {people.table} SELECT 'a', 'A', i::text, 'e', 'c' FROM range(200) t(i)")
    for statement in (
        f"CREATE VIEW plain AS SELECT * FROM {people.table}",
        f"CREATE VIEW sampled AS SELECT * FROM {people.table} WHERE random() < 0.5",
        f"CREATE VIEW computed AS SELECT audience, title, uid || random() AS uid, email, city FROM {people.table}",
        "CREATE SEQUENCE numbers",
        "CREATE MACRO drawn(id) AS id > CAST(random() AS TEXT)",
        f"COPY {people.table} TO 'people.csv'",
    ):
        duckdb.execute(statement)
    assert duckdb.is_cheap_to_reread(query.format(people=people.table)) is (query in STABLE)
