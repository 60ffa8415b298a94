"""``python -m tests.benchmarks guards``: which upstream accidents each rule stops, and how often it stops nothing.

Every audience begins its year without a history. On a day with an accident the broken numbers are judged, and
then, corrected, the right ones; if they were not stopped, they are published, and the next day undoes them. A stop
of a day on which nothing is broken is a false one, also that of a day which undoes an accident; somebody lets it
through, and it teaches. The rules are the product's own; they get counts, as a diff would have counted them.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, defaultdict, deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import fmean, pstdev

import numpy as np

from airflow_kinesis_audience.core.changes.counts import AudienceCounts
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.usual import Usual
from airflow_kinesis_audience.core.state.recorded import CountedRun
from airflow_kinesis_audience.core.state.timeline import GONE_COUNTED, GONE_SHOWN
from tests.benchmarks.worlds import ACCIDENTS, COLUMNS, DAYS, Day, World

AUDIENCES = int(os.environ.get("AUDIENCE_BENCHMARK_AUDIENCES", "1000"))
FIRST_SEED = int(os.environ.get("AUDIENCE_BENCHMARK_SEED", "200000"))
STARTS = datetime(2025, 1, 1, 3, tzinfo=UTC)
QUIET_DAYS, PER_YEAR, LONGEST = 40, 5, 5
MATTERS = 0.05
"""An accident that changes a larger share of an audience, or of a column, is to be stopped."""

UP_TO = " (up to 5%)"
LEAST_STOPPED, MOST_FALSE = 0.99, 1.0


def counted(day: Day) -> AudienceCounts:
    """Give a day as a run counts it."""
    return AudienceCounts(
        audience_id="a",
        source_rows=day.rows,
        invalid_rows=0,
        duplicate_rows=day.dropped,
        previous_members=day.before,
        members=day.members,
        entered=day.entered,
        exited=day.exited,
        updated=day.updated,
        nulls=dict(zip(COLUMNS, day.nulls, strict=True)),
    )


COUNTS = {
    "max_": "a static bound",
    "would be updated": "updates",
    "rows have no": "missing values",
    "would enter": "entries",
    "would exit": "exits",
    "would remain": "members",
    "would be dropped": "dropped rows",
    "no row has changed": "a source that is stale",
}
"""What a sentence of a guard is about, by a mark of it."""


class Learnt:
    """The guards of the product, which learn, or are static where ``usual`` is off."""

    def __init__(self, guards: Guards) -> None:
        self.guards = guards
        self.runs: deque[CountedRun] = deque(maxlen=GONE_COUNTED + GONE_SHOWN)
        self.last: datetime | None = None
        self.why = ""

    def stops(self, at: datetime, day: Day) -> bool:
        known = Usual(runs=[*self.runs], as_of=at) if self.guards.usual else None
        found = self.guards.find_breaches([counted(day)], None, known)
        self.why = next(
            (what for mark, what in COUNTS.items() if found and mark in str(found[0])), "a static bound"
        )
        return bool(found)

    def learn(self, at: datetime, day: Day, *, released: bool = False) -> None:
        if self.last is not None and self.guards.usual:
            counts = counted(day).recorded(learns=True)
            run = CountedRun(as_of=at, since=self.last, total=counts, audiences={"a": counts}, released=released)
            self.runs.append(run)
        self.last = at


class Deviation:
    """What other tools do: the number of records of a run, against the mean and deviation of the 30 before."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.why = "records"
        self.seen: deque[int] = deque(maxlen=30)

    def stops(self, _: datetime, day: Day) -> bool:
        if len(self.seen) < 14:
            return False
        spread = max(pstdev(self.seen), 1.0)
        return abs(day.entered + day.exited + day.updated - fmean(self.seen)) > self.most * spread

    def learn(self, _: datetime, day: Day, *, released: bool = False) -> None:
        self.seen.append(day.entered + day.exited + day.updated)


