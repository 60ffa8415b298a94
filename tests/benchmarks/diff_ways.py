"""One way to find what differs between what was last published and the source, measured in this process alone.

    python diff_ways.py WAY DATABASE …

It prints seconds, CPU seconds, peak memory, bytes written and rows found as JSON. The peers are here as somebody
would use them who writes it in an afternoon: load both tables, join, keep what differs.
"""

from __future__ import annotations

import gc
import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

VALUES = ("email", "city", "joined", "plan", "spend")

RUNS = 30
Way = Callable[..., int]


def new_column(name: str) -> str:
    """Name the column of the state that has a value as of the run."""
    from airflow_kinesis_audience.core.sql.names import state_column

    role, label = ("identity", "Email") if name == "email" else ("property", name)
    return f"new_{state_column(role, label)}"


def ours_duckdb(path: str, settings: str) -> int:
    """Run the sync on the second day."""
    from tests.benchmarks.diff import day, open_duckdb, sync

    with open_duckdb(path, json.loads(settings)) as warehouse:
        summary = sync(warehouse).run(day(2))
    return int(sum(summary[n] for n in ("entered", "exited", "updated")))


def run_duckdb(path: str, settings: str, number: str) -> int:
    """Run the sync on some day; gives the members of the first, and the changes of a later one."""
    from tests.benchmarks.diff import day, open_duckdb, sync

    with open_duckdb(path, json.loads(settings)) as warehouse:
        summary = sync(warehouse).run(day(int(number)))
    return int(sum(summary[n] for n in ("entered", "exited", "updated")))


def bare_duckdb(path: str, settings: str) -> int:
    """Join the tables once, compare the columns, and write what differs with both sides."""
    import duckdb

    with duckdb.connect(path, config=json.loads(settings)) as database:
        found = "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'base%'"
        [(base,)] = database.execute(found).fetchall()
        database.execute(_bare_join(base))
        return int(database.execute("SELECT count(*) FROM bare").fetchall()[0][0])


def _bare_join(base: str) -> str:
    new, old = (", ".join(f"{side}.{n(c)} AS {name}_{c}" for c in VALUES) for side, n, name in _SIDES)
    differs = " OR ".join(f"m.{c} IS DISTINCT FROM b.{new_column(c)}" for c in VALUES)
    return f"""
        CREATE TABLE bare AS
        SELECT coalesce(m.user_id, b.user_id) AS user_id,
            m.user_id IS NULL AS gone, b.user_id IS NULL AS fresh, {new}, {old}
        FROM members m
        FULL JOIN (SELECT * FROM state."{base}" WHERE action = 'member') b ON m.user_id = b.user_id
        WHERE m.user_id IS NULL OR b.user_id IS NULL OR {differs}
    """


_SIDES = (("m", str, "new"), ("b", new_column, "old"))


def ours_postgres(dsn: str) -> int:
    """Run the sync on the second day."""
    from tests.benchmarks.diff import day, sync
    from tests.warehouses import open_postgres

    with open_postgres(dsn) as warehouse:
        summary = sync(warehouse).run(day(2))
    return int(sum(summary[n] for n in ("entered", "exited", "updated")))


def bare_postgres(dsn: str) -> int:
    """Join the tables once and compare the columns, which is the fastest way here."""
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as database:
        found = "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'base%'"
        [(base,)] = database.execute(found).fetchall()
        return database.execute(_bare_join(base).encode()).rowcount


def pandas_merge(before: str, after: str) -> int:
    """Merge two frames and compare the columns."""
    import pandas as pd

    joined = pd.read_parquet(before).merge(
        pd.read_parquet(after), on="user_id", how="outer", suffixes=("_old", "_new"), indicator=True
    )
    differs = joined["_merge"] != "both"
    for c in VALUES:
        old, new = joined[f"{c}_old"], joined[f"{c}_new"]
        differs |= (old != new) & ~(old.isna() & new.isna())
    return len(joined[differs])


def polars_join(before: str, after: str) -> int:
    """Join two frames lazily and compare the columns."""
    import polars as pl

    joined = pl.scan_parquet(before).join(pl.scan_parquet(after), on="user_id", how="full", suffix="_new")
    differs = [pl.col(c).ne_missing(pl.col(f"{c}_new")) for c in ("user_id", *VALUES)]
    return joined.filter(pl.any_horizontal(differs)).collect().height


def datacompy_polars(before: str, after: str) -> int:
    """Compare two frames as datacompy does, with polars, which is its faster one."""
    import datacompy
    import polars as pl

    found = datacompy.PolarsCompare(pl.read_parquet(before), pl.read_parquet(after), join_columns="user_id")
    return int(len(found.df1_unq_rows) + len(found.df2_unq_rows) + len(found.all_mismatch()))


def reladiff_duckdb(path: str) -> int:
    """Compare two tables of one database as reladiff does, with a join."""
    import reladiff

    before, after = (
        reladiff.connect_to_table(f"duckdb://:@/{path}", n, "user_id") for n in ("published", "members")
    )
    return len({row[0] for _, row in reladiff.diff_tables(before, after, extra_columns=VALUES)})


def many_runs(path: str, settings: str) -> list[float]:
    """Run the sync once, and then day by day without a new base; the last is a run of the size of the first.

    Between the runs a two-hundredth of the members change.
    """
    from airflow_kinesis_audience.core.state.retention import Retention
    from tests.benchmarks.diff import MEMBERS, change_some, day, open_duckdb, sync

    taken = []
    with open_duckdb(path, json.loads(settings)) as warehouse:
        for number in range(RUNS + 1):
            change_some(warehouse, number, MEMBERS // 200)
            began = time.perf_counter()
            sync(warehouse, Retention(compaction_share=10.0)).run(day(2 + number))
            taken.append(time.perf_counter() - began)
    return taken


_OURS = ("tests.benchmarks.diff", "sqlglot.optimizer")
WAYS: dict[str, tuple[Callable[..., Any], Sequence[str]]] = {
    "ours_duckdb": (ours_duckdb, _OURS),
    "run_duckdb": (run_duckdb, _OURS),
    "bare_duckdb": (bare_duckdb, ("duckdb",)),
    "ours_postgres": (ours_postgres, _OURS),
    "bare_postgres": (bare_postgres, ("psycopg",)),
    "many_runs": (many_runs, _OURS),
    "pandas_merge": (pandas_merge, ("pandas", "pyarrow.parquet")),
    "polars_join": (polars_join, ("polars",)),
    "datacompy_polars": (datacompy_polars, ("datacompy", "polars")),
    "reladiff_duckdb": (reladiff_duckdb, ("reladiff",)),
}
"""By name, with the modules that are imported before the clock starts."""


def main(name: str, *arguments: str) -> None:
    """Run one way and print what it took."""
    if name in WAYS:
        way, modules = WAYS[name]
        for module in modules:
            importlib.import_module(module)
    else:
        way = importlib.import_module("tests.benchmarks.stage_ways").WAYS[name]
    gc.collect()  # of what was imported
    base = _peak_mib()
    written, cpu, began = _bytes_written(), time.process_time(), time.perf_counter()
    found = way(*arguments)
    took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "found": found}
    took |= {"base_mib": base, "peak_mib": _peak_mib(), "written": _bytes_written() - written}
    print(json.dumps(took))


def _peak_mib() -> int:
    # Not ru_maxrss: that begins with the peak of the process that started this one.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def _bytes_written() -> int:
    """Count what this process has written to files, its temporary ones as well."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"]) - int(fields["cancelled_write_bytes"])


if __name__ == "__main__":
    main(*sys.argv[1:])
