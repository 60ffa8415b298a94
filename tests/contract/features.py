"""The table of engines and features in the documentation: made of what the tests of the state model found.

A cell says ``yes`` where the feature's test passed on the engine, and ``no`` where the engine lacks what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.engines import ENGINES

DOCUMENT = Path(__file__).parents[2] / "docs" / "warehouses.md"
BEGIN, END = "<!-- what the tests found -->", "<!-- until here -->"
LACKS = " has no "
"""What a test says that is skipped because an engine lacks what it needs."""

OUTCOMES = pytest.StashKey[dict[tuple[str, str], tuple[str, str]]]()
"""Test of the state model, and engine, to outcome and, if it was skipped, why."""

Cells = Mapping[tuple[str, str], str]
"""Feature and engine's title to what was found."""


def read_cells() -> dict[tuple[str, str], str]:
    """Read the table in the documentation."""
    _, _, rest = DOCUMENT.read_text().partition(BEGIN)
    lines = [line.strip("| ").split(" | ") for line in rest.partition(END)[0].strip().splitlines()]
    if not lines:
        return {}
    titles = lines[0]
    return {(row[0], title): cell for row in lines[2:] for title, cell in zip(titles, row[1:], strict=True)}


def write_cells(found: Cells, features: Mapping[str, str]) -> None:
    """Write the table with what was found now, and what stood there of engines that were not run."""
    cells = {**read_cells(), **found}
    titles = [e.title for e in ENGINES.values() if any((f, e.title) in cells for f in features.values())]
    lines = ["|  | " + " | ".join(titles) + " |", "| --- |" + " --- |" * len(titles)]
    lines += [
        f"| {feature} | " + " | ".join(cells.get((feature, t), "not run") for t in titles) + " |"
        for feature in features.values()
    ]
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}")


def cells_of(outcomes: Mapping[tuple[str, str], tuple[str, str]], features: Mapping[str, str]) -> Cells:
    """Make cells of what became of the tests.

    :param outcomes: test and engine to outcome and, if it was skipped, why.
    """
    found = {}
    for (test, engine), (outcome, reason) in outcomes.items():
        title = ENGINES[engine].title
        if not title or test not in features or (outcome == "skipped" and LACKS not in reason):
            continue
        found[features[test], title] = {"passed": "yes", "skipped": "no"}.get(outcome, "failed")
    return found
