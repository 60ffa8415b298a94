"""Which mutants there are: of what runs, and the same for a seed."""

from __future__ import annotations

import ast
import importlib
from typing import Any

import pytest

MODULES = ["changes/approval.py", "outbox/report.py", "producer/result.py", "state/fold.py"]


@pytest.fixture(scope="module")
def mutations() -> Any:
    """The module under test; skips where its library can't be had."""
    return importlib.import_module("tests.mutants.mutations")


def test_what_only_a_type_checker_reads_has_no_mutants(mutations: Any) -> None:
    lines = (mutations.CORE / "producer/result.py").read_text().splitlines()
    at = lines.index("    failure: AudienceError | None = None") + 1
    found = {(place[0].line, place[0].column) for place in mutations.find_places("producer/result.py")}
    assert lines.index("if TYPE_CHECKING:") + 1 not in {line for line, _ in found}
    assert at not in {line for line, _ in found}


def test_a_seed_draws_the_same_mutants_of_every_package_and_each_differs_in_what_runs(mutations: Any) -> None:
    drawn = mutations.draw(MODULES, 12, seed=1)
    assert drawn == mutations.draw(MODULES, 12, seed=1) != mutations.draw(MODULES, 12, seed=2)
    assert {mutant.module for mutant in drawn} == set(MODULES)
    for mutant in drawn:
        assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(mutant.path.read_text()))
        assert mutant.diff()
