"""The memory that a delivery holds for slices which it has used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SHOWN = """
import pyarrow as pa
from airflow_kinesis_audience.core.readers.change_sets import SliceReader
from airflow_kinesis_audience.core.readers.chunks import ChunkReader
from airflow_kinesis_audience.core.readers.partitions import WHOLE
reader = SliceReader(counts={}, read=None, make=None)
how = {"part": WHOLE, "is_done": None, "one_message_per_row": False, "beside_others": None}
ChunkReader(reader, [], partitions=16, **how)
print(pa.default_memory_pool().backend_name)
"""
KEPT = """
def resident_mib():
    with open("/proc/self/statm") as found:
        return int(found.read().split()[1]) * 4096 / 2**20

before = resident_mib()
for _ in range(2):  # after the first time, the allocator takes such blocks for usual, and keeps them
    small, large = [], []
    for _ in range(400):
        large.append(b"x" * 150_000)
        small.append(b"x" * 20_000)
    del large
print(resident_mib() - before)
"""


@pytest.mark.parametrize(("chosen", "backend"), [(None, "system"), ("mimalloc", "mimalloc")])
def test_a_slices_memory_is_given_back_unless_another_allocator_was_chosen(monkeypatch, chosen, backend):
    if chosen is None:
        monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    else:
        monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", chosen)
    found = subprocess.run([sys.executable, "-c", SHOWN], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == backend


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of the GNU C library")
@pytest.mark.parametrize("is_chosen", [False, True])
def test_freed_blocks_are_given_back_unless_the_environment_sets_the_allocator(monkeypatch, is_chosen):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    if is_chosen:
        monkeypatch.setenv("MALLOC_PERTURB_", "0")
    found = subprocess.run([sys.executable, "-c", SHOWN + KEPT], capture_output=True, check=True, text=True)
    kept = float(found.stdout.splitlines()[-1])
    assert kept > 30 if is_chosen else kept < 20
