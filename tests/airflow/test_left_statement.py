"""A diff task whose statement is left to the warehouse: what it gives to Airflow is what it gets back."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_kinesis_audience.hooks.warehouses.left_statements import LeftStatement, StatementLeft
from airflow_kinesis_audience.operators import AudienceDiffOperator
from airflow_kinesis_audience.operators.statement_trigger import StatementTrigger

LEFT = LeftStatement(statement_id="01b2", digest="ab", table="changes_x")


def test_the_task_is_deferred_and_continues_after_the_same_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_operator: Any, _context: Any) -> None:
        raise StatementLeft(LEFT)

    operator = AudienceDiffOperator(
        task_id="diff", warehouse_conn_id="warehouse", table="members", audience_id="a", deferrable=True
    )
    monkeypatch.setattr(AudienceDiffOperator, "_compute", leave)
    with pytest.raises(TaskDeferred) as found:
        operator.execute({})
    deferred = found.value
    assert isinstance(deferred.trigger, StatementTrigger)
    _, given = deferred.trigger.serialize()
    assert (given["warehouse_conn_id"], given["statement"]) == ("warehouse", asdict(LEFT))

    seen: list[LeftStatement | None] = []
    monkeypatch.setattr(AudienceDiffOperator, "_compute", lambda self, _: seen.append(self._left) or {})
    again = getattr(operator, deferred.method_name)
    again({}, event=None, **json.loads(json.dumps(deferred.kwargs)))
    again({}, event=asdict(LEFT))
    assert seen == [LEFT, LEFT], "dag.test() gives the event alone"


def test_statements_from_before_a_pause_are_in_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = SimpleNamespace(can_leave=True, statements=5, statement_seconds=1.5, bytes_scanned=None)
    warehouse.origin = warehouse
    ledger = SimpleNamespace(warehouse=warehouse)
    sync = SimpleNamespace(warehouse=warehouse, committer=SimpleNamespace(), ledger=ledger)

    def compute(operator: Any, _context: Any) -> dict[str, Any]:
        operator._continue(sync)
        if operator._left is None:
            raise StatementLeft(LEFT)
        return dict(operator._count_sent())

    operator = AudienceDiffOperator(
        task_id="diff", warehouse_conn_id="warehouse", table="members", audience_id="a", deferrable=True
    )
    monkeypatch.setattr(AudienceDiffOperator, "_compute", compute)
    with pytest.raises(TaskDeferred) as found:
        operator.execute({})
    warehouse.statements, warehouse.statement_seconds, warehouse.bytes_scanned = 3, 0.25, 700
    summary = operator.resume({}, event=None, **json.loads(json.dumps(found.value.kwargs)))
    assert summary == {"statements": 8, "statement_seconds": 1.75, "bytes_scanned": 700}


def test_a_task_that_was_deferred_continues_although_it_may_not_be_deferred_any_more() -> None:
    operator = AudienceDiffOperator(
        task_id="diff", warehouse_conn_id="warehouse", table="members", audience_id="a", deferrable=False
    )
    operator._left = LEFT
    warehouse, committer = SimpleNamespace(can_leave=True), SimpleNamespace()
    operator._continue(SimpleNamespace(warehouse=warehouse, committer=committer))  # type: ignore[arg-type]
    assert (warehouse.may_leave, warehouse.left, committer.left) == (True, LEFT, LEFT.table)
