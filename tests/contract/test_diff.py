"""A change set is exactly what differs: on both engines, for any history, against a computation in plain Python.

The model below knows no SQL. It says who entered, left or changed, with which old and new values, in which order
and since when; the warehouse must say the same, compacted or not.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_kinesis_audience.audience import Source, instant_text
from airflow_kinesis_audience.exceptions import WarehouseRefused
from airflow_kinesis_audience.ledger import Ledger
from airflow_kinesis_audience.sql import Kind
from airflow_kinesis_audience.sync import Sync, Upkeep
from tests.warehouses import (
    LET_ALL_THROUGH,
    People,
    day,
    fresh_schema,
    insert_rows,
    read_changes,
    read_membership,
    read_timeline,
)

COLUMNS = ('user"id', 'E-mail; --', "%s ? città", "Stadt 'x'")
USERS = ("u1", "U1", "u1 ", "ü", "u\u0308", "\U0001f469\u200d\U0001f467", "אבג", "o'neil", 'say "hi"', "a;b--", "%s", "\\")
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
        bucket = hashlib.md5(user.encode()).hexdigest()[:3]
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
        f"CREATE TABLE {table} (audience TEXT, title TEXT, {user} TEXT, {email} TEXT, {nickname} TEXT, {visits} BIGINT)"
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
        here = {a: named[a] or a for a, _ in state} if many else {AUDIENCES[2]: named[AUDIENCES[2]] or AUDIENCES[2]}
        told = {**titles, **here} if state else titles
        for share, ledger in ledgers.items():
            source = source_of(table, audience_id=only, title=named[AUDIENCES[2]])
            upkeep = Upkeep(compaction_share=share, keep_history=timedelta(days=99))
            summary = Sync(ledger, source, guards=LET_ALL_THROUGH, upkeep=upkeep).run(as_of)
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
    bases = [b.as_of for b in read_timeline(ledgers[99.0]).bases]
    assert bases == [day(0)]


def one_and_many(history, many: bool):
    """Leave one audience where the sync has only one."""
    if many:
        return history
    only = AUDIENCES[2]
    return [({k: p for k, p in state.items() if k[0] == only}, named | {only: named[only]}) for state, named in history]


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
