"""Where the time of a whole run goes: ten million members, three in a hundred changed, from table to stream.

Each stage runs in a process of its own on the same change set: the diff; reading its rows in slices; reading and
rendering them to packed records; and all of it, delivered to an endpoint in another process that answers at once.
What a stage adds is the difference to the one before. Beside each stage stands what it could be compared with.

``AUDIENCE_BENCHMARK_MEMBERS`` sets another number of members.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.demo.local_airflow import point_airflow_to
from tests.benchmarks.delivery import endpoint, point_clients_to
from tests.benchmarks.diff import (
    MEMBERS,
    ROUNDS,
    UNBOUNDED,
    is_met,
    make_members,
    open_duckdb,
    print_head,
    print_line,
    run_way,
    sync,
)
from tests.postgres import HOW_TO_INSTALL, find_programs, running_server
from tests.warehouses import day, open_postgres

if TYPE_CHECKING:
    from tests.benchmarks.diff import Taken

DUCKDB_READS = {"ours, as Arrow tables": "read_slices", "one Arrow stream": "duckdb_stream"}
POSTGRES_READS = {
    "ours, as Arrow tables": "read_slices",
    "psycopg's stream, as Arrow": "psycopg_stream_as_arrow",
    "psycopg's stream, bare tuples": "psycopg_stream",
    "named cursor, tuples": "named_cursor",
    "get_df_by_chunks, frames": "frames_by_chunks",
}
RENDERS = {
    "ours, packed records": "render_slices",
    "orjson per user, not packed": "orjson_per_user",
    "pandas to_dict + json, not packed": "pandas_to_dict",
}


def main() -> bool:
    """Measure, print, and return whether the goals are met."""
    with tempfile.TemporaryDirectory(prefix="audience-benchmark-") as home:
        point_airflow_to(Path(home))
        met = [*in_duckdb(Path(home) / "members.duckdb"), *in_postgres()]
    return all(met)


def in_duckdb(path: Path) -> Iterator[bool]:
    with open_duckdb(path, UNBOUNDED) as warehouse:
        make_members(warehouse, MEMBERS, "generate_series({}, {}) AS t(i)")
    where = f"duckdb:{path}"
    print_head(f"A whole run, DuckDB, {MEMBERS:,} members")
    print_line("diff", [run_way("diff_stage", where)])
    stages = in_turns({"+ read": "read_slices", "+ render and pack": "render_slices"}, where)
    with endpoint(0.0) as url:
        point_clients_to(url)
        deliver, loop = [], []
        for n in range(ROUNDS):  # in turns
            deliver.append(run_way("publish_stage", where, n))
            loop.append(run_way("operator_and_loop", where, n))
    print_line("+ deliver (all of a publish)", deliver)
    print_line("SQLExecuteQueryOperator + boto3", loop)
    changes = stages["+ read"]["found"]
    print_head("Reading the change rows, DuckDB")
    in_turns(DUCKDB_READS, where)
    print_head("Rendering Amplitude messages, one core (reading is in the seconds)")
    rendered = in_turns(RENDERS, where)
    alone = rendered["ours, packed records"]["seconds"] - stages["+ read"]["seconds"]
    yield is_met("from table to packed records, million users/s", changes / alone / 1e6, least=1.0)
    more = rendered["ours, packed records"]["peak_mib"] - rendered["ours, packed records"]["base_mib"]
    yield is_met("MiB that reading and rendering add", more, most=150)


def in_postgres() -> Iterator[bool]:
    programs = find_programs()
    if programs is None:
        print(f"PostgreSQL was not measured: {HOW_TO_INSTALL}")
        return
    with running_server(programs) as server:
        where = server.dsn()
        with open_postgres(where) as warehouse:
            make_members(warehouse, MEMBERS, "generate_series({}, {}) AS t(i)")
            sync(warehouse).run(day(2))
        print_head("Reading the change rows, PostgreSQL")
        found = in_turns(POSTGRES_READS, where)
        speed = found["psycopg's stream, as Arrow"]["seconds"] / found["ours, as Arrow tables"]["seconds"]
        yield is_met("speed, of psycopg's stream into Arrow tables", speed, least=1.5)
        print_head("One delivery by several tasks (mParticle, 20 ms away), PostgreSQL")
        with endpoint(0.02) as url:
            point_clients_to(url)
            for parts in (1, 2):
                print_line(f"{parts} tasks", [publish_in_parts(where, parts, n) for n in range(ROUNDS)])


def publish_in_parts(where: str, parts: int, attempt: int) -> Taken:
    """Deliver once by several tasks at the same time, each in a process of its own; the slowest one counts."""
    with ThreadPoolExecutor(parts) as pool:
        name = f"shared-{parts}-{attempt}"
        tasks = list(pool.map(lambda n: run_way("publish_part", where, parts, n, name), range(parts)))
    sums = {figure: sum(task[figure] for task in tasks) for figure in ("cpu", "peak_mib", "written", "found")}
    return {"seconds": max(task["seconds"] for task in tasks), **sums}


def in_turns(ways: dict[str, str], where: str) -> dict[str, Taken]:
    """Run each way some times, in turns, and print the medians."""
    taken: dict[str, list[Any]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            taken[name].append(run_way(way, where))
    found = {name: dict(print_line(name, times)) for name, times in taken.items()}
    for name, times in taken.items():
        found[name]["base_mib"] = statistics.median(one["base_mib"] for one in times)
    return found
