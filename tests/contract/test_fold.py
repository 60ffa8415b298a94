"""A long ledger is folded: a run reads few rows however many there are, and the fold says what all of them say."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.exceptions import AudienceError
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.state import fold as fold_module
from airflow_kinesis_audience.core.state import ledger_rows
from airflow_kinesis_audience.core.state.fold import fold_state, unfold_state
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.ledger_rows import Fold
from airflow_kinesis_audience.core.state.retention import Retention
from airflow_kinesis_audience.core.state.timeline import GONE_SHOWN
from airflow_kinesis_audience.history import find_user
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from airflow_kinesis_audience.hooks.state import open_files
from tests.warehouses import (
    DiesAt,
    Killed,
    People,
    Stream,
    Watched,
    WatchedRows,
    day,
    open_outbox,
    small_delivery,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_kinesis_audience.core.state.sync_state import SyncState

SHORT = Retention(keep_history=day(3) - day(0))


class Story:
    """Runs of a sync whose ledger is in a warehouse, or in files."""

    def __init__(self, warehouse: Any, files: Any) -> None:
        self.people = People(warehouse)
        self.warehouse, self.files, self.stream, self.number = warehouse, files, Stream(), 0
        if files is not None:
            warehouse.execute(f"CREATE SCHEMA {self.people.schema}")

    def ledger(self, warehouse: Any = None) -> Ledger:
        warehouse = warehouse or self.warehouse
        rows: Any = None
        if self.files is not None:
            rows = FileLedgerTable(self.files, "state", "dag.diff")
            rows = WatchedRows(rows, warehouse) if isinstance(warehouse, Watched) else rows
        return Ledger(warehouse, self.people.schema, "dag.diff", rows)

    def run(self, warehouse: Any = None) -> None:
        """Run the next day: one more member, and everything delivered."""
        self.people.put(f"u{self.number:05}", email=f"{self.number}@example.org")
        self.number += 1
        self.compute(warehouse)
        open_outbox(self.ledger(warehouse), self.stream).drain(day(self.number))

    def compute(self, warehouse: Any = None) -> None:
        sync = self.people.sync(ledger=self.ledger(warehouse))
        sync.retention = SHORT
        sync.run(day(self.number))

    def read_whole(self) -> SyncState:
        """Read the state from all rows."""
        ledger = self.ledger()
        ledger.rows.read_fold = lambda: Fold("")  # type: ignore[method-assign]
        return ledger.read()


@pytest.fixture(params=["keys", "claims", "files"])
def story(request, reopen: Callable[[], Any], tmp_path: Path) -> Story:
    warehouse = reopen()
    if request.param == "claims":
        warehouse.dialect = replace(warehouse.dialect, enforces_keys=False)
    return Story(warehouse, open_files(str(tmp_path / "files")) if request.param == "files" else None)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_module, "FOLD_BYTES", 4_000)
    monkeypatch.setattr(ledger_rows, "_PIECE_CHARACTERS", 700)


def read_since_fold(story: Story) -> int:
    ledger = story.ledger()
    ledger.read()
    return len(ledger._unfolded)


@pytest.mark.usefixtures("often")
def test_a_run_reads_few_rows_however_long_the_ledger_is_and_sees_what_all_rows_say(story: Story) -> None:
    most = 0
    for _ in range(6):
        story.run()
        most = max(most, read_since_fold(story))
        assert story.ledger().read() == story.read_whole()
    assert len(story.ledger().entries()) > 2 * most
    assert len(story.stream.consume().members("vips")) == story.number


@pytest.mark.usefixtures("often")
def test_what_became_of_a_user_is_known_although_the_rows_that_say_so_are_folded(story: Story) -> None:
    for _ in range(5):
        story.run()
    found = find_user(story.ledger(), f"u{story.number - 2:05}")
    [change] = [c for c in found.changes if c.action == "entered"]
    [status] = change.deliveries
    assert status.state == "delivered"
    assert status.recorded_at
    assert status.message_id


@pytest.mark.usefixtures("often")
def test_a_resync_and_parts_go_on_over_a_fold(story: Story) -> None:
    for _ in range(5):
        story.run()
        resync_delivery = replace(small_delivery(), resync=f"run {story.number}")
        resync(open_outbox(story.ledger(), story.stream, resync_delivery), small_delivery())
    assert story.ledger().read() == story.read_whole()


@pytest.mark.usefixtures("often")
def test_a_fold_that_is_cut_off_or_of_other_code_counts_for_nothing(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        story.run()
    ledger = story.ledger()
    known = story.read_whole()
    newest = ledger.rows.read_fold().text
    for text in (newest[:-9], "0.0-of-another x", "", fold_state(known)[:300]):
        ledger.rows.write_fold(text or " ", known.last_rows)
        assert story.ledger().read() == known
        ledger.rows.read_fold()
    story.run()
    assert read_since_fold(story) < len(story.ledger().entries())
    monkeypatch.setattr(fold_module, "__version__", "another")
    fold_module._shape.cache_clear()
    try:
        assert read_since_fold(story) == len(story.ledger().entries())
    finally:
        fold_module._shape.cache_clear()


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_run_killed_at_any_moment_of_a_fold_leaves_a_ledger_that_says_the_same(story: Story, side: str) -> None:
    for _ in range(4):
        story.run()
    for at in range(7):
        story.people.put(f"k{at:05}", email="k@example.org")
        story.number += 1
        warehouse = DiesAt(story.warehouse, at, side)
        try:
            story.compute(warehouse)
        except Killed:
            assert story.ledger().read() == story.read_whole()
            story.compute()
        assert story.ledger().read() == story.read_whole()
    story.run()
    assert set(story.stream.consume().members("vips")) == story.people.members()["vips"]


@pytest.mark.usefixtures("often")
def test_of_two_who_fold_at_once_either_is_right(story: Story) -> None:
    for _ in range(5):
        story.run()
    one, other = story.ledger(), story.ledger()
    for ledger in (one, other):
        ledger.read()
    known = story.read_whole()
    one.rows.write_fold(fold_state(one.state), one.state.last_rows)
    with contextlib.suppress(AudienceError):
        other.rows.write_fold(fold_state(other.state), other.state.last_rows)
    assert story.ledger().read() == known
    story.run()


def test_of_rows_that_are_known_duckdb_reads_nothing_but_what_it_compares(duckdb_in_memory) -> None:
    story = Story(duckdb_in_memory, None)
    for _ in range(3):
        story.run()
    ledger = story.ledger()
    known = {log: last - 1 for log, last in ledger.read().last_rows.items()}
    asked: list[str] = []
    read, duckdb_in_memory.read_rows = duckdb_in_memory.read_rows, lambda sql: asked.append(sql) or []
    try:
        ledger.rows.read(known)
    finally:
        duckdb_in_memory.read_rows = read
    [(_, plan)] = read(f"EXPLAIN (FORMAT json) {asked[0]}")
    steps = list(walk(json.loads(plan)))
    assert any(map(is_scan, steps))
    # A filter above a scan gets whole rows, with their details.
    assert not [s for s in steps if s["name"].strip() == "FILTER" and any(map(is_scan, s["children"]))]


def walk(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        yield from walk(step["children"])


def is_scan(step: dict[str, Any]) -> bool:
    return step["name"].strip() == "SEQ_SCAN"


def test_what_is_dropped_is_forgotten_but_for_the_newest_numbers(duckdb_in_memory) -> None:
    story = Story(duckdb_in_memory, None)
    for _ in range(5):
        story.run()
    timeline = story.ledger().read().timeline
    gone = [c for c in timeline.change_sets if c.dropped]
    assert gone
    last = timeline.change_sets[-1]
    older = [replace(gone[0], as_of=day(-n)) for n in range(1, 3 * GONE_SHOWN)]
    long = replace(timeline, change_sets=(*reversed(older), *timeline.change_sets))
    kept = long.without_what_is_gone()
    assert len(kept.change_sets) == GONE_SHOWN
    assert kept.change_sets[-1] == last
    standing = replace(long, change_sets=tuple(replace(c, dropped=False) for c in long.change_sets))
    assert standing.without_what_is_gone() == standing
    assert unfold_state(fold_state(replace(story.ledger().read(), timeline=kept))).timeline == kept
