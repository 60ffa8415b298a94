"""What a user reads is in plain words and short sentences: pages, docstrings, errors, logs, commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import build_docs, error_page
from tests.docs.pages import ROOT

AVOIDED = re.compile(
    r"\b(?:(?:un|re)?told|tell(?:s|ing)?|doors?|mend(?:s|ed)?|whom|whoever|houses?|is none of|anew|"
    r"goes? on|gone on|half sent|hears? of|knows? of|speaks? (?:for|of)|by itself)\b",
    re.IGNORECASE,
)
"""Words that a reader has to translate: verbs of speech for the movement of data, and words out of use."""
MOST_WORDS = 40
"""Words of the longest sentence of a page; a sentence with a list in it is longer to count than to read."""
PAGES = sorted({*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"})
WRITTEN = [page for page in PAGES if page not in (build_docs.PAGE, error_page.PAGE)]
PACKAGE = ROOT / "airflow_kinesis_audience"
PUBLIC = ("cli", "consumer", "formats", "history", "hooks/kinesis", "hooks/firehose", "notif", "operators")
"""Where docstrings are for users; elsewhere only texts are."""


def prose(text: str) -> str:
    """Return a page without its code."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(`+)(?!`).+?\1", "x", text)


def sentences(text: str) -> Iterator[str]:
    """Split a page into sentences: a cell, an item or a heading ends one, and so does a colon or a semicolon."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", prose(text))
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*#|]|\d+\.) ?)|(?<!\\)\|", text):
        yield from (" ".join(s.split()) for s in re.split(r"(?<=[.!?:;])\s", block))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_speaks_plainly(page: Path) -> None:
    assert [line for line in prose(page.read_text()).splitlines() if AVOIDED.search(line)] == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_a_sentence_is_short(page: Path) -> None:
    assert [s for s in sentences(page.read_text()) if len(s.split()) > MOST_WORDS] == []


def texts(source: str, docstrings: bool) -> Iterator[str]:
    """Read the texts of a file of code; of its docstrings those of functions and classes, if they are wanted."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    if docstrings:
        owners = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef))
        yield from (text for owner in owners if (text := ast.get_docstring(owner)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


@pytest.mark.parametrize("folder", sorted(p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"))
def test_a_message_speaks_plainly(folder: str) -> None:
    found = []
    for path in sorted({PACKAGE / folder, *(PACKAGE / folder).rglob("*.py")}):
        if path.suffix == ".py":
            public = path.relative_to(PACKAGE).as_posix().startswith(PUBLIC)
            found += [t for t in texts(path.read_text(), docstrings=public) if AVOIDED.search(prose(t))]
    assert found == []


def test_a_word_to_avoid_is_found_in_prose_alone() -> None:
    text = "A consumer is told.\n`who was told`\n\n```text\ntell\n```\nTold anew.\n"
    assert AVOIDED.findall(prose(text)) == ["told", "Told", "anew"]


def test_a_long_sentence_is_found() -> None:
    long = " ".join(["word"] * (MOST_WORDS + 1))
    assert [len(s.split()) for s in sentences(f"A short one. {long}.\n\n- {long}\n")] == [3, 41, 42]


def test_texts_of_code_are_errors_logs_and_docstrings_and_no_comments() -> None:
    source = '"""Module."""\n# comment\nX = 1\n"""Constant."""\n'
    source += 'def f():\n    """Doc."""\n    raise ValueError(f"a {b}")\n'
    assert list(texts(source, docstrings=True)) == ["Doc.", "a "]
    assert list(texts(source, docstrings=False)) == ["a "]
