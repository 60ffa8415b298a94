"""New histories in every run, the same ones on real engines, and proof that a mistake would be found.

Histories that break a promise stand in the failure, each with its seed: ``python3 run.py simulate --seed N`` lives
it again, step by step.
"""

from __future__ import annotations

import duckdb
import pytest

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.simulator.files import Files
from tests.simulator.histories import live_many
from tests.simulator.history import UNFORESEEN, live
from tests.simulator.planted import MISTAKES, planted
from tests.simulator.remembering import RememberingDuckDb
from tests.warehouses import open_postgres

HISTORIES, SECONDS = 5_000, 60.0
ENOUGH_FOR_ALL_STATES = 1_000


@pytest.fixture(scope="module")
def remembering():
    return RememberingDuckDb()


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_no_history_breaks_a_promise_and_each_rare_state_is_reached(remembering, capsys):
    lived = live_many(remembering, histories=HISTORIES, seconds=SECONDS)
    with capsys.disabled():
        print("", *lived.describe().splitlines()[:1], sep="\n")
    assert not lived.broken, lived.describe()
    assert not lived.missed or lived.histories < ENOUGH_FOR_ALL_STATES, lived.describe()


def test_a_seed_gives_the_same_history_each_time(remembering):
    one, another = live(26, remembering), live(26, remembering)
    assert (one.trace, one.broken, one.reached) == (another.trace, another.broken, another.reached)
    assert one.trace != live(27, remembering).trace


@pytest.mark.parametrize("seed", [857, 5_000_173, 775_504_472, 938_341_070, 1_264_379_501])
def test_a_history_that_once_broke_a_promise_breaks_none(remembering, seed):
    assert not live(seed, remembering).broken


def test_histories_on_duckdb_with_the_ledger_in_a_table():
    database = duckdb.connect(":memory:", config={"threads": 1})
    inner = DuckDbWarehouse(database.cursor, DIALECTS["duckdb"])
    lived = live_many(inner, histories=5, seconds=30.0)
    assert not lived.broken, lived.describe()


def test_histories_on_postgresql(postgres_database):
    with open_postgres(postgres_database) as inner:
        lived = live_many(inner, histories=5, seconds=30.0)
    assert not lived.broken, lived.describe()


def test_histories_with_the_state_in_files(tmp_path):
    lived = live_many(Files(tmp_path), histories=3, seconds=20.0)
    assert not lived.broken, lived.describe()


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_that_is_built_in_is_found(remembering, mistake):
    with planted(mistake):
        lived = live_many(
            remembering, first=1, histories=600, seconds=240.0, stop=True, of=MISTAKES[mistake].matters
        )
    assert lived.broken, f"not found in {lived.histories} histories"
    assert not lived.broken[0].broken.startswith(UNFORESEEN), lived.broken[0].broken
