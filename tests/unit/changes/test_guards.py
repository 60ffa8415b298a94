"""Guards see every way in which a source is not to be believed, and nothing else."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.changes.counts import AudienceCounts
from airflow_kinesis_audience.core.changes.guards import (
    NO_PERMISSION,
    Breach,
    Guards,
    Permission,
)
from airflow_kinesis_audience.core.changes.source_guards import find_invalid_rows

users = st.sampled_from("abcdefgh")


def counted(before: set[str] | None, rows: list[str | None]) -> AudienceCounts:
    """Count as a warehouse would: rows of the source, and rows and distinct users per action."""
    now = Counter(row for row in rows if row is not None)
    actions = {}
    if before is None:
        actions["member"] = (now.total(), len(now))
    else:
        entered = {user: n for user, n in now.items() if user not in before}
        updated = {user: n for user, n in now.items() if user in before and user < "d"}
        actions["entered"] = (sum(entered.values()), len(entered))
        actions["updated"] = (sum(updated.values()), len(updated))
        actions["exited"] = (len(before - set(now)), len(before - set(now)))
    found = {action: counts for action, counts in actions.items() if counts[0]}
    previous = None if before is None else len(before)
    return AudienceCounts.of("a", source=(len(rows), rows.count(None)), actions=found, previous=previous)


@given(before=st.none() | st.sets(users), rows=st.lists(st.none() | users))
def test_the_counts_are_those_of_counting_every_user(before, rows):
    a = counted(before, rows)
    now, was = {row for row in rows if row is not None}, before or set()
    assert a.members == len(now)
    assert (a.entered, a.exited) == (len(now - was), len(was - now))
    assert a.invalid_rows == rows.count(None)
    assert a.duplicate_rows == len([row for row in rows if row is not None]) - len(now)
    assert a.previous_members == len(was)
    assert bool(find_invalid_rows([a])) == (a.duplicate_rows > 0 or a.invalid_rows > 0)


def test_rows_without_an_audience_are_told_apart_from_those_without_a_user():
    nobody = AudienceCounts.of(None, source=(1234, 0), actions={}, previous=0)
    some = AudienceCounts.of("a", source=(3000, 1000), actions={"entered": (2000, 1500)}, previous=0)
    stops = "(on_invalid_rows is fail; drop leaves them out)"
    assert find_invalid_rows([nobody, some]) == [
        Breach(None, f"1,234 rows have no audience id {stops}"),
        Breach("a", f"audience 'a': 1,000 of 3,000 rows have no user id {stops}"),
        Breach("a", f"audience 'a': 500 of 3,000 rows repeat a user id {stops}"),
    ]
    assert (nobody.dropped_rows, some.dropped_rows) == (1234, 1500)


def test_a_permission_covers_the_audiences_that_it_names_and_no_more():
    one, other, whole = Breach("a", "x"), Breach("b", "y"), Breach(None, "z")
    assert [Permission(audiences=["a"]).covers(b) for b in (one, other, whole)] == [True, False, False]
    assert all(Permission(everything=True).covers(b) for b in (one, other, whole))
    assert not any(NO_PERMISSION.covers(b) for b in (one, other, whole))


def change(before: int, exited: int = 0, entered: int = 0) -> AudienceCounts:
    """Count a change of an audience without invalid rows."""
    actions = {"exited": (exited, exited), "entered": (entered, entered)}
    return AudienceCounts.of("a", source=(before - exited + entered, 0), actions=actions, previous=before)


@pytest.mark.parametrize(
    ("guards", "within", "beyond", "sentence"),
    [
        (Guards(), change(1000, 500), change(1000, 501), r"501 of 1,000 members would exit, 50%.*max_exit_ratio"),
        (Guards(), change(100, 50), change(100, 51), "51 of 100 members"),
        (Guards(), change(99, 49), change(99, 50), "50 of 99 members would exit, 51%.*max_exit_ratio"),
        (Guards(), change(30, 20), change(30, 21), "21 of 30 members would exit, 70%.*max_exit_ratio is 50%"),
        (Guards(), change(5, 4), change(5, 5, 1), "5 of 5 members would exit, 100%"),
        (Guards(max_exit_ratio=0.9), change(50, 45), change(50, 46), "46 of 50 members would exit, 92%"),
        (Guards(max_exits=10), change(1000, 10), change(1000, 11), "11 of 1,000.*max_exits is 10"),
        (Guards(max_exits=0), change(5, 0, 9), change(5, 1), "1 of 5.*max_exits is 0"),
        (Guards(min_members=5), change(5), change(5, 1), "4 members would remain.*min_members is 5"),
        (Guards(max_change_ratio=0.1), change(100, 5, 5), change(100, 5, 6), "6 would enter and 5 exit.*11%"),
        (Guards(), change(0), change(5, 5), "5 members before, and the source has no row"),
        (Guards(), change(0, 0, 10**6), change(1, 1), "1 members before, and the source has no row"),
    ],
)
def test_a_bound_holds_up_to_itself_and_says_the_numbers_beyond(guards, within, beyond, sentence):
    assert guards.find_breaches([within]) == []
    [told] = guards.find_breaches([beyond])
    assert re.search(f"audience 'a': {sentence}", told.sentence)


def test_every_audience_is_looked_at_by_itself():
    calm, mass = change(10_000), change(200, 150)
    assert len(Guards().find_breaches([calm, mass, mass])) == 2


def test_an_audience_may_end_where_its_author_says_so():
    assert Guards(on_empty="exit_all").find_breaches([change(1000, 1000)]) == []
    assert Guards(on_empty="exit_all", max_exits=9).find_breaches([change(1000, 1000)]) != []


def test_no_bound_is_no_bound():
    for guards in (Guards(max_exit_ratio=None), Guards(max_exit_ratio=1)):
        assert guards.find_breaches([change(1000, 999), change(1000, 1000, 1), change(60, 60, 1)]) == []


BOUNDS = ("max_exit_ratio", "max_exit_ratio_per_day", "max_exits", "max_change_ratio", "min_members")


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, True, "0.5", [1]])
def test_a_bound_that_makes_no_sense_is_the_authors_mistake(name, value):
    with pytest.raises(ValueError, match=rf"{name} is .*; expected a .*, or None for no limit"):
        Guards(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_exit_ratio", 1.01, "a share from 0 to 1, where 0.5 is 50%"),
        ("max_exit_ratio", 50, "a share from 0 to 1"),
        ("max_exit_ratio_per_day", 2, "a share from 0 to 1"),
        ("max_exits", 0.5, "a whole number"),
        ("min_members", 1.5, "a whole number"),
        ("on_empty", "ignore", "fail or exit_all"),
    ],
)
def test_a_bound_that_nothing_or_everything_breaks_says_what_was_expected(name, value, expected):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; expected {expected}"):
        Guards(**{name: value})


def test_a_bound_at_its_ends_is_one():
    for name in BOUNDS:
        for value in (0, 1, None, 1.0):
            Guards(**{name: value})
    Guards(max_change_ratio=1.5, max_exits=10**9)


DAY = Guards(max_exit_ratio=None, max_exit_ratio_per_day=0.6)


def test_a_share_of_a_day_counts_the_exits_of_earlier_runs_and_who_they_were():
    assert DAY.find_breaches([change(200, 50)], {"a": 100}) == [], "150 of 300 members"
    [found] = DAY.find_breaches([change(200, 90)], {"a": 100})
    assert found == Breach(
        "a",
        "audience 'a': 190 of 300 members would have exited within a day, 63% (max_exit_ratio_per_day is 60%)",
    )
    assert DAY.find_breaches([change(200, 0, 9)], {"a": 10**6}) == [], "nobody exits now"
    assert DAY.find_breaches([change(200, 90)], {"b": 100}) == [], "it was another audience"
    assert DAY.find_breaches([change(10, 3)], {"a": 10}) == [], "so few are believed"
    assert DAY.find_breaches([change(10, 10, 1)], {"a": 10}) != [], "but not all"


def test_of_many_audiences_a_day_is_looked_at_as_a_whole():
    one, other = change(200, 90), replace(change(200, 0), audience_id="b")
    [found] = DAY.find_breaches([one, other], {None: 400})
    assert found == Breach(
        None,
        "all audiences together: 490 of 800 members would have exited within a day, 61% "
        "(max_exit_ratio_per_day is 60%)",
    )
    many = [replace(one, audience_id=f"a{n}") for n in range(21)]
    assert DAY.find_breaches(many) == []
    assert [b.audience_id for b in DAY.find_breaches(many, {"gone": 10**6})] == [None]
