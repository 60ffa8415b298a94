"""Live histories: those of new seeds, the one of a seed that is given, or with mistakes that are built in."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.simulator.files import Files
from tests.simulator.histories import live_many
from tests.simulator.history import live
from tests.simulator.planted import MISTAKES, planted
from tests.simulator.remembering import RememberingDuckDb


def main() -> int:
    """Do as the arguments say; gives the exit code."""
    parser = argparse.ArgumentParser(prog="run.py simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="live this one, and print each of its steps")
    parser.add_argument("--first", type=int, help="the first seed, by default a new one")
    parser.add_argument("--histories", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=300.0, help="of CPU, at most")
    parser.add_argument("--files", action="store_true", help="with the state in files")
    parser.add_argument("--planted", action="store_true", help="after how many each built-in mistake is found")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        return _live(given, Files(Path(directory)) if given.files else RememberingDuckDb())


def _live(given: argparse.Namespace, inner: Any) -> int:
    if given.seed is not None:
        ended = live(given.seed, inner)
        print(*ended.trace, ended.plan, ended.broken or "all promises held", sep="\n")
        return bool(ended.broken)
    bounds = {"first": given.first, "histories": given.histories, "seconds": given.seconds}
    if not given.planted:
        lived = live_many(inner, **bounds)
        print(lived.describe())
        return bool(lived.broken or lived.missed)
    lost = 0
    for mistake in MISTAKES:
        with planted(mistake):
            lived = live_many(inner, **bounds, stop=True)
        found = f"history {lived.histories}: {lived.broken[0].broken[:90]}" if lived.broken else "not found"
        lost += not lived.broken
        print(f"| {mistake} | {found} |", flush=True)
    return lost


if __name__ == "__main__":
    sys.exit(main())
