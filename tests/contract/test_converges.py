"""The promise to converge, over sequences of anything that can happen; and proof that a mistake would be found.

The machine is in ``converging.py``. Here it runs on both engines, and with a mistake built in, which it has to
find by a broken promise, not by a crash. The simulator has other mistakes, and other histories in every run.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlglot import exp

from airflow_kinesis_audience.core.changes import insertion as insertion_module
from airflow_kinesis_audience.core.exceptions import DeliveryIncomplete
from airflow_kinesis_audience.core.model.audience import Action, Changes
from airflow_kinesis_audience.core.readers import change_sets as slices_module
from airflow_kinesis_audience.core.readers.change_sets import make_changes
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.rows import numbered
from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.contract.converging import Converging, Diverged
from tests.warehouses import open_postgres

STEPS = 12
NIGHTLY = settings.get_current_profile_name() == "nightly"
SECONDS = 10_800 if NIGHTLY else 1_800
"""What a run may take; it takes a fraction, unless a failure is found and made small."""

Pair = tuple[SqlWarehouse, SqlWarehouse]


def sequences(usual: int, *, nightly: int, **changed: Any) -> settings:
    """Bound the machine: the same sequences every time by day, others every night."""
    return settings(
        max_examples=nightly if NIGHTLY else usual,
        stateful_step_count=STEPS,
        derandomize=not NIGHTLY,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        **changed,
    )


@pytest.fixture
def duckdb_pair() -> Iterator[Pair]:
    """Open two connections to one DuckDB in memory."""
    database = duckdb.connect(":memory:", config={"threads": 1})
    one, another = (DuckDbWarehouse(database.cursor, DIALECTS["duckdb"]) for _ in range(2))
    yield one, another
    for opened in (one, another, database):
        opened.close()


@pytest.fixture
def few_collections() -> Iterator[None]:
    """Let the collector look less often: trees of SQL come and go by the thousand, and all else stays."""
    thresholds = gc.get_threshold()
    gc.set_threshold(20_000, 20, 50)
    yield
    gc.set_threshold(*thresholds)


@pytest.fixture
def postgres_pair(postgres_database: str) -> Iterator[Pair]:
    """Open two connections to one PostgreSQL database."""
    one, another = (open_postgres(postgres_database) for _ in range(2))
    yield one, another
    one.close()
    another.close()


def check(kind: type[Converging], pair: Pair, bounds: settings) -> None:
    """Run a machine. A failure prints its steps, and a decorator for the machine's class that repeats it."""
    run_state_machine_as_test(type(kind.__name__, (kind,), {"warehouses": pair}), settings=bounds)


class ConvergingAsItIs(Converging):
    """With the statement that really reads the ledger: costly where an engine plans a small query slowly."""

    ledger = Ledger


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.usefixtures("few_collections")
def test_consumers_converge_to_the_published_membership_on_duckdb(duckdb_pair):
    kind = ConvergingAsItIs if NIGHTLY else Converging
    check(kind, duckdb_pair, sequences(30, nightly=5_000))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.usefixtures("few_collections")
def test_consumers_converge_to_the_published_membership_on_postgresql(postgres_pair):
    check(ConvergingAsItIs, postgres_pair, sequences(10, nightly=500))


def make_changes_as_of_now(*asked: Any) -> Changes:
    """Make changes whose exits carry what the source says of those who are not in it any more: nothing."""
    changes = make_changes(*asked)

    def as_of_now(kind: str, old: Sequence[str | None]) -> list[str | None]:
        new = changes.new_identities[kind]
        return [n if a == Action.EXITED else o for a, n, o in zip(changes.action, new, old, strict=True)]

    old_identities = {kind: as_of_now(kind, old) for kind, old in changes.old_identities.items()}
    return replace(changes, old_identities=old_identities)


class ExitsAsOfNow(Converging):
    mistakes = ((slices_module, "make_changes", make_changes_as_of_now),)


@pytest.mark.slow
def test_the_machine_finds_exits_that_carry_no_identities_by_a_broken_promise(duckdb_pair):
    found = settings(
        sequences(200, nightly=200), derandomize=True, phases=[Phase.generate], report_multiple_bugs=False
    )
    with pytest.raises(Diverged):
        check(ExitsAsOfNow, duckdb_pair, found)


def number_nobody(names: Sequence[str], origin: exp.Table) -> exp.Select:
    """Number the rows of a compensation, of which there are none."""
    return numbered(names, origin).where(exp.false())


class InsertedAlone(Converging):
    mistakes = ((insertion_module, "numbered", number_nobody),)


@pytest.mark.slow
def test_the_machine_finds_an_insertion_without_its_compensation_by_a_broken_promise(duckdb_pair):
    """Or by the sums of a first delivery, which has more members than the ledger counts."""
    found = settings(
        sequences(300, nightly=300), derandomize=True, phases=[Phase.generate], report_multiple_bugs=False
    )
    with pytest.raises((Diverged, DeliveryIncomplete)):
        check(InsertedAlone, duckdb_pair, found)
