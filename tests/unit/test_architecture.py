"""The layout is a rule: packages import in one direction, names say what they are, functions and files stay small.

Which package imports which is the business of import-linter. Its contracts stand in pyproject.toml, and each is
broken here, on a copy of the package. All other checks read sources and run nothing; they take sources rather than
the package, so that the lower half of this file can show that each fails on a bad one.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_kinesis_audience"
ROOT_ENTRIES = {
    *("operators", "hooks", "formats", "consumer", "schemas", "core", "cli", "ui", "demo", "history"),
    *(
        "asset_uris.py",
        "notebook.py",
        "conformance",
        "notifications.py",
        "testing.py",
        "__init__.py",
        "__main__.py",
        "provider_info.py",
        "py.typed",
    ),
}

ONE_WAY = "The data flows one way: a package imports only from those below it"
IN_THE_CORE = "Inside the core: outbox > changes, readers > state > source > sql, producer > model > exceptions"
PURE = "The core, and formats, know neither Airflow nor AWS"
ALONE = "The reference consumer and the schemas stand alone, so that others can copy them"
KIT = "The conformance kit stands alone, and shares no code with the consumer that it checks"
CONTRACTS = (ONE_WAY, IN_THE_CORE, PURE, ALONE, KIT)
LINT_IMPORTS = "import importlinter.cli as cli; cli.lint_imports_command()"

WITHOUT_PANDAS = ("core/", "formats/", "consumer/", "schemas/")
NO_NAMES = {"utils", "util", "common", "base", "helpers", "helper", "managers", "manager"}
PRIVATE_WORDS = ("told", "untold", "retold", "telling", "door", "mend", "whom", "is none of")
MOST_LINES = 300
MOST_PARAMETERS = 8

# put together here, or this file would be the first to break the rule
REGISTRIES = tuple(
    ".".join(parts) for parts in (("pypi", "org"), ("files", "pythonhosted", "org"), ("npmjs", "org"))
)
MACHINE_PATHS = tuple(f"/{name}/" for name in ("work", "root"))
PRIVATE = re.compile(
    "|".join([*map(re.escape, REGISTRIES), *(rf"(?<![\w.}}]){re.escape(p)}" for p in MACHINE_PATHS)])
)


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


def loads_pandas(sources: Mapping[str, str]) -> list[str]:
    """Find files of the engine that load pandas when they are imported, and not when a frame is asked for."""
    return [
        f"{path}:{line}: loads {name} when it is imported"
        for path, source in sources.items()
        if path.startswith(WITHOUT_PANDAS)
        for line, name in imported_on_import(ast.parse(source))
        if name.split(".")[0] == "pandas"
    ]


def bad_files(sources: Mapping[str, str]) -> list[str]:
    """Find files named after nothing, without a docstring, or too long."""
    found = []
    for path, source in sources.items():
        if NO_NAMES & set(path.removesuffix(".py").split("/")):
            found.append(f"{path}: the name says nothing; name what it is for")
        if not ast.get_docstring(ast.parse(source)):
            found.append(f"{path}: opens without a docstring")
        if (lines := len(source.splitlines())) > MOST_LINES:
            found.append(f"{path}: {lines} lines; split what has more than {MOST_LINES}")
    return found


def too_many_parameters(sources: Mapping[str, str]) -> set[str]:
    """Find functions with more parameters than a reader keeps in mind; what DAGs are written with is excepted."""
    found = set()
    for path, source in sources.items():
        if path.startswith("operators/"):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if path == "notifications.py" and node.name == "__init__":
                continue
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if len([p for p in every if p.arg not in ("self", "cls")]) > MOST_PARAMETERS:
                found.add(f"{path}:{node.name}")
    return found


def classes_named_twice(sources: Mapping[str, str]) -> set[str]:
    """Find names that more than one class has, in one file or in several."""
    names = [
        node.name
        for source in sources.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
    ]
    return {name for name in names if names.count(name) > 1}


def files_with_private_words(sources: Mapping[str, str]) -> set[str]:
    """Find files that use a word of ours where the field has one, in a name, a comment or a text."""
    # An underscore ends a word, too.
    word = re.compile(rf"(?<![A-Za-z])({'|'.join(PRIVATE_WORDS)})(?![A-Za-z])", re.IGNORECASE)
    return {path for path, source in sources.items() if word.search(source)}


def private_names(texts: Mapping[str, str]) -> list[str]:
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


def test_no_file_of_the_engine_loads_pandas_unasked() -> None:
    assert loads_pandas(package_sources()) == []


def test_every_file_is_named_and_opens_with_what_it_is_for_and_is_short() -> None:
    assert bad_files(package_sources()) == []


def test_no_function_takes_more_than_a_reader_keeps_in_mind() -> None:
    assert too_many_parameters(package_sources()) == set()


def test_no_two_classes_have_one_name() -> None:
    assert classes_named_twice(package_sources()) == set()


def test_the_words_are_those_of_the_field() -> None:
    assert files_with_private_words(package_sources()) == set()


def test_the_root_of_the_package_has_what_users_import_and_the_engine() -> None:
    found = {path.name for path in (ROOT / PACKAGE).iterdir() if path.name != "__pycache__"}
    assert found == ROOT_ENTRIES


def test_the_package_itself_imports_nothing() -> None:
    assert list(imported(ast.parse(package_sources()["__init__.py"]))) == []


def test_no_file_names_a_package_registry_or_a_machine() -> None:
    texts = repository_texts()
    assert "pyproject.toml" in texts
    assert private_names(texts) == []


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package, with the real contracts beside it."""
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    for source in (ROOT / PACKAGE).rglob("*.py"):
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(folder: Path) -> tuple[int, list[str]]:
    """Run ``lint-imports`` in a folder; gives its exit code and the contracts that it calls broken."""
    command = [sys.executable, "-c", LINT_IMPORTS, "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    # It breaks lines where a terminal would.
    said = re.sub(r"\s+", "", done.stdout)
    verdicts = {name: re.search(re.escape(re.sub(r"\s+", "", name)) + "(KEPT|BROKEN)", said) for name in CONTRACTS}
    assert None not in verdicts.values(), f"not all contracts were looked at:\n{done.stdout}{done.stderr}"
    return done.returncode, [name for name, verdict in verdicts.items() if verdict and verdict[1] == "BROKEN"]


def test_the_package_keeps_every_contract_on_imports(copied: Path) -> None:
    assert broken_contracts(copied) == (0, [])


@pytest.mark.parametrize(
    ("path", "imports", "contract"),
    [
        ("core/model/audience.py", "formats.json_values", ONE_WAY),
        ("hooks/state.py", "history", ONE_WAY),
        ("hooks/streams/responses.py", "formats", ONE_WAY),
        ("operators/links.py", "notifications", ONE_WAY),
        ("ui/server.py", "cli.commands", ONE_WAY),
        ("core/model/instants.py", "core.state.timeline", IN_THE_CORE),
        ("core/sql/types.py", "core.producer.records", IN_THE_CORE),
        ("core/readers/partitions.py", "core.changes.counts", IN_THE_CORE),
        ("core/changes/plan.py", "core.outbox.report", IN_THE_CORE),
        ("core/exceptions.py", "core.model.instants", IN_THE_CORE),
        ("consumer/membership.py", "core.exceptions", ALONE),
        ("schemas/__main__.py", "formats", ALONE),
        ("conformance/expected.py", "consumer", KIT),
    ],
)
def test_an_import_that_runs_back_breaks_the_contract(
    copied: Path, path: str, imports: str, contract: str
) -> None:
    plant(copied, path, f"{PACKAGE}.{imports}")
    code, broken = broken_contracts(copied)
    assert (code, broken) == (1, [contract])


@pytest.mark.parametrize("path", ["core/producer/producer.py", "core/sql/warehouse.py", "formats/amplitude.py"])
@pytest.mark.parametrize("imports", ["airflow.sdk", "boto3", "botocore.exceptions"])
def test_the_core_and_formats_may_know_neither_airflow_nor_aws(copied: Path, path: str, imports: str) -> None:
    plant(copied, path, imports)
    assert broken_contracts(copied) == (1, [PURE])


def test_a_new_package_in_the_core_has_to_be_given_its_place(copied: Path) -> None:
    (copied / PACKAGE / "core" / "helpers").mkdir()
    (copied / PACKAGE / "core" / "helpers" / "__init__.py").write_text('"""Anything."""\n')
    assert broken_contracts(copied) == (1, [IN_THE_CORE])


def plant(folder: Path, path: str, module: str) -> None:
    """Add an import at the end of a function, where it is easily overlooked."""
    file = folder / PACKAGE / path
    file.write_text(f"{file.read_text()}\n\ndef planted():\n    import {module}\n")


@pytest.mark.parametrize(
    "source",
    [
        "import pandas as pd",
        "try:\n    import pandas\nexcept ImportError:\n    pandas = None",
        "class Frame:\n    from pandas import DataFrame",
    ],
)
def test_a_file_of_the_engine_that_loads_pandas_is_found(source: str) -> None:
    assert len(loads_pandas({"core/producer/producer.py": source})) == 1
    assert loads_pandas({"hooks/kinesis.py": source}) == []


@pytest.mark.parametrize(
    "source",
    [
        "def frame():\n    import pandas",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas as pd",
        "import pandas_of_somebody_else",
    ],
)
def test_a_file_of_the_engine_may_load_pandas_when_it_is_asked_to(source: str) -> None:
    assert loads_pandas({"consumer/membership.py": source}) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("formats/utils.py", '"""Doc."""'),
        ("base/thing.py", '"""Doc."""'),
        ("diff.py", "# a comment is no docstring"),
        ("diff.py", '"""Doc."""\n' + "pass\n" * MOST_LINES),
    ],
)
def test_a_file_that_says_nothing_or_too_much_is_found(path: str, source: str) -> None:
    assert len(bad_files({path: source})) == 1


