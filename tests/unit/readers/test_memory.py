"""The memory that Arrow holds for the slices of a delivery."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOWN = """
import pyarrow as pa
from airflow_kinesis_audience.core.readers.partitions import ChunkReader
ChunkReader(None, partitions=16, one_message_per_row=False)
print(pa.default_memory_pool().backend_name)
"""


@pytest.mark.parametrize(("chosen", "backend"), [(None, "system"), ("mimalloc", "mimalloc")])
def test_a_slices_memory_is_given_back_unless_another_allocator_was_chosen(monkeypatch, chosen, backend):
    if chosen is None:
        monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    else:
        monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", chosen)
    found = subprocess.run([sys.executable, "-c", SHOWN], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == backend
