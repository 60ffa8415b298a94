"""The layout is a rule: every room imports from the rooms above it, and the core knows neither Airflow nor AWS.

The checks read the source and run nothing. Each takes sources rather than the package, so that the lower half of
this file can show that it fails on a bad one.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_kinesis_audience"

CORE = (
    "exceptions",
    "columns",
    "audience",
    "profile",
    "events",
    "dialects",
    "kinds",
    "sql",
    "layout",
    "event_layout",
    "identity",
    "membership",
    "staging",
    "source",
    "comparing",
    "diff",
    "extent",
    "retelling",
    "guards",
    "ledger_rows",
    "ledger_folding",
    "ledger",
    "counting",
    "timeline",
    "standing",
    "baseline",
    "recording",
    "upkeep",
    "sync",
    "overview",
    "planning",
    "release",
    "slices",
    "profiling",
    "event_rows",
    "messages",
    "feeds",
    "settled",
    "oversize",
    "formats",
    "transforming",
    "aggregation",
    "retries",
    "pacing",
    "window",
    "tally",
    "delivery",
    "terms",
    "sending",
    "delivery_log",
    "snapshot",
    "rejects",
    "outbox",
    "forwarding",
    "resync",
    "deletion",
    "reading",
    "consumer",
    "schemas",
    "history",
)
DOORS = ("hooks", "operators", "notifications", "ui", "demo", "cli", "__main__")
ORDER = ("__init__", "provider_info", *CORE, *DOORS)

NEVER_IN_CORE = {"airflow", "boto3", "botocore"}
NOT_WHEN_CORE_LOADS = {"pandas"}
NO_NAMES = {"utils", "util", "common", "base", "helpers", "helper", "managers", "manager"}
MOST_LINES = 300

# put together here, or this file would be the first to break the rule
REGISTRIES = tuple(
    ".".join(parts) for parts in (("pypi", "org"), ("files", "pythonhosted", "org"), ("npmjs", "org"))
)
MACHINE_PATHS = tuple(f"/{name}/" for name in ("work", "root"))
PRIVATE = re.compile(
    "|".join([*map(re.escape, REGISTRIES), *(rf"(?<![\w.}}]){re.escape(p)}" for p in MACHINE_PATHS)])
)


def room_of(path: str) -> str:
    """Return the room of a file, given its path inside the package."""
    return path.split("/")[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Give line and dotted name of everything that is imported, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def run_on_import(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements that run when the file is imported: not functions' bodies, nor what only types see."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield statement
        only_types = isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)
        parts = ("orelse",) if only_types else ("body", "orelse", "finalbody")
        for part in parts:
            yield from run_on_import(getattr(statement, part, []))
        for handler in getattr(statement, "handlers", []):
            yield from run_on_import(handler.body)


def imported_on_import(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give line and dotted name of what is imported when the file is."""
    for statement in run_on_import(tree.body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from imported(statement)


def broken_order(sources: Mapping[str, str]) -> list[str]:
    """Find imports from the same level or below, and rooms that have no place in the order."""
    found = []
    for path, source in sources.items():
        room = room_of(path)
        if room not in ORDER:
            found.append(f"{path}: room {room} has no place in ORDER")
            continue
        for line, name in imported(ast.parse(source)):
            parts = name.split(".")
            if parts[0] == "":
                found.append(f"{path}:{line}: relative import; write the whole name")
            elif parts[0] == PACKAGE:
                other = parts[1] if len(parts) > 1 and parts[1] in ORDER else "__init__"
                if other != room and ORDER.index(other) > ORDER.index(room):
                    found.append(f"{path}:{line}: {room} imports {other}, which stands below it")
    return found


def impure_core(sources: Mapping[str, str]) -> list[str]:
    """Find core files that know Airflow or AWS, or load pandas when they are imported."""
    found = []
    for path, source in sources.items():
        if room_of(path) not in CORE:
            continue
        tree = ast.parse(source)
        names = {
            *((line, name) for line, name in imported(tree) if name.split(".")[0] in NEVER_IN_CORE),
            *(
                (line, name)
                for line, name in imported_on_import(tree)
                if name.split(".")[0] in NOT_WHEN_CORE_LOADS
            ),
        }
        found += [f"{path}:{line}: the core imports {name}" for line, name in sorted(names)]
    return found


def bad_files(sources: Mapping[str, str]) -> list[str]:
    """Find files named after nothing, without a docstring, or longer than one room."""
    found = []
    for path, source in sources.items():
        if NO_NAMES & set(path.removesuffix(".py").split("/")):
            found.append(f"{path}: the name says nothing; name what it is for")
        if not ast.get_docstring(ast.parse(source)):
            found.append(f"{path}: opens without a docstring")
        if (lines := len(source.splitlines())) > MOST_LINES:
            found.append(f"{path}: {lines} lines; more than {MOST_LINES} are two rooms")
    return found


def private_words(texts: Mapping[str, str]) -> list[str]:
    """Find hosts of package registries and paths of somebody's machine."""
    return [
        f"{path}:{number}: {match[0]}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := PRIVATE.search(line))
    ]


def package_sources() -> dict[str, str]:
    folder = ROOT / PACKAGE
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.py"))}


def repository_texts() -> dict[str, str]:
    """Read every text file that is in the repository, or would be with the next commit."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git repository: which files belong to it is not known")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {}
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content[:8192]:
            texts[name] = content.decode(errors="replace")
    return texts


def test_every_room_imports_only_from_rooms_above_it() -> None:
    assert broken_order(package_sources()) == []


def test_the_core_knows_neither_airflow_nor_aws() -> None:
    assert impure_core(package_sources()) == []


def test_every_file_is_named_and_opens_with_what_it_is_for_and_is_one_room() -> None:
    assert bad_files(package_sources()) == []


def test_the_package_itself_imports_nothing() -> None:
    assert list(imported(ast.parse(package_sources()["__init__.py"]))) == []


def test_no_file_names_a_package_registry_or_a_machine() -> None:
    texts = repository_texts()
    assert "pyproject.toml" in texts
    assert private_words(texts) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("audience.py", f"from {PACKAGE}.delivery import deliver"),
        ("diff.py", f"import {PACKAGE}.ledger"),
        ("messages.py", f"from {PACKAGE} import formats"),
        ("formats/amplitude.py", f"def render():\n    from {PACKAGE}.delivery import deliver"),
        ("formats/amplitude.py", "from . import mparticle"),
        ("sidedoor.py", ""),
    ],
)
def test_an_import_from_below_is_found(path: str, source: str) -> None:
    assert len(broken_order({path: source})) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("delivery.py", f"from {PACKAGE}.messages import Record"),
        ("formats/amplitude.py", f"from {PACKAGE}.formats.encoding import render_json"),
        ("operators/diff.py", f"from {PACKAGE} import __version__"),
        ("audience.py", "import airflow_kinesis_audience_of_somebody_else"),
    ],
)
def test_an_import_from_above_or_of_the_own_room_is_fine(path: str, source: str) -> None:
    assert broken_order({path: source}) == []


@pytest.mark.parametrize(
    "source",
    [
        "import boto3",
        "from botocore.exceptions import ClientError",
        "def late():\n    from airflow.sdk import ObjectStoragePath",
        "import pandas as pd",
        "try:\n    import pandas\nexcept ImportError:\n    pandas = None",
        "class Frame:\n    from pandas import DataFrame",
    ],
)
def test_a_core_file_that_knows_too_much_is_found(source: str) -> None:
    assert len(impure_core({"delivery.py": source})) == 1
    assert impure_core({"hooks/kinesis.py": source}) == []


@pytest.mark.parametrize(
    "source",
    [
        "def frame():\n    import pandas",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas as pd",
        "import pandas_of_somebody_else",
    ],
)
def test_a_core_file_may_load_pandas_when_it_is_asked_to(source: str) -> None:
    assert impure_core({"consumer.py": source}) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("formats/utils.py", '"""Doc."""'),
        ("base/thing.py", '"""Doc."""'),
        ("diff.py", "# a comment is no docstring"),
        ("diff.py", '"""Doc."""\n' + "pass\n" * MOST_LINES),
    ],
)
def test_a_file_that_is_not_one_named_room_is_found(path: str, source: str) -> None:
    assert len(bad_files({path: source})) == 1


@pytest.mark.parametrize("word", [*REGISTRIES, *MACHINE_PATHS])
def test_a_private_word_is_found(word: str) -> None:
    assert private_words({"README.md": f"one\nsee {word}x\n"}) == [f"README.md:2: {word}"]


def test_a_path_that_only_looks_like_a_machines_is_fine() -> None:
    assert private_words({"README.md": "".join(f"docs{path}x\n" for path in MACHINE_PATHS)}) == []
