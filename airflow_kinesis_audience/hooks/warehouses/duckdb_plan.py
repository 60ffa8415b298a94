"""Whether a query of DuckDB may be read twice in one statement, by DuckDB's own plan of it.

Only what is proven to give the same rows twice may: one scan of a table of its own, within the snapshot of the
statement, on conditions that call no function. A file, a view that computes something, a sample or a limit is not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHOWN = {"Table", "Type", "Projections", "Filters", "Estimated Cardinality"}
"""What is known to be shown of a scan that gives the rows of a table, those that meet ``Filters``."""

_CONSTANT = re.compile(r"'(?:[^']|'')*'")
_CALL = re.compile(r"(?<![A-Za-z0-9_\"])(?!(?:AND|OR|NOT|IN|IS|WHEN|THEN|ELSE|CASE)\b)[A-Za-z0-9_\"]+\(")


def is_stable(plan: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a plan is one scan of a table that gives the same rows each time.

    :param plan: as ``EXPLAIN (FORMAT json)`` gives it.
    """
    if len(plan) != 1 or plan[0]["name"] != "SEQ_SCAN" or plan[0]["children"]:
        return False
    shown = plan[0]["extra_info"]
    if "Table" not in shown or not shown.keys() <= _SHOWN:
        return False
    filters = shown.get("Filters", [])
    parts = [filters] if isinstance(filters, str) else filters
    return not any(_CALL.search(_CONSTANT.sub("", part)) for part in parts)
