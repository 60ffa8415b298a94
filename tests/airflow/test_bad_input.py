"""What a person can get wrong, and what becomes of it: the task fails with a sentence that says what to do.

Each mistake is made on the second run of a sync whose first run was delivered, by tasks that may try three times.
A mistake that no retry mends takes one try; nothing is sent, and the sync goes on from where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.airflow.running import DIFF, Airflow, Run, aws, day, deployed
from tests.scripted_kinesis import ScriptedKinesis, Whole

if TYPE_CHECKING:
    from tests.airflow.conftest import DuckDb, Stream, Warehouse
    from tests.postgres import Server

pytestmark = pytest.mark.slow

MEMBERS = [("u1", "anna@x.example", "Ankara"), ("u2", "bora@x.example", "Bonn")]
NEXT = [("u2", "bora@x.example", "Berlin"), ("u3", "cem@x.example", "Cork")]
RETRIES = 2


@dataclass
class Delivered:
    """A sync whose first run is delivered to a stream, and whose source has changed since."""

    airflow: Airflow
    warehouse: Warehouse
    kinesis: ScriptedKinesis
    adopted: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        number: int,
        *,
        diff: Mapping[str, Any] | None = None,
        publish: Mapping[str, Any] | None = None,
        warehouse: str | None = None,
        stream: str | None = None,
        retries: int = RETRIES,
    ) -> Run:
        """Run the sync for a day, with these arguments and connections in place of the right ones."""
        with deployed(
            self.airflow,
            warehouse or self.warehouse.connection,
            stream or aws(self.kinesis.endpoint_url),
            {**DIFF, **self.adopted, **(diff or {})},
            {"stream_name": "changes", "format_options": {"user_properties": True}, **(publish or {})},
            retries=retries,
        ) as dag:
            run = dag.run(day(number))
            if run["diff"].state == "success":
                self.adopted = dag.adopted
            return run

    def state(self) -> tuple[Any, ...]:
        """Return what a mistake must not change: what was sent, and what the ledger takes as delivered."""
        cursors = "SELECT log, event, as_of FROM airflow_audience.ledger WHERE event IN ('attached', 'delivered')"
        return (
            self.warehouse.newest_edge(),
            sorted(self.warehouse.execute(cursors)),
            [record.data for record in self.kinesis.taken],
        )

    def assert_refused(self, task_id: str, sentence: str, **wrong: Any) -> None:
        """Run with something wrong: one try, the sentence, nothing sent or moved; and then run without it."""
        before = self.state()
        run = self.run(2, **wrong)
        assert run.state == "failed"
        assert (run[task_id].state, run[task_id].tries) == ("failed", 1), run.log
        assert sentence in run.log
        assert "AirflowFailException" in run.log
        after = self.state()
        # A publish task that is wrong comes after a diff task that is right.
        assert after[task_id == "publish" :] == before[task_id == "publish" :]
        if task_id == "diff":
            assert run["publish"].state == "upstream_failed"


@pytest.fixture
def delivered(airflow: Airflow, warehouse: Warehouse) -> Iterator[Delivered]:
    with ScriptedKinesis() as kinesis:
        sync = Delivered(airflow, warehouse, kinesis)
        warehouse.members(MEMBERS)
        first = sync.run(1)
        assert first.state == "success", first.log
        warehouse.members(NEXT)
        yield sync


on_duckdb = pytest.mark.parametrize("warehouse", ["duckdb"], indirect=True)
on_postgres = pytest.mark.parametrize("warehouse", ["postgres"], indirect=True)

WRONG_DIFFS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "no such connection": (
        {"warehouse_conn_id": "nowhere"},
        "warehouse_conn_id is 'nowhere', and Airflow has no connection of that id; create it, for example",
    ),
    "neither sql nor table": ({"sql": None}, "set either sql or table"),
    "sql and table": ({"table": "members"}, "set either sql or table"),
    "two audiences": (
        {"audience_id_column": "city"},
        "set either audience_id, for one audience, or audience_id_column",
    ),
    "no audience": ({"audience_id": None, "audience_name": None}, "set either audience_id, for one audience"),
    "a missing column": (
        {"identities": {"mail": "Email"}},
        "the query returns no column 'mail'; it returns 'user_id', 'email', 'city'. Correct the mapping or the "
        "query",
    ),
    "a missing user id column": ({"user_id_column": "id"}, "the query returns no column 'id'"),
    "two statements": (
        {"sql": "SELECT * FROM members; DROP TABLE members"},
        "sql holds more than one statement; expected a single SELECT",
    ),
    "no query": ({"sql": "DELETE FROM members"}, "sql begins with DELETE; expected a SELECT"),
    "an unclosed parenthesis": ({"sql": "SELECT * FROM (members"}, "sql has a parenthesis that is not closed"),
    "no such table": (
        {"sql": "SELECT * FROM nobody"},
        "This statement reads the source: correct the task's sql or table, correct the database and schema of",
    ),
    "no such function": (
        {"sql": "SELECT user_id, nothing(city) AS city, email FROM members"},
        "cannot run the statement",
    ),
    "as_of without a zone": ({"as_of": "2026-03-02T00:00:00"}, "without a time zone; add one"),
    "as_of that is no instant": ({"as_of": "yesterday"}, "as_of is 'yesterday'; expected an ISO 8601 instant"),
    "a timestamp without a zone": (
        {"sql": "SELECT *, TIMESTAMP '2026-03-01 00:00:00' AS seen FROM members", "properties": ["seen"]},
        "without a time zone, so its instants are not known; add its time zone, for example: "
        "seen AT TIME ZONE 'UTC' AS seen",
    ),
    "a type without a JSON form": (
        {"sql": "SELECT *, INTERVAL '1' DAY AS gap FROM members", "properties": ["gap"]},
        "which has no single JSON form; cast it in the query",
    ),
    "another mapping": (
        {"properties": []},
        "property 'city' was city (text) and is not mapped. Nothing was computed. Restore the mapping",
    ),
    "a null user id": (
        {"sql": "SELECT NULLIF(user_id, 'u3') AS user_id, email, city FROM members"},
        "audience 'gs72ns': 1 of 2 rows have no user id",
    ),
    "a user id twice": (
        {"sql": "SELECT * FROM members UNION ALL SELECT * FROM members"},
        "audience 'gs72ns': 2 of 4 rows repeat a user id",
    ),
}


ASKED_OF_THE_WAREHOUSE = (
    *("a missing column", "an unclosed parenthesis", "no such table", "no such function"),
    *("a timestamp without a zone", "a type without a JSON form", "a null user id", "a user id twice"),
)
"""Mistakes that the warehouse finds, or that only its answer shows."""


@pytest.mark.parametrize(
    ("warehouse", "wrong"),
    [*(("duckdb", wrong) for wrong in WRONG_DIFFS), *(("postgres", wrong) for wrong in ASKED_OF_THE_WAREHOUSE)],
    indirect=["warehouse"],
)
def test_a_wrong_diff_fails_once_and_says_what_to_do(delivered: Delivered, wrong: str) -> None:
    arguments, sentence = WRONG_DIFFS[wrong]
    delivered.assert_refused("diff", sentence, diff=arguments)


@on_duckdb
@pytest.mark.parametrize(
    ("connection", "sentence"),
    [
        ({"conn_type": "http", "host": "example.com"}, "is of type http; supported are athena, "),
        ({"conn_type": "sqlite", "host": "/tmp/x.db"}, "is of type sqlite; supported are athena, "),
        ({"conn_type": "duckdb"}, "is a DuckDB in memory, so the delivery state would be lost; set its host"),
        ({"conn_type": "duckdb", "host": ":memory:"}, "is a DuckDB in memory"),
    ],
    ids=["http", "no provider for it", "no path", "in memory"],
)
def test_a_connection_that_can_keep_no_state_is_refused(
    delivered: Delivered, connection: Mapping[str, str], sentence: str
) -> None:
    delivered.assert_refused("diff", sentence, warehouse=json.dumps(connection))


WRONG_DELIVERIES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "no such format": ({"message_format": "amplitude"}, "message_format is 'amplitude'; expected one of"),
    "no such module": ({"message_format": "no.such.Format"}, "message_format 'no.such.Format' cannot be imported"),
    "no such option": (
        {"format_options": {"max_user": 5}},
        "format_options has max_user; amplitude_cohort accepts max_users",
    ),
    "an option's value": ({"format_options": {"max_users": 0}}, "max_users is 0; expected"),
    "first run": (
        {"on_first_run": "enter_everybody"},
        "on_first_run is 'enter_everybody'; expected enter_all, baseline or fail",
    ),
    "partitions": ({"partitions": 3}, "partitions is 3; expected a power of two"),
    "no change set": ({"change_set": None}, "change_set is not the result of an AudienceDiffOperator"),
    "another task's result": ({"change_set": {"sync_id": "lapsed"}}, "pass the diff task's .output"),
    "a text": ({"change_set": "lapsed"}, "change_set is a text that is not JSON"),
    "no such AWS connection": ({"aws_conn_id": "nowhere"}, "Airflow has no connection of that id; create it"),
    "not a stream's ARN": (
        {"stream_name": "arn:aws:s3:::bucket"},
        "expected a name or arn:aws:kinesis:REGION:ACCOUNT:stream/NAME",
    ),
    "two regions": (
        {"stream_name": "arn:aws:kinesis:eu-west-1:1:stream/changes", "region_name": "us-east-1"},
        "but the stream's ARN says 'eu-west-1'; remove one",
    ),
    "a stream that must not be new": (
        {"stream_name": "another", "on_first_run": "fail"},
        'on_first_run is "fail". Set "enter_all" to put all members, or "baseline" if its consumers already have '
        "them",
    ),
}


@on_duckdb
@pytest.mark.parametrize("wrong", WRONG_DELIVERIES)
def test_a_wrong_delivery_fails_once_and_says_what_to_do(delivered: Delivered, wrong: str) -> None:
    arguments, sentence = WRONG_DELIVERIES[wrong]
    delivered.assert_refused("publish", sentence, publish=arguments)
    mended = delivered.run(2)
    assert mended["publish"].summary["delivered"] == 3


@on_duckdb
def test_a_missing_stream_is_reported_with_the_command_that_makes_it(delivered: Delivered, stream: Stream) -> None:
    sentence = "stream nowhere does not exist in us-east-1; correct stream_name, region_name or the connection"
    delivered.assert_refused("publish", sentence, publish={"stream_name": "nowhere"}, stream=stream.connection)


@on_duckdb
def test_a_login_that_may_not_put_fails_with_what_it_needs(delivered: Delivered) -> None:
    delivered.kinesis.script = lambda *_: Whole.DENIED
    run = delivered.run(2)
    assert (run["publish"].state, run["publish"].tries) == ("failed", 1)
    assert "AWS denies PutRecords for stream changes" in run.log
    assert "the login of connection aws needs kinesis:PutRecords on the stream" in run.log
    assert run["publish"].xcom["delivery"]["delivered"] == 0


@on_postgres
def test_a_login_that_may_make_no_state_fails_with_what_it_needs(
    delivered: Delivered, postgres_server: Server, postgres_database: str
) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as owner:
        owner.execute("CREATE ROLE reader LOGIN")
        owner.execute("GRANT SELECT ON members TO reader")
        owner.execute("GRANT USAGE ON SCHEMA airflow_audience TO reader")
        owner.execute("GRANT SELECT, INSERT ON airflow_audience.ledger TO reader")
    reader = postgres_database.replace("postgres@", "reader@")
    needs = "The login needs SELECT on the source, and USAGE and CREATE on the state schema"
    try:
        for schema in ("airflow_audience", "elsewhere"):
            delivered.assert_refused("diff", needs, warehouse=reader, diff={"state_schema": schema})
    finally:
        with psycopg.connect(postgres_database, autocommit=True) as owner:
            owner.execute("DROP OWNED BY reader")
            owner.execute("DROP ROLE reader")


MAPPED = """
from airflow.sdk import DAG, task_group
from airflow_kinesis_audience.operators import AudienceDiffOperator, audience_sync

