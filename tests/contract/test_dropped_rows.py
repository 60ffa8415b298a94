"""Rows that are dropped are never taken for people who left: their members stay, or the run stops and says why."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.exceptions import GuardTripped
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from tests.contract.test_state_model import Crowd, place, user
from tests.warehouses import LET_ALL_THROUGH, People, day, insert_rows, read_changes, read_membership

__all__ = ["place"]

DROP = replace(LET_ALL_THROUGH, on_invalid_rows="drop")
DIGEST = "ab" * 32
HASHED = IdentityRule(hashed="sha256")
COUNTED = ("entered", "exited", "updated", "members")
Row = tuple[str | None, str | None, str | None]
"""Audience, user and e-mail."""


@dataclass
class Table:
    """A source table whose e-mails have to be digests, and runs that drop what is invalid."""

    people: People
    guards: Guards = DROP

    def write(self, *rows: Row) -> None:
        self.people.clear()
        insert_rows(self.people.warehouse, self.people.table, [(a, a, u, e, None) for a, u, e in rows])

    def run(self, number: int, **how: Any) -> dict[str, Any]:
        """Run, and see that a plan has said the same."""
        source = replace(self.people.source, identity_rules={"email": HASHED})
        plan = make_plan(self.people.ledger(), source, day(number), guards=self.guards)
        stopped = [str(b) for b in plan.stopped]
        try:
            found = self.people.run(number, source=source, guards=self.guards, how=how)
        except GuardTripped as error:
            self.check(stopped, error.sentences)
            raise
        if how:
            return found
        assert stopped == []
        assert {n: plan.total(n) for n in COUNTED} == {n: found[n] for n in COUNTED}
        assert sum(a.dropped_rows for a in plan.audiences) == found.get("dropped_rows", 0)
        return found

    @staticmethod
    def check(planned: list[str], stopped: Sequence[str]) -> None:
        assert planned == list(stopped)

    def changes(self, number: int) -> dict[tuple[str, str], str]:
        return {
            (audience, user): action
            for c in read_changes(self.people.ledger(), day(number))
            for audience, user, action in zip(c.audience_id, c.user_id, c.action, strict=True)
        }

    def members(self, number: int) -> dict[tuple[str, str], str | None]:
        return {key: v[1] for key, v in read_membership(self.people.ledger(), day(number)).items()}


ON_MANY = ["duckdb", "duckdb without keys", "parquet", "postgres", "mysql"]


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
def test_what_is_not_mapped_any_more_goes_from_members_who_stay_as_they_were(place: Any) -> None:
    crowd = Crowd(place, guards=replace(DROP, on_schema_change="update"), rules={"email": HASHED})
    crowd.write(
        user("kept", email=DIGEST, city="Bern"),
        user("bare", email=DIGEST),
        user("right", email=DIGEST, city="Rome"),
    )
    crowd.run(0)
    crowd.drain(0, options={"user_properties": True})
    bare = crowd.source(properties={})
    crowd.write(
        user("kept", email="raw"), user("bare", email="raw"), user("right", email=DIGEST), user("new", email="raw")
    )
    found = crowd.run(1, source=bare)
    assert [found[n] for n in (*COUNTED, "dropped_rows")] == [0, 0, 2, 3, 3]
    assert crowd.changes(1) == {
        ("vips", name): ("updated", {"Email": DIGEST, "city": None}, {"Email": DIGEST, "city": city})
        for name, city in (("kept", "Bern"), ("right", "Rome"))
    }
    crowd.drain(1, options={"user_properties": True})
    assert {u: crowd.stream.consume().properties("vips", u).get("city") for u in ("kept", "right")} == {
        "kept": None,
        "right": None,
    }
    assert crowd.run(2, source=bare)["updated"] == 0
    crowd.write(user("kept", email="cd" * 32), user("bare", email=DIGEST), user("right", email=DIGEST))
    assert crowd.run(3, source=bare)["updated"] == 1
    assert crowd.changes(3) == {("vips", "kept"): ("updated", {"Email": "cd" * 32}, {"Email": DIGEST})}


@pytest.mark.parametrize("place", ON_MANY, indirect=True)
@pytest.mark.parametrize("rule", [IdentityRule(normalize="email"), HASHED], ids=["email", "hashed"])
def test_placeholders_are_counted_apart_from_what_is_wrong_and_from_what_is_empty(
    place: Any, rule: IdentityRule
) -> None:
    crowd = Crowd(place, guards=DROP, rules={"email": rule})
    empty = [user("null", email=None), user("empty", email="")]
    crowd.write(*empty, user("none", email="None"), user("blank", email=" \u00a0"), user("right", email=DIGEST))
    assert crowd.run(0)["placeholders"] == {"Email": 2}
    others = [*empty, user("blank", email="-")]
    # Of a row without a user nothing is counted but that it has none.
    crowd.write(*others, user("none", email="n/a"), user("right", email="raw"), user(None, email="--"))
    found = crowd.run(1)
    assert (found["placeholders"], found["exited"]) == ({"Email": 2}, 0)
    assert found.get("dropped_rows") == (2 if rule is HASHED else 1)
    crowd.write(*empty, user("right", email=DIGEST))
    assert "placeholders" not in crowd.run(2)


@pytest.fixture
def table(warehouse: Any) -> Table:
    return Table(People(warehouse, many=True))


def crowd(count: int, email: str | None = None, audience: str | None = "a") -> list[Row]:
    return [(audience, f"u{n}", email) for n in range(count)]


def test_nobody_exits_where_all_ids_are_null(table):
    table.write(*crowd(60))
    table.run(0)
    table.write(*((a, None, e) for a, _, e in crowd(60)))
    said = (
        r"60 dropped rows have no user id, and could belong to 60 of 60 "
        r"members of audience 'a' that would exit \(on_invalid_rows is drop; if such rows"
    )
    with pytest.raises(GuardTripped, match=said):
        table.run(1)
    assert len(table.members(0)) == 60
    assert table.run(1, permission=Permission(audiences=["a"]))["exited"] == 60


def test_one_row_without_an_id_may_be_the_one_member_who_would_exit(table):
    table.write(*crowd(500))
    table.run(0)
    table.write(*crowd(499), ("a", None, None))
    with pytest.raises(GuardTripped, match=r"1 dropped rows .* and could belong to 1 of 500"):
        table.run(1)
    held = table.run(1, hold=True)
    assert "could belong to 1 of 500 members" in held["held"][0]
    assert approve(table.people.ledger(), day(1), held["held_table"])["exited"] == 1


def test_as_many_rows_without_an_id_as_before_may_be_those_of_other_people(table):
    nameless = [("a", None, None)] * 40
    repeated = [("a", "u0", DIGEST)] * 4
    table.write(*crowd(100), *nameless)
    table.run(0)
    table.write(*crowd(100), *nameless, *nameless, *repeated)
    assert [table.run(1)[n] for n in ("exited", "dropped_rows")] == [0, 84], "nobody is missing"
    for number, rows in enumerate([nameless, [*nameless, *repeated], nameless[:1]], 2):
        table.write(*crowd(60), *rows)
        with pytest.raises(
            GuardTripped, match=rf"{len(rows) - len(rows) % 10 or 1} dropped rows have no .* 40 of 100"
        ):
            table.run(number)
    table.write(*crowd(60), *repeated)
    assert table.run(5)["exited"] == 40, "repeated rows name their user"


def test_that_users_repeated_does_not_hide_that_ids_are_missing_now(table):
    table.write(*crowd(10), *crowd(10))
    table.run(0)
    table.write(*crowd(5), *((a, None, e) for a, _, e in crowd(5)))
    with pytest.raises(GuardTripped, match=r"5 dropped rows .* and could belong to 5 of 10"):
        table.run(1)


def test_another_audience_is_not_stopped_by_rows_of_this_one(table):
    table.write(*crowd(3), *crowd(3, audience="b"))
    table.run(0)
    table.write(*crowd(3), ("a", None, None), *crowd(1, audience="b"))
    assert table.run(1)["exited"] == 2


def test_rows_of_no_audience_may_be_those_of_any(table):
    table.write(*crowd(4), *crowd(4, audience="b"), (None, "x", None))
    table.run(0)
    table.write(*crowd(3), *crowd(3, audience="b"), (None, "x", None))
    with pytest.raises(
        GuardTripped, match=r"1 dropped rows .* no audience id, and could belong to 2 of 8 members of"
    ):
        table.run(1)
    table.write(*crowd(3), *crowd(3, audience="b"))
    assert table.run(1)["exited"] == 2


def test_a_member_whose_identity_is_wrong_now_stays_as_it_was(table):
    table.write(*crowd(99, DIGEST))
    table.run(0)
    table.write(*crowd(99, "no digest"))
    found = table.run(1)
    assert [found[n] for n in (*COUNTED, "dropped_rows")] == [0, 0, 0, 99, 99]
    assert set(table.members(1).values()) == {DIGEST}
    table.write(*crowd(98, "no digest")[1:], ("a", "u0", None), ("a", "new", "no digest"))
    found = table.run(2)
    assert [found[n] for n in (*COUNTED, "dropped_rows")] == [0, 1, 1, 98, 98]
    assert {user: action for (_, user), action in table.changes(2).items()} == {"u98": "exited", "u0": "updated"}
    table.write(*crowd(98, DIGEST))
    assert [table.run(3)[n] for n in COUNTED] == [0, 0, 1, 98]


def test_an_audience_without_a_wrong_row_is_counted_beside_one_with_some(table):
    table.write(*crowd(3, DIGEST), *crowd(3, DIGEST, audience="b"))
    table.run(0)
    table.write(*crowd(3, "no digest"), *crowd(2, DIGEST, audience="b"))
    found = table.run(1)
    assert [found[n] for n in (*COUNTED, "dropped_rows")] == [0, 1, 0, 5, 3]


def test_a_wrong_row_beside_a_right_one_or_another_wrong_one_keeps_the_member_once(table):
    table.write(*crowd(4, DIGEST))
    table.run(0)
    table.write(
        ("a", "u0", "wrong"),
        ("a", "u0", None),
        ("a", "u1", "wrong"),
        ("a", "u1", "wrong, too"),
        ("a", "u2", DIGEST),
        ("a", "u2", DIGEST),
        ("a", "u2", "wrong"),
        ("a", "u9", "wrong"),
    )
    found = table.run(1)
    assert [found[n] for n in (*COUNTED, "dropped_rows")] == [0, 1, 1, 3, 6]
    assert table.members(1) == {("a", "u0"): None, ("a", "u1"): DIGEST, ("a", "u2"): DIGEST}


def test_wrong_identities_that_stop_a_run_let_nobody_exit_if_it_is_let_through(table):
    table.guards = Guards()
    table.write(*crowd(5, DIGEST))
    table.run(0)
    table.write(*crowd(4, "wrong"))
    with pytest.raises(GuardTripped, match="4 of 4 rows have 'Email' values that are not sha256 digests"):
        table.run(1)
    held = table.run(1, hold=True)
    assert approve(table.people.ledger(), day(1), held["held_table"])["exited"] == 1
    assert len(table.members(1)) == 4


def test_what_was_dropped_is_known_after_the_membership_was_copied(warehouse):
    table = Table(People(warehouse, many=True))
    table.write(*crowd(10, DIGEST))
    source = replace(table.people.source, identity_rules={"email": HASHED})
    table.run(0)
    invalid = [("a", "u8", "wrong"), ("a", "u0", DIGEST)]
    table.write(*crowd(8, DIGEST), *invalid)
    table.run(1)
    table.write(*crowd(8, DIGEST), *invalid, ("a", None, None))
    ledger = table.people.ledger()
    for number in range(2, 5):
        found = table.people.run(number, source=source, guards=DROP, compaction_share=0.0)
        assert [found[n] for n in (*COUNTED, "dropped_rows")] == [0, 0, 0, 9, 3]
    table.write(*crowd(8, DIGEST), ("a", None, None))
    with pytest.raises(GuardTripped, match=r"1 dropped rows .* could belong to 1 of 9 members"):
        table.run(6)
    table.write(*crowd(8, DIGEST))
    assert [table.run(6)[n] for n in COUNTED] == [0, 1, 0, 8]
    assert len(read_membership(ledger, day(6))) == 8


_numbers = itertools.count()
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "a", "b", None]),
        st.sampled_from(["u0", "u1", "u2", "u3", None]),
        st.sampled_from([None, DIGEST, "cd" * 32, "wrong"]),
    ),
    max_size=8,
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(tables=st.lists(ROWS, min_size=2, max_size=4))
def test_the_members_are_those_that_plain_python_finds(duckdb_in_memory, tables):
    table = Table(People(duckdb_in_memory, many=True))
    members: dict[tuple[str, str], str | None] = {}
    number = next(_numbers)
    for rows in tables:
        number = next(_numbers)
        table.write(*rows)
        named = {(a, u): {e for b, v, e in rows if (a, u) == (b, v)} for a, u, _ in rows if a and u}
        right = {key for key, emails in named.items() if emails != {"wrong"}}
        gone = {audience for audience, user in members if (audience, user) not in named}
        nameless = {a for a, u, _ in rows if None in (a, u)}
        if gone and (None in nameless or nameless & gone):
            with pytest.raises(GuardTripped, match="could belong to"):
                table.run(number)
            continue
        found, now = table.run(number), table.members(number)
        assert set(now) == right | (set(members) & set(named))
        assert all(now[key] in named[key] - {"wrong"} for key in right)
        assert all(now[key] == members[key] for key in set(now) - right)
        assert found.get("dropped_rows", 0) == len(rows) - len(right)
        members = now
