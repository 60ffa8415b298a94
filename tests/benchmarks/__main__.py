"""``python -m tests.benchmarks [NAME ...]``: run benchmarks, all of them without a name.

Each prints a table and, where there is a bound, says whether it is kept; the exit code is 1 if one is not. They
are no tests: they take minutes, and pytest does not collect them.
"""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = {
    "diff": "tests.benchmarks.diff",
    "delivery": "tests.benchmarks.delivery",
    "guards": "tests.benchmarks.guards",
    "large": "tests.benchmarks.large",
    "ledger": "tests.benchmarks.ledger",
    "memory": "tests.benchmarks.memory",
    "small": "tests.benchmarks.small",
    "spark": "tests.benchmarks.spark",
    "stages": "tests.benchmarks.stages",
    "throttling": "tests.benchmarks.throttling",
    "why": "tests.benchmarks.why",
}


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    kept = [importlib.import_module(BENCHMARKS[name]).main() for name in names or BENCHMARKS]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
