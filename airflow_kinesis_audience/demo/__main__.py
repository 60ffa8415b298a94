"""Real customers, day by day: purchases in DuckDB, a DAG in Airflow, a stream, and a consumer that is checked.

    python -m airflow_kinesis_audience.demo [--format amplitude_cohort] [--days 21] [--start 1997-09-01]
                                            [--keep DIRECTORY] [--json FILE]

It ends with exit code 0 only if the consumer knows exactly what the warehouse says. All it writes is in one
directory, which is removed again unless it is asked for or something failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from airflow_kinesis_audience.core.exceptions import how_to_install
from airflow_kinesis_audience.demo import cdnow, local_airflow, read_back
from airflow_kinesis_audience.demo.examples import EXAMPLES, Example
from airflow_kinesis_audience.demo.show import Screen, only_screen

_LOG = "airflow.log"
_LOG_TAIL = 12
_RAISED = re.compile(r"\w+(\.\w+)+: ")
"""The last line of a traceback in Airflow's log: an exception of a package, and what it says."""
_NEEDED = {"duckdb": "duckdb", "moto": "moto[s3,server]", "pytz": "pytz"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the command line asks for; ``keep`` and ``json`` may be left out."""

    example: Example
    days: Sequence[date]
    keep: Path | None
    json: Path | None


@dataclass(frozen=True, slots=True)
class Ran:
    """One day's run: what the publishing task returned, and how long the run took."""

    day: date
    summary: Mapping[str, Any]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code.

    :param arguments: by default those of the command line.
    """
    wanted = read_arguments(arguments)
    stop = local_airflow.Stop()
    stop.listen()
    home = make_directory(wanted.keep)
    keep = wanted.keep is not None
    try:
        with only_screen(home / _LOG) as screen:
            equal = run(wanted, home, screen, stop)
    except local_airflow.Stopped:
        return stop.exit_code
    except Exception as failure:
        keep = True
        describe_foreign_error(failure, home / _LOG)
        return 1
    else:
        keep = keep or not equal
        return 0 if equal else 1
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
        elif not wanted.keep:
            print(f"The warehouse and Airflow's log are left in {home}", file=sys.stderr)


def read_arguments(arguments: Sequence[str] | None = None) -> Wanted:
    """Read the command line; ends the program if it asks for what cannot be."""
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Run an example DAG on real purchases, day by day, against a local Kinesis or Firehose.",
    )
    parser.add_argument(
        "--format",
        choices=EXAMPLES,
        default="amplitude_cohort",
        help="wire format (default: amplitude_cohort)",
    )
    parser.add_argument("--days", type=int, default=21, metavar="N", help="number of days (default: 21)")
    parser.add_argument(
        "--start",
        type=read_day,
        default=date(1997, 9, 1),
        metavar="DAY",
        help="first day (default: 1997-09-01)",
    )
    parser.add_argument(
        "--keep",
        "--directory",
        type=Path,
        metavar="DIRECTORY",
        help="keep the warehouse and the log in this directory",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the counts per day and the consumer's members to this file",
    )
    given = parser.parse_args(arguments)
    if given.days < 1:
        parser.error(f"--days is {given.days}; expected 1 or more")
    if not cdnow.FIRST_LAPSE <= given.start <= cdnow.LAST_DAY - timedelta(days=given.days - 1):
        parser.error(
            f"{given.days} days from {given.start} are not within {cdnow.FIRST_LAPSE} to {cdnow.LAST_DAY}, "
            "which the purchases cover; choose another --start or fewer --days"
        )
    if given.keep and given.keep.exists() and (not given.keep.is_dir() or any(given.keep.iterdir())):
        parser.error(f"{given.keep} exists and is not an empty directory; choose a new one")
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}. Install them: {how_to_install('demo')}")
    days = [given.start + timedelta(days=n) for n in range(given.days)]
    return Wanted(example=EXAMPLES[given.format], days=days, keep=given.keep, json=given.json)


def read_day(text: str) -> date:
    """Read a day of the command line."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; expected one such as 1997-09-01") from None


def make_directory(keep: Path | None) -> Path:
    """Make the directory that holds everything the demo writes."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="audience-demo-"))
    keep.mkdir(parents=True, exist_ok=True)
    return keep.resolve()


def run(wanted: Wanted, home: Path, screen: Screen, stop: local_airflow.Stop) -> bool:
    """Run the whole way; true if the consumer ended up with the warehouse's members."""
    warehouse, example = home / "warehouse.duckdb", wanted.example
    screen.title(f"Real customers, day by day, from a warehouse through Airflow to {example.service}")
    with example.open() as opened:
        ready = prepare(home, warehouse, example, opened.connection, screen)
        screen.fact(example.service, f"moto {version('moto')} {opened.describe()}; ready after {ready:.0f} s")
        screen.line()
        runs = local_airflow.DailyRuns(home / "airflow", example.dag_file, stop)
        screen.table_head(events=example.events)
        ran = run_days(wanted.days, runs, screen)
        screen.passing("reading the records from the stream")
        stored = opened.read_all()
    belief = read_back.believe(stored, example.read)
    true = example.true(warehouse, wanted.days)
    verdict = read_back.compare(belief.known, true)
    if stored:
        where, message = example.choose(stored)
        screen.line(f"  {where}")
        screen.message(message)
        screen.line()
    show_summary(ran, screen)
    screen.fact("spread", example.spread(stored))
    show_verdict(belief, len(true), verdict, example, screen)
    if wanted.keep:
        screen.line(f"  Warehouse, state and Airflow's log ({_LOG}) are in {home}")
        screen.line()
    if wanted.json:
        write_json(wanted.json, ran, belief, verdict)
    return verdict.equal


