"""Events and profiles in real DAG runs: what arrives, by which interval, and what bad input ends with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.airflow.running import DIFF, Airflow, Deployed, Run, aws, day, deployed, one_task_dag
from tests.scripted_kinesis import TAKE, UNAVAILABLE, Arrived, Busy, ScriptedKinesis, Whole

if TYPE_CHECKING:
    from datetime import datetime

    from tests.airflow.conftest import Warehouse

pytestmark = pytest.mark.slow

DAILY = "CronDataIntervalTimetable('@daily', timezone='UTC')"
EVENTS = {
    "warehouse_conn_id": "warehouse",
    "sql": "SELECT *, 'opened' AS name FROM clicks",
    "arrived_at_column": "came",
    "identities": {"email": "Email"},
    "fields": {"name": "data.event_name", "page": "data.custom_attributes.page"},
    "stream_name": "changes",
    "aws_conn_id": "aws",
    "sync_id": "clicks",
}


@pytest.fixture
def kinesis() -> Iterator[ScriptedKinesis]:
    with ScriptedKinesis() as kinesis:
        yield kinesis


@pytest.fixture
def clicks(warehouse: Warehouse) -> Warehouse:
    warehouse.execute("CREATE TABLE clicks (event_id TEXT, user_id TEXT, email TEXT, page TEXT, came TIMESTAMPTZ)")
    return warehouse


def put(warehouse: Warehouse, *events: tuple[str | None, str, str]) -> None:
    """Put events: id, user, and when they came."""
    rows = [(e, user, f"{user}@x.example", f"page of {e}", came) for e, user, came in events]
    warehouse.execute("INSERT INTO clicks VALUES ($1, $2, $3, $4, $5)", rows)


@contextmanager
def forwarding(
    airflow: Airflow,
    warehouse: Warehouse,
    kinesis: ScriptedKinesis,
    *,
    schedule: str = DAILY,
    retries: int = 0,
    **more: Any,
) -> Iterator[Deployed]:
    """Put a DAG of the one task into the DAG folder."""
    dag_id, text = one_task_dag(
        "EventsToKinesisOperator", "forward", {**EVENTS, **more}, schedule=schedule, retries=retries
    )
    connections = {"warehouse": warehouse.connection, "aws": aws(kinesis.endpoint_url)}
    with airflow.dag_file(dag_id, text) as file:
        yield Deployed(airflow, file, connections)


def run(airflow: Airflow, warehouse: Warehouse, kinesis: ScriptedKinesis, when: datetime, **more: Any) -> Run:
    with forwarding(airflow, warehouse, kinesis, **more) as dag:
        return dag.run(when)


def pages(kinesis: ScriptedKinesis) -> Counter[str]:
    batches = [json.loads(record.data) for record in kinesis.taken]
    return Counter(e["data"]["custom_attributes"]["page"] for batch in batches for e in batch["events"])


def test_what_came_in_the_data_interval_arrives_once(
    airflow: Airflow, clicks: Warehouse, kinesis: ScriptedKinesis
) -> None:
    put(
        clicks,
        ("a", "u1", "2026-03-01T10:00Z"),
        ("b", "u1", "2026-03-01T11:00Z"),
        ("c", "u2", "2026-03-02T00:00Z"),
    )
    with forwarding(airflow, clicks, kinesis) as dag:
        first = dag.run(day(2))
        assert first.state == "success", first.log
        again = dag.run(day(2))
        second = dag.run(day(3))
    assert (again.state, second.state) == ("success", "success"), second.log
    assert pages(kinesis) == Counter(["page of a", "page of b", "page of c"])
    summary = first["forward"].summary
    assert (summary["start"], summary["as_of"]) == ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")
    assert (summary["events"], summary["delivered"], summary["messages"]) == (2, 2, 1)
    assert summary["destination"] == "kinesis://us-east-1/changes"
    assert again["forward"].summary["events"] == 0
    [batch] = [json.loads(r.data) for r in kinesis.taken if b"page of a" in r.data]
    named = {i["identity_type"]: i["identity"] for i in batch["user_identities"]}
    assert named == {"customer_id": "u1", "email": "u1@x.example"}
    assert "u1" not in first.log


def test_without_a_data_interval_a_run_goes_on_where_the_last_one_ended(
    airflow: Airflow, clicks: Warehouse, kinesis: ScriptedKinesis
) -> None:
    put(clicks, ("a", "u1", "2026-03-01T10:00Z"), ("b", "u1", "2026-03-04T11:00Z"))
    alone = run(airflow, clicks, kinesis, day(2), schedule="'@daily'", retries=2)
    assert (alone["forward"].state, alone["forward"].tries) == ("failed", 1)
    assert "set start" in alone.log
    with forwarding(airflow, clicks, kinesis, schedule="'@daily'", start="2026-03-01T00:00:00Z") as dag:
        first = dag.run(day(2))
    assert first.state == "success", first.log
    former = f"{dag.file.stem}.forward"
    refused = run(airflow, clicks, kinesis, day(5), schedule="'@daily'", retries=2)
    assert (refused["forward"].state, refused["forward"].tries) == ("failed", 1)
    assert f"events of sync 'clicks' are forwarded by the task {former}" in refused.log
    later = run(airflow, clicks, kinesis, day(5), schedule="'@daily'", adopt_state_of=former)
    assert later.state == "success", later.log
    assert pages(kinesis) == Counter(["page of a", "page of b"])


def test_a_run_that_failed_is_finished_by_the_next_and_a_gap_is_said(
    airflow: Airflow, clicks: Warehouse, kinesis: ScriptedKinesis
) -> None:
    put(clicks, ("a", "u1", "2026-03-01T10:00Z"), ("b", "u1", "2026-03-05T11:00Z"))
    kinesis.script = lambda *_: UNAVAILABLE
    with forwarding(airflow, clicks, kinesis) as dag:
        failed = dag.run(day(2))
        assert failed["forward"].state == "failed"
        assert failed["forward"].xcom["delivery"]["delivered"] == 0
        kinesis.script = lambda *_: TAKE
        next_one = dag.run(day(6))
    assert next_one.state == "success", next_one.log
    assert pages(kinesis) == Counter(["page of a", "page of b"])
    assert next_one["forward"].summary["not_forwarded"] == ["2026-03-02T00:00:00Z/2026-03-05T00:00:00Z"]
    assert "were never forwarded; backfill that interval" in next_one.log


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"sql": None}, "set either sql or table"),
        ({"arrived_at_column": "page"}, "expected a timestamp with time zone, or a date"),
        ({"event_id_column": "nope"}, "returns no column 'nope'"),
        ({"user_id_column": None}, "a batch is about a user or a device"),
        ({"fields": {"page": "price"}}, "'price' is not a place in a batch"),
        ({"identities": {"email": "Loyalty"}}, "unknown to mParticle"),
        ({"hash_identities": {"page": "md5"}}, "hash_identities names 'page'"),
        ({"message_format": "amplitude_cohort"}, "cannot express events"),
        ({"on_invalid_rows": "keep"}, "expected fail or drop"),
        ({"start": "yesterday"}, "start is 'yesterday'"),
        ({"start": "2026-03-09T00:00:00Z"}, "expected an end after the start"),
        ({"resend": "perhaps"}, "resend is 'perhaps'"),
    ],
)
def test_bad_input_fails_without_a_retry_and_puts_nothing(
    airflow: Airflow,
    duckdb_warehouse: Warehouse,
    kinesis: ScriptedKinesis,
    more: Mapping[str, Any],
    sentence: str,
) -> None:
    duckdb_warehouse.execute(
        "CREATE TABLE clicks (event_id TEXT, user_id TEXT, email TEXT, page TEXT, came TIMESTAMPTZ)"
    )
    put(duckdb_warehouse, ("a", "u1", "2026-03-01T10:00Z"))
    found = run(airflow, duckdb_warehouse, kinesis, day(2), retries=2, **more)
    assert (found["forward"].state, found["forward"].tries) == ("failed", 1), found.log
    assert sentence in found.log
    assert not kinesis.taken


def test_rows_that_are_no_events_stop_the_run_or_are_left_out(
    airflow: Airflow, clicks: Warehouse, kinesis: ScriptedKinesis
) -> None:
    put(clicks, ("a", "u1", "2026-03-01T10:00Z"), (None, "u2", "2026-03-01T10:00Z"))
    stopped = run(airflow, clicks, kinesis, day(2), retries=2)
    assert (stopped["forward"].state, stopped["forward"].tries) == ("failed", 1)
    assert "1 rows have no event id" in stopped.log
    clicks.execute("UPDATE clicks SET email = 'N/A' WHERE event_id = 'a'")
    dropping = {"on_invalid_rows": "drop", "normalize_identities": {"email": "email"}}
    found = run(airflow, clicks, kinesis, day(2), **dropping)
    assert found.state == "success", found.log
    assert (found["forward"].summary["dropped_rows"], found["forward"].summary["placeholders"]) == (
        1,
        {"Email": 1},
    )
    assert "1 rows have a placeholder such as N/A in 'Email'" in found.log
    assert pages(kinesis) == Counter(["page of a"])


@pytest.mark.parametrize(
    ("message_format", "options"),
    [("adobe_profile", {"message_ids": True, "attributes": ["city"]}), ("mparticle_events", {})],
)
def test_audiences_can_be_told_in_these_formats_too(
    airflow: Airflow,
    warehouse: Warehouse,
    kinesis: ScriptedKinesis,
    message_format: str,
    options: Mapping[str, Any],
) -> None:
    publish = {"stream_name": "changes", "message_format": message_format, "format_options": dict(options)}
    with deployed(airflow, warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish) as dag:
        warehouse.members([("u1", "a@x.example", "Ankara"), ("u2", None, "Bonn")])
        first = dag.run(day(1))
        assert first.state == "success", first.log
        warehouse.members([("u2", None, "Berlin"), ("u3", None, None)])
        second = dag.run(day(2))
        assert second.state == "success", second.log
    consumer = AudienceConsumer()
    for record in kinesis.taken:
        consumer.apply(record.data)
    assert consumer.members("gs72ns") == {"u2", "u3"}
    summary = second["publish"].summary
    assert summary["delivered"] + summary["omitted"] == 3
    assert "a@x.example" not in first.log + second.log


@pytest.mark.parametrize("warehouse", ["duckdb"], indirect=True)
def test_a_run_that_pauses_counts_each_interval_once(
    airflow: Airflow, clicks: Warehouse, kinesis: ScriptedKinesis
) -> None:
    put(clicks, ("a", "u1", "2026-03-01T10:00Z"), ("b", "u2", "2026-03-01T11:00Z"))
    clicks.execute("INSERT INTO clicks VALUES ('n', 'u3', 'n/a', 'page of n', '2026-03-01T12:00Z')")
    put(clicks, (None, "u1", "2026-03-01T13:00Z"), *((f"c{n}", f"u{n}", "2026-03-02T10:00Z") for n in range(30)))
    put(clicks, (None, "u1", "2026-03-02T13:00Z"))
    clicks.execute("INSERT INTO clicks VALUES ('m', 'u4', 'n/a', 'page of m', '2026-03-02T12:00Z')")
    busy = Busy(3)

    def script(request: int, records: Sequence[Arrived]) -> list[str]:
        return [TAKE] * len(records) if b"page of c" not in records[0].data else busy(request, records)

    dropping = {"on_invalid_rows": "drop", "normalize_identities": {"email": "email"}}
    with forwarding(airflow, clicks, kinesis, deferrable=True, **dropping) as dag:
        kinesis.script = lambda _request, _records: Whole.DENIED
        failed = dag.run(day(2))
        kinesis.script = script
        run = dag.run(day(3), short_pauses=True)
    assert (failed["forward"].state, run["forward"].state) == ("failed", "success"), run.log
    assert failed["forward"].xcom["delivery"]["events"] == 0
    assert "without a worker slot, and then continues" in run.log
    summary = run["forward"].summary
    assert (summary["events"], summary["delivered"], summary["dropped_rows"]) == (34, 34, 2)
    assert [i[:10] for i in summary["intervals"]] == ["2026-03-01", "2026-03-02"]
    assert summary["placeholders"] == {"Email": 2}
    assert summary["start"] == "2026-03-02T00:00:00Z"
    assert set(pages(kinesis).values()) == {1}
