"""The packages of requirements.lock: a bill of materials (CycloneDX 1.6), and an audit of what is known of them.

    python .ci/bill.py sbom [FILE]   write the bill; by default to standard output
    python .ci/bill.py audit         what can be said without asking anybody, and then what pip-audit says

It runs in the project's environment, whose packages are those of the lock, and reads their own metadata. pip-audit
is fetched for the occasion, into an environment of its own; where its database cannot be reached that is said, and
the exit code is 2: not known is not good.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

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

    @property
    def purl(self) -> str:
        return purl(self.name, self.version)


def read_pins() -> list[Pin]:
    """Read every line of the lock.

    :raises ValueError: if one pins nothing.
    """
    found = []
    for line in LOCK.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        required = Requirement(line)
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
    """Say under which licence a package is, as it says itself."""
    told = found.metadata
    classified = [c.rsplit(" :: ", 1)[-1] for c in told.get_all("Classifier", []) if c.startswith("License ::")]
    text = told.get("License-Expression") or ", ".join(classified) or (told.get("License") or "").strip()
    return text.splitlines()[0] if text else ""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def purl(name: str, version: str) -> str:
    return f"pkg:pypi/{canonicalize_name(name)}@{version}"


def make_bill() -> dict[str, Any]:
    """Make the document; the same lock gives the same one, but for its serial number."""
    pins = read_pins()
    refs: dict[str, str] = {pin.name: pin.purl for pin in pins if pin.here}
    components, dependencies = [], []
    for pin in pins:
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": pin.purl,
            "name": pin.name,
            "version": pin.version,
            "purl": pin.purl,
        }
        found = find(pin.name) if pin.here else None
        if found is not None:
            if licence := licence_of(found):
                component["licenses"] = [{"license": {"name": licence}}]
            needs = sorted({refs[n] for n in _needs_of(found) if n in refs})
            dependencies.append({"ref": pin.purl, "dependsOn": needs})
        components.append(component)
    own = distribution("airflow-kinesis-audience")
    ref = purl(own.metadata["Name"], own.version)
    needs = sorted({refs[n] for n in _needs_of(own, extras=True) if n in refs})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": ref,
                "name": own.metadata["Name"],
                "version": own.version,
                "purl": ref,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": needs}, *dependencies],
    }


def _needs_of(found: Distribution, *, extras: bool = False) -> Iterator[str]:
    for requirement in found.requires or ():
        if extras or "extra ==" not in requirement:
            yield canonicalize_name(re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0])


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
            troubles.append(f"{pin.name} {pin.version}: licence {licence or 'not said'!r}; may it be used?")
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
    said = next((line for line in reversed(done.stderr.strip().splitlines()) if line.strip()), "no answer")
    print(f"pip-audit's database could not be asked, so vulnerabilities are NOT known: {said.strip()}")
    return None


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["audit"] and len(arguments) == 1:
        return audit()
    if arguments[:1] == ["sbom"] and len(arguments) <= 2:
        text = json.dumps(make_bill(), indent=2) + "\n"
        if len(arguments) > 1:
            Path(arguments[1]).write_text(text)
        else:
            print(text, end="")
        return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
