"""The bill of materials names every locked package; what is not pinned is refused, and so are loose actions."""

from __future__ import annotations

import importlib.util
import json
import re
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
BEFORE_THE_LOCK = {"pip", "setuptools"}
"""What a new environment has before anything is installed in it."""


@pytest.fixture
def bill(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bill", ROOT / "scripts" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "bill", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_bill_has_every_locked_package_once_and_its_edges_lead_somewhere(
    bill: ModuleType, tmp_path: Path
) -> None:
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed")
    assert bill.main(["sbom", str(tmp_path / "bill.json")]) == 0
    written = (tmp_path / "bill.json").read_text()
    made = json.loads(written)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    own = made["metadata"]["component"]
    assert (own["name"], own["version"]) == ("airflow-kinesis-audience", version("airflow-kinesis-audience"))
    found = [(canonicalize_name(component["name"]), component["version"]) for component in made["components"]]
    locked = {(pin.name, pin.version) for pin in bill.read_pins() if pin.here}
    assert len(found) == len(set(found))
    assert locked <= set(found)
    assert {name for name, _ in set(found) - locked} <= BEFORE_THE_LOCK
    refs = {component["bom-ref"] for component in made["components"]}
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in made["dependencies"]}
    assert len(edges) == len(made["dependencies"])
    assert {ref for needs in edges.values() for ref in needs} <= refs
    assert any(ref.startswith("apache-airflow==") for ref in edges[own["bom-ref"]])
    assert str(ROOT) not in written, "the bill names this machine"


def test_a_line_that_pins_no_version_is_refused(
    bill: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lock").write_text("# comment\norjson==3.10 \\\n    --hash=sha256:00\nsix>=1.16\n")
    monkeypatch.setattr(bill, "LOCK", tmp_path / "lock")
    with pytest.raises(ValueError, match=r"pins no version: six>=1\.16"):
        bill.read_pins()


@pytest.mark.parametrize(
    ("printed", "code", "known"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("orjson Dependency not found on PyPI and could not be audited: orjson (3.13.0)", 0, None),
        ("", 1, None),
    ],
)
def test_what_could_not_be_looked_up_is_not_called_good(
    bill: ModuleType, monkeypatch: pytest.MonkeyPatch, printed: str, code: int, known: int | None
) -> None:
    class Done:
        stdout, stderr, returncode = printed, "", code

    monkeypatch.setattr(bill.subprocess, "run", lambda *_args, **_kwargs: Done)
    assert bill._ask_database() == known


def test_workflows_pin_the_actions_that_they_use_by_commit() -> None:
    uses = [
        line
        for path in sorted((ROOT / ".github").rglob("*.y*ml"))
        for line in re.findall(r"uses:\s*(\S+)", path.read_text())
    ]
    assert [action for action in uses if not re.search(r"@[0-9a-f]{40}$", action)] == []
