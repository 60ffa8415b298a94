"""Of audiences that exclude each other a user is in the first that takes them: as plain Python has it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from airflow_kinesis_audience.cli.plan import as_json, describe
from airflow_kinesis_audience.core.changes.approval import approve_audiences
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.exceptions import GuardTripped, ReleaseRefused
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.core.model.splits import Split
from airflow_kinesis_audience.core.outbox.forgetting import forget
from airflow_kinesis_audience.operators.reporting.log_lines import log_change_set
from tests.contract.test_exclusion import COUNTED, ON_MANY, list_of
from tests.contract.test_splits import side
from tests.contract.test_state_model import Crowd, place, user
from tests.warehouses import LET_ALL_THROUGH, day

__all__ = ["place"]

on_many = pytest.mark.parametrize("place", ON_MANY, indirect=True)
on_two = pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)

Pairs = set[tuple[str, str]]


def first_alone(pairs: Pairs, order: tuple[str, ...]) -> Pairs:
    """Keep each user in the first of some audiences; audiences that are not among them keep all."""
    taken: set[str] = set()
    kept = {(a, name) for a, name in pairs if a not in order}
    for audience in order:
        names = {name for a, name in pairs if a == audience} - taken
        kept |= {(audience, name) for name in names}
        taken |= names
    return kept


@on_many
def test_random_worlds_have_each_user_where_plain_python_finds_them(place: Any) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    crowd = Crowd(place, many=True, guards=replace(LET_ALL_THROUGH, on_invalid_rows="drop"))
    users = ["u", "U", "ü", "u ", "7", "07", "o'b\\", "日本"]
    audiences = ["a", "A", "b'", "free", "é"]
    before: Pairs = set()
    for number in range(4):
        order = tuple(chance.sample([a for a in audiences if a != "free"], chance.randint(2, 4)))
        listed = set(chance.sample(users, chance.randint(0, 2)))
        rows = [
            user(name, audience)
            for name in users
            for audience in audiences
            for _ in range(chance.choice([0, 1, 1, 2]))
        ]
        crowd.write(*rows)
        named = {(r["audience"], r["uid"]) for r in rows if r["uid"] not in listed}
        kept = first_alone(named, order)
        source = crowd.source(exclusive_by=order, exclude_query=list_of(place, sorted(listed)))
        plan = make_plan(crowd.ledger, source, day(number), guards=crowd.guards)
        found = crowd.run(number, source=source)
        assert crowd.members(number) == kept
        assert (found["entered"], found["exited"]) == (len(kept - before), len(before - kept))
        outranked = sum((r["audience"], r["uid"]) in named - kept for r in rows)
        assert found.get("outranked", 0) == plan.total("outranked") == outranked
        assert found.get("excluded", 0) == sum(r["uid"] in listed for r in rows)
        assert found.get("dropped_rows", 0) == len(rows) - outranked - found.get("excluded", 0) - len(kept)
        assert [plan.total(n) for n in COUNTED] == [found[n] for n in COUNTED]
        crowd.drain(number)
        received = crowd.stream.consume()
        assert {(a, u) for a in audiences for u in received.members(a)} == kept
        before = kept


@on_two
def test_a_user_who_moves_exits_one_and_enters_the_other_also_in_a_correction(place: Any) -> None:
    crowd = Crowd(place, many=True)
    source = crowd.source(exclusive_by=("gold", "silver"))
    crowd.write(user("x", "silver"), user("y", "silver"), user("y", "gold"))
    crowd.run(0, source=source)
    crowd.drain(0)
    crowd.write(user("x", "silver"), user("x", "gold"), user("y", "silver"))
    found = crowd.run(2, source=source)
    assert (found["entered"], found["exited"], found["outranked"]) == (2, 2, 1)
    assert crowd.members(2) == {("gold", "x"), ("silver", "y")}
    crowd.drain(2)
    crowd.write(user("x", "gold"), user("y", "silver"), user("y", "gold"))
    inserted = crowd.run(1, source=source, insert=True)
    assert inserted["inserted"]
    assert crowd.members(1) == {("gold", "x"), ("gold", "y")}
    crowd.drain(2)
    received = crowd.stream.consume()
    assert (received.members("gold"), received.members("silver")) == ({"x"}, {"y"})
    corrected = crowd.run(2, source=source, correct=True)
    assert (corrected["entered"], corrected["exited"]) == (1, 1)
    crowd.outbox().drain(instant(corrected["as_of"]))
    received = crowd.stream.consume()
    assert (received.members("gold"), received.members("silver")) == ({"x", "y"}, set())


@on_two
def test_the_order_counts_before_a_split_and_a_row_with_a_wrong_identity_takes_its_user(place: Any) -> None:
    shares = {"control": 50.0}
    names = [f"u{n}" for n in range(20)]
    drop = replace(LET_ALL_THROUGH, on_invalid_rows="drop")
    crowd = Crowd(place, many=True, guards=drop, rules={"email": IdentityRule(hashed="sha256")})
    source = crowd.source(exclusive_by=("b", "a"), split=Split(shares=shares))
    rows = [user(n, a, email="no digest" if (n, a) == ("u7", "b") else None) for n in names for a in "ab"]
    crowd.write(*rows)
    crowd.run(0, source=source)
    assert crowd.members(0) == {(f"b{side('dag.diff', n, shares)}", n) for n in names if n != "u7"}


@on_two
def test_guards_see_the_exits_of_those_who_move(place: Any) -> None:
    names = [f"u{n:03}" for n in range(120)]
    crowd = Crowd(place, many=True, guards=Guards())
    both = [user(n, a) for n in names for a in ("gold", "silver")]
    crowd.write(*(user(n, "silver") for n in names), user("first", "gold"))
    source = crowd.source(exclusive_by=("gold", "silver"))
    assert crowd.run(0, source=source)["members"] == 121
    crowd.write(*both, user("first", "gold"))
    said = "each user is excluded or in one before (on_empty is fail)"
    of, rows = "audience 'silver': ", "; the users of 120 of {} rows are in an audience before it (exclusive_by)"
    with pytest.raises(GuardTripped) as stopped:
        crowd.run(1, source=source)
    assert list(stopped.value.sentences) == [
        f"audience 'silver': 120 members before, and {said}{rows.format(120)}"
    ]
    crowd.write(*both, user("first", "gold"), user("last", "silver"))
    with pytest.raises(GuardTripped) as stopped:
        crowd.run(1, source=source)
    share = "120 of 120 members would exit, 100% (max_exit_ratio is 50%)"
    assert list(stopped.value.sentences) == [f"{of}{share}{rows.format(121)}"]
    found = crowd.run(1, source=source, permission=Permission(everything=True))
    assert (found["entered"], found["exited"], found["outranked"]) == (121, 120, 120)
    forget(crowd.ledger, ["u007"])
    found = crowd.run(2, source=source)
    assert (found["entered"], found["exited"], found["members"]) == (0, 0, 121), "in no audience at all"


@on_two
def test_if_one_is_held_the_others_are_so_that_nobody_is_in_two(place: Any) -> None:
    names = [f"u{n:03}" for n in range(120)]
    crowd = Crowd(place, many=True, guards=Guards())
    split = Split(shares={"control": 20.0})
    source = crowd.source(exclusive_by=("gold", "silver"), split=split)
    crowd.write(*(user(n, a) for n in names for a in ("silver", "free")), user("first", "gold"))
    crowd.run(0, source=source)
    before = crowd.members(0)
    crowd.write(
        *(user(n, a) for n in names[10:] for a in ("gold", "free")), user("first", "gold"), user("last", "silver")
    )
    found = crowd.run(1, source=source, hold=True, hold_audiences=True)
    apart = {"gold", "gold.control", "silver", "silver.control"}
    assert set(found["held_audiences"]) == apart & {a for a, _ in before} | {"gold.control"}
    said = "because a user is in one of them alone (exclusive_by)"
    assert said in found["held_audiences"]["gold"][0]
    kept = {(a, n) for a, n in before if a in apart or n in names[10:]}
    assert crowd.members(1) == kept
    crowd.drain(1)
    received = crowd.stream.consume()
    assert all(received.members(a) == {n for b, n in kept if a == b} for a in apart | {"free", "free.control"})


@on_two
def test_of_a_group_that_is_held_no_part_is_approved(place: Any) -> None:
    names = [f"u{n:03}" for n in range(120)]
    crowd = Crowd(place, many=True, guards=Guards())
    source = crowd.source(exclusive_by=("gold", "silver"))
    crowd.write(*(user(n, a) for n in names for a in ("silver", "free", "other")), user("first", "gold"))
    crowd.run(0, source=source)
    crowd.write(
        *(user(n, a) for n in names for a in ("gold", "other")),
        *(user(n, "free") for n in names[:10]),
        user("first", "gold"),
        user("last", "silver"),
    )
    crowd.run(1, source=source, hold=True, hold_audiences=True)
    ledger = crowd.ledger
    held = ledger.read().timeline.held_audiences
    assert held is not None
    assert set(held.breaches) == {"free", "gold", "silver"}
    for part, rest in (("gold",), "silver"), (("silver", "free"), "gold"):
        with pytest.raises(ReleaseRefused, match=f"Approve these with them: '{rest}'"):
            approve_audiences(ledger, held.table, part)
    approve_audiences(ledger, held.table, ["free"])
    with pytest.raises(ReleaseRefused, match="Approve these with them: 'silver'"):
        approve_audiences(ledger, held.table, ["gold"])
    approve_audiences(ledger, held.table, ["gold", "silver"])
    newest = ledger.read().timeline.newest
    assert newest is not None
    outbox = crowd.outbox()
    outbox.drain(newest.as_of)
    received = crowd.stream.consume()
    assert (received.members("gold"), received.members("silver")) == ({*names, "first"}, {"last"})


@on_two
def test_an_id_that_no_audience_has_is_named_and_stops_nothing(place: Any, caplog: Any) -> None:
    crowd = Crowd(place, many=True, guards=Guards(on_empty="exit_all"))
    split = Split(shares={"control": 99.9})
    source = crowd.source(exclusive_by=("gold", "Silver", "silver", "gone"), split=split)
    crowd.write(user("x", "silver"), user("y", "gold"), user("y", "silver"), user("z", "gone"))
    for number, unknown in ((0, ["Silver"]), (1, ["Silver"]), (2, ["Silver", "gone"])):
        plan = make_plan(crowd.ledger, source, day(number), guards=crowd.guards)
        found = crowd.run(number, source=source)
        assert (found["unknown_exclusive"], plan.unknown_exclusive) == (unknown, unknown)
        assert as_json(plan, (), show=False)["unknown_exclusive"] == unknown
        assert any(
            f"no member: {', '.join(map(repr, unknown))}." in line for line in describe(plan, (), show=False)
        )
        caplog.clear()
        with caplog.at_level("WARNING"):
            log_change_set(found)
        assert "exclusive_by lists ids of which the source has no row" in caplog.text
        crowd.write(user("x", "silver"), user("y", "gold"), user("y", "silver"))
    right = crowd.source(exclusive_by=("gold", "silver"), split=split)
    assert "unknown_exclusive" not in crowd.run(3, source=right)


def test_orders_that_cannot_be_are_refused() -> None:
    given = {"query": "SELECT 1", "user_id": "u", "identities": {}, "properties": {}}
    from airflow_kinesis_audience.core.model.audience import Source

    with pytest.raises(ValueError, match="exclusive_by orders the audiences of one sync"):
        Source(**given, audience_id="a", exclusive_by=("a", "b"))
    for order in (("a",), ("a", "a"), ("a", ""), ("a", 7)):
        with pytest.raises(ValueError, match="expected two audience ids or more, each once"):
            Source(**given, audience_id_column="a", exclusive_by=order)