with DAG("plans", schedule=None) as dag:
    AudienceDiffOperator.partial(
        task_id="diff", warehouse_conn_id="warehouse", sql="SELECT user_id FROM members"
    ).expand(audience_id=["gold", "free"])

    @task_group
    def each(audience_id):
        audience_sync(
            warehouse_conn_id="warehouse", table="members", audience_id=audience_id, stream_name="changes",
            message_format="amplitude_cohort",
        )

    each.expand(audience_id=["gold", "free"])

    AudienceDiffOperator.partial(
        task_id="one", sync_id="one", warehouse_conn_id="warehouse", sql="SELECT user_id FROM members"
    ).expand(audience_id=["gold", "free"])

    @task_group
    def named(audience_id):
        AudienceDiffOperator(
            task_id="one", sync_id="one", warehouse_conn_id="warehouse", table="members", audience_id=audience_id
        )
        AudienceDiffOperator(
            task_id="own", sync_id=audience_id, warehouse_conn_id="warehouse", table="members",
            audience_id=audience_id, state_schema="own",
        )

    named.expand(audience_id=["gold", "free"])
"""


@on_duckdb
def test_mapped_tasks_never_share_a_state(delivered: Delivered) -> None:
    before = delivered.state()
    with delivered.airflow.dag_file("plans", MAPPED) as file:
        run = delivered.airflow.run(file, connections={"warehouse": delivered.warehouse.connection})
    assert {run[f"diff[{n}]"].state for n in (0, 1)} == {"failed"}
    assert {run[f"each.audience.diff[{n}]"].state for n in (0, 1)} == {"failed"}
    assert "the task is mapped and has no sync_id" in run["diff[0]"].xcom["state"]["sentences"][0]
    assert "plans.each.audience.diff.gold" in run["each.audience.diff[1]"].xcom["state"]["sentences"][0]
    for task in ("one[0]", "one[1]", "named.one[0]", "named.one[1]"):
        assert "all its instances have the sync_id 'one'" in run[task].xcom["state"]["sentences"][0]
    assert {run[f"named.own[{n}]"].state for n in (0, 1)} == {"success"}
    assert delivered.state() == before


@on_postgres
def test_a_warehouse_that_is_away_is_tried_again(delivered: Delivered) -> None:
    before = delivered.state()
    # A port of this machine that nothing listens on: reserved for tcpmux, which nobody runs.
    run = delivered.run(2, warehouse="postgresql://postgres@127.0.0.1:1/postgres")
    assert (run["diff"].state, run["diff"].tries) == ("failed", RETRIES + 1)
    assert "warehouse connection 'warehouse' (127.0.0.1:1) cannot be opened: " in run.log
    assert delivered.state() == before


@on_duckdb
def test_after_a_mistake_the_next_run_carries_everything(delivered: Delivered, duckdb_warehouse: DuckDb) -> None:
    delivered.run(2, diff={"user_id_column": "id"})
    duckdb_warehouse.members([*NEXT, ("u4", "", "")])
    run = delivered.run(3)
    assert run["diff"].summary["previous_as_of"] == "2026-03-01T00:00:00Z"
    assert {n: run["diff"].summary[n] for n in ("entered", "exited", "updated")} == {
        "entered": 2,
        "exited": 1,
        "updated": 1,
    }
