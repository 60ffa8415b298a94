"""To Firehose in real DAG runs: mParticle's messages, identity changes, resync, deletion, and bad input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.operators import AudienceToFirehoseOperator, audience_sync
from tests.airflow.running import DIFF, Airflow, Run, aws, day, deployed, one_task_dag
from tests.scripted_kinesis import TAKE, UNAVAILABLE, Arrived, ScriptedKinesis
from tests.unit.producer.test_aggregation import undo

if TYPE_CHECKING:
    from tests.airflow.conftest import Warehouse

pytestmark = pytest.mark.slow

PUBLISH = {
    "delivery_stream_name": "changes",
    "message_format": "mparticle_audience",
    "format_options": {"message_ids": True},
}
ANNA, BORA = ("u1", "anna@x.example", "Ankara"), ("u2", "bora@x.example", "Bonn")


@pytest.fixture
def firehose() -> Iterator[ScriptedKinesis]:
    with ScriptedKinesis() as firehose:
        yield firehose


def heard(arrived: Sequence[Arrived]) -> AudienceConsumer:
    consumer = AudienceConsumer()
    for line in b"".join(record.data for record in arrived).splitlines():
        consumer.apply(line)
    return consumer


def test_what_is_in_the_warehouse_lands_line_by_line(
    airflow: Airflow, warehouse: Warehouse, firehose: ScriptedKinesis
) -> None:
    with deployed(airflow, warehouse.connection, aws(firehose.endpoint_url), DIFF, PUBLISH) as dag:
        warehouse.members([ANNA, BORA])
        first = dag.run(day(1))
        assert first.state == "success", first.log
        warehouse.members([("u2", "b@x.example", "Bonn"), ("u3", None, None)])
        second = dag.run(day(2))
        again = dag.run(day(2))
    assert (second.state, again.state) == ("success", "success"), second.log
    consumer = heard(firehose.taken)
    assert consumer.members("gs72ns") == {"u2", "u3"}
    assert consumer.identities("gs72ns", "u2") == {"CustomerId": "u2", "Email": "b@x.example"}
    assert consumer.identities("gs72ns", "u3") == {"CustomerId": "u3"}
    delivery = second["publish"].summary
    assert delivery["destination"] == "firehose://us-east-1/changes"
    assert (delivery["delivered"], delivery["records"], delivery["messages"]) == (3, 4, 4)
    assert again["publish"].summary["records"] == 0
    removed = [m["UserIdentities"] for m in map(json.loads, (r.data for r in firehose.taken)) if not m["IsMember"]]
    # The removals name what was sent last.
    assert sorted(removed, key=str) == [
        {"CustomerId": "u1", "Email": "anna@x.example"},
        {"CustomerId": "u2", "Email": "bora@x.example"},
    ]
    assert all(r.data.endswith(b"}\n") and r.data.count(b"\n") == 1 for r in firehose.taken)


@pytest.mark.parametrize(
    ("both", "expected"),
    [(True, [(False, "bora@x.example"), (True, "b@x.example")]), (False, [(True, "b@x.example")])],
)
def test_the_remove_on_an_identity_change_goes_out_first_or_not_at_all(
    airflow: Airflow,
    duckdb_warehouse: Warehouse,
    firehose: ScriptedKinesis,
    both: bool,
    expected: list[tuple[bool, str]],
) -> None:
    publish = {**PUBLISH, "format_options": {"send_remove_on_identity_change": both}}
    with deployed(airflow, duckdb_warehouse.connection, aws(firehose.endpoint_url), DIFF, publish) as dag:
        duckdb_warehouse.members([BORA])
        dag.run(day(1))
        firehose.taken.clear()
        duckdb_warehouse.members([("u2", "b@x.example", "Bonn")])
        run = dag.run(day(2))
    assert run.state == "success", run.log
    messages = [json.loads(record.data) for record in firehose.taken]
    assert [(m["IsMember"], m["UserIdentities"]["Email"]) for m in messages] == expected


def alone(
    airflow: Airflow, warehouse: Warehouse, firehose: ScriptedKinesis, operator: str, number: int, **more: Any
) -> Run:
    arguments = {"warehouse_conn_id": "warehouse", "sync_id": "lapsed", "aws_conn_id": "aws", **PUBLISH, **more}
    dag_id, text = one_task_dag(operator, "tell", arguments)
    connections = {"warehouse": warehouse.connection, "aws": aws(firehose.endpoint_url)}
    with airflow.dag_file(dag_id, text) as file:
        return airflow.run(file, connections=connections, logical_date=day(number))


def test_a_resync_and_the_end_of_an_audience_go_to_firehose_too(
    airflow: Airflow, duckdb_warehouse: Warehouse, firehose: ScriptedKinesis
) -> None:
    with deployed(airflow, duckdb_warehouse.connection, aws(firehose.endpoint_url), DIFF, PUBLISH) as dag:
        duckdb_warehouse.members([ANNA, BORA])
        dag.run(day(1))
        duckdb_warehouse.members([BORA])
        assert dag.run(day(2)).state == "success"
    firehose.taken.clear()
    resync = alone(airflow, duckdb_warehouse, firehose, "AudienceResyncOperator", 3)
    assert resync.state == "success", resync.log
    consumer = heard(firehose.taken)
    assert consumer.members("gs72ns") == {"u2"}
    assert [(r.members, r.exits, r.complete) for r in consumer.resyncs()] == [(1, 1, True)]

    firehose.taken.clear()
    deletion = alone(airflow, duckdb_warehouse, firehose, "AudienceDeleteOperator", 4)
    assert deletion.state == "success", deletion.log
    messages = [json.loads(record.data) for record in firehose.taken]
    assert [(m["IsMember"], m["UserIdentities"].get("Email")) for m in messages] == [
        (False, "bora@x.example"),
        (False, None),
    ]
    assert messages[-1]["Lifecycle"] == {"Event": "deleted"}
    assert messages[-1]["AudienceName"] == "Lapsed 90 days"


def test_a_delivery_stream_that_is_full_for_ever_ends_with_what_to_raise(
    airflow: Airflow, duckdb_warehouse: Warehouse, firehose: ScriptedKinesis
) -> None:
    firehose.script = lambda *_: UNAVAILABLE
    with deployed(airflow, duckdb_warehouse.connection, aws(firehose.endpoint_url), DIFF, PUBLISH) as dag:
        duckdb_warehouse.members([ANNA, BORA])
        failed = dag.run(day(1))
        assert failed["publish"].state == "failed"
        assert failed["publish"].xcom["delivery"]["delivered"] == 0
        for part in (
            "Retry Limit Exceeded at firehose://us-east-1/changes",
            UNAVAILABLE,
            ("ask AWS to raise the quota"),
        ):
            assert part in failed.log
        firehose.script = lambda *_: TAKE
        assert dag.run(day(1)).state == "success"
    assert heard(firehose.taken).members("gs72ns") == {"u1", "u2"}


def test_the_same_format_goes_to_a_data_stream_several_messages_in_a_record(
    airflow: Airflow, warehouse: Warehouse, firehose: ScriptedKinesis
) -> None:
    publish = {"stream_name": "changes", "message_format": "mparticle_audience", "aggregate": "{{ 1 == 1 }}"}
    publish |= {"partitions": 4, "format_options": {}}
    with deployed(airflow, warehouse.connection, aws(firehose.endpoint_url), DIFF, publish) as dag:
        warehouse.members([(f"u{n}", f"u{n}@x.example", None) for n in range(500)])
        run = dag.run(day(1))
    assert run.state == "success", run.log
    summary = run["publish"].summary
    assert (summary["messages"], summary["delivered"]) == (500, 500)
    assert summary["records"] == len(firehose.taken) == 4
    consumer = AudienceConsumer()
    for message in deaggregated(firehose.taken):
        consumer.apply(message)
    assert consumer.members("gs72ns") == {f"u{n}" for n in range(500)}


def deaggregated(arrived: Sequence[Arrived]) -> list[bytes]:
    from airflow_kinesis_audience.core.producer.records import Record

    records = [Record(n, r.data, r.partition_key, r.hash_key, 0) for n, r in enumerate(arrived)]
    return [data for _, data, _ in undo(records)]


@pytest.mark.parametrize(
    ("publish", "sentence"),
    [
        ({"stream_name": "other"}, "expected one of them"),
        ({"delivery_stream_name": " "}, "expected one of them"),
        ({"aggregate": True}, "firehose://us-east-1/changes does not split an aggregated record"),
        ({"aggregate": "perhaps"}, "aggregate is 'perhaps'; expected true or false"),
        ({"resend": "perhaps"}, "resend is 'perhaps'; expected true or false"),
        ({"format_options": {"user_id_as": "Loyalty"}}, "unknown to mParticle"),
        (
            {"format_options": {"forward_emails": False}},
            "format_options has forward_emails; mparticle_audience accepts",
        ),
        ({"delivery_stream_name": "arn:aws:kinesis:us-east-1:1:stream/x"}, "expected a name or arn:aws:firehose"),
    ],
)
def test_bad_input_fails_without_a_retry_and_puts_nothing(
    airflow: Airflow,
    duckdb_warehouse: Warehouse,
    firehose: ScriptedKinesis,
    publish: Mapping[str, Any],
    sentence: str,
) -> None:
    duckdb_warehouse.members([ANNA])
    given = {**PUBLISH, **publish}
    with deployed(airflow, duckdb_warehouse.connection, aws(firehose.endpoint_url), DIFF, given, retries=2) as dag:
        run = dag.run(day(1))
    assert (run["publish"].state, run["publish"].tries) == ("failed", 1), run.log
    assert sentence in run.log
    assert not firehose.taken


@pytest.mark.parametrize(
    ("diff", "sentence"),
    [
        ({"hash_identities": {"mail": "sha256"}}, "hash_identities names 'mail'; expected source columns"),
        ({"hash_identities": {"email": "sha1"}}, "hash of an identity is 'sha1'; expected md5 or sha256"),
        (
            {"normalize_identities": {"email": "mail"}},
            "normalize of an identity is 'mail'; expected none, trim, email, gmail or phone",
        ),
        (
            {"hash_identities": {"email": "md5"}, "hashed_identities": {"email": "md5"}},
            "cannot be hashed or normalized again",
        ),
    ],
)
def test_rules_of_identities_that_cannot_be_meant_fail_without_a_retry(
    airflow: Airflow, duckdb_warehouse: Warehouse, diff: Mapping[str, Any], sentence: str
) -> None:
    duckdb_warehouse.members([ANNA])
    with deployed(airflow, duckdb_warehouse.connection, None, {**DIFF, **diff}, retries=2) as dag:
        run = dag.run(day(1))
    assert (run["diff"].state, run["diff"].tries) == ("failed", 1), run.log
    assert sentence in run.log


def test_the_ready_task_group_publishes_to_firehose_if_that_is_what_it_is_given() -> None:
    from airflow.sdk import DAG

    with DAG("group", schedule=None) as dag:
        audience_sync(**DIFF, delivery_stream_name="changes", message_format="mparticle_audience")
    publish = dag.task_dict["audience.publish"]
    assert isinstance(publish, AudienceToFirehoseOperator)
    assert publish.delivery_stream_name == "changes"
    with DAG("unknown", schedule=None), pytest.raises(TypeError, match="AudienceToFirehoseOperator"):
        audience_sync(**DIFF, delivery_stream_name="changes", message_format="x", streams="y")
