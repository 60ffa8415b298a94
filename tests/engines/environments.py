"""Environments of their own for engines and drivers that the project's lock cannot hold.

Each is a folder of packages beside the project's own, filled once by the installer that run.py uses, and made
anew when its list changes. Two processes that want one at once each fill a folder, and one of them counts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

import run

_LISTS = Path(__file__).parent
_HOME = Path(sys.prefix) / "engines"


@cache
def packages(name: str) -> Path:
    """Give the folder that has the packages of a list; skips the test where they can't be had.

    :param name: of the list beside this file, without its suffix.
    """
    wanted = _LISTS / f"{name}.txt"
    folder = _HOME / name
    if _wants(folder) == wanted.read_text():
        return folder
    _HOME.mkdir(exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=_HOME))
    install = ["-m", "uv", "pip", "install", "--quiet", "--target", fresh, "--requirement", wanted]
    command = [sys.executable, *install, "--no-deps"] if wanted.read_text().startswith("# no-deps") else None
    done = subprocess.run(
        command or [sys.executable, *install],
        # amazon_kclpy downloads a hundred jars for its daemon, which no test runs: each becomes a small file.
        env={**run.installer_settings(), "KCL_MVN_REPO_SEARCH_URL": "data:,"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(fresh)
        pytest.skip(f"the packages of tests/engines/{name}.txt could not be installed")
    (fresh / "list.txt").write_text(wanted.read_text())
    if folder.exists():
        shutil.rmtree(folder)
    try:
        os.replace(fresh, folder)
    except OSError:  # another process was faster
        shutil.rmtree(fresh)
    return folder


def _wants(folder: Path) -> str:
    kept = folder / "list.txt"
    return kept.read_text() if kept.exists() else ""


def add_packages(name: str) -> None:
    """Let this process import the packages of a list, where it has none of that name itself."""
    folder = str(packages(name))
    if folder not in sys.path:
        sys.path.append(folder)
