"""pytest has the fixture wherever the package is installed, and loads nothing for it before a test asks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

AT_START = """
import sys

HEAVY = {"airflow", "boto3", "duckdb", "pandas", "pyarrow", "sqlglot"}

def test_nothing_is_loaded():
    ours = {name for name in sys.modules if name.startswith("airflow_kinesis_audience.")}
    assert ours == {"airflow_kinesis_audience.pytest_plugin"}
    assert not HEAVY & sys.modules.keys()
"""
WITH_ROWS = """
def test_who_enters(find_audience_messages):
    from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

    mapped = {"audience_id": "a", "audience_name": "A", "identities": {"email": "Email"}}
    diff = AudienceDiffOperator(task_id="diff", warehouse_conn_id="nowhere", sql="SELECT 1", **mapped)
    publish = AudienceToKinesisOperator(
        task_id="publish", change_set={}, stream_name="s", message_format="mparticle_audience"
    )
    [message] = find_audience_messages(diff, publish, after=[{"user_id": "ann", "email": "ann@x.org"}])
    assert message["IsMember"]
"""


@pytest.mark.parametrize("test", [AT_START, WITH_ROWS], ids=["at_start", "with_rows"])
def test_another_project_has_the_fixture(tmp_path: Path, test: str) -> None:
    (tmp_path / "test_mapping.py").write_text(test)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
        str(tmp_path),
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "1 passed" in found.stdout
