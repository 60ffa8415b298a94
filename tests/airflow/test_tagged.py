"""Each operator names its task in each of its statements, as PostgreSQL's own log of statements has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_audience import operators
from airflow_kinesis_audience.hooks.statement_tags import StatementTag
from tests.airflow.running import DIFF, Airflow, day

if TYPE_CHECKING:
    from tests.airflow.conftest import Postgres, Stream
    from tests.postgres import Server

pytestmark = pytest.mark.slow

OPERATORS = {
    "diff": "AudienceDiffOperator",
    "check": "AudienceCheckOperator",
    "approve": "AudienceApprovalOperator",
    "publish": "AudienceToKinesisOperator",
    "resync": "AudienceResyncOperator",
    "replay": "AudienceReplayOperator",
    "events": "EventsToKinesisOperator",
    "forget": "AudienceForgetOperator",
    "detach": "AudienceDetachOperator",
    "delete": "AudienceDeleteOperator",
}
"""Each is in the DAG below. One that ends without work has looked into the ledger for it."""

TEXT = """
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow_kinesis_audience.operators import *

daily = CronDataIntervalTimetable("@daily", timezone="UTC")
where = dict(warehouse_conn_id="warehouse", sync_id="lapsed")
stream = dict(stream_name={stream!r}, aws_conn_id="aws")
cohort = dict(message_format="amplitude_cohort", **stream)
with DAG("tagged", schedule=daily, default_args=dict(trigger_rule="all_done")) as dag:
    diff = AudienceDiffOperator(task_id="diff", **{diff!r})
    check = AudienceCheckOperator(task_id="check")
    approve = AudienceApprovalOperator(task_id="approve", change_set=diff.output)
    publish = AudienceToKinesisOperator(task_id="publish", change_set=diff.output, **cohort)
    resync = AudienceResyncOperator(task_id="resync", **where, **cohort)
    replay = AudienceReplayOperator(task_id="replay", since="{{{{ data_interval_end }}}}", **where, **cohort)
    events = EventsToKinesisOperator(
        task_id="events", warehouse_conn_id="warehouse", sync_id="clicks",
        sql="SELECT user_id AS event_id, user_id, now() - interval '1 day' AS arrived_at FROM members", **stream,
        fields={{"event_id": "event_type"}},
    )
    forget = AudienceForgetOperator(task_id="forget", sql="SELECT 'nobody' AS user_id", **where)
    detach = AudienceDetachOperator(task_id="detach", destination="kinesis://us-east-1/unused", **where)
    delete = AudienceDeleteOperator(task_id="delete", **where, **cohort)
    diff >> check >> approve >> publish >> resync >> replay >> events >> forget >> detach >> delete
"""

_ENTRY = re.compile(r"^[-\d]+ [:.\d]+ \w+ \[\d+\] ", re.MULTILINE)
_SENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)", re.DOTALL)
_SETTING = re.compile(r"(SET|SHOW|BEGIN|COMMIT|ROLLBACK)\b[^\n]*\n?\s*")
"""What the driver sends, and the settings of a transaction, which are in one line before its statement."""


_TAG = re.compile(r"/\* airflow_kinesis_audience sync=(?P<sync>\S+) run=(?P<run>\S+) try=1 (?P<job>job=\w+) \*/ ")


def is_of(task_id: str, run_id: str, sync_id: str, job: str) -> bool:
    """Whether a tag is of a task of the DAG; it has the task's name as a digest only."""
    task = f"tagged/{task_id}/-1/{run_id}"
    return job == StatementTag(sync_id=sync_id, run_id=run_id, task=task, attempt=1, state="/airflow_audience").job


def test_every_statement_of_every_operator_names_its_task(
    airflow: Airflow, postgres_warehouse: Postgres, postgres_server: Server, stream: Stream
) -> None:
    # A delivery stream's task differs from that of a data stream in the hook of its stream alone.
    deliver_alike = {"AudienceToFirehoseOperator"}
    assert {n for n in operators.__all__ if n.endswith("Operator")} == {*OPERATORS.values(), *deliver_alike}
    postgres_warehouse.members([("u1", "ann@x.org", "Bern"), ("u2", "bob@x.org", "Rome")])
    name = postgres_warehouse.connection.rsplit("/", 1)[1]
    postgres_server.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
    assert postgres_server.log is not None
    before = postgres_server.log.stat().st_size
    with airflow.dag_file("tagged", TEXT.format(diff=DIFF, stream=stream.name)) as file:
        connections = {"warehouse": postgres_warehouse.connection, "aws": stream.connection}
        airflow.run(file, connections=connections, logical_date=day(1))
    said = postgres_server.log.read_bytes()[before:].decode()
    entries = [found[1] for entry in _ENTRY.split(said) if (found := _SENT.match(entry))]
    sent = [statement for entry in entries if (statement := _SETTING.sub("", entry, count=1).strip())]
    tags = [_TAG.search(statement) for statement in sent]
    assert [statement for statement, tag in zip(sent, tags, strict=True) if tag is None] == []
    found = {(tag["sync"], tag["job"]) for tag in tags if tag}
    [run_id] = {tag["run"] for tag in tags if tag}
    missing = [task_id for task_id in OPERATORS if not any(is_of(task_id, run_id, *f) for f in found)]
    assert missing == []
