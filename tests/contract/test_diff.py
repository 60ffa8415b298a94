"""A change set is exactly what differs: on both engines, for any history, against a computation in plain Python.

The model below knows no SQL. It says who entered, left or changed, with which old and new values, in which order
and since when; the warehouse must say the same, compacted or not.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.sync import Retention, Sync
from airflow_kinesis_audience.core.exceptions import WarehouseRefused
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.types import LogicalType
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.ledger import Ledger
from tests.warehouses import (
    LET_ALL_THROUGH,
    People,
    Watched,
    day,
    fresh_schema,
    insert_rows,
    open_postgres,
    read_changes,
    read_membership,
    read_timeline,
)

COLUMNS = ('user"id', "E-mail; --", "%s ? città", "Stadt 'x'")
USERS = (
    "u1",
    "U1",
    "u1 ",
    "ü",
    "u\u0308",
    "\U0001f469\u200d\U0001f467",
    "אבג",
    "o'neil",
    'say "hi"',
    "a;b--",
    "%s",
    "\\",
)
TEXTS = (None, "", " ", "a", "A", "-", "1:a", "é", "e\u0301", "NULL", "it's", "\U0001f600", "a\nb", "{x}")
AUDIENCES = ("a", "A", "b'; --", "ünï\U0001f600", "c\\d")
TITLES = ("First", "Se\"cond'", "", "דרגה")


@dataclass(frozen=True)
class Person:
    """What a source says of one member."""

    email: str | None
    nickname: str | None
    visits: int | None

    @property
    def properties(self) -> tuple[Any, ...]:
        return self.nickname, self.visits


State = dict[tuple[str, str], Person]
people = st.builds(
    Person,
    email=st.sampled_from(TEXTS),
    nickname=st.sampled_from(TEXTS),
    visits=st.sampled_from((None, 0, 1, -1, 2**53 + 1, 2**63 - 1)),
)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[State, dict[str, str]]]:
    """Draw states of a source one after the other, with the names of its audiences."""
    ids = AUDIENCES if draw(st.booleans()) else AUDIENCES[2:3]
    users = st.sampled_from(USERS) | st.text(
        st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8
    )
    keys = draw(st.lists(st.tuples(st.sampled_from(ids), users), min_size=1, max_size=10, unique=True))
    state: State = {}
    drawn = []
    for _ in range(draw(st.integers(1, 4))):
        state = dict(state)
        for key in draw(st.lists(st.sampled_from(keys), max_size=8)):
            if draw(st.booleans()):
                state[key] = draw(people)
            else:
                state.pop(key, None)
        drawn.append((state, {a: draw(st.sampled_from(TITLES)) for a in ids}))
    return drawn


@dataclass(frozen=True)
class Change:
    """One row of a change set."""

    audience_id: str
    action: str
    bucket: str
    user_id: str
    updated: str | None
    member_since: str
    new: Person
    old: Person


NOBODY = Person(None, None, None)


def expect_changes(before: State, now: State, since: dict[tuple[str, str], str], as_of: datetime) -> list[Change]:
    """Compute a change set the plain way; ``since`` says when the members of ``before`` entered."""
    found = []
    for audience, user in {*before, *now}:
        key = (audience, user)
        was, is_ = before.get(key), now.get(key)
        if was == is_:
            continue
        updated = None
        if was is None:
            action = "entered"
        elif is_ is None:
            action = "exited"
        else:
            action = "updated"
            updated = "identities" if was.properties == is_.properties else "properties"
            updated = "both" if was.email != is_.email and was.properties != is_.properties else updated
        bucket = hashlib.md5(user.encode(), usedforsecurity=False).hexdigest()[:3]
        entered = since.get(key, instant_text(as_of))
        found.append(Change(audience, action, bucket, user, updated, entered, is_ or NOBODY, was or NOBODY))
    return sorted(found, key=lambda c: (c.audience_id, c.action, c.bucket, c.user_id))


def read_as_rows(ledger: Ledger, as_of: datetime) -> tuple[list[Change], list[int], dict[str, str]]:
    """Read a change set through its slices: rows, positions and the audiences' names."""
    rows, positions, names = [], [], {}
    for changes in read_changes(ledger, as_of):
        positions += changes.position
        names |= changes.audience_names
        sides = []
        for identities, properties in (
            (changes.new_identities, changes.new_properties),
            (changes.old_identities, changes.old_properties),
        ):
            values = zip(identities["Email"], properties["nickname"], properties["visits"], strict=True)
            sides.append([Person(*value) for value in values])
        own = (changes.audience_id, changes.action, changes.bucket, changes.user_id, changes.updated)
        rows += [Change(*row) for row in zip(*own, changes.member_since, *sides, strict=True)]
    return rows, positions, names


