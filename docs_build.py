"""Builds the documentation's site, strictly and without a network: whatever mkdocs warns of is an error.

    python docs_build.py write    write docs/operators.md anew, from the operators' docstrings and signatures
    python docs_build.py build    build the site into build/site; fails where docs/operators.md is not as written
    python docs_build.py serve    show it on 127.0.0.1, and again on every change

The reference is read out of the sources and imports nothing, so that it needs no Airflow and no order of imports.
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

ROOT = Path(__file__).resolve().parent
PAGE = ROOT / "docs" / "operators.md"
PACKAGE = ROOT / "airflow_kinesis_audience"
DOCUMENTED = (
    ("operators/diff.py", "AudienceDiffOperator", ()),
    ("operators/publish.py", "AudienceToKinesisOperator", ("operators/destination.py", "DeliveryOperator")),
    ("operators/publish.py", "AudienceToFirehoseOperator", ("operators/destination.py", "DeliveryOperator")),
    ("operators/group.py", "audience_sync", ()),
    ("operators/approve.py", "AudienceApprovalOperator", ()),
    ("operators/events.py", "EventsToKinesisOperator", ("operators/destination.py", "DeliveryOperator")),
    ("operators/resync.py", "AudienceResyncOperator", ("operators/destination.py", "DeliveryOperator")),
    ("operators/delete.py", "AudienceDeleteOperator", ("operators/destination.py", "DeliveryOperator")),
    ("notifications.py", "AudienceNotifier", ()),
)
"""File, name, and where arguments come from that its own signature passes on."""
_HEAD = """# Operators

All arguments are keyword-only. Those marked *templated* are rendered by Jinja before the task runs. This page is
made of the docstrings, by `python docs_build.py write`.
"""


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument: its type and default as the signature has them, and what the docstring says of it."""

    name: str
    type: str
    default: str | None
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class Documented:
    """What is known of a class or a function from its source."""

    name: str
    text: str
    said: Mapping[str, str]
    arguments: Mapping[str, Argument]
    templated: Sequence[str]


def read(path: Path, name: str) -> Documented:
    """Read a class or a function."""
    tree = ast.parse(path.read_text())
    found = next(n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name)
    text, said = split(ast.get_docstring(found) or "")
    function: ast.AST | None = found
    if isinstance(found, ast.ClassDef):
        functions = [n for n in found.body if isinstance(n, ast.FunctionDef)]
        function = next((n for n in functions if n.name == "__init__"), None)
    arguments = read_arguments(function) if isinstance(function, ast.FunctionDef) else ()
    return Documented(
        name=name,
        text=text,
        said=said,
        arguments={a.name: a for a in arguments},
        templated=read_templated(tree, found) if isinstance(found, ast.ClassDef) else (),
    )


def split(docstring: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text, in Markdown, and what it says of each argument."""
    text, *fields = re.split(r"^:", docstring, flags=re.MULTILINE)
    said = {}
    for field in fields:
        if found := re.match(r"param (\w+): (.*)", " ".join(field.split())):
            said[found[1]] = markdown(found[2])
    paragraphs = [markdown(" ".join(part.split())) for part in text.strip().split("\n\n")]
    return "\n\n".join(paragraphs), said


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


def read_templated(tree: ast.Module, found: ast.ClassDef) -> tuple[str, ...]:
    """Read the template fields of a class; names of other tuples of texts are looked up in the file."""
    known = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    known |= {"SHARED_FIELDS": _shared_fields()} if "SHARED_FIELDS" not in known else {}

    def texts(value: ast.expr) -> Iterator[str]:
        if isinstance(value, ast.Constant):
            yield str(value.value)
        elif isinstance(value, ast.Name) and value.id in known:
            yield from texts(known[value.id])
        elif isinstance(value, ast.Starred):
            yield from texts(value.value)
        elif isinstance(value, ast.Tuple):
            for element in value.elts:
                yield from texts(element)

    for node in found.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "template_fields" and node.value:
            return tuple(texts(node.value))
    return ()


def _shared_fields() -> ast.expr:
    tree = ast.parse((PACKAGE / "operators" / "destination.py").read_text())
    return next(
        n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "SHARED_FIELDS"
    )


def render() -> str:
    """Render the whole page."""
    return _HEAD + "".join(render_one(path, name, more) for path, name, more in DOCUMENTED)


def render_one(path: str, name: str, more: Sequence[str]) -> str:
    """Render what there is to say of one class or function."""
    own = read(PACKAGE / path, name)
    arguments, said, templated = dict(own.arguments), dict(own.said), set(own.templated)
    if more:
        shared = read(PACKAGE / more[0], more[1])
        # Whoever delivers to one kind of destination takes no argument of the other.
        skip = {"delivery_stream_name"} if "stream_name" in arguments else set()
        skip |= {"stream_name", "aggregate"} if "delivery_stream_name" in arguments else set()
        arguments |= {n: a for n, a in shared.arguments.items() if n not in arguments and n not in skip}
        said = {**shared.said, **said}
        templated |= set() if own.templated else set(shared.templated)
    module = f"airflow_kinesis_audience.{path.removesuffix('.py').replace('/', '.')}"
    public = "airflow_kinesis_audience.operators" if path.startswith("operators/") else module
    lines = [f"\n## {name}\n", f"`from {public} import {name}`\n", f"{own.text}\n"]
    if arguments:
        lines += ["| argument | type | default | |", "| --- | --- | --- | --- |"]
        lines += [render_row(a, said, a.name in templated) for a in arguments.values()]
        lines.append("")
    return "\n".join(lines)


def render_row(argument: Argument, said: Mapping[str, str], templated: bool) -> str:
    """Render an argument."""
    shown = argument.type.replace("|", "\\|")
    default = f"`{argument.default}`" if argument.default is not None else "**needed**"
    text = said.get(argument.name, "").rstrip(".") or _elsewhere(argument.name, said)
    text = text or "as for [AudienceDiffOperator](#audiencediffoperator)"
    return f"| `{argument.name}` | `{shown}` | {default} | {text}{' *templated*' if templated else ''} |"


def _elsewhere(name: str, said: Mapping[str, str]) -> str:
    """Find the argument whose sentence speaks of another, too."""
    return next((f"see `{other}`" for other, text in said.items() if f"`{name}`" in text), "")


def mkdocs(*arguments: str) -> int:
    """Run mkdocs on the project's settings; gives its exit code."""
    command = [sys.executable, "-m", "mkdocs", *arguments, "--strict", "--config-file", str(ROOT / "mkdocs.yml")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=quiet, check=False).returncode  # noqa: S603


def main(arguments: Sequence[str]) -> str | int:
    """Do what the argument says; gives what ``sys.exit`` takes."""
    if arguments == ["write"]:
        PAGE.write_text(render())
        return 0
    if arguments == ["build"]:
        if PAGE.read_text() != render():
            return "docs/operators.md is not what the docstrings say; run: python docs_build.py write"
        return mkdocs("build", "--clean")
    if arguments == ["serve"]:
        return mkdocs("serve", "--dev-addr", "127.0.0.1:8000")
    return "usage: python docs_build.py write|build|serve"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
