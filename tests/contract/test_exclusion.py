"""Whoever is excluded, by a list or for want of consent, is in no audience: compared with plain Python's sets."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlglot import exp

from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.exceptions import GuardTripped, WarehouseRefused
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.outbox.forgetting import forget
from airflow_kinesis_audience.core.sql.names import view_name
from tests.contract.test_state_model import TYPES, Crowd, literal, place, user
from tests.warehouses import LET_ALL_THROUGH, day

__all__ = ["place"]

ON_MANY = ["duckdb", "duckdb without keys", "parquet", "postgres", "mysql", "clickhouse"]
COUNTED = ("entered", "exited", "updated", "members")
DROP = replace(LET_ALL_THROUGH, on_invalid_rows="drop")
Row = Mapping[str, Any]

on_many = pytest.mark.parametrize("place", ON_MANY, indirect=True)
on_two = pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)


def crowd_of(place: Any, **how: Any) -> Crowd:
    return Crowd(place, types={**TYPES, "consent": "BOOLEAN"}, **how)


def list_of(place: Any, ids: Iterable[Any], kind: str = "TEXT") -> str:
    """Write a query of some ids, as an author would for the engine."""
    dialect = place.source.dialect
    selects = [
        exp.select(exp.cast(literal(i, dialect), place.type_of(kind)).as_("gone")).sql(dialect=dialect.name)
        for i in (*ids, None)
    ]
    return " UNION ALL ".join(selects)


@dataclass
class Expected:
    """What plain Python makes of the rows of a source.

    :param consented: whether consent is asked for.
    """

    listed: set[str]
    consented: bool

    def refuses(self, row: Row) -> bool:
        return self.consented and row.get("consent") is not True

    def excluded(self, rows: Sequence[Row]) -> set[str]:
        return self.listed | {r["uid"] for r in rows if self.refuses(r) and r["uid"]}

    def members(self, rows: Sequence[Row]) -> set[tuple[str, str]]:
        gone = self.excluded(rows)
        return {(r["audience"], r["uid"]) for r in rows if r["uid"] and r["uid"] not in gone}

    def excluded_rows(self, rows: Sequence[Row]) -> int:
        gone = self.excluded(rows)
        return sum(self.refuses(r) or r["uid"] in gone for r in rows)

    def listed_rows(self, rows: Sequence[Row]) -> int:
        return sum(r["uid"] in self.listed for r in rows)

    def unconsented_rows(self, rows: Sequence[Row]) -> int:
        refusing = {r["uid"] for r in rows if self.refuses(r) and r["uid"]}
        return sum(self.refuses(r) or r["uid"] in refusing for r in rows)


@on_many
@pytest.mark.parametrize("how", ["listed", "consent", "both"])
def test_random_worlds_have_the_members_that_plain_python_finds(place: Any, how: str) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    crowd = crowd_of(place, many=True, guards=DROP)
    users = ["u", "U", "ü", "u ", "7", "07", "o'b\\", "日本"]
    before: set[tuple[str, str]] = set()
    published: set[tuple[str, str]] = set()
    for number in range(4):
        rows = [
            user(name, audience, consent=chance.choice([True, True, True, False, None]))
            for name in users
            for audience in "ab"
            for _ in range(chance.choice([0, 1, 1, 2]))
        ]
        # Nobody's row, which would stop the run if it were not excluded.
        rows += [user("", "a", consent=False)] if how != "listed" else []
        listed = set(chance.sample(users, 3)) if how != "consent" else set()
        expected = Expected(listed=listed, consented=how != "listed")
        asked: dict[str, Any] = {"consent_column": "consent"} if how != "listed" else {}
        asked |= {"exclude_query": list_of(place, sorted(listed))} if how != "consent" else {}
        crowd.write(*rows)
        source = crowd.source(**asked)
        plan = make_plan(crowd.ledger, source, day(number), guards=crowd.guards)
        found = crowd.run(number, source=source)
        members = expected.members(rows)
        assert crowd.members(number) == members
        assert (found["entered"], found["exited"]) == (len(members - before), len(before - members))
        assert found.get("excluded", 0) == expected.excluded_rows(rows)
        repeated = Counter((r["audience"], r["uid"]) for r in rows)
        dropped = sum(n - 1 for key, n in repeated.items() if key in members)
        assert found.get("dropped_rows", 0) == dropped
        assert [plan.total(n) for n in COUNTED] == [found[n] for n in COUNTED]
        assert plan.total("excluded") == found.get("excluded", 0)
        by = {"exclude_sql": expected.listed_rows(rows), "consent_column": expected.unconsented_rows(rows)}
        assert found.get("excluded_by", by) == by
        assert ("excluded_by" in found) == (how == "both")
        for message in _drained(crowd, number):
            change = published.add if message[0] == "enter" else published.discard
            change(message[1:])
        assert published == members, "a consumer of the stream has the same members"
        before = members


def _drained(crowd: Crowd, number: int) -> list[tuple[str, str, str]]:
    """Publish a change set; gives who was sent as what, in order."""
    sent = len(crowd.stream.messages)
    crowd.drain(number)
    found = []
    for message in map(json.loads, crowd.stream.messages[sent:]):
        users = message["user_ids"] if "user_ids" in message else [u["user_id"] for u in message["users"]]
        action = "enter" if "::enter::" in message["message_id"] else "exit"
        found += [(action, message["cohort_id"], name) for name in users]
    return found


@on_many
def test_an_excluded_row_is_excluded_and_nothing_else(place: Any) -> None:
    crowd = crowd_of(place, guards=LET_ALL_THROUGH, rules={"email": IdentityRule(hashed="sha256")})
    digest = "ab" * 32
    crowd.write(*(user(n, email=digest, consent=True) for n in "abc"))
    crowd.run(0)
    rows = [
        user("a", email="no digest", consent=False),
        user("a", email=digest, consent=True),
        user("", email=digest, consent=None),
        user("b", email=digest, consent=True),
        user("c", email="no digest", consent=True),
    ]
    crowd.write(*rows)
    source = crowd.source(consent_column="consent", exclude_query=list_of(place, ["c", "nobody"]))
    found = crowd.run(1, source=source)
    assert [found[n] for n in COUNTED] == [0, 2, 0, 1]
    assert (found["excluded"], "dropped_rows" in found) == (4, False)
    crowd.write(user("", consent=True), *rows)
    with pytest.raises(GuardTripped, match="1 of 6 rows have no user id"):
        crowd.run(2, source=source)


@on_many
def test_numbers_are_excluded_as_numbers(place: Any) -> None:
    crowd = Crowd(place)
    crowd.types = {**TYPES, "uid": "BIGINT"}
    crowd.write(*(user(n) for n in (7, 70, 8)))
    crowd.run(0)
    whole = "DECIMAL(20, 0)"
    for number, kind in enumerate(("BIGINT", whole), start=1):
        found = crowd.run(number, source=crowd.source(exclude_query=list_of(place, [7], kind)))
        assert found["members"] == 2
        assert crowd.members(number) == {("vips", "70"), ("vips", "8")}
    with pytest.raises(
        ValueError, match=r"(?i)'gone' of kind text, and the user ids in 'uid' are of kind integer"
    ):
        crowd.run(3, source=crowd.source(exclude_query=list_of(place, ["7"])))


@on_two
def test_a_list_that_suddenly_has_everybody_is_stopped(place: Any) -> None:
    crowd = crowd_of(place, guards=Guards(max_exit_ratio_per_day=0.3))
    names = [f"u{n}" for n in range(120)]
    crowd.write(*(user(n, consent=True) for n in names))
    crowd.run(0)
    excluded = "are excluded (exclude_sql, consent_column)"
    for listed, said in (
        (names, "120 members before, and every row of the source is excluded (on_empty is fail)"),
        (names[:70], "70 of 120 members would exit, 58% (max_exit_ratio is 50%); 70 of 120 rows " + excluded),
        (names[:40], "within a day, 33% (max_exit_ratio_per_day is 30%); 40 of 120 rows " + excluded),
    ):
        with pytest.raises(GuardTripped) as stopped:
            crowd.run(1, source=crowd.source(exclude_query=list_of(place, listed)))
        assert said in str(stopped.value)
    crowd.guards = Guards(on_empty="exit_all")
    with pytest.raises(GuardTripped, match="120 of 120 members would exit, 100%"):
        crowd.run(1, source=crowd.source(exclude_query=list_of(place, names)))
    assert len(crowd.members(0)) == 120
    crowd.write(*(user(n, consent=False) for n in names))
    crowd.guards = Guards()
    with pytest.raises(GuardTripped, match="every row of the source is excluded"):
        crowd.run(1, source=crowd.source(consent_column="consent"))


@on_two
def test_a_list_that_was_not_loaded_lets_nobody_enter(place: Any) -> None:
    crowd = crowd_of(place)
    names = [f"u{n}" for n in range(22)]
    crowd.write(*map(user, names))
    crowd.run(0, source=crowd.source(exclude_query=list_of(place, names[:21])))
    none = crowd.source(exclude_query=list_of(place, []))
    said = "21 rows were excluded in the run before, and now 0 (exclude_sql)"
    plan = make_plan(crowd.ledger, none, day(1), guards=crowd.guards)
    assert [str(b) for b in plan.stopped] == [said]
    with pytest.raises(GuardTripped) as stopped:
        crowd.run(1, source=none)
    assert list(stopped.value.sentences) == [said]
    assert crowd.run(1, source=none, permission=Permission(everything=True))["entered"] == 21
    crowd.run(2, source=crowd.source(exclude_query=list_of(place, names[:20])))
    assert crowd.run(3, source=none)["entered"] == 20, "so few may have taken it back"
    crowd.run(4, source=crowd.source(exclude_query=list_of(place, names[:21])))
    assert crowd.run(5)["entered"] == 21, "an author who removes the argument means it"


@on_two
def test_a_lost_list_is_seen_beside_many_without_consent(place: Any) -> None:
    crowd = crowd_of(place)
    names = [f"u{n:03}" for n in range(90)]
    crowd.write(*(user(n, consent=number >= 60) for number, n in enumerate(names)))
    both = {"consent_column": "consent", "exclude_query": list_of(place, names[55:85])}
    found = crowd.run(0, source=crowd.source(**both))
    assert (found["excluded"], found["members"]) == (85, 5)
    assert found["excluded_by"] == {"exclude_sql": 30, "consent_column": 60}
    lost = crowd.source(**both | {"exclude_query": list_of(place, [])})
    with pytest.raises(GuardTripped) as stopped:
        crowd.run(1, source=lost)
    said = "30 rows were excluded in the run before, and now 0 (exclude_sql)"
    assert list(stopped.value.sentences) == [said]
    forget(crowd.ledger, [names[89]])
    with pytest.raises(GuardTripped):
        crowd.run(1, source=lost)
    crowd.write(*(user(n, consent=True) for n in names))
    with pytest.raises(GuardTripped, match=r"60 rows were .* and now 0 \(consent_column\)"):
        crowd.run(1, source=crowd.source(**both))


@on_two
def test_a_list_that_was_not_loaded_stops_the_run_whatever_came_between(place: Any) -> None:
    crowd = crowd_of(place)
    names = [f"u{n:02}" for n in range(60)]
    crowd.write(*map(user, names))
    crowd.run(0, source=crowd.source(exclude_query=list_of(place, names[:50])))
    forget(crowd.ledger, ["u55"])
    newest = crowd.ledger.read().timeline.newest
    assert newest is not None
    assert newest.as_of > day(0), "the exit came between"
    with pytest.raises(GuardTripped, match="50 rows were excluded in the run before, and now 1 "):
        crowd.run(1, source=crowd.source(exclude_query=list_of(place, names[:1])))
    assert crowd.run(1, source=crowd.source(exclude_query=list_of(place, names[:30])))["entered"] == 20


@on_two
def test_excluding_begins_and_ends_without_a_changed_mapping(place: Any) -> None:
    crowd = crowd_of(place)
    crowd.write(user("a", consent=True), user("b", consent=False))
    assert crowd.run(0)["members"] == 2
    found = crowd.run(1, source=crowd.source(consent_column="consent"))
    assert (found["exited"], found["members"]) == (1, 1)
    found = crowd.run(2, source=crowd.source(exclude_query=list_of(place, ["a"])))
    assert (found["entered"], found["exited"], found["excluded"]) == (1, 1, 1)
    found = crowd.run(3)
    assert (found["entered"], found["exited"], "excluded" in found) == (1, 0, False)


@on_two
def test_a_list_that_cannot_be_used_is_refused_with_what_to_do(place: Any) -> None:
    crowd = crowd_of(place)
    crowd.write(user("a", consent=True))
    crowd.run(0)
    for query, error, said in (
        ("", ValueError, "exclude_sql is empty; expected a SELECT that returns the ids of users"),
        ("DELETE FROM t", ValueError, "exclude_sql begins with DELETE"),
        ("SELECT 1 AS a; SELECT 2", ValueError, "exclude_sql holds more than one statement"),
        ("SELECT 'a' AS a, 'b' AS b", ValueError, "returns the columns 'a', 'b'; expected one, the user id"),
        ("SELECT CAST(1 AS DOUBLE PRECISION) AS a", ValueError, "cannot be a key"),
        (
            "SELECT a FROM nowhere_at_all",
            WarehouseRefused,
            "reads who is excluded: correct the task's exc",
        ),
        (
            f"SELECT user_id FROM {crowd.schema}.{view_name('dag.diff').upper()}",
            ValueError,
            "reads the state of this sync",
        ),
    ):
        with pytest.raises(error, match=said):
            crowd.run(1, source=crowd.source(exclude_query=query))
    with pytest.raises(ValueError, match=r"consent_column 'city' is of type \w+; expected a boolean"):
        crowd.run(1, source=crowd.source(consent_column="city"))
    with pytest.raises(ValueError, match="returns no column 'agreed'"):
        crowd.run(1, source=crowd.source(consent_column="agreed"))
    assert crowd.run(1)["members"] == 1, "nothing of it was recorded"


@on_two
def test_a_list_is_counted_beside_users_who_are_forgotten(place: Any) -> None:
    crowd = crowd_of(place)
    crowd.write(*map(user, "abc"))
    crowd.run(0)
    forget(crowd.ledger, ["a"])
    found = crowd.run(1, source=crowd.source(exclude_query=list_of(place, ["b"])))
    assert (found["members"], found["excluded"]) == (1, 1)
