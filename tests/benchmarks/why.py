"""How long it takes to say what was sent about one user, after so many runs and with so many members.

``AUDIENCE_WHY_MEMBERS`` and ``AUDIENCE_WHY_RUNS`` set how many.
The first and the second run and their deliveries are the package's own. SQL makes the others of the second one:
its table with its indexes, and its rows of the ledger, each with another name and instant. So all change sets have
the same users, no base comes after the first, and the ledger is not folded. Its bound: a second, of the view for
one user and of ``why`` without the ids of messages.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlglot import exp

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.statements import table, write_table
from airflow_kinesis_audience.history import create_delivered_view, why
from tests.benchmarks.diff import is_met
from tests.benchmarks.long_ledger import Place, unchained
from tests.postgres import HOW_TO_INSTALL, find_programs, running_server
from tests.warehouses import LET_ALL_THROUGH, Stream, day, insert_rows, open_outbox

MEMBERS = int(os.environ.get("AUDIENCE_WHY_MEMBERS", "10000000"))
RUNS = int(os.environ.get("AUDIENCE_WHY_RUNS", "1000"))
CHANGED = 1_000
TIMES, MOST_SECONDS = 5, 1.0
SOURCE = Source(
    query="SELECT * FROM people",
    user_id="uid",
    identities={"email": "Email"},
    properties={"city": "city"},
    audience_id="vips",
    audience_name="VIPs",
)
_ROWS = {
    "DuckDB": f"range({MEMBERS}) AS r(i)",
    "PostgreSQL": f"generate_series(0, {MEMBERS - 1}) AS i",
}


def main() -> bool:
    """Measure, print, and tell whether the bound is kept."""
    print(f"\nWhat was sent about one user: {MEMBERS:,} members, {RUNS:,} runs of {CHANGED:,} changes")
    kept = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audience-benchmark-")))
        server = None if (programs := find_programs()) is None else stack.enter_context(running_server(programs))
        places = [Place("DuckDB", str(home / "why.duckdb"))]
        if server is None:
            print(f"PostgreSQL was not measured: {HOW_TO_INSTALL}")
        else:
            server.execute("CREATE DATABASE why")
            places.append(Place("PostgreSQL", server.dsn("why")))
        for place in places:
            write_runs(place)
            for what, seconds in measure(place).items():
                kept.append(is_met(f"{place.engine}: {what}, seconds", seconds, most=MOST_SECONDS))
    return all(kept)


def write_runs(place: Place) -> None:
    """Run two days, and copy the second one as often as there are to be runs."""
    with place.open() as warehouse:
        values = "'u' || i AS uid, i || '@example.org' AS email, CAST('Bern' AS TEXT) AS city"
        warehouse.execute(f"CREATE TABLE people AS SELECT {values} FROM {_ROWS[place.engine]}")
        for at in range(2):
            if at:
                users = ", ".join(f"'u{n}'" for n in range(0, MEMBERS, max(1, MEMBERS // CHANGED)))
                warehouse.execute(f"UPDATE people SET city = 'Rome' WHERE uid IN ({users})")
            Sync(place.ledger(warehouse), SOURCE, guards=LET_ALL_THROUGH).run(day(at))
            outbox = open_outbox(place.ledger(warehouse), Stream())
            outbox.drain(day(at), on_first_run="baseline" if at == 0 else "enter_all")
        ledger = place.ledger(warehouse)
        recorded = ledger.read().timeline.change_sets[1]
        known = [unchained(r) for r in ledger.rows.read({})]
        of_day = [r for r in known if r.as_of == instant_text(day(1)) and r.event != "attached"]
        numbers = {r.log: max(n.sequence for n in known if n.log == r.log) for r in of_day}
        rows = []
        for at in range(2, RUNS + 1):
            name = recorded.table.replace("20260102", f"x{at:07}")
            write_table(warehouse, table("state", name), exp.select("*").from_(table("state", recorded.table)))
            for row in of_day:
                numbers[row.log] += 1
                detail = row.detail.replace(instant_text(day(0)), instant_text(day(at - 1)))
                rows.append(
                    row._replace(
                        sequence=numbers[row.log],
                        as_of=instant_text(day(at)),
                        token=f"{row.log}-{numbers[row.log]}",
                        detail=detail.replace(recorded.table, name),
                    )
                )
        for start in range(0, len(rows), 500):
            insert_rows(warehouse, "state.ledger", rows[start : start + 500])


def measure(place: Place) -> dict[str, float]:
    """Ask in SQL and in Python, about a user who changed in every run and one who never did; gives seconds."""
    with place.open() as warehouse:
        view = f'state."{create_delivered_view(place.ledger(warehouse))}"'

        def in_sql(user: str) -> int:
            query = f"SELECT * FROM {view} WHERE user_id = {warehouse.placeholder}"
            return len(warehouse.read_rows(query, [user]))

        def in_python(user: str) -> int:
            return len(why(place.ledger(warehouse), user, message_ids=False))

        found = {}
        for name, ask in (("the view", in_sql), ("why", in_python)):
            assert (ask("u0"), ask("nobody")) == (RUNS, 0)
            found[name] = max(_median_seconds(ask, user) for user in ("u0", "nobody"))
        return found


def _median_seconds(ask: Callable[[str], int], user: str) -> float:
    taken, began_cpu = [], time.process_time()
    for _ in range(TIMES):
        began = time.perf_counter()
        ask(user)
        taken.append(time.perf_counter() - began)
    cpu = (time.process_time() - began_cpu) / TIMES
    print(f"  {user}: {min(taken):.2f} to {max(taken):.2f} s, {cpu:.2f} s of CPU in this process", flush=True)
    return statistics.median(taken)
