"""A destination that nobody uses any more, or a resync that nobody finishes, keeps nothing once it is detached."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.cli.commands import main
from airflow_kinesis_audience.cli.status import describe, read_status
from airflow_kinesis_audience.core.outbox.detachment import detach
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.status import find_pins
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from airflow_kinesis_audience.hooks.state import open_files
from tests.warehouses import (
    DiesAt,
    Killed,
    People,
    Stream,
    day,
    open_duckdb,
    open_outbox,
    small_delivery,
)

if TYPE_CHECKING:
    from pathlib import Path

USED, UNUSED = small_delivery("used"), small_delivery("unused")
SHORT = {"keep_history": day(2) - day(0)}


def run(people: People, *numbers: int) -> None:
    for number in numbers:
        people.put(f"u{number}", email=f"{number}@example.org")
        people.run(number, **SHORT)
        open_outbox(people.ledger(), Stream(), USED).drain(day(number))


def begin_resync(people: People) -> None:
    """Begin a resync that is killed before it is complete."""

    def script(*_: object) -> Any:
        raise Killed

    again = replace(USED, resync="once")
    with pytest.raises(Killed):
        resync(open_outbox(people.ledger(), Stream(script), again), USED)


@pytest.fixture
def people(warehouse) -> People:
    people = People(warehouse)
    run(people, 0)
    return people


def test_history_that_only_an_unused_destination_keeps_goes_once_it_is_detached(people: People) -> None:
    open_outbox(people.ledger(), Stream(), UNUSED).drain(day(0))
    run(people, *range(1, 9))
    kept = people.tables()
    [pin] = [p for p in find_pins(people.ledger().read()) if p.destination == UNUSED.destination]
    assert (pin.since, pin.change_sets) == (day(0), 8)
    assert pin.tables == len(kept)
    lines = "\n".join(describe(read_status(people.ledger(), 5)))
    assert (
        f"{UNUSED.destination} (amplitude_cohort) keeps {len(kept)} tables, all history since 2026-01-01" in lines
    )
    assert "keeps" not in lines.replace(f"{UNUSED.destination} (amplitude_cohort) keeps", "")
    detach(people.ledger(), {pin.log})
    run(people, 9)
    assert len(people.tables()) < len(kept) - 3
    stream = Stream()
    open_outbox(people.ledger(), stream, UNUSED).drain(day(9))
    assert set(stream.consume().members("vips")) == people.members()["vips"]


def test_a_resync_that_nobody_finishes_is_detached_alone(people: People) -> None:
    run(people, 1)
    begin_resync(people)
    run(people, *range(2, 9))
    kept = people.tables()
    [pin] = [p for p in find_pins(people.ledger().read()) if p.is_resync]
    assert "a resync that is not finished" in "\n".join(describe(read_status(people.ledger(), 5)))
    detach(people.ledger(), {pin.log})
    assert not {name for name in people.tables() if name.startswith("snapshot_")}
    run(people, 9)
    assert len(people.tables()) < len(kept) - 3
    assert people.ledger().read().delivery(USED.log).cursor == day(9)


def test_parts_of_a_detached_destination_begin_anew_with_it(people: People) -> None:
    parts = [replace(UNUSED, part=Part(number, 2)) for number in range(2)]
    for part in parts:
        open_outbox(people.ledger(), Stream(), part).drain(day(0))
    detach(people.ledger(), {UNUSED.log})
    stream = Stream()
    for part in parts:
        open_outbox(people.ledger(), stream, part).drain(day(0))
    assert set(stream.consume().members("vips")) == {"u0"}


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_detachment_that_is_killed_at_any_moment_leaves_no_table_when_it_is_done_again(
    people: People, side: str
) -> None:
    before = people.tables()
    begin_resync(people)
    [pin] = [p for p in find_pins(people.ledger().read()) if p.is_resync]
    for at in range(20):
        try:
            detach(people.ledger(DiesAt(people.warehouse, at, side)), {pin.log})
            break
        except Killed:
            pass
    assert people.tables() == before


def test_the_command_looks_first_and_detaches_only_where_it_is_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = open_files(str(tmp_path / "state"))

    def ledger() -> Ledger:
        warehouse = DuckDbParquetWarehouse(files, open_duckdb(tmp_path / "source.duckdb"))
        return Ledger(
            warehouse, "airflow_audience", "dag.diff", FileLedgerTable(files, "airflow_audience", "dag.diff")
        )

    with open_duckdb(tmp_path / "source.duckdb") as source:
        people = People(source)
        people.put("u1", email="ada@example.com")
    opened = ledger()
    with opened.warehouse:
        people.sync(ledger=opened).run(day(0))
        open_outbox(opened, Stream(), UNUSED).drain(day(0))
    asked = ["detach", "dag.diff", UNUSED.destination, "--state-path", str(tmp_path / "state")]
    assert main(asked) == 0
    assert "Nothing was changed" in capsys.readouterr().out
    assert main([*asked, "--resyncs"]) == 0
    assert "has no such delivery" in capsys.readouterr().out
    assert main(["detach", "dag.diff", "kinesis://x/other", *asked[3:]]) == 1
    assert f"its destinations are {UNUSED.destination}" in capsys.readouterr().err
    assert main([*asked, "--yes"]) == 0
    assert "Detached" in capsys.readouterr().out
    assert main(asked) == 0
    assert "It keeps nothing: it is already detached" in capsys.readouterr().out
