"""Writes ``constraints/airflow-X.Y.txt``: versions that were there together, for each minor version of Airflow.

    python scripts/constraints.py            all files
    python scripts/constraints.py 3.1        one of them

An older Airflow with the newest packages of today does not always start, so each file has versions up to a date
some weeks after the last patch of that Airflow. Providers that came later are exempt. It asks the package index by
``uv``, which ``run.py`` installs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "constraints"
UNTIL = {"3.1": "2026-04-15", "3.2": "2026-07-01", "3.3": "2026-11-30"}
"""By minor version, the day up to which packages count."""
LATER = {"apache-airflow-providers-duckdb": "2026-11-30"}
"""Packages whose first version that this package needs is younger."""
EXTRAS = ("duckdb", "postgres", "s3")
_HEADER = """\
# Versions for Airflow {minor}, with the extras {extras}; written by scripts/constraints.py.
# pip install --constraint constraints/airflow-{minor}.txt ".[postgres]"
"""


def main(minors: list[str]) -> int:
    """Write the files of some minor versions; without any, all."""
    if unknown := set(minors) - set(UNTIL):
        print(f"no such version: {', '.join(sorted(unknown))}; expected {', '.join(UNTIL)}", file=sys.stderr)
        return 2
    HOME.mkdir(exist_ok=True)
    for minor in minors or UNTIL:
        header = _HEADER.format(minor=minor, extras=", ".join(EXTRAS))
        (HOME / f"airflow-{minor}.txt").write_text(header + compile_versions(f"{minor}.*", UNTIL[minor]))
    return 0


def compile_versions(airflow: str, until: str) -> str:
    """Find versions that fit together.

    :param airflow: which version of Airflow, for example ``3.1.*``.
    :param until: the day up to which packages count.
    """
    with tempfile.TemporaryDirectory() as folder:
        pin = Path(folder) / "pin.txt"
        pin.write_text(f"apache-airflow=={airflow}\n")
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--universal"]
        command += ["--python-version", "3.11", "--no-annotate", "--no-header", "--quiet", "--no-emit-index-url"]
        command += [f"--extra={extra}" for extra in EXTRAS]
        command += ["--constraint", str(pin), "--exclude-newer", until]
        command += [f"--exclude-newer-package={name}={day}" for name, day in LATER.items()]
        found = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False)  # noqa: S603
    if found.returncode:
        raise SystemExit(f"no versions for Airflow {airflow} until {until}: {found.stderr.strip()}")
    return found.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
