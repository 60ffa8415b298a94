"""What a killed task leaves: every table is in the ledger before it is made, and files go with the next task."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import duckdb
import pytest

from airflow_kinesis_audience.core.exceptions import LedgerConflict
from airflow_kinesis_audience.core.outbox.detachment import detach
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.hooks.files.temporary_home import TemporaryHome
from tests.warehouses import (
    DiesAt,
    Killed,
    People,
    Stream,
    Watched,
    day,
    open_duckdb,
    open_outbox,
    small_delivery,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_kinesis_audience.core.state.sync_state import SyncState

CANARY = "canary@example.org"


def listed(state: SyncState) -> set[str]:
    """List the tables that a ledger knows of."""
    timeline = state.timeline
    found = {c.table for c in timeline.change_sets} | {b.table for b in timeline.bases} | timeline.orphans
    for delivery in state.deliveries.values():
        letters = delivery.dead_letters
        replaced = letters.replaced or ()
        found |= {letters.table, letters.writing, *([replaced] if isinstance(replaced, str) else replaced)}
        found |= {t.table for t in (delivery.snapshot, delivery.profiles) if t is not None} | set(delivery.litter)
    return found


def resend(people: People, stream: Stream, warehouse: object, message_format: str) -> None:
    outbox = open_outbox(people.ledger(warehouse), stream, delivery_in(message_format))
    outbox.drain(day(0), resend=True)


def delivery_in(message_format: str):
    options = {} if message_format == "adobe_profile" else {"max_users": 2}
    return small_delivery(message_format=message_format, options=options)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("message_format", ["amplitude_cohort", "adobe_profile"])
def test_every_table_is_in_the_ledger_whenever_a_resend_is_killed_and_goes_with_the_next_task(
    warehouse, message_format: str, side: str
) -> None:
    people, stream = People(warehouse), Stream()
    people.put("u1", "u2", email=CANARY)
    people.run(0)
    open_outbox(people.ledger(), stream, delivery_in(message_format)).drain(day(0))
    before = people.tables()
    for at in range(40):
        dying = DiesAt(warehouse, at, side)
        try:
            resend(people, stream, dying, message_format)
        except Killed:
            assert people.tables() <= listed(people.ledger().read())
            continue
        break
    else:
        pytest.fail("a resend has more statements than this looks at")
    assert people.tables() == before


def test_a_task_whose_delivery_is_detached_while_it_announces_a_snapshot_makes_none(warehouse) -> None:
    people, stream, delivery = People(warehouse), Stream(), small_delivery()
    people.put("u1")
    people.run(0)
    killed, late = Watched(warehouse), Watched(warehouse)
    killed.before = lambda sql: killed.kill() if sql.startswith("CREATE TABLE") and "snapshot" in sql else None
    with pytest.raises(Killed):
        open_outbox(people.ledger(killed), stream, delivery).drain(day(0))

    def go_on_elsewhere(sql: str) -> None:
        if sql.startswith("DROP TABLE") and "snapshot" in sql:
            late.before = lambda _: None
            people.run(1)
            ledger = people.ledger()
            ledger.read()
            detach(ledger, [delivery.log])

    late.before = go_on_elsewhere
    with pytest.raises(LedgerConflict):
        open_outbox(people.ledger(late), stream, delivery).drain(day(0))
    assert not stream.taken
    assert not [name for name in people.tables() if name.startswith("snapshot")]
    open_outbox(people.ledger(), stream, delivery).drain(day(1))
    assert people.tables() <= listed(people.ledger().read())


def test_a_part_whose_delivery_is_detached_while_it_writes_the_snapshot_writes_no_other(warehouse) -> None:
    people, stream = People(warehouse), Stream()
    delivery = small_delivery(part=Part(0, 2))
    people.put("u1")
    people.run(0)
    late = Watched(warehouse)

    def detach_elsewhere(sql: str) -> None:
        if sql.startswith("CREATE TABLE") and "snapshot" in sql:
            late.before = lambda _: None
            ledger = people.ledger()
            ledger.read()
            detach(ledger, [delivery.log])

    late.before = detach_elsewhere
    with pytest.raises(LedgerConflict):
        open_outbox(people.ledger(late), stream, delivery).drain(day(0))
    assert not stream.taken
    assert not [name for name in people.tables() if name.startswith("snapshot")]


def test_what_a_killed_process_has_spilled_beside_its_file_goes_when_that_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    script = f"""
import duckdb, os, pathlib, threading, time
connection = duckdb.connect({str(file)!r}, config={{"memory_limit": "40MB", "threads": 1}})
def kill():
    spilled = pathlib.Path({str(file) + ".tmp"!r})
    while not any(f.stat().st_size > 1_000_000 for f in spilled.glob("*storage*")):
        time.sleep(0.01)
    os.kill(os.getpid(), 9)
threading.Thread(target=kill, daemon=True).start()
connection.execute("CREATE TABLE x AS SELECT repeat('{CANARY}', 4) || i FROM range(3000000) t(i) ORDER BY hash(i)")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    spilled = file.with_name(f"{file.name}.tmp")
    assert any(CANARY.encode() in found.read_bytes() for found in spilled.iterdir())
    with open_duckdb(file) as warehouse:
        warehouse.read_rows("SELECT 1")
        assert not [found for found in spilled.glob("*") if CANARY.encode() in found.read_bytes()]


def test_what_this_process_spills_stays(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(file)), open_duckdb(file) as warehouse:
        spilled = file.with_name(f"{file.name}.tmp")
        spilled.mkdir()
        for name in (f"duckdb_temp_{os.getpid()}_0_storage", "duckdb_temp_storage-0.tmp", "mine.txt"):
            (spilled / name).write_text("rows")
        warehouse.read_rows("SELECT 1")
        assert len(list(spilled.iterdir())) == 3


def test_a_directory_that_was_being_made_when_its_task_was_killed_goes_once_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, new = tmp_path / ".audience-state-old", tmp_path / ".audience-state-new"
    for path in (old, new):
        path.mkdir()
    os.utime(old, (time.time() - 86_400,) * 2)
    home = TemporaryHome()
    home.remove()
    assert list(tmp_path.iterdir()) == [new]
