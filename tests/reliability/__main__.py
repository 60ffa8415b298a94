"""``python -m tests.reliability [NAME ...]``: the long runs, of which the tests have a short version.

Each prints what it did and whether every promise held; the exit code is 1 if one did not. They take minutes.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

from airflow_kinesis_audience.demo.local_airflow import point_airflow_to

RUNS = {
    "crashes": "tests.reliability.crashing",
    "soak": "tests.reliability.soak",
    "load": "tests.reliability.load",
    "compatibility": "tests.reliability.compatibility",
}


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in RUNS]:
        print(f"no run {', '.join(unknown)}; there are: {', '.join(RUNS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="audience-reliability-") as home:
        point_airflow_to(Path(home))
        held = [importlib.import_module(RUNS[name]).main() for name in names or RUNS]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