def source_of(table: str, *, audience_id: str | None, title: str) -> Source:
    user, email, nickname, visits = COLUMNS
    return Source(
        query=f"SELECT * FROM {table} -- the members;",
        user_id=user,
        identities={email: "Email"},
        properties={nickname: "nickname", visits: "visits"},
        **(
            {"audience_id_column": "audience", "audience_name_column": "title"}
            if audience_id is None
            else {"audience_id": audience_id, "audience_name": title}
        ),
    )


def check_history(warehouse, history, *, many: bool) -> None:
    schema = fresh_schema()
    table = f"source_{schema}"
    user, email, nickname, visits = ('"' + name.replace('"', '""') + '"' for name in COLUMNS)
    warehouse.execute(
        f"CREATE TABLE {table} (audience TEXT, title TEXT, {user} TEXT, {email} TEXT, "
        f"{nickname} TEXT, {visits} BIGINT)"
    )
    only = None if many else AUDIENCES[2]
    ledgers = {share: Ledger(warehouse, schema, f"o'dag.{share}") for share in (0.0, 99.0)}
    before: State = {}
    since: dict[tuple[str, str], str] = {}
    titles: dict[str, str] = {}
    for number, (state, named) in enumerate(history):
        as_of = day(number)
        warehouse.execute(f"DELETE FROM {table}")
        insert_rows(
            warehouse,
            table,
            [(a, named[a], u, p.email, p.nickname, p.visits) for (a, u), p in state.items()],
        )
        expected = expect_changes(before, state, since, as_of)
        since = {key: since.get(key, instant_text(as_of)) for key in state}
        here = (
            {a: named[a] or a for a, _ in state} if many else {AUDIENCES[2]: named[AUDIENCES[2]] or AUDIENCES[2]}
        )
        told = {**titles, **here} if state else titles
        for share, ledger in ledgers.items():
            source = source_of(table, audience_id=only, title=named[AUDIENCES[2]])
            upkeep = Retention(compaction_share=share, keep_history=timedelta(days=99))
            summary = Sync(ledger, source, guards=LET_ALL_THROUGH, retention=upkeep).run(as_of)
            if number:
                rows, positions, names = read_as_rows(ledger, as_of)
                assert rows == expected
                assert positions == list(range(len(expected)))
                assert names == {c.audience_id: told[c.audience_id] for c in expected}
                counts = {a: sum(c.action == a for c in expected) for a in ("entered", "exited", "updated")}
                assert {n: summary[n] for n in counts} == counts
            assert summary["members"] == len(state)
            assert read_membership(ledger, as_of) == {
                (a, u): (since[a, u], p.email, p.nickname, p.visits) for (a, u), p in state.items()
            }
        before, titles = state, {**{a: a for a, _ in state}, **here} if state else {}
    if all(state for state, _ in history):  # of nobody, any change is a share that is too large
        assert [b.as_of for b in read_timeline(ledgers[99.0]).bases] == [day(0)]


def one_and_many(history, many: bool):
    """Leave one audience where the sync has only one."""
    if many:
        return history
    only = AUDIENCES[2]
    return [
        ({k: p for k, p in state.items() if k[0] == only}, named | {only: named[only]}) for state, named in history
    ]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), many=st.booleans())
@pytest.mark.parametrize("reopen", ["duckdb"], indirect=True)
@pytest.mark.slow
def test_a_change_set_is_exactly_what_differs_in_duckdb(warehouse, history, many):
    check_history(warehouse, one_and_many(history, many), many=many)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), many=st.booleans())
