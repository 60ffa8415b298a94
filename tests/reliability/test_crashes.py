"""A process may die after anything that it does; ``python -m tests.reliability crashes`` takes every step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb
import pytest

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.contract.converging import Diverged
from tests.reliability.crashing import DAYS, crash_at_every_step
from tests.simulator.planted import planted
from tests.warehouses import open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

Pair = tuple["SqlWarehouse", "SqlWarehouse"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Open two connections to one DuckDB in memory."""
    database = duckdb.connect(":memory:", config={"threads": 1})
    one, another = (DuckDbWarehouse(database.cursor, DIALECTS["duckdb"]) for _ in range(2))
    yield one, another
    for opened in (one, another, database):
        opened.close()


@pytest.mark.slow
def test_whatever_step_a_process_dies_after_nothing_is_lost_and_nothing_invented(pair: Pair) -> None:
    done = crash_at_every_step(pair, days=DAYS[:2], every=2)
    assert len(done.steps) == 6
    assert done.steps.total() > 25
    assert done.repeated > 0


@pytest.mark.slow
def test_the_same_holds_on_postgresql(postgres_database: str) -> None:
    with open_postgres(postgres_database) as one, open_postgres(postgres_database) as another:
        done = crash_at_every_step((one, another), days=DAYS[:2], every=9)
    assert done.steps.total() > 10


def test_a_cursor_that_moves_too_early_would_be_found(pair: Pair) -> None:
    with planted("the cursor moves before the records are put"), pytest.raises(Diverged):
        crash_at_every_step(pair, days=DAYS[:1], every=3)
