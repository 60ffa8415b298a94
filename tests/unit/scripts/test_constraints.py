"""Each file of constraints is of its Airflow, and pins every needed package to a version that fits."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts.constraints import EXTRAS, HOME, UNTIL, main

ROOT = Path(__file__).resolve().parents[3]
OWN = "airflow-kinesis-audience"


def pinned(minor: str) -> dict[str, Version]:
    """Read the pins of a file that hold for a new Python on Linux."""
    found = {}
    for line in (HOME / f"airflow-{minor}.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            here = {"python_full_version": "3.12.0", "python_version": "3.12"}
            if requirement.marker is None or requirement.marker.evaluate(here):
                [specifier] = requirement.specifier
                assert specifier.operator == "==", line
                found[requirement.name] = Version(specifier.version)
    return found


def needed() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]
    return [r for r in map(Requirement, [*project["dependencies"], *extras]) if r.name != OWN]


def test_there_is_a_file_per_minor_version_and_no_other() -> None:
    assert {path.name for path in HOME.iterdir()} == {f"airflow-{minor}.txt" for minor in UNTIL}


@pytest.mark.parametrize("minor", UNTIL)
def test_every_package_is_pinned_to_a_version_that_fits(minor: str) -> None:
    pins = pinned(minor)
    assert pins["apache-airflow"] in Requirement(f"apache-airflow=={minor}.*").specifier
    assert {str(r) for r in needed() if r.name not in pins or pins[r.name] not in r.specifier} == set()


def test_a_version_without_a_file_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["2.10"]) == 2
    assert "no such version: 2.10; expected 3.1, 3.2, 3.3" in capsys.readouterr().err