@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
@pytest.mark.slow
def test_a_change_set_is_exactly_what_differs_in_postgresql(warehouse, history, many):
    check_history(warehouse, one_and_many(history, many), many=many)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), many=st.booleans())
@pytest.mark.parametrize("reopen", ["mysql"], indirect=True)
@pytest.mark.slow
def test_a_change_set_is_exactly_what_differs_in_mariadb(warehouse, history, many):
    check_history(warehouse, one_and_many(history, many), many=many)


def test_rows_are_numbered_by_audience_action_and_bucket_over_all_slices(warehouse, monkeypatch):
    monkeypatch.setattr(rows_module, "SLICE_ROWS", 7)
    people = People(warehouse, many=True)
    for audience in ("b", "a", "B"):
        people.put(*(f"u{n}" for n in range(20)), audience=audience, city="Bern")
    people.run(0)
    for audience in ("b", "a", "B"):
        people.take(*(f"u{n}" for n in range(10)), audience=audience)
        people.put(*(f"n{n}" for n in range(10)), audience=audience)
    for number in range(10, 20):
        people.change(f"u{number}", city="Rome")
    people.run(1)
    slices = read_changes(people.ledger(), day(1))
    assert [len(changes) for changes in slices] == [7] * 12 + [6]
    rows = [row for c in slices for row in zip(c.audience_id, c.action, c.bucket, c.user_id, strict=True)]
    assert rows == sorted(rows)
    assert len({user for _, _, _, user in rows}) == 30
    assert [n for c in slices for n in c.position] == list(range(90))


def test_the_same_source_again_gives_an_empty_change_set(warehouse):
    people = People(warehouse)
    people.put("u1", "u2", email="", city=None)
    people.run(0)
    summary = people.run(1)
    assert [summary[n] for n in ("entered", "exited", "updated", "members")] == [0, 0, 0, 2]
    assert read_changes(people.ledger(), day(1)) == []


def test_an_empty_source_begins_a_line_of_time_and_can_fill_and_empty_again(warehouse):
    people = People(warehouse)
    found = [people.run(0)]
    people.put("u1", "u2")
    found.append(people.run(1))
    people.clear()
    found.append(people.run(2))
    found.append(people.run(3))
    assert [(s["entered"], s["exited"], s["members"]) for s in found] == [
        (0, 0, 0),
        (2, 0, 2),
        (0, 2, 0),
        (0, 0, 0),
    ]


def test_who_comes_back_is_a_member_since_then(warehouse):
    people = People(warehouse)
    people.put("stays", "returns")
    people.run(0)
    people.take("returns")
    people.run(1)
    people.put("returns")
    people.run(2)
    found = {user: since for (_, user), (since, *_) in read_membership(people.ledger(), day(2)).items()}
    assert found == {"stays": instant_text(day(0)), "returns": instant_text(day(2))}


def test_an_exit_carries_the_values_last_published_and_not_newer_ones(warehouse):
    people = People(warehouse)
    people.put("u1", email="old@x", city="Rome")
    people.run(0)
    people.change("u1", email="new@x", city=None)
    people.run(1)
    people.take("u1")
    people.run(2)
    [changes] = read_changes(people.ledger(), day(2))
    assert (changes.action, changes.old_identities, changes.old_properties) == (
        ["exited"],
        {"Email": ["new@x"]},
        {"city": [None]},
    )
    assert (changes.new_identities, changes.new_properties) == ({"Email": [None]}, {"city": [None]})


