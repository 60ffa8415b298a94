"""Draw mutants of the engine and run the tests on each: those that no test notices are printed.

A MODULE is one as ``outbox/attempt.py``, or a whole package as ``outbox``; without any, all of changes, outbox,
producer and state are meant.
The same seed draws the same mutants of the same sources.
"""

from __future__ import annotations

import argparse
import collections
import gc
import os
import random
import sys
import tempfile
from pathlib import Path

from airflow_kinesis_audience.demo.local_airflow import point_airflow_to
from tests.mutants.judging import Verdict, choose, judge, load_libraries, read_recorded
from tests.mutants.mutations import PACKAGES, Mutant, draw, modules_of


def main() -> int:
    """Do as the arguments say; gives the exit code, 0 even if mutants survived."""
    every = [module for package in PACKAGES for module in modules_of(package)]
    parser = argparse.ArgumentParser(prog="run.py mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", default=list(PACKAGES))
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="by default a new one")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of tests for each mutant, at most, in CPU time"
    )
    given = parser.parse_args()
    if unknown := sorted(set(given.modules) - {*PACKAGES, *every}):
        parser.error(f"no module {', '.join(unknown)}; there are: {', '.join(every)}")
    modules = [m for m in every if {m, m.partition("/")[0]} & set(given.modules)]
    with tempfile.TemporaryDirectory(prefix="audience-mutants-") as home:
        point_airflow_to(Path(home))
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = home
        return _judge_all(draw(modules, given.count, given.seed), given)


def _judge_all(mutants: list[Mutant], given: argparse.Namespace) -> int:
    drawn_with = f"--seed {given.seed} --count {given.count} --seconds {given.seconds:g}"
    print(f"{len(mutants)} mutants, of {drawn_with}", flush=True)
    load_libraries()
    recorded = read_recorded()
    tallies: dict[str, collections.Counter[Verdict]] = {}
    for mutant in mutants:
        package, tests = mutant.module.partition("/")[0], choose(mutant, recorded, seconds=given.seconds)
        if package not in tallies and judge(mutant, mutant.path.read_text(), tests, recorded) is Verdict.KILLED:
            print(f"tests of {mutant.module} fail without a mutation: nothing can be said", file=sys.stderr)
            return 1
        verdict = judge(mutant, mutant.source, tests, recorded)
        tallies.setdefault(package, collections.Counter())[verdict] += 1
        lines = mutant.diff() if verdict in (Verdict.SURVIVED, Verdict.NOT_COVERED) else []
        print(f"{verdict}: {mutant.module}:{mutant.line}, {mutant.operator}", *lines, sep="\n    ", flush=True)
    gc.unfreeze()
    tallies["all"] = sum(tallies.values(), collections.Counter())
    print("", "| package | mutants | " + " | ".join(Verdict) + " |", sep="\n")
    print("| --- |" + " ---: |" * (1 + len(Verdict)))
    for package, tally in tallies.items():
        print(f"| {package} | {tally.total()} | " + " | ".join(str(tally[verdict]) for verdict in Verdict) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
