"""Guards that learn: what a run counts in the warehouse is kept, and stops later what is not usual."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_kinesis_audience.core.changes.approval import approve, approve_audiences
from airflow_kinesis_audience.core.changes.guards import Guards, Permission
from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.changes.usual import MIN_RUNS
from airflow_kinesis_audience.core.exceptions import GuardTripped
from airflow_kinesis_audience.core.state.fold import fold_state, unfold_state
from airflow_kinesis_audience.core.state.timeline import GONE_COUNTED, GONE_SHOWN
from tests.warehouses import People, Watched, day, open_duckdb

USUAL = Guards(usual=True, on_invalid_rows="drop", on_schema_change="update")


class Months(People):
    """An audience of 400 of which ten leave, ten enter and twenty move each day."""

    def fill(self, number: int, *audiences: str) -> None:
        """Write the source of a day: one in ten has no city, and nobody's mail address is missing."""
        self.clear()
        for audience in audiences or ("vips",):
            self.warehouse.execute(
                f"INSERT INTO {self.table} SELECT '{audience}', 'VIPs', 'u' || n, 'x@example.org', CASE "
                f"WHEN n % 10 = 0 THEN NULL WHEN n // 20 % 9 = {number % 9} THEN 'city {number}' ELSE 'Bern' END "
                f"FROM range({10 * number}, {10 * number + 400}) AS numbers(n)"
            )

    def live(self, first: int, last: int, *audiences: str, guards: Guards = USUAL) -> None:
        """Run every day from one up to another."""
        for number in range(first, last + 1):
            self.fill(number, *audiences)
            self.run(number, guards=guards)


@pytest.fixture
def months(duckdb_in_memory: Any) -> Months:
    return Months(duckdb_in_memory)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Months]:
    """Thirty days, kept in a file."""
    path = tmp_path_factory.mktemp("lived") / "warehouse.duckdb"
    with open_duckdb(path) as warehouse:
        months = Months(warehouse)
        months.live(0, 29)
    return path, months


@pytest.fixture
def grown(lived: tuple[Path, Months], tmp_path: Path) -> Iterator[Months]:
    """The audience after thirty days."""
    path, months = lived
    with open_duckdb(shutil.copy(path, tmp_path)) as months.warehouse:
        yield months


def stop(months: Months, number: int) -> str:
    """Run a day that is stopped, and planned as it is; gives what stopped it."""
    plan = make_plan(months.ledger(), months.source, day(number), guards=USUAL)
    before = months.tables()
    with pytest.raises(GuardTripped) as stopped:
        months.run(number, guards=USUAL)
    assert months.tables() == before
    assert [str(b) for b in plan.stopped] == list(stopped.value.sentences)
    return "; ".join(stopped.value.sentences)


def query(months: Months, sql: str) -> None:
    months.warehouse.execute(sql.format(t=months.table))


ACCIDENTS = {
    "a tenth of a load is missing": (
        "DELETE FROM {t} WHERE hash(uid) % 10 = 0 OR uid LIKE '%7'",
        "members would exit; the last 29 runs had 10 ± 0",
    ),
    "user ids are cast": (
        "UPDATE {t} SET uid = '0' || uid WHERE uid LIKE '%5'",
        "members would enter; the last 29 runs had 10 ± 0",
    ),
    "a join repeats rows": ("INSERT INTO {t} SELECT * FROM {t}", "400 of 800 rows would be dropped, 50.0%"),
    "a column is gone": ("UPDATE {t} SET email = NULL", "400 of 400 rows have no identity Email, 100.0%"),
    "a column is partly gone": (
        "UPDATE {t} SET city = NULL WHERE uid LIKE '%5'",
        "80 of 400 rows have no property city, 20.0%; the 7 runs before had 10.0% ± 0.0%",
    ),
    "a column is filled": (
        "UPDATE {t} SET city = '' WHERE city IS NULL",
        "0 of 400 rows have no property city, 0.0%; the 7 runs before had 10.0%",
    ),
    "a column is cast": ("UPDATE {t} SET city = upper(city)", "members would be updated; the last 29 runs had"),
}


