"""The mutants of a source: cosmic-ray's operators, one place of the source at a time.

A place is where one kind of operator applies. It counts once, however many replacements the operator has there:
otherwise eleven other arithmetic operators for each ``|`` would be most of the mutants. Left out is what cannot
change what the program does: annotations, what only a type checker imports, the ``*`` that makes arguments have
names, the options of a data class, and whether SQLGlot copies a tree or names a query that may be computed once.
"""

from __future__ import annotations

import ast
import difflib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engines.environments import add_packages

add_packages("mutants")

from cosmic_ray.ast import ast_nodes, get_ast  # noqa: E402
from cosmic_ray.operators.provider import OperatorProvider  # noqa: E402

if TYPE_CHECKING:
    from cosmic_ray.operators.operator import Operator
    from parso.tree import NodeOrLeaf

ROOT = Path(__file__).parents[2]
CORE = ROOT / "airflow_kinesis_audience" / "core"
Place = tuple[int, int, str]
PACKAGES = ("changes", "outbox", "producer", "state")
_IDLE_OPTIONS = ("copy", "frozen", "kw_only", "materialized", "slots")


@dataclass(frozen=True, kw_only=True, order=True)
class Mutant:
    """A source with one mutation.

    :param module: of the core, as in ``outbox/attempt.py``.
    :param line: of the mutation, from 1, and its column, from 0.
    :param operator: its name in cosmic-ray.
    :param occurrence: which of the operator's mutations of this source, from 0.
    """

    module: str
    line: int
    column: int
    operator: str
    occurrence: int

    @property
    def path(self) -> Path:
        return CORE / self.module

    @cached_property
    def source(self) -> str:
        """Give the whole source with the mutation in it."""
        tree = get_ast(self.path.read_text())
        operator = _operators()[self.operator]
        node, index, _ = next(islice(_mutations(ast_nodes(tree), operator), self.occurrence, None))
        siblings = node.parent.children
        at = next(n for n, sibling in enumerate(siblings) if sibling is node)
        replaced = operator.mutate(node, index)
        siblings[at : at + 1] = [] if replaced is None else [replaced]
        return str(tree.get_code())

    def diff(self) -> list[str]:
        """Give the lines that differ, as they are and as the mutant has them."""
        lines = self.path.read_text().splitlines(), self.source.splitlines()
        every = difflib.unified_diff(*lines, n=0, lineterm="")
        return [line for line in every if not line.startswith(("---", "+++", "@@"))]


def find_places(module: str) -> list[list[Mutant]]:
    """List the places of a module, each with its mutants."""
    source = (CORE / module).read_text()
    nodes, idle, places = list(ast_nodes(get_ast(source))), _idle(source), dict[Place, list[Mutant]]()
    for name, operator in _operators().items():
        for occurrence, (_, _, (line, column)) in enumerate(_mutations(nodes, operator)):
            if not any(start <= (line, column) < end for start, end in idle):
                mutant = Mutant(module=module, line=line, column=column, operator=name, occurrence=occurrence)
                places.setdefault((line, column, type(operator).__module__), []).append(mutant)
    return [places[place] for place in sorted(places)]


def modules_of(package: str) -> list[str]:
    return sorted(path.relative_to(CORE).as_posix() for path in (CORE / package).glob("*.py"))


def draw(modules: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """Draw mutants: of each package in proportion to its places, and of each place drawn one.

    The same arguments and sources give the same mutants.
    """
    chance, drawn = random.Random(seed), list[Mutant]()
    by_package = {p: [q for m in modules if m.startswith(f"{p}/") for q in find_places(m)] for p in PACKAGES}
    every = sum(map(len, by_package.values()))
    for places in by_package.values():
        share = min(len(places), round(count * len(places) / every))
        # An operator may write what is no Python; its place gives way to the next.
        shuffled = (chance.sample(place, len(place)) for place in chance.sample(places, len(places)))
        valid = (m for place in shuffled if (m := next(filter(_compiles, place), None)))
        drawn += islice(valid, share)
    return sorted(drawn)


def _compiles(mutant: Mutant) -> bool:
    try:
        ast.parse(mutant.source)
    except (SyntaxError, AttributeError):  # an operator for errors knows no name with a dot
        return False
    return True


@cache
def _operators() -> dict[str, Operator]:
    provider = OperatorProvider()
    return {name: provider[name]() for name in provider if not provider[name].arguments()}


def _mutations(
    nodes: Iterable[NodeOrLeaf], operator: Operator
) -> Iterator[tuple[NodeOrLeaf, int, tuple[int, int]]]:
    """Give node, index and start of all mutations of an operator, in the order of the source."""
    for node in nodes:
        # Names, texts and spaces are most of a source, and no operator changes one.
        is_signature = node.type == "operator" and node.parent.type in ("parameters", "param", "lambdef")
        if node.type not in ("name", "string", "newline", "fstring_string") and not is_signature:
            for index, (start, _) in enumerate(operator.mutation_positions(node)):
                yield node, index, start


def _idle(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """List from where to where nothing runs, or runs for types alone."""
    found: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif (isinstance(node, ast.keyword) and node.arg in _IDLE_OPTIONS) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            found.append(node)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in found if n]
