"""How long it takes to find who entered, left or changed: ours, the bare work in the engine, and the peers.

A table of ten million members and five columns besides the id; one in a hundred enters, exits and changes. Ours
is a whole run, from its first statement to the recorded change set. Each way runs in a process of its own on a
fresh copy of the same tables; what has ratios takes turns, and medians count.

``AUDIENCE_BENCHMARK_MEMBERS`` sets another number of members.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.state.ledger import Ledger
from tests.benchmarks.diff_ways import VALUES, new_column
from tests.benchmarks.peers import peers
from tests.postgres import HOW_TO_INSTALL, find_programs, running_server
from tests.warehouses import day, open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.retention import Retention
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

MEMBERS = int(os.environ.get("AUDIENCE_BENCHMARK_MEMBERS", "10_000_000"))
FEW = MEMBERS // 10
ROUNDS = 3
UNBOUNDED = {"threads": 2}
BOUNDED = {**UNBOUNDED, "memory_limit": "1GB"}
BY_DEFAULT = {**UNBOUNDED, "memory_limit": "192MB"}
Taken = Mapping[str, Any]

MEMBER = """
    md5(CAST(i AS VARCHAR)) AS user_id,
    concat('member', i, '@mail.example') AS email,
    concat('city ', i % 1000) AS city,
    CASE i % 3 WHEN 0 THEN 'free' WHEN 1 THEN 'plus' ELSE 'pro' END AS plan,
    CAST(i % 100000 AS DECIMAL(12, 2)) AS spend,
    DATE '2020-01-01' + CAST(i % 2000 AS INTEGER) AS joined