TYPED = {
    "big": ("BIGINT", LogicalType.INTEGER, [2**53 + 1, None, -(2**63), 2**63 - 1]),
    "small": ("SMALLINT", LogicalType.INTEGER, [1, None, -32768, 32767]),
    "price": (
        "DECIMAL(38, 9)",
        LogicalType.EXACT,
        ["12345678901234567890123456789.123456789", None, "0.000000000", "-1.500000000"],
    ),
    "flag": ("BOOLEAN", LogicalType.BOOLEAN, [True, None, False, True]),
    "score": ("DOUBLE PRECISION", LogicalType.FLOAT, [0.1, None, -1e-308, 1.7976931348623157e308]),
    "born": ("DATE", LogicalType.DATE, [date(1, 1, 1), None, date(2024, 2, 29), date(9999, 12, 31)]),
    "seen": (
        "TIMESTAMP WITH TIME ZONE",
        LogicalType.TIMESTAMP,
        [
            datetime(2026, 10, 25, 0, 30, 0, 123456, tzinfo=UTC),
            None,
            datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
            datetime(1900, 1, 1, tzinfo=UTC),
        ],
    ),
    "token": (
        "UUID",
        LogicalType.EXACT,
        ["00000000-0000-0000-0000-000000000001", None, *["ffffffff-ffff-ffff-ffff-ffffffffffff"] * 2],
    ),
    "note": ("VARCHAR(9)", LogicalType.TEXT, ["", None, "\U0001f600", "a'b\"c\n"]),
}


def typed_source(warehouse, types: dict[str, str]) -> tuple[str, Source]:
    table = f"typed_{fresh_schema()}"
    warehouse.execute(f"CREATE TABLE {table} (uid TEXT, {', '.join(f'{n} {t}' for n, t in types.items())})")
    return table, Source(
        query=f"SELECT * FROM {table}",
        user_id="uid",
        identities={},
        properties={n: n for n in types},
        audience_id="a",
    )


def test_values_come_out_without_loss_and_the_same_on_both_engines(warehouse):
    table, source = typed_source(warehouse, {name: kind for name, (kind, _, _) in TYPED.items()})
    ledger = Ledger(warehouse, fresh_schema(), "typed")
    sync = Sync(ledger, source, guards=LET_ALL_THROUGH)
    sync.run(day(0))
    columns = [values for _, _, values in TYPED.values()]
    insert_rows(warehouse, table, [(f"u{n}", *row) for n, row in enumerate(zip(*columns, strict=True))])
    sync.run(day(1))
    warehouse.execute(f"DELETE FROM {table}")
    sync.run(day(2))
    for number, side in ((1, "new_properties"), (2, "old_properties")):
        [changes] = read_changes(ledger, day(number))
        order = [int(user[1:]) for user in changes.user_id]
        for name, (_, _, values) in TYPED.items():
            found = getattr(changes, side)[name]
            assert (name, found) == (name, [values[n] for n in order])
            assert {type(v) for v in found} == {type(v) for v in values}
    kinds = {c.label: c.kind for c in read_timeline(ledger).change_sets[0].layout.columns}
    assert kinds == {name: kind for name, (_, kind, _) in TYPED.items()}


def test_only_a_difference_in_value_is_a_change_whatever_the_type(warehouse):
    table, source = typed_source(warehouse, {name: kind for name, (kind, _, _) in TYPED.items()})
    ledger = Ledger(warehouse, fresh_schema(), "typed")
    columns = [values for _, _, values in TYPED.values()]
    insert_rows(warehouse, table, [(f"u{n}", *row) for n, row in enumerate(zip(*columns, strict=True))])
    sync = Sync(ledger, source, guards=LET_ALL_THROUGH)
    sync.run(day(0))
    warehouse.execute("SET TIME ZONE 'America/Havana'")  # a value is not its text in somebody's time zone
    assert sync.run(day(1))["updated"] == 0
    for number, name in enumerate(TYPED, 2):
        warehouse.execute(f"UPDATE {table} SET {name} = NULL WHERE uid = 'u0'")
        assert (name, sync.run(day(number))["updated"]) == (name, 1)


def test_a_float_that_is_no_number_equals_itself(warehouse):
    table, source = typed_source(warehouse, {"score": "DOUBLE PRECISION"})
    warehouse.execute(f"INSERT INTO {table} VALUES ('u1', 'NaN'), ('u2', 0.0)")
    sync = Sync(Ledger(warehouse, fresh_schema(), "typed"), source)
    sync.run(day(0))
    warehouse.execute(f"UPDATE {table} SET score = -score")
    assert sync.run(day(1))["updated"] == 0


