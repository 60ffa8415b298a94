"""Who is forgotten comes back neither in a sync that begins later, nor by what was found before."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_kinesis_audience.core.changes.approval import approve, approve_audiences
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import ForgettingUnfinished, LedgerConflict
from airflow_kinesis_audience.core.outbox import burying, forgetting
from airflow_kinesis_audience.core.outbox.burying import recall, recall_in
from airflow_kinesis_audience.core.outbox.delivery import Part
from airflow_kinesis_audience.core.outbox.forgetting import find_unknown, forget, forget_everywhere
from tests.contract.test_forgetting import ADDRESSES, GONE, find_values
from tests.contract.test_state_model import Crowd, place, user
from tests.warehouses import (
    DiesAt,
    Killed,
    People,
    Stream,
    Watched,
    day,
    members_of,
    open_outbox,
    read_membership,
    read_timeline,
    small_delivery,
)

__all__ = ["place"]

on_many = pytest.mark.parametrize(
    "place", ["duckdb", "duckdb without keys", "parquet", "postgres", "mysql", "clickhouse"], indirect=True
)


@pytest.fixture
def people(warehouse) -> People:
    return People(warehouse, many=True)


def renamed(crowd: Crowd, sync_id: str) -> Crowd:
    """Give another sync over the same source, in the same state."""
    return Crowd(crowd.place, schema=crowd.schema, sync_id=sync_id, guards=crowd.guards)


@on_many
def test_a_sync_that_begins_later_lets_nobody_come_back(place: Any) -> None:
    first = Crowd(place)
    first.write(*map(user, ("stays", "other", GONE)))
    first.run(0)
    forget(first.ledger, [GONE, "second"])
    later = renamed(first, "dag.renamed")
    first.write(*map(user, ("stays", "other", "second", GONE)))
    assert later.run(1)["members"] == 2
    assert later.members(1) == {("vips", "stays"), ("vips", "other")}
    later.drain(1)
    assert later.run(2)["entered"] == 0
    assert members_of(later.stream.consume()) == {"vips": {"stays", "other"}}
    forget(later.ledger, ["other"])
    later.outbox().drain(read_timeline(later.ledger).newest.as_of)
    assert not forget(later.ledger, []).waits_for
    third = renamed(first, "third")
    assert third.run(1)["members"] == 1, "of two syncs together"
    assert recall(third.ledger, [GONE]) == 1
    assert third.run(2)["entered"] == 1


def test_a_sync_that_begins_meanwhile_forgets_them_too(duckdb_in_memory):
    people = People(duckdb_in_memory, many=True)
    people.put(GONE, "stays", audience="news", title="News", email=ADDRESSES[0])
    people.run(0)
    ledger = people.ledger().of_sync("meanwhile")

    def begin(warehouse: Any = None) -> Any:
        sync = people.sync(warehouse)
        sync.ledger = sync.committer.ledger = (people.ledger(warehouse)).of_sync("meanwhile")
        sync.writer._ledger = sync.ledger
        return sync

    class Between(Watched):
        """Forgets at some statement of the run."""

        def __init__(self, at: int) -> None:
            super().__init__(people.warehouse)
            self.left = at

        def execute(self, sql: str, parameters: Any = ()) -> Any:
            self.left -= 1
            if self.left == 0:
                forget_everywhere(people.ledger(), [GONE])
            return super().execute(sql, parameters)

    for at in range(1, 40):
        between = Between(at)
        with contextlib.suppress(LedgerConflict, ForgettingUnfinished):
            begin(between).run(day(0))
        if between.left > 0:
            break
        with contextlib.suppress(LedgerConflict):
            begin().run(day(0))
        begin().run(day(1))
        newest = read_timeline(ledger).newest
        assert GONE not in {u for _, u in read_membership(ledger, newest.as_of)}, at
        people.clear()
        people.schema = f"{people.schema}x"
        people.put(GONE, "stays", audience="news", title="News", email=ADDRESSES[0])
        people.run(0)
        ledger = people.ledger().of_sync("meanwhile")
    assert at > 3


def test_ids_that_nobody_has_are_counted(people):
    people.put(GONE, "left", audience="news", title="News")
    people.run(0)
    found = forget_everywhere(people.ledger(), [GONE, "nobody", "Leaver"])
    assert [f.summary["unknown_users"] for f in found] == [2]
    assert find_unknown(found) == {"nobody", "Leaver"}
    assert not any(name in repr(found) + str([f.summary for f in found]) for name in ("nobody", GONE, "Leaver"))
    again = forget_everywhere(people.ledger(), [GONE, "nobody"])
    assert find_unknown(again) == frozenset()
    assert "unknown_users" not in again[0].summary


def test_what_was_held_before_is_not_approved_and_nothing_is_inserted_while_users_are_forgotten(people):
    stream = Stream()
    people.put("stays", audience="news", title="News")
    people.put("stays", audience="more", title="More")
    people.run(0)
    open_outbox(people.ledger(), stream).drain(day(0))
    people.put(GONE, audience="news", title="News", email=ADDRESSES[0])
    people.run(2)
    open_outbox(people.ledger(), stream).drain(day(2))
    people.put("second", *(f"u{n}" for n in range(30)), audience="more", title="More")
    held = people.run(3, guards=Guards(max_change_ratio=None, min_members=50), how={"hold": True})
    for at in range(60):
        with contextlib.suppress(Killed):
            forget(people.ledger(DiesAt(people.warehouse, at, "after")), [GONE, "second"])
        if read_timeline(people.ledger()).tombstones is not None:
            break
    assert read_timeline(people.ledger()).tombstones.exits_at is None
    with pytest.raises(ForgettingUnfinished, match="what was held before could let them enter again"):
        approve(people.ledger(), day(3), held["held_table"])
    with pytest.raises(ForgettingUnfinished, match="a change set that is inserted"):
        people.run(1, how={"insert": True})
    exits_at = forget(people.ledger(), []).exits_at
    with pytest.raises(ForgettingUnfinished, match="a change set that is inserted"):
        people.run(1, how={"insert": True})
    open_outbox(people.ledger(), stream).drain(exits_at)
    assert not forget(people.ledger(), []).waits_for
    people.run(1, how={"insert": True})
    people.run(4)
    open_outbox(people.ledger(), stream).drain(day(4))
    assert GONE not in members_of(stream.consume())["news"]
    assert find_values(people, GONE, "second", *ADDRESSES) == {}


def test_audiences_that_were_held_before_are_not_approved_while_users_are_forgotten(people):
    people.put(*(f"u{n}" for n in range(30)), audience="news", title="News")
    people.put("stays", audience="more", title="More")
    people.run(0)
    people.take(*(f"u{n}" for n in range(29)), audience="news")
    people.put(GONE, audience="news", title="News")
    held = people.run(1, guards=Guards(), how={"hold": True, "hold_audiences": True})
    assert list(held["held_audiences"]) == ["news"]
    table = read_timeline(people.ledger()).held_audiences.table
    for at in range(60):
        with contextlib.suppress(Killed):
            forget(people.ledger(DiesAt(people.warehouse, at, "after")), [GONE])
        if read_timeline(people.ledger()).tombstones is not None:
            break
    with pytest.raises(ForgettingUnfinished, match="what was held before"):
        approve_audiences(people.ledger(), table, ["news"])


def leave_a_table(people, stream, part):
    """Kill a resend of a part where its table has rows of the user who is forgotten."""
    for at in range(100):
        dying = DiesAt(people.warehouse, at, "after")
        with contextlib.suppress(Killed):
            open_outbox(people.ledger(dying), stream, part).drain(day(0), resend=True)
        if any(n.startswith("snapshot_") for n in find_values(people, GONE)):
            break


def test_a_killed_resend_of_one_part_is_waited_for(people):
    stream, parts = Stream(), [replace(small_delivery(), part=Part(n, 2)) for n in range(2)]
    people.put("stays", "other", audience="news", title="News")
    people.put(GONE, audience="news", title="News", email=ADDRESSES[0])
    people.run(0)
    for part in parts:
        open_outbox(people.ledger(), stream, part).drain(day(0))
    leave_a_table(people, stream, parts[0])
    exits_at = forget(people.ledger(), [GONE]).exits_at
    open_outbox(people.ledger(), stream, parts[1]).drain(exits_at)
    found = forget(people.ledger(), [GONE])
    assert any("has not received the exits" in sentence for sentence in found.waits_for)
    assert any("tables of an earlier attempt of part 0" in sentence for sentence in found.waits_for)
    open_outbox(people.ledger(), stream, parts[0]).drain(exits_at)
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}


def test_a_recall_changes_no_sync_if_one_of_them_still_forgets(people):
    people.put("stays", audience="news", title="News")
    people.run(0)
    forget(people.ledger(), ["nobody"])
    other = people.ledger().of_sync("other")
    people.put(GONE, audience="news", title="News")
    people.sync(ledger=other).run(day(0))
    open_outbox(other, Stream()).drain(day(0))
    assert forget(other, [GONE]).waits_for
    with pytest.raises(ForgettingUnfinished, match=r"'other' is still forgetting users.*Nothing was changed"):
        recall_in(people.ledger(), ["dag.diff", "other"], ["nobody"])
    assert read_timeline(people.ledger()).tombstones.users == 1


class Beside(Watched):
    """Forgets in another sync just before the first statement that writes tombstones, when the salt is drawn."""

    def __init__(self, warehouse: Any, forgets: Any) -> None:
        super().__init__(warehouse, before=self._look)
        self.forgets, self.done = forgets, False

    def _look(self, statement: str) -> None:
        if "erasures" in statement and not self.done:
            self.done = True
            self.forgets()


@pytest.mark.parametrize("first", ["smallest first", "smallest last"])
def test_two_tasks_that_forget_for_the_first_time_side_by_side_end_with_one_salt(people, monkeypatch, first):
    salts = iter(("a" * 64, "b" * 64) if first == "smallest first" else ("b" * 64, "a" * 64))
    monkeypatch.setattr(burying, "draw_salt", lambda: next(salts))
    people.put(GONE, "second", "stays", audience="news", title="News")
    people.run(0)
    people.sync(ledger=people.ledger().of_sync("other")).run(day(0))
    users = [GONE, "second"]
    beside = Beside(people.warehouse, lambda: forget(people.ledger().of_sync("other"), users))
    forget(people.ledger(beside), users)
    assert beside.done
    assert next(salts, None) is None, "each has drawn one"
    found = {read_timeline(people.ledger().of_sync(s)).tombstones.salt for s in ("dag.diff", "other")}
    assert found == {"a" * 64}
    third = people.ledger().of_sync("third")
    people.sync(ledger=third).run(day(1))
    assert {user for _, user in read_membership(third, day(1))} == {"stays"}
    for sync_id in ("dag.diff", "other"):
        ledger = people.ledger().of_sync(sync_id)
        assert not forget(ledger, users).waits_for
        newest = read_timeline(ledger).newest
        assert {user for _, user in read_membership(ledger, newest.as_of)} == {"stays"}


def test_a_list_of_all_users_gives_an_old_state_of_two_salts_one_again(people, monkeypatch):
    people.put(GONE, "stays", audience="news", title="News")
    people.run(0)
    other = people.ledger().of_sync("other")
    people.sync(ledger=other).run(day(0))
    monkeypatch.setattr(burying, "read_others_tombstones", lambda _: {})
    forget(people.ledger(), [GONE])
    forget(other, ["nobody"])
    monkeypatch.undo()
    third = people.sync(ledger=people.ledger().of_sync("third"))
    with pytest.raises(ForgettingUnfinished, match="Run `forget` with the list of all these users"):
        third.run(day(1))
    forget_everywhere(people.ledger(), [GONE, "nobody"])
    assert people.sync(ledger=people.ledger().of_sync("third")).run(day(1))["entered"] == 1


def test_what_a_part_has_left_that_is_no_more_is_dropped_a_day_later(people, monkeypatch):
    stream = Stream()
    four, two = ([replace(small_delivery(owner="publish"), part=Part(n, of)) for n in range(of)] for of in (4, 2))
    people.put("stays", "other", audience="news", title="News")
    people.put(GONE, audience="news", title="News", email=ADDRESSES[0])
    people.run(0)
    for part in four:
        open_outbox(people.ledger(), stream, part).drain(day(0))
    leave_a_table(people, stream, four[3])
    exits_at = forget(people.ledger(), [GONE]).exits_at
    for part in two:
        open_outbox(people.ledger(), stream, part).drain(exits_at)
    [waits_for] = forget(people.ledger(), [GONE]).waits_for
    assert "tables of an earlier attempt of part 3" in waits_for, "it may be at work"
    monkeypatch.setattr(forgetting, "LATEST_END", timedelta(0))
    assert not forget(people.ledger(), [GONE]).waits_for
    assert find_values(people, GONE, *ADDRESSES) == {}
    assert members_of(stream.consume()) == {"news": {"stays", "other"}}
