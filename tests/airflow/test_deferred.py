"""A task whose stream throttles it is deferred and goes on after the pause; each record is on the stream once.

The trigger runs within ``dag.test``. ``tests/integration`` has a triggerer that runs, and the slot.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.airflow.running import DIFF, Airflow, Run, aws, day, deployed
from tests.scripted_kinesis import TAKE, THROTTLE, Arrived, ScriptedKinesis

if TYPE_CHECKING:
    from tests.airflow.conftest import Warehouse

pytestmark = pytest.mark.slow

MEMBERS = 40
PUBLISH = {"stream_name": "s", "format_options": {"max_users": 2}}


class BusyKinesis(ScriptedKinesis):
    """Takes a third of the first request, and then nothing for some seconds."""

    def __init__(self, busy_seconds: float) -> None:
        super().__init__(self._decide)
        self._busy_seconds = busy_seconds
        self._free_at = float("inf")

    def _decide(self, request: int, records: Sequence[Arrived]) -> list[str]:
        if request == 0:
            self._free_at = time.monotonic() + self._busy_seconds
            return [TAKE if number % 3 == 0 else THROTTLE for number in range(len(records))]
        return [TAKE if time.monotonic() > self._free_at else THROTTLE] * len(records)


def publish_to(kinesis: ScriptedKinesis, airflow: Airflow, warehouse: Warehouse, **publish: Any) -> Run:
    warehouse.members([(f"u{number}", "", "") for number in range(MEMBERS)])
    connections = warehouse.connection, aws(kinesis.endpoint_url)
    with deployed(airflow, *connections, DIFF, {**PUBLISH, **publish}) as dag:
        return dag.run(day(1))


def test_a_throttled_task_waits_and_puts_what_is_missing(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    with BusyKinesis(45) as kinesis:
        run = publish_to(kinesis, airflow, duckdb_warehouse, deferrable=True)
    assert run.state == "success", run.log
    assert run["publish"].tries == 1
    assert "The task waits for 30 s without a worker slot, and then continues" in run.log
    sent = [record.data for record in kinesis.taken]
    assert len(sent) == len(set(sent)), "something was put twice"
    consumer = AudienceConsumer()
    for document in sent:
        consumer.apply(document)
    assert consumer.members("gs72ns") == {f"u{number}" for number in range(MEMBERS)}


def test_a_throttled_task_that_has_waited_for_long_enough_fails(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    with BusyKinesis(600) as kinesis:
        run = publish_to(kinesis, airflow, duckdb_warehouse, deferrable=True, longest_wait=timedelta(0))
    assert run["publish"].state == "failed"
    [sentence] = run["publish"].xcom["state"]["sentences"]
    assert sentence.startswith("Retry Limit Exceeded at kinesis")
    assert "The task has waited for longest_wait, 0:00:00, in all" in run.log


def test_what_is_sent_again_is_not_waited_for(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    with BusyKinesis(600) as kinesis:
        run = publish_to(kinesis, airflow, duckdb_warehouse, deferrable=True, resend=True)
    assert run["publish"].state == "failed"
    assert "without a worker slot" not in run.log


def test_the_longest_wait_is_a_time(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    with ScriptedKinesis() as kinesis:
        run = publish_to(kinesis, airflow, duckdb_warehouse, deferrable=True, longest_wait=3600)
    assert run["publish"].state == "failed"
    assert run["publish"].xcom["state"]["sentences"] == ["longest_wait is 3600; expected a timedelta"]
    assert kinesis.taken == []
