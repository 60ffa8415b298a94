"""Both tasks in real DAG runs: a warehouse at one end, a stream at the other, Airflow between them.

What a DAG's author can see is what counts here: states, tries, XComs, and the audience that a reader of the stream
ends up with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.hooks.warehouse import open_warehouse
from tests.airflow.conftest import DuckDb
from tests.airflow.running import DIFF, PUBLISH, Airflow, aws, day, deployed
from tests.scripted_kinesis import FAIL, TAKE, Arrived, ScriptedKinesis, Whole

if TYPE_CHECKING:
    from tests.airflow.conftest import Postgres, Stream, Warehouse

pytestmark = pytest.mark.slow

ANNA, BORA, CEM = (
    ("u1", "anna@x.example", "Ankara"),
    ("u2", "bora@x.example", "Bonn"),
    ("u3", "cem@x.example", "Cork"),
)
CHANGE_SET_KEYS = {
    *("sync_id", "as_of", "previous_as_of", "entered", "exited", "updated", "members", "audiences"),
    *("warehouse_conn_id", "state_schema", "statements", "statement_seconds"),
}
DELIVERY_KEYS = {
    *("messages", "records", "bytes", "delivered", "rejected", "omitted", "excluded", "filtered", "retried"),
    *("seconds", "destination", "change_sets", "redelivered", "still_rejected", "rejected_users"),
    *("given_up", "given_up_users"),
}


def heard(records: Sequence[bytes]) -> AudienceConsumer:
    consumer = AudienceConsumer()
    for record in records:
        consumer.apply(record)
    return consumer


def test_what_is_in_the_warehouse_arrives_on_the_stream(
    airflow: Airflow, warehouse: Warehouse, stream: Stream
) -> None:
    publish = {"stream_name": stream.name, "format_options": {"user_properties": True}}
    with deployed(airflow, warehouse.connection, stream.connection, DIFF, publish) as dag:
        warehouse.members([ANNA, BORA])
        first = dag.run(day(1))
        assert first.state == "success", first.log
        assert heard(stream.records()).members("gs72ns") == {"u1", "u2"}

        warehouse.members([("u2", "bora@x.example", "Berlin"), CEM])
        second = dag.run(day(2))
    consumer = heard(stream.records())
    assert consumer.members("gs72ns") == {"u2", "u3"}
    assert consumer.properties("gs72ns", "u2") == {"city": "Berlin"}

    change_set, delivery = second["diff"].summary, second["publish"].summary
    counts = {"entered": 1, "exited": 1, "updated": 1, "members": 2}
    assert change_set == {
        "sync_id": "lapsed",
        "as_of": "2026-03-02T00:00:00Z",
        "previous_as_of": "2026-03-01T00:00:00Z",
        "audiences": {"gs72ns": counts},
        "warehouse_conn_id": "warehouse",
        "state_schema": "airflow_audience",
        **counts,
        "statements": change_set["statements"],
        "statement_seconds": change_set["statement_seconds"],
    }
    assert 5 < change_set["statements"] < 15
    assert 0 < change_set["statement_seconds"] < 60
    assert change_set.keys() == CHANGE_SET_KEYS
    assert delivery.keys() == CHANGE_SET_KEYS | DELIVERY_KEYS
    assert (delivery["delivered"], delivery["rejected"], delivery["omitted"]) == (3, 0, 0)
    assert delivery["destination"] == f"kinesis://us-east-1/{stream.name}"
    assert delivery["change_sets"] == ["2026-03-02T00:00:00Z"]
    assert delivery["records"] == len(stream.records()) - first["publish"].summary["records"]
    assert second["publish"].xcom["delivery"] == delivery


def test_a_mysql_connection_of_airflow_is_a_warehouse(
    airflow: Airflow, mysql_warehouse: Warehouse, stream: Stream
) -> None:
    publish = {"stream_name": stream.name, "format_options": {"user_properties": True}}
    with deployed(airflow, mysql_warehouse.connection, stream.connection, DIFF, publish) as dag:
        mysql_warehouse.members([ANNA, BORA])
        first = dag.run(day(1))
        assert first.state == "success", first.log
        mysql_warehouse.members([("u2", "bora@x.example", "Berlin"), CEM])
        second = dag.run(day(2))
    assert second.state == "success", second.log
    assert [second["diff"].summary[n] for n in ("entered", "exited", "updated", "members")] == [1, 1, 1, 2]
    assert mysql_warehouse.newest_edge() == "2026-03-02T00:00:00Z"
    consumer = heard(stream.records())
    assert consumer.members("gs72ns") == {"u2", "u3"}
    assert consumer.properties("gs72ns", "u2") == {"city": "Berlin"}


def test_templates_are_filled_in_before_anything_is_looked_at(
    airflow: Airflow, duckdb_warehouse: Warehouse, stream: Stream
) -> None:
    diff = {
        **DIFF,
        "sql": "members.sql",
        "audience_id": "audience-{{ ds_nodash }}",
        "audience_name": "of {{ ds }}",
        "sync_id": "sync {{ ds }}",
        "state_schema": "state_{{ dag.dag_id[:8] }}",
        "properties": {"city": "home"},
    }
    publish = {
        "stream_name": "{{ params.get('stream') or '" + stream.name + "' }}",
        "format_options": {"user_properties": ["{{ 'home' }}"]},
        "resend": "{{ ds == '1999-01-01' }}",
    }
    duckdb_warehouse.members([ANNA, BORA])
    query = "SELECT user_id, email, city FROM members WHERE city <> '{{ 'Bonn' if ds == '2026-03-01' }}'"
    beside = {"members.sql": query}
    with deployed(airflow, duckdb_warehouse.connection, stream.connection, diff, publish, beside=beside) as dag:
        run = dag.run(day(1))
    assert run.state == "success", run.log
    assert run["diff"].summary["sync_id"] == "sync 2026-03-01"
    assert run["diff"].summary["state_schema"] == "state_audience"
    consumer = heard(stream.records())
    assert consumer.members("audience-20260301") == {"u1"}
    assert consumer.properties("audience-20260301", "u1") == {"home": "Ankara"}


@pytest.mark.parametrize(
    ("schema", "name", "given"),
    [("Marts", "Lapsed users", "Marts.Lapsed users"), ("My.Schema", "order", '"My.Schema"."order"')],
)
def test_a_table_is_enough(airflow: Airflow, warehouse: Warehouse, schema: str, name: str, given: str) -> None:
    warehouse.execute(f'CREATE SCHEMA "{schema}"')
    warehouse.execute(f'CREATE TABLE "{schema}"."{name}" (user_id INTEGER, email VARCHAR, city VARCHAR)')
    warehouse.execute(f"""INSERT INTO "{schema}"."{name}" VALUES (1, 'a', 'b'), (2, NULL, NULL)""")
    diff = {**DIFF, "table": given, "sql": None}
    with deployed(airflow, warehouse.connection, None, diff) as dag:
        run = dag.run(day(1))
    assert run.state == "success", run.log
    assert run["diff"].summary["members"] == 2


def test_a_file_may_begin_with_a_byte_order_mark(airflow: Airflow, warehouse: Warehouse) -> None:
    warehouse.members([ANNA, BORA])
    beside = {"members.sql": "\ufeff-- who has lapsed\nSELECT user_id, email, city FROM members;\n"}
    with deployed(airflow, warehouse.connection, None, {**DIFF, "sql": "members.sql"}, beside=beside) as dag:
        run = dag.run(day(1))
    assert run.state == "success", run.log
    assert run["diff"].summary["members"] == 2


def test_one_task_syncs_many_audiences(airflow: Airflow, warehouse: Warehouse, stream: Stream) -> None:
    warehouse.members([ANNA, BORA, CEM])
    query = "SELECT user_id, 'all' AS audience, 'All' AS called FROM members UNION ALL "
    query += "SELECT user_id, city, NULL FROM members WHERE city < 'C'"
    diff = {
        "warehouse_conn_id": "warehouse",
        "sql": query,
        "audience_id_column": "audience",
        "audience_name_column": "called",
    }
    with deployed(airflow, warehouse.connection, stream.connection, diff, {"stream_name": stream.name}) as dag:
        run = dag.run(day(1))
    assert run.state == "success", run.log
    summary = run["diff"].summary
    assert summary["sync_id"] == f"{dag.file.stem}.diff"
    assert {name: a["members"] for name, a in summary["audiences"].items()} == {"all": 3, "Ankara": 1, "Bonn": 1}
    consumer = heard(stream.records())
    assert consumer.audiences() == {"all", "Ankara", "Bonn"}
    assert consumer.members("all") == {"u1", "u2", "u3"}
    assert consumer.members("Bonn") == {"u2"}


@pytest.mark.parametrize(
    ("schedule", "given", "logical_date", "run_after", "expected"),
    [
        ("CronDataIntervalTimetable('0 0 * * *', 'UTC')", None, day(3, 5), None, "2026-03-03T05:00:00Z"),
        ("None", None, day(3, 5), None, "2026-03-03T05:00:00Z"),
        ("None", None, None, day(3, 6), "2026-03-03T06:00:00Z"),
        ("None", "2026-03-03T09:00:00+02:00", day(4), None, "2026-03-03T07:00:00Z"),
        ("None", "{{ logical_date.add(hours=1) }}", day(4), None, "2026-03-04T01:00:00Z"),
    ],
    ids=["later than the last interval", "logical date", "run after", "given", "templated"],
)
def test_a_run_speaks_for(
    airflow: Airflow,
    duckdb_warehouse: Warehouse,
    schedule: str,
    given: str | None,
    logical_date: datetime | None,
    run_after: datetime | None,
    expected: str,
) -> None:
    duckdb_warehouse.members([ANNA])
    with deployed(airflow, duckdb_warehouse.connection, None, {**DIFF, "as_of": given}, schedule=schedule) as dag:
        run = dag.run(logical_date, run_after=run_after)
    assert run.state == "success", run.log
    assert run["diff"].summary["as_of"] == expected


def test_an_older_run_is_skipped_with_the_reason_and_so_is_what_follows_it(
    airflow: Airflow, duckdb_warehouse: Warehouse, stream: Stream
) -> None:
    with deployed(
        airflow, duckdb_warehouse.connection, stream.connection, DIFF, {"stream_name": stream.name}
    ) as dag:
        duckdb_warehouse.members([ANNA, CEM])
        dag.run(day(1))
        dag.run(day(3))
        before = stream.records()
        duckdb_warehouse.members([BORA, CEM])
        older = dag.run(day(2))
        assert {name: task.state for name, task in older.tasks.items()} == {
            "diff": "skipped",
            "publish": "skipped",
        }
        assert "this run represents 2026-03-02T00:00:00Z, and a later run has already covered it" in older.log
        assert stream.records() == before

        assert dag.run(day(4))["diff"].summary["previous_as_of"] == "2026-03-03T00:00:00Z"
    assert heard(stream.records()).members("gs72ns") == {"u2", "u3"}


def test_the_summary_of_a_failed_delivery_is_there(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    duckdb_warehouse.members([(f"u{number}", "", "") for number in range(40)])
    publish = {"stream_name": "s", "format_options": {"max_users": 1}}

    def all_but_one(_request: int, records: Sequence[Arrived]) -> list[str] | Whole:
        return Whole.DENIED if kinesis.taken else [TAKE] * len(records)

    with (
        ScriptedKinesis(all_but_one) as kinesis,
        deployed(airflow, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish) as dag,
    ):
        run = dag.run(day(1))
    assert run["publish"].state == "failed"
    assert "return_value" not in run["publish"].xcom
    delivery = run["publish"].xcom["delivery"]
    assert delivery.keys() == CHANGE_SET_KEYS | DELIVERY_KEYS
    assert delivery["delivered"] == delivery["records"] == len(kinesis.taken) > 0
    assert delivery["rejected"] > 0
    assert delivery["change_sets"] == []


def test_a_stream_that_was_created_anew_gets_nothing_until_its_author_has_chosen(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    duckdb_warehouse.members([ANNA, BORA])
    seen = {"StreamStatus": "ACTIVE", "StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/s"}
    with ScriptedKinesis() as kinesis:
        publish = {"stream_name": "s"}
        run_with = partial(deployed, airflow, duckdb_warehouse.connection, aws(kinesis.endpoint_url))
        with run_with(DIFF, publish, retries=2) as dag:
            kinesis.describe = {**seen, "StreamCreationTimestamp": 1767225600.25}
            assert dag.run(day(1)).state == "success"
            duckdb_warehouse.members([ANNA, BORA, CEM])
            kinesis.taken.clear()
            kinesis.describe = {**seen, "StreamCreationTimestamp": 1767225600.5}
            stopped = dag.run(day(2))
        assert (stopped["publish"].state, stopped["publish"].tries, kinesis.taken) == ("failed", 1, [])
        assert "stream/s created 2026-01-01T00:00:00.500+00:00. It has no member of sync 'lapsed'" in stopped.log
        with run_with({**DIFF, **dag.adopted}, {**publish, "on_new_stream": "enter_all"}) as dag:
            assert dag.run(day(2))["publish"].summary["delivered"] == 3
        assert heard([r.data for r in kinesis.taken]).members("gs72ns") == {"u1", "u2", "u3"}
        with run_with({**DIFF, **dag.adopted}, publish) as dag:
            assert dag.run(day(3)).state == "success"


@pytest.mark.parametrize("on_rejected", ["fail", "skip"])
def test_a_member_who_is_too_large_is_left_out_and_delivered_when_small(
    airflow: Airflow, duckdb_warehouse: Warehouse, on_rejected: str
) -> None:
    publish = {"stream_name": "s", "format_options": {"user_properties": True}, "on_rejected": on_rejected}
    duckdb_warehouse.members([ANNA, BORA, ("u3", "cem@x.example", "x" * 1_100_000)])
    with (
        ScriptedKinesis() as kinesis,
        deployed(airflow, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish, retries=2) as dag,
    ):
        first = dag.run(day(1))
        assert heard([r.data for r in kinesis.taken]).members("gs72ns") == {"u1", "u2"}
        duckdb_warehouse.members([ANNA, BORA, CEM])
        second = dag.run(day(2))
    task, delivery = first["publish"], first["publish"].xcom["delivery"]
    assert (task.state, task.tries) == ("success" if on_rejected == "skip" else "failed", 1)
    assert (delivery["delivered"], delivery["rejected"], delivery["still_rejected"]) == (2, 1, 1)
    [user] = delivery["rejected_users"]
    assert user in first.log
    assert second["publish"].state == "success"
    assert second["publish"].summary["still_rejected"] == 0
    assert heard([r.data for r in kinesis.taken]).members("gs72ns") == {"u1", "u2", "u3"}


def test_a_member_who_is_given_up_fails_one_run_and_no_later_one(
    airflow: Airflow, duckdb_warehouse: Warehouse
) -> None:
    publish = {"stream_name": "s", "format_options": {"user_properties": True}}
    publish |= {"keep_dead_letters": timedelta(0)}
    duckdb_warehouse.members([ANNA, BORA, ("u3", "cem@x.example", "x" * 1_100_000)])
    with (
        ScriptedKinesis() as kinesis,
        deployed(airflow, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish, retries=2) as dag,
    ):
        first, second = dag.run(day(1)), dag.run(day(2))
        duckdb_warehouse.members([ANNA, BORA, CEM])
        third = dag.run(day(3))
    task, delivery = first["publish"], first["publish"].xcom["delivery"]
    assert (task.state, task.tries) == ("failed", 1)
    assert (delivery["given_up"], delivery["still_rejected"]) == (1, 0)
    [user] = delivery["given_up_users"]
    assert f"The SHA-256 of the user ids begins with {user}…" in first.log
    assert second["publish"].state == "success"
    assert second["publish"].summary["given_up"] == 0
    assert third["publish"].summary["redelivered"] == 1
    assert heard([r.data for r in kinesis.taken]).members("gs72ns") == {"u1", "u2", "u3"}


def test_airflows_own_retry_finishes_a_delivery(airflow: Airflow, duckdb_warehouse: Warehouse) -> None:
    duckdb_warehouse.members([(f"u{number}", "", "") for number in range(40)])
    publish = {"stream_name": "s", "format_options": {"max_users": 2}}
    failing: dict[str, int] = {}

    def one_key_fails_ten_times(_request: int, records: Sequence[Arrived]) -> list[str]:
        key = next(iter(failing), records[-1].partition_key)
        if failing.get(key, 0) < 10 and any(record.partition_key == key for record in records):
            failing[key] = failing.get(key, 0) + 1
            return [FAIL if record.partition_key == key else TAKE for record in records]
        return [TAKE] * len(records)

    with (
        ScriptedKinesis(one_key_fails_ten_times) as kinesis,
        deployed(airflow, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish, retries=1) as dag,
    ):
        run = dag.run(day(1))
    assert run.state == "success", run.log
    assert (run["diff"].tries, run["publish"].tries) == (1, 2)
    assert "The next attempt puts only what is missing" in run.log
    sent = [record.data for record in kinesis.taken]
    assert len(sent) == len(set(sent)), "the retry sent something twice"
    assert heard(sent).members("gs72ns") == {f"u{number}" for number in range(40)}
    assert 0 < run["publish"].summary["delivered"] < 40
    assert run["publish"].summary["change_sets"] == ["2026-03-01T00:00:00Z"]


_SHARED = """
from airflow.sdk import DAG
from airflow_kinesis_audience.operators import audience_sync