def test_a_function_with_one_parameter_too_many_is_found() -> None:
    eight = "a, b, c, d, /, e, f, *, g, h"
    good = f"class Thing:\n    def good(self, {eight}):\n        pass\n"
    assert too_many_parameters({"history.py": good}) == set()
    bad = f"async def bad({eight}, i=None):\n    pass\n"
    assert too_many_parameters({"history.py": bad}) == {"history.py:bad"}
    constructor = bad.replace("bad", "__init__")
    assert too_many_parameters({"operators/diff.py": bad, "notifications.py": constructor}) == set()
    assert too_many_parameters({"core/state/ledger.py": constructor}) == {"core/state/ledger.py:__init__"}


def test_a_class_whose_name_is_taken_is_found() -> None:
    assert classes_named_twice({"a.py": "class One: pass", "b.py": "class Two:\n    class One: pass"}) == {"One"}
    assert classes_named_twice({"a.py": "class One: pass", "b.py": "One = 1"}) == set()


@pytest.mark.parametrize(
    "source",
    ["told = 1", "# by whom", "def maybe_told(): pass", '"""Told twice."""', 'x["retold"]', "class _Told: pass"],
)
def test_a_private_word_is_found(source: str) -> None:
    assert files_with_private_words({"a.py": source}) == {"a.py"}


def test_a_word_that_only_holds_a_private_one_is_fine() -> None:
    assert files_with_private_words({"a.py": "recommended, outdoors, toldness"}) == set()


@pytest.mark.parametrize("word", [*REGISTRIES, *MACHINE_PATHS])
def test_a_private_name_is_found(word: str) -> None:
    assert private_names({"README.md": f"one\nsee {word}x\n"}) == [f"README.md:2: {word}"]


def test_a_path_that_only_looks_like_a_machines_is_fine() -> None:
    assert private_names({"README.md": "".join(f"docs{path}x\n" for path in MACHINE_PATHS)}) == []
