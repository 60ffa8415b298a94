"""One bad audience stops no other: it alone is held, and its membership stays what was published of it.

What is expected is worked out here, of what the source held: plain sets, no SQL of the package's. A consumer at
each destination must end with exactly that, whoever approves, however often a run is killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_kinesis_audience.core.changes.approval import approve, approve_audiences
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.holding import MOST_HELD
from airflow_kinesis_audience.core.exceptions import GuardTripped, LedgerConflict, ReleaseRefused
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.state import commits
from tests.warehouses import (
    QUICK,
    DiesAt,
    Killed,
    People,
    Stream,
    day,
    insert_rows,
    members_of,
    open_outbox,
    read_membership,
    read_timeline,
    small_delivery,
)

APART = {"hold": True, "hold_audiences": True}
ODD = 'it\'s \\ "odd" `id`'


class Shop:
    """A sync of many audiences, and what each must be at a destination: plain sets.

    :ivar published: what a consumer must know.
    """

    def __init__(self, warehouse: Any, *audiences: str, guards: Guards | None = None) -> None:
        self.people = People(warehouse, many=True)
        self.guards = guards or Guards()
        self.source: dict[str, set[str]] = {a: {f"{a[:3]}{n}" for n in range(5)} for a in audiences}
        self.published: dict[str, set[str]] = {}
        self.streams = {"one": Stream(), "two": Stream()}

    def write(self, **more: Iterable[tuple[str | None, str | None]]) -> None:
        """Write the source anew; ``rows`` are added to it as they are."""
        self.people.clear()
        rows: list[tuple[Any, ...]] = [
            (a, a.upper(), user, None, None) for a, users in sorted(self.source.items()) for user in sorted(users)
        ]
        rows += [(a, "X", user, None, None) for a, user in more.get("rows", ())]
        for start in range(0, len(rows), 500):
            insert_rows(self.people.warehouse, self.people.table, rows[start : start + 500])

    def run(self, number: int, *, held: Iterable[str] = (), warehouse: Any = None, **how: Any) -> dict[str, Any]:
        """Run, and hold the summary against what is expected to be held."""
        summary = self.people.run(number, warehouse=warehouse, guards=self.guards, how={**APART, **how})
        assert sorted(summary.get("held_audiences", {})) == sorted(held)
        assert "held" not in summary
        self.published |= {a: set(users) for a, users in self.source.items() if a not in held}
        assert summary["members"] == sum(map(len, self.published.values()))
        self.check_membership(number)
        return summary

    def deliver(self, number: int, *names: str, seconds: int = 0) -> None:
        as_of = day(number) + timedelta(seconds=seconds)
        for name in names or self.streams:
            open_outbox(self.people.ledger(), self.streams[name], delivery_of(name)).drain(as_of)
        for name in names or self.streams:
            self.check(name)

    def approve(self, *audiences: str) -> dict[str, Any]:
        held = read_timeline(self.people.ledger()).held_audiences
        assert held is not None
        summary = approve_audiences(self.people.ledger(), held.table, audiences)
        self.published |= {a: set(self.source.get(a, ())) for a in audiences}
        assert summary["members"] == sum(map(len, self.published.values()))
        return summary

    def check(self, name: str) -> None:
        known = members_of(self.streams[name].consume())
        assert known == {a: users for a, users in self.published.items() if users}

    def check_membership(self, number: int, seconds: int = 0) -> None:
        found = read_membership(self.people.ledger(), day(number) + timedelta(seconds=seconds))
        assert set(found) == {(a, user) for a, users in self.published.items() for user in users}


def delivery_of(name: str) -> Any:
    return small_delivery(name)


@pytest.fixture
def shop(warehouse: Any) -> Shop:
    """Give three audiences that two destinations know."""
    shop = Shop(warehouse, "a", ODD, "c")
    shop.write()
    shop.run(0)
    shop.deliver(0)
    return shop


def test_of_300_audiences_one_is_empty_and_299_are_delivered(warehouse: Any) -> None:
    shop = Shop(warehouse, *(f"a{n:03}" for n in range(300)))
    shop.write()
    shop.run(0)
    shop.deliver(0, "one")
    for users in shop.source.values():
        users.add("new")
    shop.source["a017"] = set()
    shop.write()
    summary = shop.run(1, held=["a017"])
    assert summary["held_audiences"] == {
        "a017": ["audience 'a017': 5 members before, and the source has no row (on_empty is fail)"]
    }
    assert (summary["entered"], summary["exited"], summary["members"]) == (299, 0, 299 * 6 + 5)
    shop.deliver(1, "one")
    assert len(shop.streams["one"].consume().audiences()) == 300
    assert shop.approve("a017")["exited"] == 5
    shop.source["a001"].add("newer")
    shop.write()
    shop.run(2)
    shop.deliver(2, "one")


def test_the_held_audience_alone_is_held_with_its_numbers_and_counts_as_published(shop: Shop) -> None:
    shop.source["a"] |= {"new"}
    shop.source[ODD] = {"other"}
    shop.write()
    summary = shop.run(1, held=[ODD])
    assert summary["audiences"] == {
        "a": {"entered": 1, "exited": 0, "updated": 0, "members": 6},
        "c": {"entered": 0, "exited": 0, "updated": 0, "members": 5},
    } | {ODD: {"entered": 0, "exited": 0, "updated": 0, "members": 5}}
    assert "let_through" not in summary
    shop.deliver(1)


def test_right_again_by_the_next_run_it_is_simply_computed_again(shop: Shop) -> None:
    before = set(shop.source["a"])
    shop.source["a"], shop.source["c"] = set(), {*shop.source["c"], "new"}
    shop.write()
    shop.run(1, held=["a"])
    shop.deliver(1)
    shop.source["a"] = {*before, "newer"}
    shop.write()
    summary = shop.run(2)
    assert (summary["entered"], summary["exited"]) == (1, 0)
    shop.deliver(2)
    assert read_timeline(shop.people.ledger()).held_audiences is None


def test_held_for_days_while_others_go_on_it_is_compared_with_what_was_published(shop: Shop) -> None:
    for number in range(1, 6):
        shop.source["a"] = {f"other{number}"}
        shop.source["c"] ^= {f"c{number}", f"c{number + 1}"}
        shop.write()
        summary = shop.run(number, held=["a"])
        assert "5 of 5 members would exit" in summary["held_audiences"]["a"][0]
        shop.deliver(number, *(["one"] if number != 3 else ["one", "two"]))
    assert len(shop.people.tables()) <= 9, "tables of what was held before are gone"
    summary = shop.approve("a")
    assert (summary["entered"], summary["exited"]) == (1, 5)
    shop.write()
    shop.run(6)
    shop.deliver(6)


def test_a_person_approves_the_very_numbers_and_the_others_stay_held(shop: Shop) -> None:
    shop.source["a"], shop.source["c"] = set(), {"c9"}
    shop.write()
    shop.run(1, held=["a", "c"])
    shop.deliver(1)
    summary = shop.approve("a")
    assert (summary["exited"], summary["corrects"]) == (5, "2026-01-02T00:00:00Z")
    assert summary["let_through"] == [
        "audience 'a': 5 members before, and the source has no row (on_empty is fail)"
    ]
    assert shop.approve("a") == summary, "a second answer changes nothing"
    shop.check_membership(1, seconds=1)
    assert sorted(read_timeline(shop.people.ledger()).held_audiences.breaches) == ["c"]
    summary = shop.approve("c")
    assert (summary["entered"], summary["exited"]) == (1, 5)
    shop.check_membership(1, seconds=2)
    assert read_timeline(shop.people.ledger()).held_audiences is None
    shop.source["a"] = {"back"}
    shop.write()
    shop.run(2)
    shop.deliver(2)


def test_an_approval_that_comes_after_the_next_run_is_refused(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write()
    shop.run(1, held=["a"])
    seen = read_timeline(shop.people.ledger()).held_audiences.table
    shop.run(2, held=["a"])
    assert seen not in shop.people.tables()
    with pytest.raises(ReleaseRefused, match=r"no longer held: 'a'.*computed them again"):
        approve_audiences(shop.people.ledger(), seen, ["a"])
    now = read_timeline(shop.people.ledger()).held_audiences.table
    for wrong in (["c"], ["a", "c"], []):
        with pytest.raises(ReleaseRefused):
            approve_audiences(shop.people.ledger(), now, wrong)
    shop.approve("a")


def test_a_run_lets_one_through_and_holds_another(shop: Shop) -> None:
    shop.source["a"], shop.source["c"] = set(), set()
    shop.write()
    summary = shop.run(1, held=["c"], permission=Permission(audiences=["a"]))
    assert [s.split(":")[0] for s in summary["let_through"]] == ["audience 'a'"]
    shop.deliver(1)


def test_a_run_is_cleared_while_nothing_was_sent_and_what_it_held_is_computed_again(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write()
    shop.run(1, held=["a"])
    shop.source["a"] = {"a1", "a2", "a3", "a4"}
    shop.write()
    shop.run(1)
    assert read_timeline(shop.people.ledger()).held_audiences is None
    shop.deliver(1)
    shop.source["a"] = set()
    shop.write()
    assert shop.people.run(1, guards=shop.guards, how=APART)["recorded"]


def test_a_sealed_run_that_is_cleared_says_still_what_is_held(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write()
    shop.run(1, held=["a"])
    shop.deliver(1)
    assert shop.run(1, held=["a"])["recorded"]
    shop.approve("a")
    assert "held_audiences" not in shop.people.run(1, guards=shop.guards, how=APART)


def test_invalid_rows_of_one_audience_hold_it_alone_and_the_first_row_counts_if_approved(shop: Shop) -> None:
    shop.source["a"] |= {"new"}
    shop.write(rows=[("c", "c1"), ("c", None), ("c", "c8")])
    summary = shop.run(1, held=["c"])
    assert summary["held_audiences"]["c"] == [
        "audience 'c': 1 of 8 rows have no user id (on_invalid_rows is fail; drop leaves them out)",
        "audience 'c': 1 of 8 rows repeat a user id (on_invalid_rows is fail; drop leaves them out)",
    ]
    assert "dropped_rows" not in summary
    shop.deliver(1)
    shop.source["c"] |= {"c8"}
    shop.approve("c")
    shop.write()
    shop.run(2)
    shop.deliver(2)


def test_exits_that_rows_without_a_user_may_hide_hold_their_audience_alone(warehouse: Any) -> None:
    shop = Shop(warehouse, "a", "b", guards=Guards(on_invalid_rows="drop"))
    shop.write()
    shop.run(0)
    shop.source["a"] -= {"a0"}
    shop.source["b"] -= {"b0"}
    shop.write(rows=[("a", None)])
    assert shop.run(1, held=["a"])["exited"] == 1
    shop.deliver(1)


def test_rows_of_no_audience_are_the_matter_of_all(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write(rows=[(None, "x")])
    held = shop.people.run(1, guards=shop.guards, how=APART)
    assert len(held["held"]) == 2
    with pytest.raises(GuardTripped):
        shop.people.run(1, guards=shop.guards)


def test_a_bound_over_all_that_only_a_held_audience_breaks_holds_no_other(warehouse: Any) -> None:
    guards = Guards(max_exit_ratio_per_day=0.5)
    shop = Shop(warehouse, *(f"x{n:02}" for n in range(30)), "big", guards=guards)
    shop.source["big"] = {f"u{n}" for n in range(1_000)}
    shop.write()
    shop.run(0)
    shop.source["big"] = set()
    shop.source["x00"].add("new")
    shop.write()
    shop.run(1, held=["big"])
    shop.deliver(1)


@pytest.mark.parametrize("broken", [["a", ODD, "c"], ["a", "c"]])
def test_where_no_audience_is_left_the_change_set_is_held_as_a_whole(shop: Shop, broken: list[str]) -> None:
    for audience in broken:
        shop.source[audience] = set()
    shop.write()
    if len(broken) < 3:
        shop.run(1, held=broken)
        return
    held = shop.people.run(1, guards=shop.guards, how=APART)
    assert len(held["held"]) == 3
    approve(shop.people.ledger(), day(1), held["held_table"])
    shop.published = {}
    shop.deliver(1)


def test_where_very_many_are_wrong_the_source_is_and_all_are_held(warehouse: Any) -> None:
    shop = Shop(warehouse, *(f"a{n:03}" for n in range(MOST_HELD + 2)))
    shop.write()
    shop.run(0)
    for n in range(MOST_HELD + 1):
        shop.source[f"a{n:03}"] = set()
    shop.write()
    assert len(shop.people.run(1, guards=shop.guards, how=APART)["held"]) == MOST_HELD + 1


def test_on_a_first_run_one_is_held_and_enters_when_it_is_approved(warehouse: Any) -> None:
    shop = Shop(warehouse, "a", "b", "c", guards=Guards(min_members=3))
    shop.source |= {"b": {"b1"}, "c": {"c1"}}
    shop.write()
    summary = shop.run(0, held=["b", "c"])
    assert (summary["entered"], summary["members"], sorted(summary["audiences"])) == (5, 5, ["a"])
    shop.deliver(0, "one")
    summary = shop.approve("b")
    assert (summary["entered"], summary["exited"]) == (1, 0)
    shop.check_membership(0, seconds=1)
    since = read_membership(shop.people.ledger(), day(0) + timedelta(seconds=1))["b", "b1"][0]
    assert since == "2026-01-01T00:00:01Z"
    shop.source["b"] |= {"b2", "b3"}
    shop.source["c"] |= {"c2", "c3"}
    shop.write()
    shop.run(1)
    shop.deliver(1)


def test_a_new_audience_that_is_held_is_not_there_until_it_is_right(shop: Shop) -> None:
    shop.guards = Guards(min_members=3)
    shop.source["new"] = {"n1"}
    shop.write()
    assert "new" not in shop.run(1, held=["new"])["audiences"]
    shop.deliver(1)
    assert set(shop.streams["one"].consume().audiences()) == {"a", ODD, "c"}
    shop.source["new"] |= {"n2", "n3"}
    shop.write()
    assert shop.run(2)["entered"] == 3
    shop.deliver(2)


def test_a_whole_that_is_held_later_leaves_the_audience_held_as_it_was(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write()
    shop.run(1, held=["a"])
    shop.write(rows=[(None, "x")])
    whole = shop.people.run(2, guards=shop.guards, how=APART)
    assert whole["held_table"] in shop.people.tables()
    shop.approve("a")
    with pytest.raises(ReleaseRefused):
        approve(shop.people.ledger(), day(2), whole["held_table"])
    shop.write()
    shop.run(2)
    shop.deliver(2)


def test_an_inserted_run_holds_nothing_and_fails(shop: Shop) -> None:
    shop.run(4)
    shop.source["a"] = set()
    shop.write()
    with pytest.raises(GuardTripped):
        shop.people.run(2, guards=shop.guards, how={**APART, "insert": True})


def test_what_was_approved_is_corrected_like_the_run_itself(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write()
    shop.run(1, held=["a"])
    shop.deliver(1)
    shop.approve("a")
    shop.source["a"] = {"a0", "a1"}
    shop.write()
    summary = shop.people.run(1, guards=shop.guards, how={**APART, "correct": True})
    assert (summary["as_of"], summary["entered"]) == ("2026-01-02T00:00:02Z", 2)
    shop.published["a"] = {"a0", "a1"}
    shop.run(2)
    shop.deliver(2)


def test_exits_of_a_day_of_other_audiences_still_count_after_an_approval(shop: Shop) -> None:
    shop.guards = Guards(max_exit_ratio_per_day=0.5)
    shop.source["a"], shop.source["c"] = set(), shop.source["c"] - {"c0", "c1"}
    shop.write()
    shop.run(1, held=["a"])
    shop.approve("a")
    shop.source["c"] = set()
    shop.write()
    sync = shop.people.sync(guards=shop.guards)
    held = sync.run(day(1) + timedelta(hours=2), **APART)
    assert "5 of 5 members would have exited within a day" in " ".join(held["held_audiences"]["c"])


def test_a_resync_and_the_end_while_an_audience_is_held(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write()
    shop.run(1, held=["a"])
    shop.deliver(1)
    again = Stream()
    outbox = Outbox(shop.people.ledger(), small_delivery("one", resync="first"), again.put, policy=QUICK)
    resync(outbox, delivery_of("one"))
    assert members_of(again.consume()) == shop.published
    ledger = shop.people.ledger()
    close(ledger, day(2), exits=True)
    for name, stream in shop.streams.items():
        announce_deletion(open_outbox(ledger, stream, delivery_of(name)))
        assert members_of(stream.consume()) == {}
    with pytest.raises(ReleaseRefused):
        approve_audiences(ledger, "changes_any", ["a"])


def test_a_new_destination_gets_of_a_held_audience_what_was_published(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write()
    shop.run(1, held=["a"])
    shop.streams["three"] = Stream()
    shop.deliver(1)


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_any_statement_nothing_is_lost_or_left_behind(
    warehouse: Any, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    monkeypatch.setattr(commits, "LATEST_END", timedelta(0))
    shop = Shop(warehouse, "a", "c")
    shop.write()
    shop.run(0)
    at, number, done = 0, 0, 0
    while done < 2:
        number, done = number + 1, 0
        shop.source["a"] = set()
        shop.source["c"] ^= {f"c{number}", f"d{number}"}
        shop.write()
        killed = DiesAt(warehouse, at, side)
        try:
            shop.run(number, held=["a"], warehouse=killed)
            done += 1
        except Killed:
            _again(shop, number)
        held = read_timeline(shop.people.ledger()).held_audiences.table
        killed = DiesAt(warehouse, at, side)
        try:
            approve_audiences(shop.people.ledger(killed), held, ["a"])
            done += 1
        except Killed:
            pass
        approve_audiences(shop.people.ledger(), held, ["a"])
        shop.published["a"] = set()
        shop.deliver(number, "one", seconds=1)
        number += 1
        shop.source["a"] = {"back", f"back{number}"}
        shop.write()
        _again(shop, number, held=())
        shop.deliver(number)
        timeline = read_timeline(shop.people.ledger())
        assert timeline.orphans <= {timeline.writer}
        assert shop.people.tables() <= timeline.standing | timeline.orphans
        at += 1
    assert at > 5


def _again(shop: Shop, number: int, held: Iterable[str] = ("a",)) -> None:
    for left in (2, 1, 0):
        try:
            shop.run(number, held=held)
            return
        except LedgerConflict:  # what the killed one was about to write was written
            if not left:
                raise


def test_old_rows_of_the_ledger_are_as_they_were(shop: Shop) -> None:
    rows: list[Mapping[str, Any]] = [
        vars_of(entry.detail) for entry in shop.people.ledger().read() and shop.people.ledger().entries()
    ]
    assert all("held_audiences" not in row and "approves" not in row for row in rows)


def vars_of(detail: Any) -> Mapping[str, Any]:
    import json

    from airflow_kinesis_audience.core.state.entries import encode_detail

    found: Mapping[str, Any] = json.loads(encode_detail(detail))
    return found


def test_what_a_mapping_drops_is_for_all_or_none_of_the_audiences(shop: Shop) -> None:
    shop.source["a"] = set()
    shop.write()
    less, guards = replace(shop.people.source, properties={}), Guards(on_schema_change="update")
    held = shop.people.run(1, source=less, guards=guards, how=APART)
    assert len(held["held"]) == 1
    more = replace(shop.people.source, properties={"city": "city", "title": "title"})
    assert list(shop.people.run(1, source=more, guards=guards, how=APART)["held_audiences"]) == ["a"]
    shop.source["a"] = {f"a{n}" for n in range(5)}
    shop.write()
    assert shop.people.run(2, source=more, guards=guards, how=APART)["updated"] == 5
