"""A whole diff on Spark: how long it takes, in which stages, what goes between them, and what of it cannot grow.

Ten million members as in ``diff.py``, on a local Spark of two cores; one in a hundred enters, exits and changes.
The figures are Spark's own, out of its event log. A stage of many tasks gets as much faster as there are cores,
but never faster than its longest task, so that is what counts on a cluster.

``AUDIENCE_BENCHMARK_MEMBERS`` sets another number of members.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_kinesis_audience.core.changes.replay import select_entries
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.sql.statements import table, write_table
from airflow_kinesis_audience.core.state.ledger import Ledger
from tests.benchmarks.diff import source
from tests.engines.spark import HOW_TO_INSTALL, Server, find_java, install, running_server
from tests.warehouses import day

MEMBERS = int(os.environ.get("AUDIENCE_BENCHMARK_MEMBERS", "10_000_000"))
MEMORY = "4g"
SIGNATURES = {"columns compared": None, "signatures": "XXHASH64"}
METRICS = {
    "read": "internal.metrics.input.bytesRead",
    "shuffled": "internal.metrics.shuffle.write.bytesWritten",
    "spilled": "internal.metrics.diskBytesSpilled",
    "written": "internal.metrics.output.bytesWritten",
}

MEMBER = """
    md5(CAST(i AS STRING)) AS user_id,
    concat('member', i, '@mail.example') AS email,
    concat('city ', i % 1000) AS city,
    CASE i % 3 WHEN 0 THEN 'free' WHEN 1 THEN 'plus' ELSE 'pro' END AS plan,
    CAST(i % 100000 + {more} AS DECIMAL(12, 2)) AS spend,
    date_add(DATE '2020-01-01', CAST(i % 2000 AS INT)) AS joined
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage, as Spark tells of it.

    :param seconds: of its tasks, added up; ``longest`` is its longest one's: no number of cores makes it shorter.
    :param megabytes: what its tasks read, shuffled, spilled and wrote.
    """

    number: int
    tasks: int
    seconds: float
    longest: float
    megabytes: Mapping[str, float]


def main() -> bool:
    """Measure and print; there is no bound."""
    java = find_java()
    if java is None:
        print(f"Spark was not measured: {HOW_TO_INSTALL}")
        return True
    with tempfile.TemporaryDirectory(prefix="audience-benchmark-") as home:
        settings = {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": f"file:{home}",
            "spark.eventLog.compress": "false",
            "spark.eventLog.rolling.enabled": "false",
        }
        with running_server(java, install(), memory=MEMORY, settings=settings) as server:
            measure(server, Path(home))
    return True


def measure(server: Server, home: Path) -> None:
    print(f"Spark, {MEMBERS:,} members, 2 cores, {MEMORY} of memory")
    make_members(server)
    for name, signature in SIGNATURES.items():
        state = re.sub(r"\W", "_", name)
        point_to(server, "members_before")
        first = run(server, state, 1, signature)
        point_to(server, "members_after")
        begun, before = time.monotonic(), newest_statement(home)
        summary = run(server, state, 2, signature)
        seconds = time.monotonic() - begun
        found = "".join(f", {summary[n]:,} {n}" for n in ("entered", "exited", "updated"))
        print(f"\n{name}: first run {first['seconds']:.1f} s, next run {seconds:.1f} s{found}")
        [written] = [s for s in statements(home) if s["number"] > before and "CREATE TABLE" in s["sql"]]
        print_stages(written["stages"])
        print_plan(written["plan"])
    begun, before = time.monotonic(), newest_statement(home)
    snapshot(server, state, signature)
    print(f"\neverybody told anew: the snapshot written in {time.monotonic() - begun:.1f} s")
    [written] = [s for s in statements(home) if s["number"] > before and "CREATE TABLE" in s["sql"]]
    print_stages(written["stages"])


def make_members(server: Server) -> None:
    """Make the source as it is before and after."""
    hundredth = MEMBERS // 100
    same = MEMBER.format(more=0)
    more = MEMBER.format(more=f"CAST(i < {2 * hundredth} AS INT)")
    with server.open() as warehouse:
        warehouse.execute(
            f"CREATE TABLE members_before AS SELECT {same} FROM (SELECT id AS i FROM range({MEMBERS}))"
        )
        numbers = f"SELECT id AS i FROM range({hundredth}, {MEMBERS + hundredth})"
        warehouse.execute(f"CREATE TABLE members_after AS SELECT {more} FROM ({numbers})")


def point_to(server: Server, name: str) -> None:
    with server.open() as warehouse:
        warehouse.execute(f"CREATE OR REPLACE VIEW members AS SELECT * FROM {name}")


def run(server: Server, state: str, number: int, signature: str | None) -> dict[str, Any]:
    begun = time.monotonic()
    with server.open() as warehouse:
        functions = replace(warehouse.dialect.functions, signature=signature)
        warehouse.dialect = replace(warehouse.dialect, functions=functions)
        found = Sync(Ledger(warehouse, state, "benchmark.diff"), source()).run(day(number))
    return {**found, "seconds": time.monotonic() - begun}


def snapshot(server: Server, state: str, signature: str | None) -> None:
    """Write what a destination gets that knows nobody."""
    with server.open() as warehouse:
        functions = replace(warehouse.dialect.functions, signature=signature)
        warehouse.dialect = replace(warehouse.dialect, functions=functions)
        timeline = Ledger(warehouse, state, "benchmark.diff").read().timeline
        write_table(warehouse, table(state, "snapshot"), select_entries(timeline.tables(state, day(2))))


def statements(home: Path) -> Iterator[dict[str, Any]]:
    """Read the statements that ended, with their stages and the plan that was run in the end."""
    found: dict[int, dict[str, Any]] = {}
    stages: dict[int, int] = {}
    longest: dict[int, float] = {}
    for event in events(home):
        kind = event["Event"].rpartition(".")[2]
        if kind == "SparkListenerSQLExecutionStart":
            number = event["executionId"]
            found[number] = {"number": number, "sql": event["description"], "plan": "", "stages": []}
            found[number]["plan"] = event["physicalPlanDescription"]
        elif kind == "SparkListenerSQLAdaptiveExecutionUpdate":
            found[event["executionId"]]["plan"] = event["physicalPlanDescription"]
        elif kind == "SparkListenerJobStart":
            number = event.get("Properties", {}).get("spark.sql.execution.id")
            stages |= {s: int(number) for s in event["Stage IDs"] if number is not None}
        elif kind == "SparkListenerTaskEnd":
            took = event.get("Task Metrics", {}).get("Executor Run Time", 0) / 1000
            longest[event["Stage ID"]] = max(took, longest.get(event["Stage ID"], 0.0))
        elif kind == "SparkListenerStageCompleted":
            stage = stage_of(event["Stage Info"], longest)
            if stage.number in stages:
                found[stages[stage.number]]["stages"].append(stage)
    yield from (s for s in found.values() if s["stages"])


def stage_of(told: Mapping[str, Any], longest: Mapping[int, float]) -> Stage:
    metrics = {a["Name"]: a["Value"] for a in told["Accumulables"]}
    return Stage(
        number=told["Stage ID"],
        tasks=told["Number of Tasks"],
        seconds=int(metrics.get("internal.metrics.executorRunTime", 0)) / 1000,
        longest=longest.get(told["Stage ID"], 0.0),
        megabytes={n: int(metrics.get(m, 0)) / 1e6 for n, m in METRICS.items()},
    )


def events(home: Path) -> Iterator[dict[str, Any]]:
    [log] = [p for p in home.iterdir() if not p.name.startswith(".")]
    for line in log.read_text().splitlines():
        if line.endswith("}"):  # not one that is being written
            yield json.loads(line)


def newest_statement(home: Path) -> int:
    return max((s["number"] for s in statements(home)), default=-1)


def print_stages(stages: Sequence[Stage]) -> None:
    print(f"{'stage':>7}{'tasks':>7}{'task s':>9}{'longest':>9}" + "".join(f"{n + ' MB':>13}" for n in METRICS))
    for s in stages:
        figures = "".join(f"{s.megabytes[n]:>13,.1f}" for n in METRICS)
        print(f"{s.number:>7}{s.tasks:>7}{s.seconds:>9.1f}{s.longest:>9.1f}{figures}")
    whole = sum(s.seconds for s in stages)
    least, moved = sum(s.longest for s in stages), sum(s.megabytes["shuffled"] for s in stages)
    print(f"tasks {whole:.1f} s, at least {least:.1f} s on any number of cores; shuffled {moved:,.0f} MB")


def print_plan(plan: str) -> None:
    """Print the tree of the plan, without what each node does."""
    tree = plan.partition("\n\n")[0] if "Final Plan" not in plan else plan.partition("Initial Plan")[0]
    for line in tree.splitlines():
        if re.search(r"Exchange|Join|Window|Scan|Union|Aggregate|Sort ", line):
            print("  " + re.sub(r"\s+$", "", line)[:110])


if __name__ == "__main__":
    main()
