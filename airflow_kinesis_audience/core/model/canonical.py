"""One text for a value, the same in every process and on every machine: what ids are derived from.

What JSON can say is said as JSON, keys in their order; a set, which has no order, as a sorted list. A value whose
text depends on the process is refused: a half-sent change set could not be finished in another one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

_ADDRESS = " at 0x"
"""What the text of an object has that has none of its own."""


def canonical_json(value: Any) -> str:
    """Render a value as one text.

    :raises ValueError: if it has none, without the value; no retry helps.
    """
    try:
        return json.dumps(value, sort_keys=True, default=_plain)
    except TypeError:
        raise ValueError("has keys that are not texts; use a text as the key of each value") from None


def _plain(value: Any) -> Any:
    """Give in the place of a value what JSON can say."""
    # A set of fewer values has one order, so that its text was always the same; ids that are out must stay.
    if isinstance(value, set | frozenset) and len(value) > 1:
        return sorted(value, key=canonical_json)
    text = repr(value)
    if _ADDRESS in text or _has_no_order(value):
        raise ValueError(
            f"has a {type(value).__name__}, whose text differs between processes, and message ids are derived "
            "from it; use texts, numbers, lists or mappings"
        )
    return text


def _has_no_order(value: Any) -> bool:
    """Return whether the text of a value depends on the order of a set inside of it."""
    if isinstance(value, set | frozenset):
        return len(value) > 1
    if is_dataclass(value) and not isinstance(value, type):
        return any(_has_no_order(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, Mapping):
        return any(map(_has_no_order, (*value, *value.values())))
    return isinstance(value, Collection) and not isinstance(value, str | bytes) and any(map(_has_no_order, value))
