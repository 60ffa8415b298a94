"""A statement that is left to Snowflake: the diff ends before it does, and another process continues after it.

What speaks here is Snowflake's real connector; a stand-in of the server runs statements asynchronously, as long as
it is let with those that hold a file. What it takes is no proof that Snowflake takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_kinesis_audience.core.exceptions import (
    LedgerConflict,
    RunSuperseded,
    WarehouseRefused,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.outbox.forgetting import forget
from airflow_kinesis_audience.hooks import warehouse as warehouse_module
from airflow_kinesis_audience.hooks.statement_tags import StatementTag
from airflow_kinesis_audience.hooks.warehouses import left_statements
from airflow_kinesis_audience.hooks.warehouses.left_statements import LeftStatement, StatementLeft
from airflow_kinesis_audience.hooks.warehouses.snowflake import SnowflakeWarehouse
from airflow_kinesis_audience.operators.statement_trigger import StatementTrigger
from tests.engines.snowflake import fresh_database, open_fakesnow, running_fakesnow
from tests.warehouses import People, day, read_timeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held") / "hold"


@pytest.fixture(scope="module")
def port(hold: Path) -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKESNOW_HOLDS", str(hold))
        with running_fakesnow() as found:
            yield found


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch, hold: Path) -> Iterator[None]:
    monkeypatch.setattr(left_statements, "PATIENCE_SECONDS", 0.5)
    yield
    hold.unlink(missing_ok=True)


@pytest.fixture
def people(port: int) -> Iterator[Any]:
    database = fresh_database()
    with open_fakesnow(port, database) as warehouse:
        found = People(warehouse)
        found.put("ann", "bob")
        found.database = database  # type: ignore[attr-defined]
        yield found


@contextmanager
def task(port: int, people: Any, left: LeftStatement | None = None, **settings: Any) -> Iterator[Any]:
    """Make what a task makes, in a session of its own."""
    with open_fakesnow(port, people.database) as warehouse:
        warehouse.may_leave, warehouse.left = True, left
        sync = people.sync(warehouse, **settings)
        sync.committer.leaves, sync.committer.left = True, left.table if left else ""
        yield sync


def leave(port: int, people: Any, number: int, **settings: Any) -> LeftStatement:
    """Run a diff until its statement is left to the server."""
    with task(port, people, **settings) as sync, pytest.raises(StatementLeft) as found:
        sync.run(day(number))
    return found.value.statement


def test_a_statement_that_ends_soon_is_not_left(port: int, people: Any) -> None:
    with task(port, people) as sync:
        assert sync.run(day(0))["entered"] == 2


def test_another_task_continues_after_the_statement_and_writes_no_other_table(
    port: int, people: Any, hold: Path
) -> None:
    with task(port, people) as sync:
        sync.run(day(0))
    people.put("cem")
    people.take("ann")
    hold.touch()
    left = leave(port, people, 1)
    with task(port, people, left) as sync, pytest.raises(StatementLeft) as again:
        sync.run(day(1))
    assert again.value.statement == left, "it is under way still"
    tables = people.tables()
    hold.unlink()
    with task(port, people, left) as sync:
        summary = sync.run(day(1))
    assert (summary["entered"], summary["exited"], summary["members"]) == (1, 1, 2)
    newest = read_timeline(people.ledger()).newest
    assert newest is not None
    assert newest.table == left.table
    assert people.tables() - tables <= {left.table}


def test_the_first_statement_of_a_sync_is_left_too(port: int, people: Any, hold: Path) -> None:
    hold.touch()
    left = leave(port, people, 0)
    hold.unlink()
    with task(port, people, left) as sync:
        assert sync.run(day(0))["entered"] == 2


def test_the_first_statement_is_left_too_where_other_syncs_have_forgotten_users(
    port: int, people: Any, hold: Path
) -> None:
    other = people.ledger().of_sync("other")
    people.sync(ledger=other).run(day(0))
    forget(other, ["bob"])
    hold.touch()
    left = leave(port, people, 0)
    with task(port, people, left) as sync, pytest.raises(StatementLeft) as again:
        sync.run(day(0))
    assert again.value.statement == left, "it is under way still"
    hold.unlink()
    with task(port, people, left) as sync:
        assert sync.run(day(0))["entered"] == 1
    assert read_timeline(people.ledger()).newest.table == left.table


def test_a_trigger_fires_when_the_statement_has_ended_and_any_other_takes_over(
    port: int, people: Any, hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse_module, "open_warehouse", lambda _: open_fakesnow(port, people.database))
    hold.touch()
    left = leave(port, people, 0)
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    path, given = StatementTrigger(
        warehouse_conn_id="warehouse", statement=asdict(left), until=until, poll_seconds=0.2
    ).serialize()
    assert path == "airflow_kinesis_audience.operators.statement_trigger.StatementTrigger"

    async def fires(seconds: float, **changed: str) -> bool:
        try:
            event = await asyncio.wait_for(anext(StatementTrigger(**{**given, **changed}).run()), seconds)
        except TimeoutError:
            return False
        return bool(event.payload == asdict(left))

    assert not asyncio.run(fires(3)), "the statement is under way"
    hold.unlink()
    assert asyncio.run(fires(60))


def test_a_statement_that_takes_too_long_is_cancelled_by_the_trigger(
    port: int, people: Any, hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[str] = []
    monkeypatch.setattr(warehouse_module, "open_warehouse", lambda _: open_fakesnow(port, people.database))
    monkeypatch.setattr(SnowflakeWarehouse, "cancel_statement", lambda _, of: cancelled.append(of))
    hold.touch()
    left = leave(port, people, 0)
    trigger = StatementTrigger(
        warehouse_conn_id="warehouse",
        statement=asdict(left),
        until=datetime.now(UTC).isoformat(),
        poll_seconds=0.2,
    )

    async def event() -> Any:
        return (await asyncio.wait_for(anext(trigger.run()), 60)).payload

    assert asyncio.run(event()) == asdict(left)
    assert cancelled == [left.statement_id]
    hold.unlink()


def test_a_statement_that_fails_says_so_as_if_it_was_waited_for(port: int, people: Any, hold: Path) -> None:
    hold.touch()
    left = leave(port, people, 0)
    people.warehouse.execute(f"DROP TABLE {people.table}")
    hold.unlink()
    with open_fakesnow(port, people.database) as warehouse, pytest.raises(WarehouseRefused, match="rejected"):
        warehouse.await_statement(left.statement_id, 30)


def test_a_query_that_was_changed_meanwhile_is_begun_by_the_next_attempt(
    port: int, people: Any, hold: Path
) -> None:
    hold.touch()
    left = leave(port, people, 0)
    hold.unlink()
    people.source = replace(people.source, query=f"SELECT * FROM {people.table} WHERE uid <> 'bob'")
    with task(port, people, left) as sync, pytest.raises(WarehouseUnavailable, match="the query was changed"):
        sync.run(day(0))
    with task(port, people) as sync:
        assert sync.run(day(0))["entered"] == 1


def test_a_run_that_was_overtaken_while_its_statement_ran_counts_nothing_of_it(
    port: int, people: Any, hold: Path
) -> None:
    hold.touch()
    left = leave(port, people, 0)
    hold.unlink()
    people.put("cem")
    assert people.run(1)["entered"] == 3
    with task(port, people, left) as sync, pytest.raises(RunSuperseded):
        sync.run(day(0))
    assert [c.as_of for c in read_timeline(people.ledger()).change_sets] == [day(1)]


def test_where_another_run_has_computed_the_instant_meanwhile_the_next_attempt_counts(
    port: int, people: Any, hold: Path
) -> None:
    hold.touch()
    left = leave(port, people, 1)
    hold.unlink()
    people.run(1)
    with task(port, people, left) as sync, pytest.raises(LedgerConflict, match="another run of sync"):
        sync.run(day(1))
    with task(port, people) as sync:
        assert sync.run(day(1))["members"] == 2


def test_the_next_attempt_ends_what_a_killed_one_left_at_work_and_no_other_statement(
    port: int, people: Any, hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = StatementTag(sync_id="dag.diff", run_id="r", task="dag/diff/-1/r", attempt=1, state="/state")
    monkeypatch.setattr(SnowflakeWarehouse, "tag", first)
    hold.touch()
    left = leave(port, people, 0)

    def ended_by(tag: StatementTag) -> int:
        with open_fakesnow(port, people.database) as warehouse:
            warehouse.tag = tag
            return warehouse.end_earlier_attempts()

    second = replace(first, attempt=2)
    for other in (replace(second, task="dag/diff/1/r"), replace(second, state="/elsewhere"), first):
        assert ended_by(other) == 0, "of another task or deployment, or of the same attempt before it paused"
    assert ended_by(replace(first, attempt=11)) == 1
    assert ended_by(second) == 0, "it has ended"
    with open_fakesnow(port, people.database) as warehouse, pytest.raises(WarehouseUnavailable, match="604"):
        warehouse.has_ended(left.statement_id)
