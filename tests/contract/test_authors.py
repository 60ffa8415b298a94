"""One task computes a sync: another one that has its sync_id stops before anything is read, until it says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.authors import Author
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import StateTaken
from tests.contract.test_state_model import Crowd, place, user
from tests.warehouses import day

__all__ = ["place"]

ON_MANY = ["duckdb", "duckdb without keys", "parquet", "postgres", "mysql"]
SHOP, OUTLET = Author(task="shop.diff"), Author(task="outlet.diff")
ANN, BOB, CEM = user("ann"), user("bob"), user("cem")

pytestmark = pytest.mark.parametrize("place", ON_MANY, indirect=True)


@pytest.fixture
def crowd(place: Any) -> Crowd:
    found = Crowd(place)
    found.write(ANN, BOB)
    return found


def test_a_second_task_of_the_same_sync_stops_and_changes_nothing(crowd: Crowd) -> None:
    crowd.run(0, author=SHOP)
    crowd.write(BOB)
    with pytest.raises(StateTaken, match=r"task shop\.diff.*this is outlet\.diff.*adopt_state_of='shop\.diff'"):
        crowd.run(1, author=OUTLET)
    assert crowd.tables() == 2  # one table, which is a change set and a base
    assert crowd.run(1, author=SHOP)["exited"] == 1


def test_a_task_that_was_renamed_adopts_the_state_and_loses_no_exit(crowd: Crowd) -> None:
    crowd.run(0, author=SHOP)
    crowd.write(BOB)
    adopting = replace(OUTLET, adopts="shop.diff")
    found = crowd.run(1, author=adopting)
    assert [found[n] for n in ("entered", "exited", "members")] == [0, 1, 1]
    crowd.write(BOB, CEM)
    assert crowd.run(2, author=adopting)["entered"] == 1
    assert crowd.run(3, author=OUTLET)["members"] == 2
    with pytest.raises(StateTaken, match=r"task outlet\.diff"):
        crowd.run(4, author=SHOP)


def test_two_instances_of_a_mapped_task_with_one_sync_id_are_found_by_their_queries(crowd: Crowd) -> None:
    first, second = (replace(SHOP, map_index=index) for index in (0, 1))
    other = crowd.source(query=f"{crowd.source().query} WHERE uid = 'bob'")
    for number in (0, 1):
        crowd.run(number, author=first)
        with pytest.raises(StateTaken, match=r"instance 0 of the mapped task shop\.diff.*of instance 1"):
            crowd.run(number, source=other, author=second)
        # What it is mapped over may be in another order, and its instance be cleared.
        assert crowd.run(number, author=second)["members"] == 2
        crowd.run(number, author=first)


def test_what_nobody_signed_or_a_person_approved_goes_on(crowd: Crowd) -> None:
    crowd.run(0)
    crowd.write(CEM)
    crowd.guards = Guards()
    held = crowd.run(1, author=SHOP, hold=True)
    approve(crowd.ledger, day(1), held["held_table"])
    with pytest.raises(StateTaken, match=r"task shop\.diff"):
        crowd.run(2, author=OUTLET)
