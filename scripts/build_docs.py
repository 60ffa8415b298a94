"""Builds the documentation's site, strictly and without a network: a warning of mkdocs is an error.

    python scripts/build_docs.py write   generate docs/operators.md from docstrings, docs/messages.md from errors
    python scripts/build_docs.py build   build the site into build/site; fails if one of the two is outdated
    python scripts/build_docs.py serve   serve it on 127.0.0.1, and rebuild it on every change

The reference is parsed from the sources and imports nothing, so that it needs no Airflow and no order of imports.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts import error_page  # noqa: E402

PAGE = ROOT / "docs" / "operators.md"
PACKAGE = ROOT / "airflow_kinesis_audience"
_SOURCE = ("operators/source_arguments.py", "SourceArguments")
_STATE = ("operators/state_arguments.py", "StateArguments")
_LEAVING = ("operators/leaving.py", "LeavesStatement")
_GUARDS = ("operators/guard_arguments.py", "GuardArguments")
_PUBLISH = ("operators/publish.py", "PublishOperator")
_DELIVERY = ("operators/delivery_operator.py", "DeliveryOperator")
DOCUMENTED = (
    ("operators/diff.py", "AudienceDiffOperator", (_SOURCE, _STATE, _GUARDS, _LEAVING)),
    ("operators/publish.py", "AudienceToKinesisOperator", (_PUBLISH, _DELIVERY)),
    ("operators/publish.py", "AudienceToFirehoseOperator", (_PUBLISH, _DELIVERY)),
    ("operators/group.py", "audience_sync", ()),
    ("operators/approve.py", "AudienceApprovalOperator", ()),
    ("operators/events.py", "EventsToKinesisOperator", (_STATE, _DELIVERY)),
    ("operators/replay.py", "AudienceReplayOperator", (_STATE, _DELIVERY)),
    ("operators/resync.py", "AudienceResyncOperator", (_STATE, _DELIVERY)),
    ("operators/delete.py", "AudienceDeleteOperator", (_STATE, _DELIVERY)),
    ("operators/detach.py", "AudienceDetachOperator", (_STATE,)),
    ("operators/forget.py", "AudienceForgetOperator", (_STATE,)),
    ("operators/check.py", "AudienceCheckOperator", ()),
    ("operators/identity.py", "Identity", ()),
    ("core/changes/guards.py", "Guards", ()),
    ("notifications.py", "AudienceNotifier", ()),
)
"""File, name, and the classes whose arguments its own signature passes on, nearest first."""
_FIELDS = {
    "SHARED_FIELDS": "operators/delivery_operator.py",
    "PUBLISH_FIELDS": "operators/publish.py",
    "STATE_FIELDS": "operators/state_arguments.py",
}
"""Names of template fields that several classes share, and the file that has each."""
_HEAD = """# Operators

This page lists every argument of every operator.

All arguments are keyword-only, except the type of an `Identity`. Jinja renders those marked *templated* before the
task runs. `python scripts/build_docs.py write` generates this page from the docstrings.
"""


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument: its type and default as the signature has them."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True, kw_only=True)
class Documented:
    """What is known of a class or a function from its source.

    :param sentences: by argument, what the docstring has of it.
    """

    name: str
    text: str
    sentences: Mapping[str, str]
    arguments: Mapping[str, Argument]
    templated: Sequence[str]


def read(path: Path, name: str) -> Documented:
    """Read a class or a function."""
    tree = ast.parse(path.read_text())
    found = next(n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name)
    text, sentences = split(ast.get_docstring(found) or "")
    function: ast.AST | None = found
    if isinstance(found, ast.ClassDef):
        functions = [n for n in found.body if isinstance(n, ast.FunctionDef)]
        function = next((n for n in functions if n.name == "__init__"), None)
    if isinstance(function, ast.FunctionDef):
        arguments = read_arguments(function)
    else:
        arguments = read_fields(found) if isinstance(found, ast.ClassDef) else iter(())
    return Documented(
        name=name,
        text=text,
        sentences=sentences,
        arguments={a.name: a for a in arguments},
        templated=read_templated(tree, found) if isinstance(found, ast.ClassDef) else (),
    )


def split(docstring: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text, in Markdown, and a sentence on each argument.

    A field that is neither an argument nor an error is part of the text.
    """
    text, *fields = re.split(r"^:(?=param |raises )", docstring, flags=re.MULTILINE)
    paragraphs = [markdown(" ".join(part.split())) for part in text.strip().split("\n\n")]
    sentences = {}
    for field in fields:
        kind, name, sentence = re.split(r" |: ", " ".join(field.split()), maxsplit=2)
        if kind == "raises":
            paragraphs.append(f"Raises `{name}` {markdown(sentence)}")
        else:
            # Some sentences lead over to the next argument's, which has a row of its own here.
            sentences[name] = re.sub(r"[;,]? (?:and|or)$", "", markdown(sentence))
    return "\n\n".join(paragraphs), sentences


