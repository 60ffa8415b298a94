"""What a diff loads of Python's packages: Arrow, some 40 MiB of it, only where rows come out of the warehouse."""

from __future__ import annotations

import subprocess
import sys

import pytest

DIFF = """
import sys
from types import SimpleNamespace

import airflow_kinesis_audience.core.changes.sync
import airflow_kinesis_audience.core.state.status
import airflow_kinesis_audience.hooks.warehouses.{engine}
from airflow_kinesis_audience.core.source.staging import stage_source_rows

warehouse = SimpleNamespace()
warehouse.origin = warehouse
stage_source_rows(warehouse, "rows", "SELECT 1", {{}}, None, {{}})
print(sorted({{"pyarrow", "numpy", "pandas"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize("engine", ["postgres", "duckdb", "mysql", "clickhouse", "spark", "snowflake", "bigquery"])
def test_a_diff_within_the_warehouse_loads_no_arrow(engine):
    script = DIFF.format(engine=engine)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "[]"