@pytest.mark.parametrize(
    ("type_name", "sentence"),
    [
        ("TIMESTAMP", "without a time zone.*AT TIME ZONE 'UTC' AS odd"),
        ("JSON", "no single JSON form.*CAST"),
        ("INTEGER[]", "no single JSON form.*CAST"),
        ("INTERVAL", "no single JSON form.*CAST"),
        ("TIME", "no single JSON form.*CAST"),
    ],
)
def test_a_property_without_one_json_form_is_refused_with_what_to_cast(warehouse, type_name, sentence):
    _, source = typed_source(warehouse, {"odd": type_name})
    ledger = Ledger(warehouse, fresh_schema(), "typed")
    with pytest.raises(ValueError, match=f"'odd'.*{sentence}"):
        Sync(ledger, source).run(day(0))


def run_query(warehouse, query: str):
    source = Source(query=query, user_id="uid", identities={}, properties={"city": "city"}, audience_id="a")
    ledger = Ledger(warehouse, fresh_schema(), "asked")
    Sync(ledger, source).run(day(0))
    return {user: city for (_, user), (_, city) in read_membership(ledger, day(0)).items()}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 'u1' AS uid, '100 %s ? :x {y}' AS city WHERE 'abc' LIKE '%b%' AND 7 % 2 = 1",
        "SELECT 'u1' AS uid, '100 %s ? :x {y}' AS city;",
        "SELECT 'u1' AS uid, '100 %s ? :x {y}' AS city ; ;\n-- the end; of it",
        "SELECT 'u1' AS uid, /* ; ( */ '100 %s ? :x {y}' AS city -- no newline after this",
        "-- first\nWITH source AS (SELECT 'u1' AS uid) SELECT uid, '100 %s ? :x {y}' AS city FROM source",
        "(SELECT 'u1' AS uid, '100 %s ? :x {y}' AS city UNION ALL SELECT 'u2', ';' WHERE 1 = 0) ORDER BY 1",
        "SELECT '\U0001f600' AS more, 'u1' AS uid, '100 %s ? :x {y}' AS city -- \U0001f600\n;",
    ],
)
def test_a_query_means_what_its_author_tested(warehouse, query):
    assert run_query(warehouse, query) == {"u1": "100 %s ? :x {y}"}


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("SELECT 'u1' AS uid, '' AS city; SELECT 2", "more than one statement"),
        ("SELECT 'u1' AS uid, '' AS city; DROP TABLE x", "more than one statement"),
        ("DELETE FROM x", "begins with DELETE"),
        ("SELECT 'u1' AS uid, '' AS city) AS given; DROP TABLE x; --", "more than one statement|parenthesis"),
        ("SELECT 'u1' AS uid, '' AS city) AS given, (SELECT 1", "parenthesis"),
        ("SELECT 'u1' AS uid, 'open AS city", "not closed"),
        ("  ;\n", "empty"),
        ("SELECT 'u1' AS uid, 'x' AS town", "no column 'city'; it returns 'uid', 'town'"),
    ],
)
def test_a_query_that_is_no_single_select_of_the_columns_is_refused(warehouse, query, sentence):
    with pytest.raises(ValueError, match=sentence):
        run_query(warehouse, query)


def test_a_wrong_query_is_told_in_the_engines_words_and_leaves_nothing(warehouse):
    schema = fresh_schema()
    source = Source(query="SELECT uid FROM nowhere", user_id="uid", identities={}, properties={}, audience_id="a")
    with pytest.raises(WarehouseRefused, match="nowhere"):
        Sync(Ledger(warehouse, schema, "asked"), source).run(day(0))
    counted = f"SELECT count(*) FROM information_schema.tables WHERE table_schema = '{schema}'"
    assert warehouse.read_rows(counted) == [(0,)]