RULES = {
    "static bounds, the defaults": lambda: Learnt(Guards(on_invalid_rows="drop")),
    "static bounds, 10% exit, 20% change": lambda: Learnt(
        Guards(on_invalid_rows="drop", max_exit_ratio=0.1, max_change_ratio=0.2)
    ),
    "deviation of record count, 3 sigma": lambda: Deviation(3.0),
    "usual=True": lambda: Learnt(Guards(on_invalid_rows="drop", usual=True)),
}


@dataclass
class Result:
    """What a rule did in one year or in many: by accident how many there were and how many it stopped."""

    planted: Counter[str] = field(default_factory=Counter)
    stopped: Counter[str] = field(default_factory=Counter)
    false: int = 0
    false_by: Counter[str] = field(default_factory=Counter)
    worst: int = 0

    def add(self, other: Result) -> None:
        self.planted += other.planted
        self.stopped += other.stopped
        self.false += other.false
        self.false_by += other.false_by
        self.worst = max(self.worst, other.worst)


def plan_accidents(seed: int) -> dict[int, str]:
    """Choose on which days what breaks; by seed the kinds take turns, so that all are as frequent."""
    rng, kinds = np.random.default_rng([seed, 1]), list(ACCIDENTS)
    room = (DAYS - QUIET_DAYS - 10) // PER_YEAR
    days = [QUIET_DAYS + n * room + int(rng.integers(0, room - 15)) for n in range(PER_YEAR)]
    return {day: kinds[(seed * PER_YEAR + n) % len(kinds)] for n, day in enumerate(days)}


def live(seed: int, rule: Learnt | Deviation) -> Result:
    """Let one audience live a year under a rule."""
    result, planned = Result(), plan_accidents(seed)
    undo: Day | None = None
    rng, days = np.random.default_rng([seed, 2]), [*World(seed).days()]
    stale: list[Day] = []
    of_stale = ""
    for number, day in enumerate(days):
        at = STARTS + timedelta(days=number)
        if (kind := planned.get(number)) is not None:
            broken = ACCIDENTS[kind](day, rng)
            share = _withheld(days[number : number + LONGEST]) if broken.day.is_quiet else broken.share
            kind += "" if share > MATTERS else UP_TO
            result.planted[kind] += 1
            if broken.day.is_quiet:
                stale, of_stale = [day], kind
            else:
                if rule.stops(at, broken.day):
                    result.stopped[kind] += 1
                else:
                    rule.learn(at, broken.day)
                    undo = _undo(day, broken.day)
                    continue
        elif stale:
            stale.append(day)
        if stale:
            found = _quiet(stale[0], day)
            stops = rule.stops(at, found)
            result.stopped[of_stale] += stops
            if not stops and len(stale) < LONGEST:
                rule.learn(at, found)
                continue
            day, stale = _since(stale), []
        if undo is not None:
            day, undo = _both(day, undo), None
        stops = rule.stops(at, day)
        result.false += stops
        result.false_by[rule.why] += stops
        result.worst += stops
        rule.learn(at, day, released=stops)
    return result


def _withheld(days: list[Day]) -> float:
    """Give which share of an audience a stale source leaves as it was, if it stays so on these days."""
    return sum(d.entered + d.exited + d.updated for d in days) / max(days[0].before, 1)


def _quiet(first: Day, day: Day) -> Day:
    """Give the day's reading of a source that has the rows of the day before the first one."""
    nulls = tuple(int(n * first.before / max(day.members, 1)) for n in day.nulls)
    return Day(before=first.before, entered=0, exited=0, updated=0, dropped=first.dropped, nulls=nulls)


def _since(days: list[Day]) -> Day:
    """Give what a diff finds after some days on which it found nothing."""
    before, last = days[0].before, days[-1]
    entered, exited = (sum(getattr(d, n) for d in days) for n in ("entered", "exited"))
    updated = min(sum(d.updated for d in days), before - min(exited, before))
    return replace(last, before=before, entered=entered, exited=exited, updated=updated)