"""


def main() -> bool:
    """Measure, print, and tell whether the goals are met."""
    with tempfile.TemporaryDirectory(prefix="audience-benchmark-") as home:
        met = [*in_duckdb(Path(home)), *in_postgres()]
    return all(met)


def source() -> Source:
    return Source(
        query="SELECT * FROM members",
        user_id="user_id",
        audience_id="everybody",
        audience_name="Everybody",
        identities={"email": "Email"},
        properties={c: c for c in VALUES if c != "email"},
    )


def sync(warehouse: SqlWarehouse, retention: Retention | None = None) -> Sync:
    return Sync(Ledger(warehouse, "state", "benchmark.diff"), source(), retention=retention)


def open_duckdb(path: str | Path, settings: Mapping[str, Any]) -> SqlWarehouse:
    from airflow_kinesis_audience.core.sql.dialects import DIALECTS
    from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse

    return DuckDbWarehouse(lambda: duckdb.connect(str(path), config=dict(settings)), DIALECTS["duckdb"])


def make_members(warehouse: SqlWarehouse, members: int, numbers: str) -> None:
    """Make the source, publish it on the first day, and change it."""
    hundredth = members // 100
    warehouse.execute(f"CREATE TABLE members AS SELECT {MEMBER} FROM {numbers.format(0, members - 1)}")
    sync(warehouse).run(day(1))
    gone, changed = numbers.format(0, hundredth - 1), numbers.format(hundredth, 2 * hundredth - 1)
    fresh = numbers.format(members, members + hundredth - 1)
    ids = "SELECT md5(CAST(i AS VARCHAR)) FROM"
    warehouse.execute(f"DELETE FROM members WHERE user_id IN ({ids} {gone})")
    warehouse.execute(f"INSERT INTO members SELECT {MEMBER} FROM {fresh}")
    warehouse.execute(f"UPDATE members SET spend = spend + 1 WHERE user_id IN ({ids} {changed})")


def change_some(warehouse: SqlWarehouse, number: int, many: int) -> None:
    """Change so many members in the middle of the table, others each time."""
    first = MEMBERS // 3 + number * many
    ids = f"SELECT md5(CAST(i AS VARCHAR)) FROM generate_series({first}, {first + many - 1}) AS t(i)"
    warehouse.execute(f"UPDATE members SET spend = spend + 1 WHERE user_id IN ({ids})")


def in_duckdb(home: Path) -> Iterator[bool]:
    path, few = home / "members.duckdb", home / "few.duckdb"
    for made, members in ((path, MEMBERS), (few, FEW)):
        with open_duckdb(made, UNBOUNDED) as warehouse:
            make_members(warehouse, members, "generate_series({}, {}) AS t(i)")
    before, after = export(path, home)
    print_head(f"DuckDB, {MEMBERS:,} members")
    found = in_turns(
        home,
        {
            "bare join": ("bare_duckdb", path, UNBOUNDED),
            "ours": ("ours_duckdb", path, UNBOUNDED),
            "ours, 1 GB": ("ours_duckdb", path, BOUNDED),
            "ours, 192 MB (the default)": ("ours_duckdb", path, BY_DEFAULT),
            f"ours, {FEW:,} members": ("ours_duckdb", few, UNBOUNDED),
        },
    )
    pandas = measure("pandas.merge", "pandas_merge", before, after)
    polars = measure("polars", "polars_join", before, after)
    measure("datacompy, polars", "datacompy_polars", before, after)
    with copied(few, home) as table:
        with duckdb.connect(str(table)) as database:
            database.execute(f"CREATE TABLE published AS {published(database)}")
        measure(f"reladiff, {FEW:,} members", "reladiff_duckdb", table)
    ours, bounded, tenth = (found[n] for n in ("ours", "ours, 1 GB", f"ours, {FEW:,} members"))
    yield is_met("times the bare join", ours["seconds"] / found["bare join"]["seconds"], most=1.3)
    yield is_met("CPU, of polars'", ours["cpu"] / polars["cpu"], most=0.5)
    yield is_met("memory, MiB", ours["peak_mib"], most=1_600)
    yield is_met("1 GB: times ours without a limit", bounded["seconds"] / ours["seconds"], most=2.5)
    yield is_met("1 GB: pandas.merge takes, times ours", pandas["seconds"] / bounded["seconds"], least=8.0)
    yield is_met("1 GB: memory, of pandas.merge's", bounded["peak_mib"] / pandas["peak_mib"], most=1 / 3)
    yield is_met("ten times the members: times", ours["seconds"] / tenth["seconds"], most=12)
    yield is_met("bytes written, of the membership's", ours["written"] / path.stat().st_size, most=0.1)
    with copied(path, home) as table:
        runs: list[float] = run_way("many_runs", table, UNBOUNDED)["found"]
    print(f"{len(runs)} runs without a new base: {', '.join(f'{seconds:.1f}' for seconds in runs)} s")
    first, last = statistics.median(runs[:3]), statistics.median(runs[-3:])
    yield is_met(f"after {len(runs) - 1} runs: times the first", last / first, most=1.3)


def in_postgres() -> Iterator[bool]:
    programs = find_programs()
    if programs is None:
        print(f"PostgreSQL was not measured: {HOW_TO_INSTALL}")
        return
    with running_server(programs) as server:
        dsn = server.dsn("members")
        server.execute("CREATE DATABASE members")
        with open_postgres(dsn) as warehouse:
            make_members(warehouse, MEMBERS, "generate_series({}, {}) AS t(i)")
        with psycopg.connect(dsn, autocommit=True) as database:
            database.execute("VACUUM ANALYZE")
        print_head(f"PostgreSQL, {MEMBERS:,} members (the client's CPU and memory)")
        taken: dict[str, list[Taken]] = {"bare join": [], "ours": []}
        for _ in range(ROUNDS):
            for name, way in (("bare join", "bare_postgres"), ("ours", "ours_postgres")):
                server.execute("CREATE DATABASE run TEMPLATE members STRATEGY file_copy")
                taken[name].append(run_way(way, server.dsn("run")))
                server.execute("DROP DATABASE run")
        found = {name: print_line(name, times) for name, times in taken.items()}
    yield is_met("times the bare join", found["ours"]["seconds"] / found["bare join"]["seconds"], most=1.3)


def in_turns(home: Path, ways: Mapping[str, tuple[str, Path, Mapping[str, Any]]]) -> dict[str, Taken]:
    """Run each way some times on fresh copies, in turns, and print the medians."""
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (way, path, settings) in ways.items():
            with copied(path, home) as table:
                taken[name].append(run_way(way, table, settings))
    return {name: print_line(name, times) for name, times in taken.items()}


def measure(name: str, way: str, *arguments: object) -> Taken:
    """Run a peer once, in an environment that has it, and print what it took."""
    return print_line(name, [run_way(way, *arguments, apart=True)])


def run_way(way: str, *arguments: object, apart: bool = False) -> Taken:
    given = [json.dumps(a) if isinstance(a, Mapping) else str(a) for a in arguments]
    root = Path(__file__).parents[2]
    run, variables = [sys.executable, "-m", "tests.benchmarks.diff_ways", way, *given], dict(os.environ)
    if apart:
        run[1:3] = [str(Path(__file__).with_name("diff_ways.py"))]
        variables["PYTHONPATH"] = str(peers())
    done = subprocess.run(run, capture_output=True, text=True, cwd=root, env=variables, check=False)
    if done.returncode:
        raise RuntimeError(f"{way} failed:\n{done.stderr[-3000:]}")
    found: Taken = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def copied(path: Path, home: Path) -> Iterator[Path]:
    """Copy a database for one run."""
    table = home / "run.duckdb"
    shutil.copy(path, table)
    yield table
    table.unlink()


def export(path: Path, home: Path) -> tuple[Path, Path]:
    """Write what was published and what is there now as Parquet, for the peers."""
    before, after = home / "before.parquet", home / "after.parquet"
    with duckdb.connect(str(path), read_only=True) as database:
        database.execute(f"COPY ({published(database)}) TO '{before}'")
        database.execute(f"COPY members TO '{after}'")
    return before, after


def published(database: duckdb.DuckDBPyConnection) -> str:
    """Select what was published, as the source has it."""
    [(base,)] = database.execute("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'base%'").fetchall()
    columns = ", ".join(f"{new_column(c)} AS {c}" for c in VALUES)
    return f"SELECT user_id, {columns} FROM state.\"{base}\" WHERE action = 'member'"


def print_head(title: str) -> None:
    columns = f"{'seconds':>9}{'least':>8}{'most':>8}{'CPU s':>8}{'peak MiB':>10}{'MB written':>12}{'found':>10}"
    print(f"\n{title:64}\n{'':40}{columns}")


def print_line(name: str, times: Sequence[Taken]) -> Taken:
    """Print the median of what a way took, and give it."""
    seconds = [one["seconds"] for one in times]
    figures = ("seconds", "cpu", "peak_mib", "written", "found")
    middle = {n: statistics.median(one[n] for one in times) for n in figures}
    spread = f"{middle['seconds']:>9.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}{middle['cpu']:>8.1f}"
    rest = f"{middle['peak_mib']:>10,.0f}{middle['written'] / 1e6:>12,.1f}{middle['found']:>10,.0f}"
    print(f"{name:40}{spread}{rest}", flush=True)
    return middle


def is_met(sentence: str, measured: float, *, most: float | None = None, least: float | None = None) -> bool:
    """Print how a goal is met, and tell."""
    met = (most is None or measured <= most) and (least is None or measured >= least)
    goal = f"at most {most:.2f}" if most is not None else f"at least {least:.2f}"
    print(f"{sentence}: {measured:.2f}, goal {goal}: {'met' if met else 'NOT met'}", flush=True)
    return met
