"""The packages of requirements.lock: a bill of materials (CycloneDX 1.6), and an audit of what is known of them.

    python scripts/sbom.py sbom [FILE]   write the bill; by default to standard output
    python scripts/sbom.py audit         what their own metadata says, and then what pip-audit says

It runs in the project's environment, whose packages are those of the lock for this platform, and reads what they
declare; cyclonedx-bom writes the bill. pip-audit is fetched for the occasion, into an environment of its own. If
its database cannot be reached, that is printed, and the exit code is 2: not known is not good.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
_FREE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|MPL|Mozilla|PSF|Python Software|Zlib|Unlicense|LGPL|Lesser|0BSD|HPND|CNRI|"
    r"public domain)",
    re.IGNORECASE,
)
_UNKNOWN, _FOUND = 2, 1


@dataclass(frozen=True)
class Pin:
    """One line of the lock.

    :param here: whether it is for this platform and Python.
    """

    name: str
    version: str
    here: bool


def read_pins() -> list[Pin]:
    """Read every package of the lock, without the hashes that follow it.

    :raises ValueError: if one pins nothing.
    """
    found = []
    for line in LOCK.read_text().splitlines():
        if not line.strip() or line.startswith(("#", " ")):
            continue
        required = Requirement(line.removesuffix("\\"))
        exact = [s.version for s in required.specifier if s.operator == "=="]
        if len(exact) != 1:
            raise ValueError(f"requirements.lock has a line that pins no version: {line}")
        here = required.marker is None or required.marker.evaluate()
        found.append(Pin(canonicalize_name(required.name), exact[0], here))
    return found


def find(name: str) -> Distribution | None:
    """Find an installed package; none where it is for another platform or Python."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licence_of(found: Distribution) -> str:
    """Return a package's licence, as its metadata has it."""
    own = found.metadata
    classified = [c.rsplit(" :: ", 1)[-1] for c in own.get_all("Classifier", []) if c.startswith("License ::")]
    text = own.get("License-Expression") or ", ".join(classified) or (own.get("License") or "").strip()
    return text.splitlines()[0] if text else ""


def write_bill(target: str) -> int:
    """Have cyclonedx-bom write what is installed here; the same packages give the same bytes.

    :param target: a file, or ``-`` for standard output.
    """
    own = distribution("airflow-kinesis-audience")
    with tempfile.TemporaryDirectory() as folder:
        # Hatch reads the version from the source, and cyclonedx-bom knows only one that is written there.
        project = Path(folder, "pyproject.toml")
        text = (ROOT / "pyproject.toml").read_text()
        project.write_text(text.replace('dynamic = ["version"]', f'version = "{own.version}"'))
        command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(project)]
        command += ["--mc-type", "library", "--sv", "1.6", "--short-PURLs", "--output-reproducible"]
        # To validate what it has just written takes it ten times as long as to write it.
        command += ["--no-validate"]
        return subprocess.run([*command, "--output-file", target, sys.executable], check=False).returncode  # noqa: S603


def audit() -> int:
    """Print what is wrong with the packages, and what could not be known."""
    pins, troubles = read_pins(), []
    for pin in pins:
        found = find(pin.name) if pin.here else None
        if found is None:
            continue
        if found.version != pin.version:
            troubles.append(f"{pin.name}: {found.version} is installed, and {pin.version} is locked")
        licence = licence_of(found)
        if not _FREE.search(licence):
            troubles.append(f"{pin.name} {pin.version}: licence {licence or 'not given'!r}; may it be used?")
    names = [pin.name for pin in pins if pin.here]
    troubles += [f"{name} is locked twice" for name in sorted(set(names)) if names.count(name) > 1]
    print(f"{len(pins)} packages are locked, each to one version; by their own metadata:")
    print("\n".join(f"  {trouble}" for trouble in troubles) or "  nothing is wrong")
    known = _ask_database()
    return _UNKNOWN if known is None else int(known > 0)


def _ask_database() -> int | None:
    """Ask for known vulnerabilities; gives how many packages have one, or none if nobody could be asked."""
    command = [sys.executable, "-m", "uv", "tool", "run", "pip-audit", "--requirement", str(LOCK), "--no-deps"]
    command += ["--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)  # noqa: S603
    print(done.stdout.strip())
    # What it could not look up it skips, and calls the rest good.
    skipped = done.stdout.count("could not be audited")
    if done.returncode == 0 and not skipped:
        return 0
    if skipped:
        print(f"pip-audit could not look up {skipped:,} packages, so their vulnerabilities are NOT known")
        return None
    if "Found" in done.stderr and "known vulnerabilit" in done.stderr:
        print(done.stderr.strip())
        return _FOUND
    last = next((line for line in reversed(done.stderr.strip().splitlines()) if line.strip()), "no answer")
    print(f"pip-audit's database could not be asked, so vulnerabilities are NOT known: {last.strip()}")
    return None


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["audit"] and len(arguments) == 1:
        return audit()
    if arguments[:1] == ["sbom"] and len(arguments) <= 2:
        return write_bill(*(arguments[1:] or ["-"]))
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