def markdown(text: str) -> str:
    """Turn the roles and double backticks of a docstring into Markdown."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", "\\|")


def read_arguments(function: ast.FunctionDef) -> Iterator[Argument]:
    """Read the keyword-only arguments of a function."""
    given = function.args
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield Argument(
            name=argument.arg,
            type=ast.unparse(argument.annotation) if argument.annotation else "",
            default=ast.unparse(default) if default else None,
        )


def read_fields(found: ast.ClassDef) -> Iterator[Argument]:
    """Read the fields of a dataclass."""
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) != "KW_ONLY":
            yield Argument(
                name=ast.unparse(node.target),
                type=ast.unparse(node.annotation),
                default=ast.unparse(node.value) if node.value else None,
            )


def read_templated(tree: ast.Module, found: ast.ClassDef) -> tuple[str, ...]:
    """Read the template fields of a class; names of other tuples of sentences are looked up in the file."""
    known = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    known |= {name: _shared_fields(name) for name in _FIELDS if name not in known}

    def sentences(value: ast.expr) -> Iterator[str]:
        if isinstance(value, ast.Constant):
            yield str(value.value)
        elif isinstance(value, ast.Name) and value.id in known:
            yield from sentences(known[value.id])
        elif ast.unparse(value) == "DeliveryOperator.template_fields":
            yield from read(PACKAGE / _DELIVERY[0], _DELIVERY[1]).templated
        elif isinstance(value, ast.Starred):
            yield from sentences(value.value)
        elif isinstance(value, ast.Tuple):
            for element in value.elts:
                yield from sentences(element)

    for node in found.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "template_fields" and node.value:
            return tuple(sentences(node.value))
    return ()


def _shared_fields(name: str) -> ast.expr:
    tree = ast.parse((PACKAGE / _FIELDS[name]).read_text())
    return next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == name)


def render() -> str:
    """Render the whole page."""
    return _HEAD + "".join(render_one(path, name, more) for path, name, more in DOCUMENTED)


def render_one(path: str, name: str, more: Sequence[tuple[str, str]]) -> str:
    """Render the section of one class or function."""
    own = read(PACKAGE / path, name)
    arguments, sentences = dict(own.arguments), dict(own.sentences)
    for shared in (read(PACKAGE / file, base) for file, base in more):
        # Whoever delivers to one kind of destination takes no argument of the other.
        skip = {"delivery_stream_name"} if "stream_name" in own.arguments else set()
        skip |= {"stream_name", "aggregate"} if "delivery_stream_name" in own.arguments else set()
        arguments |= {n: a for n, a in shared.arguments.items() if n not in arguments and n not in skip}
        sentences |= {n: text for n, text in shared.sentences.items() if n not in sentences}
    # In the order of the class's own docstring, then in that of the signatures.
    arguments = {n: arguments[n] for n in (*own.sentences, *arguments) if n in arguments}
    module = f"airflow_kinesis_audience.{path.removesuffix('.py').replace('/', '.')}"
    public = module if path == "notifications.py" else "airflow_kinesis_audience.operators"
    lines = [f"\n## {name}\n", f"`from {public} import {name}`\n", f"{own.text}\n"]
    if arguments:
        lines += ["| argument | type | default | |", "| --- | --- | --- | --- |"]
        lines += [render_row(a, sentences, a.name in own.templated) for a in arguments.values()]
        lines.append("")
    return "\n".join(lines)


def render_row(argument: Argument, sentences: Mapping[str, str], templated: bool) -> str:
    """Render an argument."""
    shown = argument.type.replace("|", "\\|")
    default = f"`{argument.default}`" if argument.default is not None else "**needed**"
    text = sentences.get(argument.name, "").rstrip(".") or _elsewhere(argument.name, sentences)
    text = text or "as for [AudienceDiffOperator](#audiencediffoperator)"
    return f"| `{argument.name}` | `{shown}` | {default} | {text}{' *templated*' if templated else ''} |"


def _elsewhere(name: str, sentences: Mapping[str, str]) -> str:
    """Find the argument whose sentence speaks of another, too."""
    return next((f"see `{other}`" for other, text in sentences.items() if f"`{name}`" in text), "")


def mkdocs(*arguments: str) -> int:
    """Run mkdocs on the project's settings; gives its exit code."""
    command = [sys.executable, "-m", "mkdocs", *arguments, "--strict", "--config-file", str(ROOT / "mkdocs.yml")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=quiet, check=False).returncode  # noqa: S603


def main(arguments: Sequence[str]) -> str | int:
    """Do what the argument says; gives what ``sys.exit`` takes."""
    pages = {PAGE: render, error_page.PAGE: error_page.render}
    if arguments == ["write"]:
        for page, content in pages.items():
            page.write_text(content())
        return 0
    if arguments == ["build"]:
        for page, content in pages.items():
            if page.read_text() != content():
                return f"docs/{page.name} differs from the sources; run: python scripts/build_docs.py write"
        return mkdocs("build", "--clean")
    if arguments == ["serve"]:
        return mkdocs("serve", "--dev-addr", "127.0.0.1:8000")
    return "usage: python scripts/build_docs.py write|build|serve"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