@pytest.mark.parametrize(("sql", "said"), ACCIDENTS.values(), ids=ACCIDENTS)
def test_what_breaks_upstream_is_stopped_by_what_the_statement_counts(grown, sql, said):
    grown.fill(30)
    query(grown, sql)
    loose = replace(USUAL, usual=False)
    assert make_plan(grown.ledger(), grown.source, day(30), guards=loose).stopped == [], "by no static bound"
    assert said in stop(grown, 30)
    grown.fill(30)
    assert grown.run(30, guards=USUAL)["exited"] == 10, "the source is right again"


def test_a_source_that_no_longer_changes_is_stopped(grown):
    said = stop(grown, 30)
    assert "no row has changed in 1 runs, for 1.0 times the usual 24.0 hours; in the 29 runs before" in said
    assert "that was so for 0.0 times" in said


def test_an_older_partition_is_stopped(grown):
    grown.fill(22)
    said = stop(grown, 30)
    assert "70 of 400 members would exit" in said
    assert "70 of 400 members would enter" in said


def test_nothing_is_learnt_from_few_runs_and_the_static_bounds_hold_until_then(months):
    months.live(0, MIN_RUNS - 1)
    months.fill(MIN_RUNS)
    query(months, "UPDATE {t} SET email = NULL")
    assert months.run(MIN_RUNS, guards=USUAL)["updated"] > 300, "one change set of the first run teaches nothing"
    query(months, "DELETE FROM {t} WHERE hash(uid) % 10 < 8")
    with pytest.raises(GuardTripped, match="max_exit_ratio is 50%"):
        months.run(MIN_RUNS + 1, guards=USUAL)


def test_what_the_ledger_has_of_runs_without_it_teaches_at_once(months):
    months.live(0, 29, guards=replace(USUAL, usual=False))
    months.fill(30)
    query(months, "DELETE FROM {t} WHERE uid LIKE '%5'")
    assert "members would exit; the last 29 runs had 10 ± 0" in stop(months, 30)


def test_what_a_person_lets_through_teaches_and_what_is_held_does_not(grown):
    grown.fill(30)
    query(grown, "DELETE FROM {t} WHERE uid LIKE '%5'")
    held = grown.run(30, guards=USUAL, how={"hold": True})
    assert "held" in held
    assert "49 of 400 members would exit; the last 29 runs had 10 ± 0" in stop(grown, 30), "held is no example"
    approve(grown.ledger(), day(30), grown.run(30, guards=USUAL, how={"hold": True})["held_table"])
    grown.fill(31)
    passed = grown.run(31, guards=USUAL, how={"permission": Permission(everything=True)})
    assert "members would enter" in passed["let_through"][0]
    grown.fill(32)
    query(grown, "DELETE FROM {t} WHERE uid LIKE '%5'")
    assert grown.run(32, guards=USUAL)["exited"] == 49, "it was let through once"


def test_only_the_audience_that_is_not_as_usual_is_held_and_its_approval_teaches(duckdb_in_memory):
    months = Months(duckdb_in_memory, many=True)
    months.live(0, 24, "a", "b")
    hold = {"hold": True, "hold_audiences": True}
    months.fill(25, "a", "b")
    query(months, "DELETE FROM {t} WHERE audience = 'b' AND uid LIKE '%5'")
    found = months.run(25, guards=USUAL, how=hold)
    [sentence] = [s for s in found["held_audiences"]["b"] if "exit" in s]
    assert "audience 'b'" in sentence
    assert list(found["held_audiences"]) == ["b"]
    assert found["audiences"]["b"] == {"entered": 0, "exited": 0, "updated": 0, "members": 400}
    ledger = months.ledger()
    runs = ledger.read().timeline.counted_runs(day(26))
    assert ["b" in r.audiences for r in runs[-2:]] == [True, False]
    held = ledger.state.timeline.held_audiences
    assert held is not None
    approve_audiences(ledger, held.table, ["b"])
    last = ledger.read().timeline.counted_runs(day(26))[-1]
    assert (set(last.audiences), last.audiences["b"].exited, last.released) == ({"b"}, 49, True)