with DAG({dag_id!r}, schedule=None) as dag:
    audience_sync(parts=4, partitions=16, **{arguments!r})
"""


def test_tasks_that_share_a_delivery_send_what_one_task_would_and_report_it_once(
    airflow: Airflow, duckdb_warehouse: DuckDb
) -> None:
    everybody = {f"u{number}" for number in range(400)}
    duckdb_warehouse.members([(user, f"{user}@x.example", "Bonn") for user in everybody])
    arguments = {**DIFF, **PUBLISH, "stream_name": "changes", "format_options": {"max_users": 5}}
    sent: list[list[bytes]] = []
    with ScriptedKinesis() as kinesis:
        connections = {"warehouse": duckdb_warehouse.connection, "aws": aws(kinesis.endpoint_url)}
        text = _SHARED.format(dag_id="shared", arguments=arguments)
        with airflow.dag_file("shared", text) as file:
            run = airflow.run(file, connections=connections, logical_date=day(1))
            again = airflow.run(file, connections=connections, logical_date=day(1))
        sent.append([record.data for record in kinesis.taken])
    assert run.state == again.state == "success", run.log
    parts = [run[f"audience.publish[{number}]"] for number in range(4)]
    assert sum(part.summary["delivered"] for part in parts) == 400
    assert all(part.summary["delivered"] > 50 for part in parts)
    assert heard(sent[0]).members("gs72ns") == everybody
    [extra] = [event["extra"] for part in parts for event in part.events]
    assert extra["delivered"] == 400
    assert [again[f"audience.publish[{number}]"].summary["delivered"] for number in range(4)] == [0] * 4
    assert not any(again[f"audience.publish[{number}]"].events for number in range(4))

    fresh = DuckDb(duckdb_warehouse.path.with_name("other.duckdb"))
    fresh.members([(user, f"{user}@x.example", "Bonn") for user in everybody])
    publish = {n: arguments[n] for n in ("stream_name", "format_options")}
    with (
        ScriptedKinesis() as kinesis,
        deployed(airflow, fresh.connection, aws(kinesis.endpoint_url), DIFF, publish) as dag,
    ):
        assert dag.run(day(1)).state == "success"
        sent.append([record.data for record in kinesis.taken])
    # Each state has an epoch of its own, which ids are derived from.
    one, several = (sorted(re.sub(rb'"message_id":"[0-9a-f-]{36}', b"", data) for data in side) for side in sent)
    assert one == several, "by one task or by several: the same bytes"


def test_a_delivered_run_is_sent_again_only_if_asked(
    airflow: Airflow, duckdb_warehouse: Warehouse, stream: Stream
) -> None:
    duckdb_warehouse.members([ANNA, BORA])
    run_with = partial(deployed, airflow, duckdb_warehouse.connection, stream.connection)
    publish = {"stream_name": stream.name}
    with run_with(DIFF, publish) as dag:
        dag.run(day(1))
        sent = stream.records()
        assert dag.run(day(1))["publish"].summary["delivered"] == 0
        assert stream.records() == sent
    with run_with({**DIFF, **dag.adopted}, {**publish, "resend": True}) as dag:
        assert dag.run(day(1))["publish"].summary["delivered"] == 2
    assert stream.records() == sent * 2


def test_a_streams_arn_works_as_its_name_does(
    airflow: Airflow, postgres_warehouse: Postgres, stream: Stream
) -> None:
    postgres_warehouse.members([ANNA])
    with deployed(
        airflow, postgres_warehouse.connection, stream.connection, DIFF, {"stream_name": stream.arn}
    ) as dag:
        run = dag.run(day(1))
    assert run["publish"].summary["destination"] == f"kinesis://us-east-1/{stream.arn}"
    assert heard(stream.records()).members("gs72ns") == {"u1"}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, {"memory_limit": "192MB", "threads": 2}),
        ({"memory_limit": "1GB", "threads": 3}, {"memory_limit": "1GB", "threads": 3}),
        ({"settings": {"memory_limit": "1GB", "threads": 3}}, {"memory_limit": "1GB", "threads": 3}),
    ],
    ids=["by itself", "as its connection says", "as its connection's settings say"],
)
def test_duckdb_takes_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: Mapping[str, object], expected: dict[str, str | int]
) -> None:
    connection = {"conn_type": "duckdb", "host": str(tmp_path / "a.duckdb"), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    query = "SELECT current_setting('memory_limit'), current_setting('threads')"
    with open_warehouse("warehouse") as warehouse, duckdb.connect(config=expected) as wanted:
        assert warehouse.read_rows(query) == wanted.execute(query).fetchall()
