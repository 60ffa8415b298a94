"""Generates docs/messages.md: every message of an error that the package raises, with what a retry does.

The messages are read from the sources, so none can be missing: an exception whose text cannot be read there is
reported, and a test names the few that hand on the text of another error. Nothing of the package is imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "airflow_kinesis_audience"
PAGE = ROOT / "docs" / "messages.md"
GAP = "…"
_OTHERS = {"ValueError", "TypeError", "AirflowFailException", "AirflowSkipException"}
"""Kinds of errors that are not the package's own, and are raised with a message of ours; no retry helps."""
_TABLES = {"refused", "REFUSED"}
"""Names of the tables from codes of AWS to messages."""
_WORD = re.compile(r"[A-Za-z]{2,}")
_GUARD = re.compile("_breaches")
"""Names of the functions that find what a guard stops."""
_SECTIONS = (
    ("Commands", ("cli/",)),
    ("Consumer and history", ("consumer/", "history/", "notebook.py", "notifications.py")),
    ("Tests of consumers and mappings", ("conformance/", "testing.py")),
    ("Message formats", ("formats/", "schemas/", "core/model/canonical.py", "core/model/renderer.py")),
    ("Streams", ("core/producer/", "hooks/streams/", "hooks/kinesis.py", "hooks/firehose.py")),
    ("Delivery", ("core/outbox/",)),
    ("Warehouses, source and state", ("hooks/", "core/source/", "core/sql/")),
    ("Diff and ledger", ("core/changes/", "core/state/")),
    ("Arguments and runs", ("asset_uris.py", "operators/", "core/")),
)
"""Headings of the page, and the files whose messages each has; the first that fits counts."""
_HEAD = """# All messages

This page lists every error message of the provider. [Errors](troubleshooting.md) explains those that need more
than their own text.

`…` stands for the parts that differ. *Retry* says whether Airflow's next attempt can help. If it cannot, the task
fails without retries. `python scripts/build_docs.py write` generates this page from the sources.
"""


@dataclass(frozen=True, kw_only=True, order=True)
class Found:
    """A message in a file.

    :param retry: whether a retry helps.
    """

    text: str
    path: str
    retry: bool


def read_file(
    tree: ast.Module, kinds: Container[str], functions: Sequence[ast.FunctionDef]
) -> Iterator[tuple[str, list[str]]]:
    """Read each kind of exception that a file makes, and the texts that it can have: none, if they cannot be read.

    What a guard yields is a text of ``GuardTripped``.

    :param functions: of the whole package: some make the text of an exception.
    """
    for scope in (tree, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))):
        for node in _own_nodes(scope):
            kind = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and kind in kinds and node.args:
                yield kind, list(_resolve(node.args[0], scope, tree, functions))
            elif _GUARD.match(getattr(scope, "name", "")) and isinstance(node, ast.Yield) and node.value:
                yield "GuardTripped", list(_texts(node.value, scope))
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value and _target(node) in _TABLES:
                constants = (n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant))
                if texts := [re.sub(r"\{\w+\}", GAP, c) for c in constants if " " in str(c)]:
                    yield "DestinationRefused", texts


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Walk through a scope, and not through the functions in it."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, ast.FunctionDef):
            yield from _own_nodes(node)


def _target(node: ast.Assign | ast.AnnAssign) -> str:
    return ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])


def _resolve(
    value: ast.expr, scope: ast.AST, tree: ast.Module, functions: Sequence[ast.FunctionDef]
) -> Iterator[str]:
    """Give the texts of an expression: its own, those of a name, or those that a function returns."""
    if isinstance(value, ast.Name):
        assigned = [n for n in (*_own_nodes(scope), *tree.body) if isinstance(n, ast.Assign)]
        yield from (t for n in assigned if _target(n) == value.id for t in _texts(n.value, scope))
    elif isinstance(value, ast.Call):
        for function in functions:
            if function.name == ast.unparse(value.func):
                returned = (n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value)
                yield from (text for part in returned for text in _texts(part, function))
    else:
        yield from _texts(value, scope)


def _texts(value: ast.expr, scope: ast.AST) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from (*_texts(value.body, scope), *_texts(value.orelse, scope))
    elif isinstance(value, ast.BinOp):
        yield "".join(text for side in (value.left, value.right) for text in _texts(side, scope))
    elif isinstance(value, ast.JoinedStr):
        first, *rest = value.values
        # A text can begin with another one that the function has made.
        name = (
            first.value.id if isinstance(first, ast.FormattedValue) and isinstance(first.value, ast.Name) else ""
        )
        assigned = [n.value for n in _own_nodes(scope) if isinstance(n, ast.Assign) and _target(n) == name]
        made = [text for n in assigned if isinstance(n, ast.JoinedStr) for text in _texts(n, scope)]
        parts = "".join(str(p.value) if isinstance(p, ast.Constant) else GAP for p in rest)
        yield from (
            begun + parts for begun in made or [str(first.value) if isinstance(first, ast.Constant) else GAP]
        )


def read_kinds() -> dict[str, bool]:
    """Read the kinds of errors, and whether a retry helps after one."""
    tree = ast.parse((PACKAGE / "core" / "exceptions.py").read_text())
    own = {n.name: "retry_helps = False" not in ast.unparse(n) for n in tree.body if isinstance(n, ast.ClassDef)}
    return own | dict.fromkeys(_OTHERS, False)


def find_messages() -> tuple[list[Found], list[str]]:
    """Find all messages, and the places of exceptions whose text is not in their file."""
    kinds, found, unread = read_kinds(), set(), []
    # The demo runs on nobody's data.
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "demo" not in path.parents)
    trees = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in paths}
    functions = [node for tree in trees.values() for node in tree.body if isinstance(node, ast.FunctionDef)]
    for name, tree in trees.items():
        for kind, texts in read_file(tree, kinds, functions):
            texts = [" ".join(text.split()) for text in texts]
            found |= {Found(text=t, path=name, retry=kinds[kind]) for t in texts if len(_WORD.findall(t)) > 1}
            unread += [f"{name}: {kind}"] * (not texts)
    return sorted(found), unread


def render() -> str:
    """Render the page: a section for each part of the package, its messages in the order of the alphabet."""
    rows: dict[str, dict[str, bool]] = {heading: {} for heading, _ in _SECTIONS}
    for message in find_messages()[0]:
        heading = next(h for h, paths in _SECTIONS if message.path.startswith(paths))
        rows[heading][message.text] = message.retry
    page = _HEAD
    for heading in reversed(rows):
        page += f"\n## {heading}\n\n| message | retry |\n| --- | --- |\n"
        for text, retry in sorted(rows[heading].items(), key=lambda row: re.sub(r"\W", "", row[0]).lower()):
            page += f"| {_code(text)} | {'yes' if retry else 'no'} |\n"
    return page


def _code(text: str) -> str:
    mark = "``" if "`" in text else "`"
    return f"{mark}{text.strip()}{mark}".replace("|", "\\|")