def test_an_audience_that_was_held_for_days_is_published_when_it_is_right_again(duckdb_in_memory):
    months, hold = Months(duckdb_in_memory, many=True), {"hold": True, "hold_audiences": True}
    months.live(0, 24, "a", "b")
    for number in range(25, 29):
        months.fill(number, "a", "b")
        query(months, "UPDATE {t} SET email = NULL WHERE audience = 'b'")
        assert list(months.run(number, guards=USUAL, how=hold)["held_audiences"]) == ["b"]
    months.fill(29, "a", "b")
    found = months.run(29, guards=USUAL, how=hold)
    assert "held_audiences" not in found
    assert found["audiences"]["b"]["exited"] == 50


def test_what_is_let_through_of_one_audience_is_so_of_no_other(duckdb_in_memory):
    months = Months(duckdb_in_memory, many=True)
    months.live(0, 24, "a", "b")
    months.fill(25, "a", "b")
    query(months, "DELETE FROM {t} WHERE audience = 'a' AND uid LIKE '%5'")
    months.run(25, guards=USUAL, how={"permission": Permission(audiences=["a"])})
    last = months.ledger().read().timeline.counted_runs(day(26))[-1]
    assert [last.has_released(a) for a in "ab"] == [True, False]


def test_a_changed_mapping_says_nothing_of_updates(grown):
    grown.fill(30)
    other = replace(grown.source, properties={"city": "town"})
    assert grown.run(30, guards=USUAL, source=other)["updated"] > 300


def test_the_counts_are_those_of_the_source(months):
    months.live(0, 3)
    months.put("u35", city="Bern")
    months.put(None, city=None)
    months.run(4, guards=USUAL)
    detail = months.ledger().read().timeline.newest.detail
    of = detail.audiences["vips"]
    assert (of.source_rows, of.dropped, dict(of.nulls)) == (402, 2, {"identity Email": 2, "property city": 41})


def test_it_takes_no_further_statement_and_without_it_nothing_is_counted(duckdb_in_memory):
    counts, texts = {}, {}
    for usual in (False, True):
        months, texts[usual] = Months(duckdb_in_memory), []
        for number in range(3):
            months.fill(number)
            ledger = months.ledger(Watched(months.warehouse, before=texts[usual].append))
            months.sync(ledger=ledger, guards=replace(USUAL, usual=usual)).run(day(number))
        newest = months.ledger().read().timeline.newest
        counts[usual] = newest.detail.audiences["vips"]
    assert len(texts[False]) == len(texts[True])
    assert (counts[False].source_rows, counts[False].nulls) == (0, {})
    assert (counts[True].source_rows, set(counts[True].nulls)) == (400, {"identity Email", "property city"})
    assert "'#'" in "".join(texts[True])
    assert "'#'" not in "".join(texts[False])


def test_a_fold_keeps_the_counts_of_four_hundred_runs_and_no_more(months):
    months.live(0, 2)
    timeline = months.ledger().read().timeline
    one = timeline.change_sets[1]
    gone = replace(one, dropped=True)
    older = [replace(gone, as_of=day(-n)) for n in range(1, 600)]
    long = replace(timeline, change_sets=tuple(sorted([*older, *timeline.change_sets], key=lambda c: c.as_of)))
    kept = long.without_what_is_gone()
    assert len(kept.change_sets) == GONE_SHOWN
    assert len(kept.gone) == GONE_COUNTED
    runs = kept.counted_runs(day(9))
    assert runs == long.counted_runs(day(9))[-len(runs) :]
    assert kept.without_what_is_gone() == kept
    state = replace(months.ledger().read(), timeline=kept)
    assert unfold_state(fold_state(state)) == state


def test_the_counts_are_added_to_what_older_code_reads_of_a_row(months):
    months.live(0, 1)
    rows = months.warehouse.read_rows(f"SELECT detail FROM {months.schema}.ledger WHERE event = 'change_set'")
    found = json.loads(rows[-1][0])["audiences"]["vips"]
    assert {n: found[n] for n in ("entered", "exited", "updated", "members")} == {
        "entered": 10,
        "exited": 10,
        "updated": found["updated"],
        "members": 400,
    }
