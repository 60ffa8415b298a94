"""Every contract test sees the two warehouses; what the state model's tests find on each engine is kept."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from airflow_kinesis_audience.core.state import commits
from tests.contract.features import OUTCOMES
from tests.engines import ENGINES
from tests.warehouses import duckdb_in_memory, reopen, warehouse

__all__ = ["duckdb_in_memory", "reopen", "warehouse"]


@pytest.fixture
def no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let syncs begin without an epoch, so that two states of one history give the same ids."""
    monkeypatch.setattr(commits, "draw_epoch", str)


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "write the table of engines and features in docs/warehouses.md as these tests find it"
    parser.addoption("--write-features", action="store_true", help=told)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        engine = _engine_of(
            item,
            "test_state_model.py",
            "test_guards_on_engines.py",
            "test_statements.py",
            "test_values.py",
            "test_any_values.py",
            "test_own_types.py",
            "test_quoted_values.py",
            "test_other_syncs.py",
        )
        if engine and ENGINES[engine].slow and item.originalname not in ENGINES[engine].quick:  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.slow_engine)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    engine = _engine_of(item, "test_state_model.py")
    if isinstance(item, pytest.Function) and engine and (report.when == "call" or report.skipped):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        outcomes = item.config.stash.setdefault(OUTCOMES, {})
        outcomes[item.originalname, engine] = report.outcome, reason
    return report


def _engine_of(item: pytest.Item, *files: str) -> str | None:
    """Tell on which engine a test of these files runs."""
    if not isinstance(item, pytest.Function) or item.path.name not in files:
        return None
    found = item.callspec.params.get("place") if hasattr(item, "callspec") else None
    return str(found) if found in ENGINES else None
