"""A task whose stream throttles it is deferred and goes on after the pause; each record is on the stream once.

The trigger runs within ``dag.test``. ``tests/integration`` has a triggerer that runs, and the slot.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.airflow.running import DIFF, Airflow, Run, aws, day, deployed, one_task_dag
from tests.airflow.running import PUBLISH as OF_PUBLISH
from tests.scripted_kinesis import Arrived, Busy, ScriptedKinesis

if TYPE_CHECKING:
    from tests.airflow.conftest import Warehouse

pytestmark = pytest.mark.slow

MEMBERS = 40
PUBLISH = {"stream_name": "s", "format_options": {"max_users": 2}}


def publish_to(kinesis: ScriptedKinesis, airflow: Airflow, warehouse: Warehouse, **publish: Any) -> Run:
    warehouse.members([(f"u{number}", "", "") for number in range(MEMBERS)])
    connections = warehouse.connection, aws(kinesis.endpoint_url)
    with deployed(airflow, *connections, DIFF, {**PUBLISH, **publish}) as dag:
        return dag.run(day(1))


def test_a_throttled_task_waits_and_puts_what_is_missing(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    with ScriptedKinesis(Busy(45)) as kinesis:
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
    with ScriptedKinesis(Busy(600)) as kinesis:
        run = publish_to(kinesis, airflow, duckdb_warehouse, deferrable=True, longest_wait=timedelta(0))
    assert run["publish"].state == "failed"
    [sentence] = run["publish"].xcom["state"]["sentences"]
    assert sentence.startswith("Retry Limit Exceeded at kinesis")
    assert "The task has waited for longest_wait, 0:00:00, in all" in run.log


def test_what_is_sent_again_is_not_waited_for(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    with ScriptedKinesis(Busy(600)) as kinesis:
        run = publish_to(kinesis, airflow, duckdb_warehouse, deferrable=True, resend=True)
    assert run["publish"].state == "failed"
    assert "without a worker slot" not in run.log


def test_the_longest_wait_is_a_time(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    with ScriptedKinesis() as kinesis:
        run = publish_to(kinesis, airflow, duckdb_warehouse, deferrable=True, longest_wait=3600)
    assert run["publish"].state == "failed"
    assert run["publish"].xcom["state"]["sentences"] == ["longest_wait is 3600; expected a timedelta"]
    assert kinesis.taken == []


def test_a_resync_that_pauses_puts_each_message_once(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    audiences = [f"town{number}" for number in range(6)]
    duckdb_warehouse.members([(f"u{number}", "", audiences[number % 6]) for number in range(MEMBERS)])
    diff = {**DIFF, "audience_id_column": "city", "audience_id": None, "audience_name": None}
    same = {**OF_PUBLISH, **PUBLISH, "sync_id": "lapsed", "warehouse_conn_id": "warehouse"}
    begins, ends = Busy(3), Busy(3)

    def script(request: int, records: Sequence[Arrived]) -> list[str]:
        ended = any(b"resync_complete" in record.data for record in records)
        return (ends if ended else begins)(request, records)

    with ScriptedKinesis() as kinesis:
        connections = {"warehouse": duckdb_warehouse.connection, "aws": aws(kinesis.endpoint_url)}
        with deployed(airflow, *connections.values(), diff, PUBLISH) as dag:
            assert dag.run(day(1)).state == "success"
        before, kinesis.script = len(kinesis.taken), script
        dag_id, text = one_task_dag("AudienceResyncOperator", "resync", {**same, "deferrable": True})
        with airflow.dag_file(dag_id, text) as file:
            run = airflow.run(file, connections=connections, logical_date=day(2), short_pauses=True)
    assert run.state == "success", run.log
    assert run.log.count("without a worker slot, and then continues") > 1
    sent = [record.data for record in kinesis.taken[before:]]
    assert len(sent) == len(set(sent)) == run["resync"].summary["records"]
    notices = Counter(json.loads(data).get("lifecycle", {}).get("event") for data in sent)
    assert (notices["resync_begin"], notices["resync_complete"]) == (6, 6)
    consumer = AudienceConsumer()
    for document in sent:
        consumer.apply(document)
    assert [r.complete for r in consumer.resyncs()] == [True] * 6
