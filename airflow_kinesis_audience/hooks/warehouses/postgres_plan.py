"""Whether a query of PostgreSQL may be read twice in one statement, by the server's own plan of it.

Only what is proven to give the same rows twice may: one scan of one table, of which columns are given as they are,
or cast, or reckoned with by the operators that every server has. Whatever else a plan shows, a function, a
subquery, a sample, a foreign table, a policy that calls something, is read once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan")
_CONDITIONS = ("Filter", "Index Cond", "Recheck Cond")

_CHEAP_COST = 0.1
"""The planner's cost of a row up to which reading it again is cheaper than writing it and reading that twice."""

_TOKEN = re.compile(
    r"""\s*(?:
        ::(?P<type>"?[a-z][a-z ]*"?(?:\(\d+(?:,\d+)*\))?[a-z ]*(?:\[\])?)
        | (?P<constant>E?'(?:[^'\\]|''|\\.)*' | \d+(?:\.\d+)?)
        | (?P<operator><>|<=|>=|=|<|>|!?~~?\*?|\|\||[-+*/%])
        | (?P<word>(?:AND|OR|NOT|IS|NULL|TRUE|FALSE|true|false|DISTINCT|FROM|ANY|ALL|CASE|WHEN|THEN|ELSE|END
            |COLLATE|COALESCE|NULLIF|GREATEST|LEAST|CURRENT_DATE|CURRENT_TIMESTAMP|LOCALTIMESTAMP)\b)
        | (?P<column>(?:(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")\.)*(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+"))
        | (?P<parenthesis>[(),])
    )""",
    re.VERBOSE,
)


def is_cheap_and_stable(plan: Mapping[str, Any], types: Collection[str]) -> bool:
    """Whether a plan is one scan that gives most of what it reads, and the same rows each time.

    :param plan: the topmost node, as ``EXPLAIN (VERBOSE, FORMAT json)`` gives it.
    :param types: those whose casts and comparisons come with the server.
    """
    return (
        plan["Node Type"] in _SCANS
        and not plan.get("Plans")
        and plan["Total Cost"] <= _CHEAP_COST * plan["Plan Rows"]
        and all(_is_stable(part, types) for part in plan.get("Output", ()))
        and all(_is_stable(plan[name], types) for name in _CONDITIONS if name in plan)
    )


def _is_stable(expression: str, types: Collection[str]) -> bool:
    """Whether an expression has nothing in it but columns, constants, operators, and casts to known types."""
    end, before = 0, ""
    while end < len(expression.rstrip()):
        found = _TOKEN.match(expression, end)
        if found is None:
            return False
        kind = str(found.lastgroup)
        if kind == "parenthesis" and found[kind] == "(" and before == "column":
            return False  # a function's call
        if kind == "type" and re.sub(r"\(.*?\)", "", found[kind]).strip() not in types:
            return False
        before, end = kind, found.end()
    return True
