"""How long a look into the ledger takes where ten thousand audiences have each a sync of their own in one schema.

Each sync has a row per step of forty runs. What a task reads first is all of its own sync's, then only what came
since; and once, where an audience is new, which audiences of any sync were deleted. Its bound: a look among ten
thousand syncs takes at most a fifth of a second.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, TableStarted
from tests.benchmarks import long_ledger
from tests.benchmarks.diff import UNBOUNDED, is_met, open_duckdb
from tests.postgres import HOW_TO_INSTALL, find_programs, running_server
from tests.warehouses import day, open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

SYNCS, ROWS, TIMES = 10_000, 100, 5
SECONDS = 0.2
DETAIL = json.dumps({"table": "changes_" + "x" * 60, "layout": {"columns": ["x" * 100] * 8}})


def main() -> bool:
    """Measure, print, and tell whether the bound is kept."""
    print(f"A ledger of {SYNCS:,} syncs with {ROWS} rows each, medians of {TIMES}")
    print(f"{'':12}{'first look':>12}{'again':>12}{'deleted ones':>14}  seconds")
    with (
        tempfile.TemporaryDirectory(prefix="audience-benchmark-") as home,
        open_duckdb(Path(home) / "ledger.duckdb", UNBOUNDED) as warehouse,
    ):
        kept = [measure("DuckDB", warehouse)]
    programs = find_programs()
    if programs is None:
        print(f"PostgreSQL was not measured: {HOW_TO_INSTALL}")
    else:
        with running_server(programs) as server, open_postgres(server.dsn()) as warehouse:
            kept.append(measure("PostgreSQL", warehouse))
    return all([*kept, long_ledger.main()])


def measure(name: str, warehouse: SqlWarehouse) -> bool:
    """Fill a ledger, look into it, print a line."""
    Ledger(warehouse, "state", "sync 0").prepare()
    warehouse.execute(
        f"INSERT INTO state.ledger SELECT 'sync ' || s, '', r, 'started', '{instant_text(day(0))}', '{DETAIL}', "
        f"'', s || '-' || r FROM generate_series(1, {SYNCS}) AS a(s), generate_series(1, {ROWS}) AS b(r)"
    )
    first = [timed(Ledger(warehouse, "state", f"sync {n * 997}").read) for n in range(1, TIMES + 1)]
    ledger = Ledger(warehouse, "state", "sync 4711")
    ledger.read()
    again = []
    for number in range(TIMES):
        ledger.append(SYNC_LOG, TableStarted(table=f"t{number}"), as_of=day(1))
        again.append(timed(ledger.read))
    deleted = [timed(ledger.read_closed_audiences) for _ in range(TIMES)]
    found = [statistics.median(times) for times in (first, again, deleted)]
    print(f"{name:12}{found[0]:>12.3f}{found[1]:>12.3f}{found[2]:>14.3f}", flush=True)
    return is_met(f"{name}: seconds of the slowest look", max(found), most=SECONDS)


def timed(look: Callable[[], object]) -> float:
    began = time.perf_counter()
    look()
    return time.perf_counter() - began
