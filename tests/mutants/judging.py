"""Whether the tests notice a mutant: each one is a fork of a process that has already imported the libraries.

First the chosen tests run once on the package as it is, under coverage: which lines each runs, and how much CPU
it takes. This is kept in build/mutants until the core or the file of tests changes. Then a mutant's fork takes the
mutated source when it imports the module, so that no file changes, and runs the tests of the mutated statement
until one fails. Limits are in CPU seconds, which do not depend on what else the machine does.
"""

from __future__ import annotations

import ast
import collections
import gc
import hashlib
import importlib
import importlib.metadata
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any, TypedDict

import psutil
import pytest
from hypothesis import Phase, settings

from tests.mutants.mutations import CORE, ROOT, Mutant

TESTS = {
    "unit/changes": ["guards", "usual"],
    "unit/producer": ["acknowledged", "aggregation", "concurrency", "in_flight", "producer", "rate_limit"],
    "unit/state": ["timeline"],
    "contract": [
        *("corrections", "deletion", "detach", "diff", "dropped_rows", "events", "exclusion"),
        *("exclusive", "exits_of_a_day", "filtering", "fold", "forgetting", "golden_sql"),
        *("guards_on_engines", "held_audiences", "history", "identities", "identity_changes"),
        *("identity_rule_changes", "insertions", "large_records", "left_behind", "letting_through"),
        *("new_stream", "other_syncs", "outbox", "parts", "planning", "profiles", "rejects"),
        *("removals", "replay", "restored", "resync", "retention", "schema_changes", "splits", "state"),
        *("throttling", "two_at_once", "two_publishers", "usual", "why"),
    ],
}
# DuckDB is quick: what needs a server is left out, and what writes files.
OTHERS = ("parquet", "postgres", "mysql", "mariadb", "redshift", "clickhouse", "snowflake", "spark")
PYTEST = ["-q", "-n0", "--no-header", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
TEST_SECONDS = 1.5
"""A test that takes longer, of CPU time and under coverage, is left out."""
IDLE_SECONDS = 60.0
"""A fork that sleeps for so long waits for what never comes."""
_POLL_SECONDS = 0.05
_KEPT = ROOT / "build" / "mutants"


class Verdict(StrEnum):
    KILLED = "killed"
    TIMED_OUT = "killed by time"
    SURVIVED = "survived"
    NOT_COVERED = "not covered"


class Recorded(TypedDict):
    """One test on the package as it is: CPU seconds, and lines by the core's module."""

    seconds: float
    lines: dict[str, list[int]]


def load_libraries() -> None:
    """Import what is not the project's, which takes longest, once for all forks."""
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()
    for name in ("tests.warehouses", "tests.engines", "boto3", "moto"):
        importlib.import_module(name)
    # A search with few examples, and the first one that fails is enough.
    settings.register_profile("few", max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate])
    for name in list(sys.modules):
        if name.startswith(("airflow_kinesis_audience", "tests.")) and not name.startswith("tests.mutants"):
            del sys.modules[name]
    gc.freeze()


def read_recorded() -> dict[str, Recorded]:
    """Read what is known of the chosen tests, by name; first runs those that have changed."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    core = b"".join(path.read_bytes() for path in sorted(CORE.rglob("*.py")))
    recorded: dict[str, Recorded] = {}
    for path in (ROOT / "tests" / folder / f"test_{name}.py" for folder in TESTS for name in TESTS[folder]):
        kept = _KEPT / f"{path.stem}-{hashlib.sha256(core + path.read_bytes()).hexdigest()[:16]}.json"
        if not kept.exists():
            print(f"running {path.relative_to(ROOT)} as it is", flush=True)
            code, _ = _run_fork(lambda path=path, kept=kept: _record(path, kept), seconds=1_800)  # type: ignore[misc]
            if not kept.exists():
                raise RuntimeError(f"{path} could not be run without a mutation: exit code {code}")
        recorded |= json.loads(kept.read_text())
    return recorded


def choose(mutant: Mutant, recorded: dict[str, Recorded], *, seconds: float) -> list[str]:
    """Choose tests that run a mutant's statement, or else its module: quick ones, and of many functions.

    :param seconds: of CPU that they took without a mutation, together.
    """
    wanted = _statement(mutant.path.read_text(), mutant.line)
    covering = {test: set(known["lines"].get(mutant.module, ())) for test, known in recorded.items()}
    found = [t for t, lines in covering.items() if lines & wanted] or [t for t, lines in covering.items() if lines]
    ranked, of_function, left = [], collections.Counter[str](), seconds
    for test in sorted(found, key=lambda test: recorded[test]["seconds"]):
        of_function[function := test.partition("[")[0]] += 1
        # The tenth case of a function that takes a millisecond comes before the first one that takes a second.
        ranked.append((of_function[function] * recorded[test]["seconds"], test))
    chosen = []
    for _, test in sorted(ranked):
        left -= recorded[test]["seconds"]
        if left > 0 or not chosen:
            chosen.append(test)
    return chosen


def judge(mutant: Mutant, source: str, tests: Sequence[str], recorded: dict[str, Recorded]) -> Verdict:
    """Run tests with a source in place of that of the mutant's module until one fails."""
    if not tests:
        return Verdict.NOT_COVERED
    seconds = sum(recorded[test]["seconds"] for test in tests)
    code, in_time = _run_fork(lambda: _run_tests(mutant.path, source, tests), seconds=4 * seconds + 20)
    return (Verdict.KILLED if code else Verdict.SURVIVED) if in_time else Verdict.TIMED_OUT


