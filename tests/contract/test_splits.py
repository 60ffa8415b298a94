"""A split keeps each user on one side for ever, on every engine: as a digest in plain Python has it."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.exceptions import GuardTripped, SchemaChanged
from airflow_kinesis_audience.core.model.splits import Split
from airflow_kinesis_audience.history import find_user
from tests.contract.test_state_model import Crowd, place, user
from tests.warehouses import day

__all__ = ["place"]

ON_MANY = ["duckdb", "duckdb without keys", "parquet", "postgres", "mysql", "clickhouse"]
on_many = pytest.mark.parametrize("place", ON_MANY, indirect=True)
on_two = pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)


def side(key: str, name: str, shares: dict[str, float]) -> str:
    """Say in which group a user is: none where in none."""
    share = int(hashlib.md5(f"{key}:{name}".encode()).hexdigest()[:8], 16) / 16**8 * 100  # noqa: S324
    for group, size in shares.items():
        if share < size:
            return f".{group}"
        share -= size
    return ""


@on_many
def test_each_user_is_in_the_group_that_plain_python_finds(place: Any) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    shares: dict[str, float] = {"control": 12.5, "b": 30}
    names = ["ü", "u ", "07", "o'b\\", "日本", *(f"u{chance.randrange(10**9)}" for _ in range(40))]
    crowd = Crowd(place, many=True)
    crowd.write(*(user(n, a) for n in names for a in "xy"))
    crowd.run(0, source=crowd.source(split=Split(shares=shares)))
    expected = {(f"{a}{side('dag.diff', n, shares)}", n) for n in names for a in "xy"}
    assert crowd.members(0) == expected
    assert crowd.run(1, source=crowd.source(split=Split(shares=shares)))["exited"] == 0
    keyed = {(f"{a}{side('other', n, shares)}", n) for n in names for a in "xy"}
    crowd.run(2, source=crowd.source(split=Split(shares=shares, key="other")))
    assert crowd.members(2) == keyed


@on_two
def test_a_split_of_one_audience_begins_changes_and_ends(place: Any) -> None:
    names = [f"u{n}" for n in range(60)]
    crowd = Crowd(place, guards=Guards(max_exit_ratio=0.9))
    crowd.write(*(user(n, city="x") for n in names))
    crowd.run(0)
    expected = {("vips", n) for n in names}
    for number, shares in enumerate(({"control": 20.0}, {"control": 30.0}, {"control": 0.0}), start=1):
        source = crowd.source(split=Split(shares=shares))
        plan = make_plan(crowd.ledger, source, day(number), guards=crowd.guards)
        if number == 3:
            with pytest.raises(
                GuardTripped, match=r"'vips.control': \d+ members before, and the source has no row"
            ):
                crowd.run(number, source=source)
        found = crowd.run(number, source=source, permission=Permission(everything=number == 3))
        now = {(f"vips{side('dag.diff', n, shares)}", n) for n in names}
        assert crowd.members(number) == now
        assert (found["entered"], found["exited"], found["updated"]) == (len(now - expected),) * 2 + (0,)
        assert (plan.total("entered"), plan.total("exited")) == (found["entered"], found["exited"])
        assert sorted(found["audiences"]) == ["vips", "vips.control"]
        expected = now
    crowd.drain(3)
    assert crowd.stream.consume().members("vips") == set(names)
    assert crowd.stream.consume().members("vips.control") == set()
    held = next(n for n in names if side("dag.diff", n, {"control": 20.0}))
    changes = [c for c in find_user(crowd.ledger, held).changes if c.action != "member"]
    moves = [(c.as_of[8:10], c.audience_id, c.action) for c in changes]
    assert sorted(moves) == [
        ("01", "vips", "entered"),
        ("02", "vips", "exited"),
        ("02", "vips.control", "entered"),
        ("04", "vips", "entered"),
        ("04", "vips.control", "exited"),
    ]
    with pytest.raises(SchemaChanged, match="to end it, set the share of every group to 0"):
        crowd.run(4)


def test_groups_that_cannot_be_are_refused() -> None:
    for shares, said in (
        ({"": 1}, "a group without a name"),
        ({"a": -1}, "expected a share in per cent"),
        ({"a": "10"}, "expected a share in per cent"),
        ({"a": 60, "b": 40.1}, "add up to more than 100"),
    ):
        with pytest.raises(ValueError, match=said):
            Split(shares=shares)  # type: ignore[arg-type]
    assert list(Split(shares={"a": 50, "b": 49.9, "c": 0.1}).bounds()) == [
        ("a", "80000000"),
        ("b", "ffbe76c8"),
        ("c", "g"),
    ]