def prepare(home: Path, warehouse: Path, example: Example, connection: Mapping[str, Any], screen: Screen) -> float:
    """Fill the warehouse while Airflow sets up its database; gives the seconds that it took."""
    started = time.monotonic()
    screen.passing("loading the purchases, and setting up Airflow")
    connections = {
        "warehouse": {"conn_type": "duckdb", "host": str(warehouse)},
        "aws_default": connection,
    }
    local_airflow.set_up(home / "airflow", example.dag_file, connections)
    with (home / _LOG).open("ab") as log, local_airflow.migrated(log):
        purchases = cdnow.read_purchases()
        cdnow.write_warehouse(warehouse, purchases)
    customers = len({p.customer_id for p in purchases})
    screen.fact(
        "warehouse", f"DuckDB {version('duckdb')}, {len(purchases):,} purchases of {customers:,} people (CDNOW)"
    )
    screen.fact("sends", example.sends)
    screen.fact("Airflow", f"{version('apache-airflow-core')}, runs dags/{example.dag_file}")
    return time.monotonic() - started


def run_days(days: Sequence[date], runs: local_airflow.DailyRuns, screen: Screen) -> list[Ran]:
    """Run the DAG for each day, a row each."""
    ran = []
    for number, day in enumerate(days, start=1):
        screen.passing(f"{day}  running, {number} of {len(days)}")
        started = time.monotonic()
        summary = runs.run(day)
        ran.append(Ran(day, summary, time.monotonic() - started))
        screen.table_row(day, summary, ran[-1].seconds)
    screen.line()
    return ran


def show_summary(ran: Sequence[Ran], screen: Screen) -> None:
    """Say what was done in all."""
    total = {name: sum(r.summary.get(name, 0) for r in ran) for name in (*_ADDED, "events")}
    seconds = [r.seconds for r in ran]
    later = f", then {sum(seconds[1:]) / len(seconds[1:]):.2f} s each" if len(seconds) > 1 else ""
    screen.fact("runs", f"{len(ran)}; the first took {seconds[0]:.1f} s{later}")
    changes = f"{total['entered']:,} entered, {total['exited']:,} exited, {total['updated']:,} updated"
    sent = f"{total['events']:,} events" if total["events"] else changes
    screen.fact("changes", f"{sent}; {total['delivered']:,} acknowledged, {total['rejected']:,} rejected")
    screen.fact(
        "sent", f"{total['messages']:,} messages in {total['records']:,} records, {total['bytes'] / 1e6:.2f} MB"
    )


def show_verdict(
    belief: read_back.Belief, true: int, verdict: read_back.Verdict, example: Example, screen: Screen
) -> None:
    """Say whether the consumer is right."""
    screen.fact(
        "consumer",
        f"read {belief.messages:,} messages, and applied them in a shuffled order, {belief.again:,} of them twice",
    )
    screen.fact(example.known, f"consumer {len(belief.known):,}, warehouse {true:,}")
    screen.line()
    if verdict.equal:
        screen.verdict("exactly equal", f"all {example.known}, with {example.each}", good=True)
    else:
        screen.verdict(
            "NOT EQUAL",
            f"the consumer lacks {verdict.missing:,} {example.known}, has {verdict.invented:,} unexpected ones, "
            f"and differs in {verdict.stale:,}",
            good=False,
        )
    screen.line()


def write_json(path: Path, ran: Sequence[Ran], belief: read_back.Belief, verdict: read_back.Verdict) -> None:
    """Write what was found for another program to read."""
    counted = ("members", "events", *_ADDED)
    days = [{"as_of": str(r.day), **{n: r.summary[n] for n in counted if n in r.summary}} for r in ran]
    found = {"days": days, "consumer_members": sorted(belief.known), "equal": verdict.equal}
    path.write_text(json.dumps(found, indent=1) + "\n")


def describe_foreign_error(failure: Exception, log: Path) -> None:
    """Say what failed: a run in a sentence and with what the log says, anything else as Python does."""
    if not isinstance(failure, local_airflow.RunFailed):
        traceback.print_exception(failure)
        return
    lines = log.read_text(errors="replace").splitlines()
    raised = [line for line in lines if _RAISED.match(line)][-1:]
    print("", *(raised or lines[-_LOG_TAIL:]), sep="\n", file=sys.stderr)
    print(f"\n{failure}. All of Airflow's log is in {log}", file=sys.stderr)


_ADDED = ("entered", "exited", "updated", "messages", "records", "bytes", "delivered", "omitted", "rejected")
"""Counts of a run that add up over days."""


if __name__ == "__main__":
    sys.exit(main())