def _run_tests(path: Path, source: str, tests: Sequence[str]) -> int:
    """Run tests in this process with another source of one module; gives the exit code."""
    sys.meta_path.insert(0, _Mutated(path, source))  # type: ignore[arg-type]
    files = sorted({test.partition("::")[0] for test in tests})
    return int(pytest.main([*PYTEST, "-x", *files], plugins=[_Chosen(tests)]))


class _Mutated(SourceFileLoader):
    """Imports one module from another source than its file's."""

    def __init__(self, path: Path, source: str) -> None:
        super().__init__(".".join(path.relative_to(ROOT).with_suffix("").parts), str(path))
        self._source = source

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, _: str) -> Any:
        return compile(self._source, self.path, "exec")


class _FewExamples:
    def pytest_collection_finish(self) -> None:
        settings.load_profile("few")


class _Chosen(_FewExamples):
    """Lets only some tests run, in their order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        items[:] = [found[test] for test in self._tests if test in found]


def _record(path: Path, kept: Path) -> int:
    """Run a file's tests in this process under coverage, and keep what each ran; gives the exit code."""
    from coverage import Coverage

    coverage = Coverage(data_file=None, config_file=False, include=[f"{CORE}/*"], messages=False)
    coverage.start()
    seen = _Seen(coverage.switch_context)
    code = int(pytest.main([*PYTEST, "-k", " and ".join(f"not {s}" for s in OTHERS), str(path)], plugins=[seen]))
    coverage.stop()
    data = coverage.get_data()
    recorded = {
        test: Recorded(seconds=seen.seconds[test], lines={})
        for test in seen.passed
        if seen.seconds[test] <= TEST_SECONDS
    }
    for file in data.measured_files():
        for line, tests in sorted(data.contexts_by_lineno(file).items()):
            for test in recorded.keys() & set(tests):
                recorded[test]["lines"].setdefault(Path(file).relative_to(CORE).as_posix(), []).append(line)
    if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        kept.write_text(json.dumps(recorded))
    return code


class _Seen(_FewExamples):
    """Names the test that runs to coverage, and keeps which passed in how many CPU seconds."""

    def __init__(self, switch_context: Callable[[str], None]) -> None:
        self._switch_context = switch_context
        self.seconds: dict[str, float] = {}
        self.passed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._switch_context(item.nodeid)
        began = time.process_time()
        result = yield
        self.seconds[item.nodeid] = round(time.process_time() - began, 3)
        self._switch_context("")
        return result  # type: ignore[return-value]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid)


def _run_fork(work: Callable[[], int], *, seconds: float) -> tuple[int, bool]:
    """Do something in a fork, in a limit of CPU seconds; gives its exit code, and whether it ended in time."""
    if not (pid := os.fork()):
        code = 70
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(nothing, number)
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
            code = work()
        finally:
            os._exit(code)
    process, used, idle = psutil.Process(pid), 0.0, 0
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        time.sleep(_POLL_SECONDS)
        before, used = used, sum(process.cpu_times()[:2])
        # One that is not given the CPU is no idle one, and one that only looks again from time to time is.
        is_idle = used == before and process.status() == psutil.STATUS_SLEEPING
        idle = idle + 1 if is_idle else max(0, idle - 10)
        if idle > IDLE_SECONDS / _POLL_SECONDS:
            os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(ended[1])
    return code, code not in (-signal.SIGXCPU, -signal.SIGKILL)


def _statement(source: str, line: int) -> set[int]:
    """Give the lines of the innermost statement around a line: of a branch or a loop its head."""
    found = {line}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            whole = isinstance(node, ast.FunctionDef | ast.ClassDef) or not hasattr(node, "body")
            last = node.end_lineno or first if whole else max(first, node.body[0].lineno - 1)
            if first <= line <= last:
                found = set(range(first, last + 1))
    return found
