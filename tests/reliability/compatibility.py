"""The tests on other versions: the lowest that the package asks for, the newest Python, both pandas.

Each set of versions is installed by uv into an environment of its own, in a directory that is removed in the end,
and a part of the tests runs there: units, both warehouses, the wire, and whole DAGs. What cannot be had
here is said, and is no failure of the package.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("pytest>=9", "pytest-timeout>=2.4", "pytest-xdist>=3.8", "hypothesis>=6.140", "jsonschema>=4.20")
TOLD = (
    "apache-airflow",
    "apache-airflow-providers-amazon",
    "sqlalchemy",
    "pandas",
    "duckdb",
    "pyarrow",
    "sqlglot",
)
TESTS = (
    *("tests/unit", "tests/contract/test_warehouse.py", "tests/contract/test_diff.py"),
    *("tests/contract/test_rejects.py", "tests/contract/test_wire.py", "tests/integration/test_demo.py"),
)
"""The demo is a whole DAG for two weeks, as any Airflow runs it."""
DAGS = ("tests/airflow/test_operators.py",)
"""Tests that drive Airflow as 3.3 is driven."""
LEFT_OUT = ("--ignore=tests/unit/scripts/test_sbom.py",)
"""What is about the locked versions."""

OLD = ("--resolution", "lowest-direct", "--exclude-newer", "2026-02-01")
"""As of a day at which the lowest versions were current, because they do not bound what they need from above."""
NEWER = dict.fromkeys(("sqlglot", "duckdb", "apache-airflow-providers-duckdb", "moto"), "2026-11-20")


@dataclass(frozen=True)
class Versions:
    """A set of versions.

    :param python: major and minor.
    :param arguments: what ``uv pip install`` is told besides the tests' tools.
    """

    name: str
    python: str
    arguments: Sequence[str]
    tests: Sequence[str] = (*TESTS, *DAGS)


EXTRAS = ("demo", "kpl", "postgres", "s3")
"""What these tests use."""
LOWEST = (
    *("--requirement", "pyproject.toml", *(f"--extra={name}" for name in EXTRAS), *OLD),
    *(a for name, day in NEWER.items() for a in ("--exclude-newer-package", f"{name}={day}")),
    # Airflow 3.1.1 imports what later ones of these do not have.
    "structlog<25.5",
    "psycopg2-binary",
)
LOCKED = ("--requirement", "requirements.lock")
SETS = (
    Versions("the lowest that are asked for", "3.11", LOWEST, TESTS),
    Versions("the lowest, with SQLAlchemy 1.4", "3.11", (*LOWEST, "sqlalchemy>=1.4.54,<2"), TESTS),
    Versions("the newest, on Python 3.12", "3.12", LOCKED),
    Versions("the newest, on Python 3.13", "3.13", LOCKED),
    Versions("the newest, with pandas 2", "3.11", ("--override", "{pandas}", *LOCKED)),
)


def find_python(version: str) -> str | None:
    """Find an interpreter that runs: this one, one on PATH, or one that a version manager keeps."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"))
    for found in (sys.executable, shutil.which(f"python{version}"), *map(str, reversed(kept))):
        command = [found or "false", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:
            return found
    return None


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )


def install(versions: Versions, folder: Path) -> str | None:
    """Make the environment; gives why not, if it cannot be made."""
    python = find_python(versions.python)
    if python is None:
        return f"no Python {versions.python} here"
    (folder / "pandas.txt").write_text("pandas<3\n")
    arguments = [a.format(pandas=folder / "pandas.txt") for a in versions.arguments]
    tools = () if "requirements.lock" in arguments else TOOLS
    environment = folder / "environment"
    uv("venv", "--quiet", "--clear", "--python", python, str(environment))
    made = uv("pip", "install", "--quiet", "--python", str(environment), *arguments, *tools)
    if made.returncode:
        lines = [line for line in made.stderr.splitlines() if line.strip()]
        return "; ".join(line.strip() for line in lines[:2])[:400]
    return None


def told_versions(environment: Path) -> str:
    listed = uv("pip", "list", "--python", str(environment)).stdout
    found = dict(re.findall(r"^(\S+)\s+(\S+)$", listed, re.MULTILINE))
    return ", ".join(f"{name} {found[name]}" for name in TOLD if name in found)


def check(versions: Versions) -> bool:
    """Install a set of versions, run the tests, and print what came of it."""
    with tempfile.TemporaryDirectory(prefix="audience-versions-") as name:
        folder, began = Path(name), time.monotonic()
        if why := install(versions, folder):
            print(f"{versions.name}: NOT INSTALLED: {why}", flush=True)
            return True
        python = folder / "environment" / "bin" / "python"
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"]
        command += [*versions.tests, *LEFT_OUT]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        print(f"{versions.name}: Python {versions.python}, {told_versions(folder / 'environment')}")
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        print("\n".join(f"  {line[:200]}" for line in failed[:20]) + "\n" * bool(failed), end="")
        last = next((line for line in reversed(done.stdout.splitlines()) if " in " in line), "no result")
        print(f"  {last.strip(' =')}; {time.monotonic() - began:.0f} s with the installation", flush=True)
        return done.returncode == 0


def main() -> bool:
    """Go through all sets of versions."""
    held = [check(versions) for versions in SETS]
    return all(held)
