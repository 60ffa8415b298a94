"""Builds the package: hatchling, except that an editable install, which builds no page, does not fetch Node."""

from __future__ import annotations

from typing import Any

from hatch_build import NODE
from hatchling import build
from hatchling.build import *  # noqa: F403


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Return what an editable install needs; PEP 660."""
    return [needed for needed in build.get_requires_for_build_editable(config_settings) if needed != NODE]
