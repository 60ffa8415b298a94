"""What a run costs whose sync has run often: CPU, wall time, memory, and how many rows of the ledger it reads.

The ledger has real rows: a run's rows are written once by the package, and copied with other instants and names. A
process of its own runs a day and delivers it, several times. Its bound: after 20,000 runs a run costs at most 1.2
times as much as after 100.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlglot import exp

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.names import table_name
from airflow_kinesis_audience.core.sql.statements import table, write_table
from airflow_kinesis_audience.core.state.entries import encode_detail, event_of
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.sync_details import BaseWritten, TablesDropped, TablesRetired
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import BLOCK_ROWS, FileLedgerTable, _encode
from airflow_kinesis_audience.hooks.state import open_files
from tests.benchmarks.diff import is_met
from tests.postgres import HOW_TO_INSTALL, find_programs, running_server
from tests.warehouses import Stream, day, insert_rows, open_duckdb, open_outbox, open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.ledger_rows import Row
    from airflow_kinesis_audience.core.state.timeline import Timeline
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

RUNS, TIMES, KEPT = (100, 1_000, 20_000), 7, 90
MOST_TIMES = 1.2
MEMBERS = 1_000
SOURCE = Source(
    query="SELECT * FROM people",
    user_id="uid",
    identities={"email": "Email"},
    properties={},
    audience_id="vips",
    audience_name="VIPs",
)


class Place(NamedTuple):
    """Where a state is: an engine, the address of its database, and a directory if the state is files."""

    engine: str
    address: str
    files: str = ""

    def open(self) -> SqlWarehouse:
        opened = open_postgres(self.address) if self.engine == "PostgreSQL" else open_duckdb(Path(self.address))
        return DuckDbParquetWarehouse(open_files(self.files), opened) if self.files else opened

    def ledger(self, warehouse: SqlWarehouse) -> Ledger:
        rows = FileLedgerTable(open_files(self.files), "state", "dag.diff") if self.files else None
        return Ledger(warehouse, "state", "dag.diff", rows)


class Cost(NamedTuple):
    """What a run costs: seconds, MiB at the peak, rows of the ledger that its first look reads."""

    cpu: float
    wall: float
    peak: float
    rows: int


def main() -> bool:
    """Measure, print, and tell whether the bound is kept."""
    print(f"\nA run and its delivery after so many daily runs, medians of {TIMES}, and one that reads all rows")
    print(f"{'':12}{'runs':>8}{'CPU s':>9}{'wall s':>9}{'peak MiB':>10}{'rows read':>11}{'all rows: CPU s':>17}")
    kept = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audience-benchmark-")))
        server = None if (programs := find_programs()) is None else stack.enter_context(running_server(programs))
        if server is None:
            print(f"PostgreSQL was not measured: {HOW_TO_INSTALL}")
        for engine in ("DuckDB", "files", *(["PostgreSQL"] if server else [])):
            found = {}
            for runs in RUNS:
                address = str(home / f"{engine}-{runs}.duckdb")
                if engine == "PostgreSQL":
                    assert server is not None
                    server.execute(f"CREATE DATABASE runs_{runs}")
                    address = server.dsn(f"runs_{runs}")
                place = Place(engine, address, str(home / f"files-{runs}") if engine == "files" else "")
                write_runs(place, runs)
                [whole] = in_process(place, runs, 1)
                costs = in_process(place, runs + 1, TIMES)
                found[runs] = Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))
                print(
                    f"{engine:12}{runs:>8,}{found[runs].cpu:>9.3f}{found[runs].wall:>9.3f}{found[runs].peak:>10.0f}"
                    f"{found[runs].rows:>11,.0f}{whole.cpu:>17.3f}",
                    flush=True,
                )
            times = found[RUNS[-1]].cpu / found[RUNS[0]].cpu
            kept.append(
                is_met(f"{engine}: CPU after {RUNS[-1]:,} runs, in that after {RUNS[0]}", times, most=MOST_TIMES)
            )
    return all(kept)


def in_process(place: Place, number: int, times: int) -> list[Cost]:
    """Run days in a process of their own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run_days, (place, number, times))


