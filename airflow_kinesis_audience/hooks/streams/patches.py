"""Finds packages that have replaced a method of the SDK in this process, as tracers do. It changes nothing."""

from __future__ import annotations

import inspect
from typing import Any

_OWN = ("botocore", "urllib3")


def find_patch(owner: Any, method: str) -> str:
    """Name the package that has replaced a method of an object; empty if none is seen."""
    found = inspect.getattr_static(owner, method, None)
    wrapper = getattr(found, "_self_wrapper", found)  # of the package wrapt, by which most tracers patch
    home = getattr(wrapper, "__globals__", {}).get("__name__") or getattr(wrapper, "__module__", "")
    package = str(home or "").partition(".")[0]
    return "" if package in _OWN else package