def test_columns_may_be_called_like_the_states_own_or_be_as_long_as_the_engine_allows(warehouse):
    own = [
        "fingerprint",
        "position",
        "action",
        "audience_id",
        "member_since",
        "gone",
        "edge",
        "new_x",
        "source",
        "bucket",
    ]
    long = ["n" * 62 + "1", "n" * 62 + "2"]
    names = [*own, *long]
    table = f"named_{fresh_schema()}"
    columns = ", ".join(f'"{name}" TEXT' for name in names)
    warehouse.execute(f"CREATE TABLE {table} (user_id TEXT, {columns})")
    insert_rows(warehouse, table, [("u1", *names)])
    source = Source(
        query=f"SELECT * FROM {table}",
        user_id="user_id",
        identities={"user_id": "id", own[0]: own[0]},
        properties={n: n for n in names[1:]},
        audience_id="a",
    )
    ledger = Ledger(warehouse, fresh_schema(), "named")
    sync = Sync(ledger, source, guards=LET_ALL_THROUGH)
    sync.run(day(0))
    [(key, (since, *values))] = read_membership(ledger, day(0)).items()
    assert (key, since, sorted(values)) == (("a", "u1"), instant_text(day(0)), sorted(["u1", *names]))
    for number, name in enumerate(names, 1):
        warehouse.execute(f"UPDATE {table} SET \"{name}\" = 'changed'")
        assert sync.run(day(number))["updated"] == 1
        [changes] = read_changes(ledger, day(number))
        new, old = (
            {**changes.new_identities, **changes.new_properties},
            {**changes.old_identities, **changes.old_properties},
        )
        assert [n for n in new if new[n] != old[n]] == [name]
        assert (new[name], old[name]) == (["changed"], [name])


def with_query(people: People, query: str) -> Source:
    return replace(people.source, query=query.format(people=people.table))


@pytest.mark.parametrize("many", [False, True], ids=["one audience", "many"])
@pytest.mark.parametrize("repeated", [False, True], ids=["users once", "a user twice"])
def test_the_engine_scans_the_source_once_in_each_statement(warehouse, many, repeated):
    people = People(warehouse, many=many)
    source = with_query(people, "SELECT audience, title, lower(uid) AS uid, email, city FROM {people}")
    scans = count_scans(warehouse, people, source, repeated=repeated)
    assert scans == [1] * (6 if repeated else 3), "the first base and two change sets, and without repetitions"


def test_postgres_scans_a_plain_table_twice_in_one_statement_rather_than_copy_it(postgres_database):
    with open_postgres(postgres_database) as warehouse:
        people = People(warehouse)
        assert count_scans(warehouse, people, people.source, repeated=False) == [2, 2, 2]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM {people} WHERE random() < 2",
        "SELECT uid, max(email) AS email, max(city) AS city FROM {people} GROUP BY uid",
        "SELECT p.* FROM {people} p JOIN {people} q USING (uid)",
        "SELECT * FROM {people} TABLESAMPLE BERNOULLI (100)",
        "SELECT * FROM {people} WHERE city = 'one in ten thousand'",
    ],
)
def test_postgres_keeps_rows_that_are_dear_or_not_sure_to_come_again(postgres_database, query):
    with open_postgres(postgres_database) as warehouse:
        people = People(warehouse)
        warehouse.execute(f"INSERT INTO {people.table} SELECT 'a', 'A', i::text FROM generate_series(1, 10000) i")
        warehouse.execute(f"ANALYZE {people.table}")
        assert warehouse.is_cheap_to_reread(f"SELECT * FROM {people.table}")
        assert not warehouse.is_cheap_to_reread(query.format(people=people.table))


