"""A short soak; ``python -m tests.reliability soak`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.soak import soak

INTERVALS = 12


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["DuckDB", "PostgreSQL"])
def test_consumers_know_the_warehouse_after_everything_went_wrong(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str
) -> None:
    dsn = request.getfixturevalue("postgres_database") if engine == "PostgreSQL" else None
    found = soak(INTERVALS, engine=engine, folder=tmp_path, dsn=dsn, seed=1)
    assert found.holds, found.describe()
    assert found.members > 50
    assert found.faults["throttled"] > 0
    assert found.faults["credentials expired"] > 0
    assert found.failures.total() > 0
