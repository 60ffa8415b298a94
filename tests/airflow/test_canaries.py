"""The search at the end of the session finds what it is to find, wherever it stands."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.airflow.canaries import SECRET, assert_unseen, find_planted, plant

if TYPE_CHECKING:
    from tests.airflow.conftest import DuckDb


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Make an AIRFLOW_HOME in which nothing stands yet."""
    (tmp_path / "logs").mkdir()
    with sqlite3.connect(tmp_path / "airflow.db") as metadata:
        metadata.execute("CREATE TABLE xcom (value TEXT)")
    return tmp_path


def test_a_word_is_found_in_the_output_a_log_and_the_metadata(home: Path) -> None:
    plant(["a.canary@mail.example"])
    assert_unseen(home, "nothing")
    assert len(find_planted(home, f"Traceback … {SECRET}")) == 1
    (home / "logs" / "task.log").write_text("row: a.canary@mail.example")
    with sqlite3.connect(home / "airflow.db") as metadata:
        metadata.execute('INSERT INTO xcom VALUES (\'{"email": "a.canary@mail.example"}\')')
    found = find_planted(home, "nothing")
    assert len(found) == 2
    assert not any("a.canary@mail.example" in line for line in found)
    with pytest.raises(AssertionError, match="2 canaries were seen"):
        assert_unseen(home, "nothing")


def test_every_email_address_of_a_source_is_searched_for(home: Path, duckdb_warehouse: DuckDb) -> None:
    duckdb_warehouse.members([("u1", "another.canary@mail.example", "Oslo")])
    assert len(find_planted(home, "row: another.canary@mail.example")) == 1