RANDOM = """
CREATE FUNCTION drawn() RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT random() < 0.5';
CREATE FUNCTION "or"(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1 || random()';
CREATE VIEW sampled AS SELECT * FROM {people} WHERE uid IN (SELECT uid FROM {people} TABLESAMPLE BERNOULLI (50));
CREATE TABLE watched (LIKE {people});
INSERT INTO watched SELECT * FROM {people};
ALTER TABLE watched ENABLE ROW LEVEL SECURITY;
CREATE POLICY lucky ON watched USING (random() < 0.5);
ALTER TABLE watched FORCE ROW LEVEL SECURITY;
ANALYZE watched;
"""


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM {people} WHERE uid IN (SELECT uid FROM {people} TABLESAMPLE BERNOULLI (50))",
        "SELECT * FROM {people} WHERE (SELECT random() < 0.5)",
        "SELECT * FROM {people} WHERE uid > (SELECT CAST(random() AS text))",
        "SELECT audience, title, (SELECT CAST(random() AS text)) AS uid, email, city FROM {people}",
        'SELECT audience, title, uid, "or"(uid) AS email, city FROM {people}',
        "SELECT * FROM {people} WHERE drawn()",
        "SELECT * FROM sampled",
        "SELECT * FROM watched",
        "SELECT *, clock_timestamp() AS now FROM {people}",
    ],
)
def test_postgres_reads_twice_only_what_is_sure_to_come_twice(postgres_database, query):
    with open_postgres(postgres_database) as owner:
        people = People(owner)
        owner.execute(
            f"INSERT INTO {people.table} SELECT 'a', 'A', i::text, 'e', 'c' FROM generate_series(1, 200) i"
        )
        owner.execute(f"ANALYZE {people.table}")
        for statement in RANDOM.format(people=people.table).split(";\n"):
            if statement.strip():
                owner.execute(statement)
        owner.execute("CREATE ROLE watcher; GRANT ALL ON ALL TABLES IN SCHEMA public TO watcher; SET ROLE watcher")
        try:
            assert owner.is_cheap_to_reread(f"SELECT * FROM {people.table}"), "or nothing is shown here"
            assert not owner.is_cheap_to_reread(query.format(people=people.table))
        finally:
            owner.execute("RESET ROLE; DROP OWNED BY watcher; DROP ROLE watcher")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT uid, email, CAST(city AS varchar(9)) AS city FROM {people} WHERE uid <> 'it''s \\x'",
        "SELECT uid, COALESCE(email, 'none') || '.' AS email, city FROM {people} WHERE title IN ('A', 'B')",
        "SELECT * FROM {people} WHERE NOT (city LIKE 'x%' OR email IS NULL)",
    ],
)
def test_postgres_may_still_read_a_plain_table_twice_under_plain_conditions(postgres_database, query):
    with open_postgres(postgres_database) as warehouse:
        people = People(warehouse)
        rows = "SELECT 'a', 'A', i::text, 'e', 'c' FROM generate_series(1, 200) i"
        warehouse.execute(f"INSERT INTO {people.table} {rows}")
        warehouse.execute(f"ANALYZE {people.table}")
        assert warehouse.is_cheap_to_reread(query.format(people=people.table))


def count_scans(warehouse: Any, people: People, source: Source, *, repeated: bool) -> list[int]:
    """Run three times, and count the scans of the source in the plan of each statement that reads it."""
    plans = []

    def explain(statement: str) -> None:
        if statement.startswith("CREATE TABLE") and people.table in statement:
            create = statement.partition("\n;\n")[0]
            plans.append(warehouse.read_rows(f"EXPLAIN (FORMAT json) {create}")[0][-1])

    drop = Guards(max_exit_ratio=None, on_empty="exit_all", on_invalid_rows="drop")
    people.put(*"abc", *("c" if repeated else "d"), email="x@example.com")
    for number in range(3):
        people.change("a", city=f"city {number}")
        people.sync(Watched(warehouse, before=explain), guards=drop, source=source).run(day(number))
    scan = re.compile(rf'"(?:Table|Relation Name)": "(?:\w+\.)*{people.table}"')
    return [len(scan.findall(plan_text(plan))) for plan in plans]


def plan_text(plan: Any) -> str:
    return plan if isinstance(plan, str) else json.dumps(plan)


def test_a_source_that_cannot_be_read_says_what_to_correct(warehouse):
    source = Source(
        query="SELECT user_id FROM nowhere", user_id="user_id", identities={}, properties={}, audience_id="a"
    )
    with pytest.raises(WarehouseRefused, match="This statement reads the source: correct the task's sql or table"):
        Sync(Ledger(warehouse, "state_of_nothing", "dag.diff"), source).run(day(0))