def _undo(right: Day, broken: Day) -> Day:
    """Give what the day after has to change besides its own, if the broken one was published."""
    return replace(
        right,
        entered=max(broken.exited - right.exited, 0) + max(right.entered - broken.entered, 0),
        exited=max(broken.entered - right.entered, 0) + max(right.exited - broken.exited, 0),
        updated=max(broken.updated - right.updated, 0),
    )


def _both(day: Day, undo: Day) -> Day:
    entered, exited = day.entered + undo.entered, day.exited + undo.exited
    return replace(
        day,
        before=day.members - entered + exited,
        entered=entered,
        exited=exited,
        updated=min(day.updated + undo.updated, day.before),
    )


def live_all(seeds: list[int]) -> dict[str, Result]:
    """Let audiences live under each rule."""
    found: defaultdict[str, Result] = defaultdict(Result)
    for seed in seeds:
        for name, make in RULES.items():
            found[name].add(live(seed, make()))
    return dict(found)


def main() -> bool:
    """Print both tables; gives whether the learnt guards keep their bounds."""
    began = time.monotonic()
    seeds = [*range(FIRST_SEED, FIRST_SEED + AUDIENCES)]
    print(f"{AUDIENCES:,} audiences, a year of daily runs each; seeds {seeds[0]} to {seeds[-1]}")
    pieces = [seeds[n::40] for n in range(40) if seeds[n::40]]
    found: defaultdict[str, Result] = defaultdict(Result)
    with ProcessPoolExecutor(2) as pool:
        for results in pool.map(live_all, pieces):
            for name, result in results.items():
                found[name].add(result)
    print_by_kind(found)
    print_false(found)
    kept = print_in_total(found)
    print(f"{time.monotonic() - began:.0f} s")
    return kept


def print_by_kind(found: dict[str, Result]) -> None:
    """Print which share of each kind each rule stops, of those that matter."""
    print(f"\n| stopped before a byte leaves | planted | {' | '.join(RULES)} |\n|{' --- |' * (2 + len(RULES))}")
    for kind in ACCIDENTS:
        planted = {name: found[name].planted[kind] for name in RULES}
        shares = [f"{found[n].stopped[kind] / planted[n]:.1%}" if planted[n] else "–" for n in RULES]
        print(f"| {kind} | {max(planted.values())} | {' | '.join(shares)} |")


def print_false(found: dict[str, Result]) -> None:
    """Print by which count each rule stops right days."""
    print(f"\n| false stops per audience-year, by | {' | '.join(RULES)} |\n|{' --- |' * (1 + len(RULES))}")
    for what in dict.fromkeys([*COUNTS.values(), "records"]):
        print(f"| {what} | {' | '.join(f'{found[n].false_by[what] / AUDIENCES:.2f}' for n in RULES)} |")


def print_in_total(found: dict[str, Result]) -> bool:
    """Print what each rule stops of all, and how often it stops nothing."""
    print("\n| rule | stopped of more than 5% | stopped of less | false stops per audience-year | most in one |")
    print("| --- | --- | --- | --- | --- |")
    for name in RULES:
        result = found[name]
        of_all = {}
        for minor in (False, True):
            kinds = [k for k in result.planted if k.endswith(UP_TO) is minor]
            of_all[minor] = sum(result.stopped[k] for k in kinds), sum(result.planted[k] for k in kinds)
        shares = [f"{s / p:.1%} of {p:,}" if p else "–" for s, p in of_all.values()]
        print(f"| {name} | {' | '.join(shares)} | {result.false / AUDIENCES:.2f} | {result.worst} |")
    stopped, planted = of_all[False]
    kept = stopped / planted >= LEAST_STOPPED and result.false / AUDIENCES <= MOST_FALSE
    print(f"\nusual=True: at least 99% stopped and at most 1 false stop: {'kept' if kept else 'missed'}")
    return kept


if __name__ == "__main__":
    sys.exit(not main())
