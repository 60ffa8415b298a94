"""Fifty million members through the whole diff, on DuckDB within 2 GB: seconds, memory, and what is on the disk.

The first run writes the membership, the second finds 3 in 100 changed; each in a process of its own. It takes
some 30 GB of disk. ``AUDIENCE_BENCHMARK_LARGE`` sets another number of members, and
``AUDIENCE_BENCHMARK_LARGE_MB`` another limit of memory: 200 million members within 4 GB are 200_000_000 and 3_400.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.benchmarks.diff import MEMBER, is_met, open_duckdb, print_head, print_line, run_way

MEMBERS = int(os.environ.get("AUDIENCE_BENCHMARK_LARGE", "50_000_000"))
LIMIT_MB = int(os.environ.get("AUDIENCE_BENCHMARK_LARGE_MB", "2_000"))
BOUNDED = {"threads": 2, "memory_limit": f"{LIMIT_MB}MB"}
MOST_MIB = LIMIT_MB + 600
"""The limit, and what Python, Arrow and DuckDB's own code take beside it."""


def main() -> bool:
    """Measure, print, and tell whether the bound is kept."""
    with tempfile.TemporaryDirectory(prefix="audience-benchmark-") as home:
        path = Path(home) / "members.duckdb"
        hundredth = MEMBERS // 100
        with open_duckdb(path, BOUNDED) as warehouse:
            numbers = "generate_series({}, {}) AS t(i)"
            warehouse.execute(f"CREATE TABLE members AS SELECT {MEMBER} FROM {numbers.format(0, MEMBERS - 1)}")
        print_head(f"DuckDB within {LIMIT_MB:,} MB, {MEMBERS:,} members")
        first = run_way("run_duckdb", path, BOUNDED, 1)
        print_line("first run, a base", [first])
        base_mb = path.stat().st_size / 1e6
        with open_duckdb(path, BOUNDED) as warehouse:
            ids = "SELECT md5(CAST(i AS VARCHAR)) FROM"
            gone, changed = (numbers.format(n * hundredth, (n + 1) * hundredth - 1) for n in range(2))
            warehouse.execute(f"DELETE FROM members WHERE user_id IN ({ids} {gone})")
            fresh = numbers.format(MEMBERS, MEMBERS + hundredth - 1)
            warehouse.execute(f"INSERT INTO members SELECT {MEMBER} FROM {fresh}")
            warehouse.execute(f"UPDATE members SET spend = spend + 1 WHERE user_id IN ({ids} {changed})")
        second = run_way("run_duckdb", path, BOUNDED, 2)
        print_line("second run, a change set", [second])
        print(f"source and base on the disk: {base_mb:,.0f} MB")
    return is_met("peak MiB", max(first["peak_mib"], second["peak_mib"]), most=MOST_MIB)
