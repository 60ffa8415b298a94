"""No statement gives one name to two common table expressions, wherever they stand.

Most engines allow it in subqueries. For Spark and Databricks they are moved to the top of the statement, where it
is an error. Histories of the simulator run every kind of statement.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.sql import statements
from tests.simulator.history import live
from tests.simulator.plan import Plan
from tests.simulator.remembering import RememberingDuckDb

if TYPE_CHECKING:
    import pytest

    from airflow_kinesis_audience.core.sql.dialects import Dialect


def test_no_two_common_table_expressions_of_a_statement_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    write = statements._write
    seen: dict[str, list[str]] = {}

    def look(expression: exp.Expr, dialect: Dialect) -> str:
        text = write(expression, dialect)
        if text not in seen:
            names = Counter(found.alias for found in expression.find_all(exp.CTE))
            seen[text] = [name for name, count in names.items() if count > 1]
        return text

    monkeypatch.setattr(statements, "_write", look)
    inner = RememberingDuckDb()
    plans = {seed: Plan.of(seed) for seed in range(1, 400)}
    chosen = [seed for seed, plan in plans.items() if plan.profiles and plan.days == 3 and plan.keep_days == 1][
        :12
    ]
    chosen += [seed for seed, plan in plans.items() if {"insert", "resync"} <= {*plan.acts}][:8]
    assert not [ended.broken for ended in (live(seed, inner) for seed in chosen) if ended.broken]
    assert len(seen) > 500
    assert not [(names, text) for text, names in seen.items() if names]
