"""Every code block of README and docs is run, or is shown here to be run by another test.

A block of Python is executed; a command is parsed by the program that it names, or its options are held against
what that program knows.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import json
import re
import shlex
import tomllib
from typing import Any

import pytest
from botocore.session import Session

from airflow_kinesis_audience.cli.commands import COMMANDS
from airflow_kinesis_audience.demo.examples import EXAMPLES
from airflow_kinesis_audience.operators import AudienceDiffOperator
from tests.docs.pages import PAGES, ROOT, Block, blocks

ELSEWHERE = {
    "docs/consumer-lambda.md:python:0": "tests/docs/test_lambda.py",
    "docs/consumer-kcl.md:python:0": "tests/docs/test_kcl.py",
    "docs/consumer-kcl.md:sql:0": "tests/docs/test_kcl.py",
    "docs/consumer-files.md:sql:0": "tests/docs/test_consumers.py",
    "docs/hooks.md:python:0": "tests/docs/test_hooks_page.py",
    "docs/hooks.md:python:1": "tests/docs/test_hooks_page.py",
    "docs/hooks.md:python:2": "tests/docs/test_hooks_page.py",
    "docs/lookback.md:python:1": "tests/airflow/test_docs_start.py",
    "docs/lookback.md:python:2": "tests/airflow/test_docs_start.py",
    "docs/lookback.md:sql:0": "tests/airflow/test_docs_start.py",
    "docs/migration.md:python:0": "tests/airflow/test_docs_start.py",
    "docs/start.md:python:0": "tests/airflow/test_docs_start.py",
    "docs/start.md:sql:0": "tests/airflow/test_docs_start.py",
    "docs/start.md:sql:1": "tests/airflow/test_docs_start.py",
    "docs/state.md:sql:0": "tests/airflow/test_docs_start.py",
    "docs/state.md:sql:1": "tests/airflow/test_docs_start.py",
    "docs/warehouse-cloud.md:sql:0": "tests/docs/test_warehouse_pages.py",
    "docs/warehouse-cloud.md:sql:1": "tests/docs/test_warehouse_pages.py",
    "docs/warehouse-mysql.md:sql:0": "tests/docs/test_warehouse_pages.py",
    "docs/warehouse-mysql.md:sql:1": "tests/docs/test_warehouse_pages.py",
    "docs/warehouse-snowflake.md:sql:0": "tests/docs/test_warehouse_pages.py",
    "docs/warehouse-snowflake.md:sql:1": "tests/docs/test_warehouse_pages.py",
}
"""Blocks that need a warehouse or a stream, and the tests that run them."""


def test_every_block_is_of_a_language_that_is_tested() -> None:
    for page in PAGES:
        openings = re.findall(r"^```(\w*)$", (ROOT / page).read_text(), re.MULTILINE)[::2]
        assert set(openings) <= {"console", "json", "python", "sql", "text"}, page


def test_the_blocks_that_others_run_are_there() -> None:
    there = {block.name for language in ("python", "sql") for block in blocks(language)}
    assert ELSEWHERE.keys() <= there
    assert {b.name for b in blocks("sql")} <= ELSEWHERE.keys()
    for test in set(ELSEWHERE.values()):
        text = (ROOT / test).read_text()
        for name in [n for n, by in ELSEWHERE.items() if by == test]:
            page, language, _ = name.split(":")
            assert f'blocks("{language}", "{page}")' in text, name


RUN_HERE = [b for b in blocks("python") if b.name not in ELSEWHERE]


@pytest.mark.parametrize("block", RUN_HERE, ids=lambda b: b.name)
def test_python_of_the_docs_runs(block: Block) -> None:
    # docs/identities.md shows an operator alone.
    namespace: dict[str, Any] = {"AudienceDiffOperator": AudienceDiffOperator}
    exec(compile(block.text, block.name, "exec"), namespace)  # noqa: S102


@pytest.mark.parametrize("block", blocks("python"), ids=lambda b: b.name)
def test_python_of_the_docs_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("airflow"):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("block", blocks("json"), ids=lambda b: b.name)
def test_json_of_the_docs_is_json(block: Block) -> None:
    assert isinstance(json.loads(block.text), dict)


COMMAND_LINES = [(b.page, line) for b in blocks("console") for line in b.text.splitlines() if line.strip()]
SHOWN = r"`((?:airflow|aws|python -m airflow_kinesis_audience) (?!(?:audiences )?COMMAND)[^`\n]+)`"
INLINE = [(page, found) for page in PAGES for found in re.findall(SHOWN, (ROOT / page).read_text())]


@pytest.mark.parametrize(("page", "line"), [*COMMAND_LINES, *INLINE], ids=lambda text: str(text)[:60])
def test_a_command_of_the_docs_is_one_that_its_program_takes(page: str, line: str) -> None:
    words = shlex.split(line.partition("   #")[0].replace(" …", ""))
    program = next((name for name in PROGRAMS if words[: len(name)] == list(name)), None)
    assert program is not None, f"{page}: nobody checks {line!r}"
    PROGRAMS[program](words[len(program) :])


def check_own(words: list[str]) -> None:
    command, *rest = words
    assert command in COMMANDS
    if command == "demo":
        assert not rest or rest[0] in ("--format", "--days")
        return
    parser = argparse.ArgumentParser()
    importlib.import_module(f"airflow_kinesis_audience.cli.{command}").add_arguments(parser)
    parsed(parser, [{"FORMAT": "amplitude_cohort"}.get(word, word) for word in rest])


def check_run(words: list[str]) -> None:
    known = set(re.findall(r"^    python3 run\.py (\w+)", (ROOT / "run.py").read_text(), re.MULTILINE))
    assert words[0] in known
    if words[0] == "bench":
        from tests.benchmarks.__main__ import BENCHMARKS

        assert set(words[1:]) <= BENCHMARKS.keys()
    if "--format" in words:
        assert words[words.index("--format") + 1] in EXAMPLES


def check_airflow(words: list[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    if not any(word.startswith("--") for word in words):
        # The text only names it.
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
            get_parser().parse_args([*words, "--help"])
        assert ended.value.code == 0
        return
    parsed(get_parser(), words)


def check_aws(words: list[str]) -> None:
    service, command, *options = words
    operation = "".join(part.title() for part in command.split("-"))
    members = Session().get_service_model(service).operation_model(operation).input_shape.members
    given = {"".join(p.title() for p in o[2:].split("-")) for o in options if o.startswith("--")}
    # A structure is given member by member.
    assert given <= {*members, "Region"}


def check_pip(words: list[str]) -> None:
    assert words[0] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"\[([\w,]+)\]", words[-1]):
        assert set(named.split(",")) <= extras.keys()


def check_compose(words: list[str]) -> None:
    file = words[words.index("--file") + 1]
    assert (ROOT / file).is_file()
    if "exec" in words:
        service, *command = words[words.index("exec") + 1 :]
        assert command[:3] == ["python", "-m", "airflow_kinesis_audience"]
        assert f"  {service}:" in (ROOT / file).read_text()
        check_own(command[3:])


def check_emulator(words: list[str]) -> None:
    script = (ROOT / "docker" / "entry" / "emulator.py").read_text()
    assert all(f'"{word}"' in script for word in words if word.startswith("--"))


def check_pytest(words: list[str]) -> None:
    assert list(ROOT.glob(words[-1]))


def check_copy(words: list[str]) -> None:
    assert (ROOT / words[0]).is_file()


def parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parser.parse_args(words)
    except SystemExit:
        pytest.fail(f"{words}: {said.getvalue()}")


PROGRAMS: dict[tuple[str, ...], Any] = {
    ("python", "-m", "airflow_kinesis_audience.schemas"): lambda words: check_own(["schema", *words]),
    ("python", "-m", "airflow_kinesis_audience"): check_own,
    ("python3", "run.py"): check_run,
    ("python", "-m", "pytest"): check_pytest,
    ("python3", "-m", "venv"): lambda words: None,
    ("airflow",): check_airflow,
    ("aws",): check_aws,
    ("pip",): check_pip,
    ("docker", "compose"): check_compose,
    ("cp",): check_copy,
    ("sed",): lambda words: check_copy(words[words.index(">") - 1 :]),
    ("python", "docker/entry/emulator.py"): check_emulator,
    # Settings of a shell; what they set is used in tests/airflow/test_docs_start.py.
    ("export",): lambda words: None,
    (".",): lambda words: None,
}
