"""Builds what is released, and looks at it as whoever installs it will.

    python scripts/release.py build [DIRECTORY]   wheel and sdist, twice, the same bytes; checked, installed, asked
    python scripts/release.py changelog           commits since the last tag that a user may notice

The archives get the time of the last commit, so that anybody can build the same bytes from the same commit.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTICED = ("feat", "fix", "perf")
"""Kinds of commits that a user may notice."""
_ASKED = """
import json, sys
from importlib import metadata
from airflow_kinesis_audience import __version__
from airflow_kinesis_audience.cli.commands import main
from airflow_kinesis_audience.provider_info import get_provider_info
found = metadata.metadata("airflow-kinesis-audience")
assert found["Version"] == __version__, (found["Version"], __version__)
assert get_provider_info()["package-name"] == found["Name"]
assert main(["schema", "amplitude_cohort"]) == 0
"""


class ReleaseFailed(Exception):
    """What was built is not what may be released; the message says why."""


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a program to its end; gives what it printed.

    :raises ReleaseFailed: if it fails, with the end of its output.
    """
    settings = {"capture_output": True, "text": True, "check": False}
    ended = subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, **settings)  # noqa: S603
    if ended.returncode:
        named = " ".join(map(str, command[:4]))
        raise ReleaseFailed(f"{named} … ended with {ended.returncode}:\n{(ended.stdout + ended.stderr)[-3_000:]}")
    return str(ended.stdout)


def commit_time() -> str:
    """Return the time of the last commit, in seconds since 1970."""
    return run("git", "log", "-1", "--format=%ct").strip()


def build(into: Path, epoch: str, root: Path = ROOT) -> dict[str, str]:
    """Build wheel and sdist; gives the SHA-256 of each file by its name."""
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", into, root)
    run(*command, cwd=root, env={"SOURCE_DATE_EPOCH": epoch, "AUDIENCE_PAGE": "required"})
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(into.iterdir())}


def build_twice(into: Path, epoch: str, root: Path = ROOT) -> dict[str, str]:
    """Build, build once more, and compare; gives the SHA-256 of each file by its name.

    :raises ReleaseFailed: if the bytes differ.
    """
    built = build(into, epoch, root)
    with tempfile.TemporaryDirectory() as other:
        again = build(Path(other), epoch, root)
    if differing := sorted(name for name in built.keys() | again.keys() if built.get(name) != again.get(name)):
        raise ReleaseFailed(
            f"two builds differ in {', '.join(differing)}; what is in them that is not the commit's?"
        )
    return built


def check(files: Sequence[Path]) -> None:
    """Have the files looked at as an upload would."""
    run(sys.executable, "-m", "twine", "check", "--strict", *files)


def check_installed(wheel: Path) -> None:
    """Install a wheel, without what it depends on, into an environment of its own, and ask it what it is."""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "venv", folder)
        python = Path(folder, "bin", "python")
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
        run(python, "-I", "-c", _ASKED, cwd=Path(folder))


def check_tag(tag: str, version: str) -> None:
    """Look whether a tag is that of the version.

    :raises ReleaseFailed: if it is another.
    """
    if tag != f"v{version}":
        raise ReleaseFailed(f"the tag is {tag}, and the package says {version}; expected v{version}")


def check_changelog(version: str, changelog: str) -> None:
    """Look whether a version that is to be released has a heading with its day.

    :raises ReleaseFailed: if it has none.
    """
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        raise ReleaseFailed(f"CHANGELOG.md has no heading '## [{version}] - YYYY-MM-DD'")


def read_version() -> str:
    """Read the version out of the package."""
    text = (ROOT / "airflow_kinesis_audience" / "__init__.py").read_text()
    [version] = re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return str(version)


def list_noticed(log: str) -> list[str]:
    """List the commits of a log, a subject a line, that a user may notice."""
    kinds = "|".join(NOTICED)
    return [line for line in log.splitlines() if re.match(rf"({kinds})(\([\w-]+\))?!?: ", line) or "!: " in line]


def main(arguments: Sequence[str]) -> str | int:
    """Do what the arguments say; gives what ``sys.exit`` takes."""
    try:
        if arguments[:1] == ["changelog"]:
            tags = run("git", "tag", "--list", "v*", "--sort=-creatordate").split()
            print(
                "\n".join(list_noticed(run("git", "log", "--format=%s", *([f"{tags[0]}..HEAD"] if tags else []))))
            )
            return 0
        if arguments[:1] == ["build"]:
            into = Path(*arguments[1:2] or ["dist"]).resolve()
            if into.is_dir() and any(into.iterdir()):
                raise ReleaseFailed(f"{into} is not empty; name another directory, or clear it")
            if os.environ.get("GITHUB_REF_TYPE") == "tag":
                check_tag(os.environ["GITHUB_REF_NAME"], read_version())
                check_changelog(read_version(), (ROOT / "CHANGELOG.md").read_text())
            built = build_twice(into, commit_time())
            check([into / name for name in built])
            check_installed(next(into.glob("*.whl")))
            print("\n".join(f"{digest}  {name}" for name, digest in built.items()))
            return 0
    except ReleaseFailed as failed:
        return str(failed)
    return "usage: python scripts/release.py build [DIRECTORY] | changelog"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