def run_days(place: Place, number: int, times: int) -> list[Cost]:
    """Run days and deliver each."""
    costs = []
    for at in range(number + 1, number + 1 + times):
        cpu, wall = time.process_time(), time.perf_counter()
        with place.open() as warehouse:
            rows = run(place, warehouse, at)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        costs.append(Cost(time.process_time() - cpu, time.perf_counter() - wall, peak, rows))
    return costs


def run(place: Place, warehouse: SqlWarehouse, at: int) -> int:
    """Run a day and deliver it; gives how many rows of the ledger the run has read first."""
    ledger = place.ledger(warehouse)
    Sync(ledger, SOURCE).run(day(at))
    open_outbox(place.ledger(warehouse), Stream()).drain(day(at), on_first_run="baseline")
    return len(ledger._unfolded)


def write_runs(place: Place, runs: int) -> None:
    """Run two days, and write the rows of as many more as there are to be."""
    with place.open() as warehouse:
        warehouse.origin.execute("CREATE TABLE people (uid TEXT, email TEXT)")
        insert_rows(warehouse.origin, "people", [(f"u{n}", f"{n}@example.org") for n in range(MEMBERS)])
        for at in range(2):
            run(place, warehouse, at)
        ledger = place.ledger(warehouse)
        timeline = ledger.read().timeline
        rows = list(
            copy_rows([r for r in ledger.rows.read({}) if r.event not in ("first", "attached")], runs, timeline)
        )
        base = table_name("base", "dag.diff", day(runs), "000000")
        number = max(r.sequence for r in rows if not r.log)
        last = timeline.change_sets[1].table
        for name, origin in ((base, timeline.bases[0].table), (last.replace("20260102", f"x{runs:07}"), last)):
            write_table(warehouse, table("state", name), exp.select("*").from_(table("state", origin)))
        detail = encode_detail(BaseWritten(table=base))
        written = rows[-1]._replace(
            log="", sequence=number + 1, event="base", detail=detail, as_of=instant_text(day(runs)), token="base"
        )
        write_rows(place, warehouse, [*rows, written])


def copy_rows(known: list[Row], runs: int, timeline: Timeline) -> Iterator[Row]:
    """Copy the rows of the second day to each day after it, and let old change sets go."""
    numbers = {log: max(r.sequence for r in known if r.log == log) for log in {r.log for r in known}}
    of_day = [unchained(r) for r in known if r.as_of == instant_text(day(1))]
    started = next(r for r in of_day if not r.log)
    first = json.loads(started.detail)["table"]

    def next_row(row: Row, at: int, **changed: str) -> Row:
        numbers[row.log] += 1
        as_of = instant_text(day(at))
        return row._replace(
            sequence=numbers[row.log], as_of=as_of, token=f"{row.log}-{numbers[row.log]}", **changed
        )

    for at in range(2, runs + 1):
        for row in of_day:
            detail = row.detail.replace(instant_text(day(0)), instant_text(day(at - 1)))
            yield next_row(row, at, detail=detail.replace("20260102", f"x{at:07}"))
        if at > KEPT + 2:
            gone = first.replace("20260102", f"x{at - KEPT:07}")
            tables = (gone, first, first.replace("20260102", "x0000002"), timeline.bases[0].table)
            for event in (TablesRetired(tables=tables), TablesDropped(tables=tables)):
                yield next_row(started, at, event=event_of(event).value, detail=encode_detail(event))


def unchained(row: Row) -> Row:
    """Leave out of a row the digest of the one before it, which a copy does not follow."""
    detail = json.loads(row.detail)
    detail.pop("before", None)
    return row._replace(detail=json.dumps(detail))


def write_rows(place: Place, warehouse: SqlWarehouse, rows: list[Row]) -> None:
    """Write rows as they are kept, many at once."""
    if not place.files:
        for start in range(0, len(rows), 500):
            insert_rows(warehouse, "state.ledger", rows[start : start + 500])
        return
    kept = FileLedgerTable(open_files(place.files), "state", "dag.diff")
    blocks: dict[Path, list[Row]] = {}
    for row in rows:
        name = Path(place.files) / kept._name(row.log or "sync", row.sequence)
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(_encode([row]))
        blocks.setdefault(name.parent, []).append(row)
    for path, block in blocks.items():
        if len(block) == BLOCK_ROWS:
            path.with_suffix(".json").write_bytes(_encode(block))
