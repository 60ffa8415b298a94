"""An hourly DAG in a real Airflow: backfilled, cleared, failing to publish, and held until a person has answered.

The audience is who of CDNOW's customers has lapsed, hour by hour in May 1997. What a consumer should believe is
worked out from the purchases in plain Python, in other words than the DAG's query. Each test has a DAG, a sync and
a stream of its own; Airflow, PostgreSQL and the emulated AWS are one for all.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo.cdnow import Purchase, read_purchases
from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.integration.running_airflow import USER, RunningAirflow, running_airflow

if TYPE_CHECKING:
    from tests.postgres import Server

# as long as it may take on a machine with other work
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

AUDIENCE = "lapsed_90_days"
REGION = "us-east-1"
SHARDS = 4
DAY = datetime(1997, 5, 17, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAPSED_AFTER = timedelta(days=90)
BACKFILLED, BACKWARDS, UNPUBLISHED, EMPTIED = DAG_IDS = ("backfilled", "backwards", "unpublished", "emptied")
PARTITIONED = "partitioned"
PARTITIONS = [datetime(1997, 5, day, tzinfo=UTC) for day in (1, 11, 21, 31)]
"""Four partitions stand for a month of them: what matters is that others come after the first one."""
DIFF, APPROVE, PUBLISH = "lapsed.diff", "lapsed.approve", "lapsed.publish"
UNGUARDED = {DIFF: "success", APPROVE: "skipped", PUBLISH: "success"}
"""The tasks' states in a run that no guard stops."""
COVERED = {DIFF: "failed", APPROVE: "upstream_failed", PUBLISH: "upstream_failed"}
"""The tasks' states in a run of a backfill whose instant a later run has covered."""
BACKFILL_SECONDS = 600

DAG_FILE = '''
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, CronDataIntervalTimetable

from airflow_kinesis_audience.operators import audience_sync

NAME = Path(__file__).stem

# 2160 hours: in a time zone with summer time, 90 days are not always as long
LAPSED = """
SELECT
    customer_id,
    'customer-' || customer_id || '@example.com' AS email,
    sum(dollar_value) AS spent,
    CAST(floor(EXTRACT(EPOCH FROM (TIMESTAMPTZ '{{ data_interval_end }}' - max(purchased_at))) / 2592000)
        AS integer) AS months_away
FROM marts.purchases
WHERE purchased_at < TIMESTAMPTZ '{{ data_interval_end }}'
GROUP BY customer_id
HAVING max(purchased_at) < TIMESTAMPTZ '{{ data_interval_end }}' - INTERVAL '2160 hours'
"""

with DAG(
    NAME,
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    # else there would be a run as of today, after which nobody asks for 1997 any more
    end_date=datetime(1998, 7, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
):
    audience_sync(
        group_id="lapsed",
        warehouse_conn_id="warehouse",
        sql=LAPSED,
        user_id_column="customer_id",
        identities={"email": "Email"},
        properties=["spent", "months_away"],
        audience_id="lapsed_90_days",
        audience_name="Lapsed 90 days",
        sync_id=NAME,
        stream_name=NAME,
        message_format="amplitude_cohort",
        format_options={"user_properties": True},
        # one of the stories deletes its stream, and what was on it is known to its consumer
        on_new_stream="continue",
    )
'''

WOKEN = "woken"
WOKEN_FILE = f"""
from airflow.sdk import DAG, Asset
from airflow.providers.standard.operators.empty import EmptyOperator

with DAG("{WOKEN}", schedule=[Asset("kinesis://{REGION}/{UNPUBLISHED}")]):
    EmptyOperator(task_id="look")
"""
"""A DAG that runs when an audience has changed."""

PARTITIONED_FILE = f"""
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronPartitionTimetable

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

with DAG(
    "{PARTITIONED}",
    schedule=CronPartitionTimetable("0 0 1,11,21,31 5 *", timezone="UTC"),
    start_date=datetime(1997, 5, 1, tzinfo=UTC),
    end_date=datetime(1997, 5, 31, tzinfo=UTC),
    catchup=True,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args={{"retries": 2, "retry_delay": timedelta(seconds=1)}},
):
    changes = AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="warehouse",
        sql="SELECT * FROM marts.lapsed WHERE ds = '{{{{ as_of | ds }}}}'",
        user_id_column="customer_id",
        properties=["spent", "months_away"],
        audience_id="{AUDIENCE}",
        on_covered=None,
    )
    AudienceToKinesisOperator(
        task_id="publish",
        change_set=changes.output,
        stream_name="{PARTITIONED}",
        message_format="amplitude_cohort",
        format_options={{"user_properties": True}},
    )
"""

Members = Mapping[str, Mapping[str, Any]]
"""User id to properties, as a consumer has them."""


def purchased_at(purchase: Purchase) -> datetime:
    """Spread the purchases of a day, which have no time, over its minutes: each customer has a minute."""
    minute = zlib.crc32(purchase.customer_id.encode()) % (24 * 60)
    return datetime.combine(purchase.purchased_on, time(), UTC) + timedelta(minutes=minute)


@cache
def purchases_by_customer() -> Mapping[str, list[tuple[datetime, Decimal]]]:
    found: dict[str, list[tuple[datetime, Decimal]]] = {}
    for purchase in read_purchases():
        found.setdefault(purchase.customer_id, []).append((purchased_at(purchase), purchase.dollar_value))
    return found


def members_at(as_of: datetime) -> Members:
    """Work out who has lapsed at an instant, and what is to be told of them."""
    found = {}
    for customer_id, purchases in purchases_by_customer().items():
        before = [(when, dollars) for when, dollars in purchases if when < as_of]
        away = as_of - max((when for when, _ in before), default=as_of)
        if away > LAPSED_AFTER:
            spent = str(sum(dollars for _, dollars in before))
            found[customer_id] = {"spent": spent, "months_away": away.days // 30}
    return found


def counts_between(before: Members, now: Members) -> dict[str, int]:
    """Count what a diff should find from one membership to the next."""
    stayed = before.keys() & now.keys()
    return {
        "entered": len(now.keys() - before.keys()),
        "exited": len(before.keys() - now.keys()),
        "updated": sum(before[user_id] != now[user_id] for user_id in stayed),
        "members": len(now),
    }


def counts_in(summary: Mapping[str, Any]) -> dict[str, int]:
    return {name: summary[name] for name in ("entered", "exited", "updated", "members")}


def seconds_of(as_of: datetime) -> str:
    """Write an instant as a message does."""
    return str(int(as_of.timestamp()))


@dataclass(frozen=True)
class Warehouse:
    """The warehouse as its owner sees it."""

    dsn: str

    def make(self) -> None:
        columns = "customer_id text, purchased_at timestamptz, dollar_value numeric(10, 2)"
        with psycopg.connect(self.dsn) as connection:
            connection.execute("CREATE SCHEMA marts")
            connection.execute(f"CREATE TABLE marts.purchases ({columns})")
            columns = "ds date, customer_id text, spent numeric(10, 2), months_away integer"
            connection.execute(f"CREATE TABLE marts.lapsed ({columns})")

    def load_partition(self, of: datetime, members: Members) -> None:
        """Let a partition hold these members, and no others."""
        rows = [(of, user_id, one["spent"], one["months_away"]) for user_id, one in members.items()]
        with psycopg.connect(self.dsn) as connection:
            connection.execute("DELETE FROM marts.lapsed WHERE ds = %s", (of,))
            connection.cursor().executemany("INSERT INTO marts.lapsed VALUES (%s, %s, %s, %s)", rows)

    def load(self) -> None:
        copy = "COPY marts.purchases FROM STDIN"
        with psycopg.connect(self.dsn) as connection, connection.cursor().copy(copy) as rows:
            for purchase in read_purchases():
                rows.write_row((purchase.customer_id, purchased_at(purchase), purchase.dollar_value))

    def empty(self) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute("DELETE FROM marts.purchases")


class Stream:
    """A data stream of the emulated AWS."""

    def __init__(self, name: str, client: Any) -> None:
        self.name = name
        self._client = client
        self.create()

    def create(self) -> None:
        self._client.create_stream(StreamName=self.name, ShardCount=SHARDS)
        self._client.get_waiter("stream_exists").wait(StreamName=self.name, WaiterConfig={"Delay": 1})

    def delete(self) -> None:
        self._client.delete_stream(StreamName=self.name)

    def read_shards(self) -> list[list[bytes]]:
        """Read the messages of each shard, in its order."""
        found = []
        for shard in self._client.list_shards(StreamName=self.name)["Shards"]:
            place = {"StreamName": self.name, "ShardId": shard["ShardId"]}
            start = self._client.get_shard_iterator(**place, ShardIteratorType="TRIM_HORIZON")
            answer, messages = self._client.get_records(ShardIterator=start["ShardIterator"]), []
            while answer["Records"]:
                messages += [record["Data"] for record in answer["Records"]]
                answer = self._client.get_records(ShardIterator=answer["NextShardIterator"])
            found.append(messages)
        return found

    def read(self) -> list[bytes]:
        return [message for shard in self.read_shards() for message in shard]


def believed(messages: list[bytes]) -> Members:
    """Tell what a consumer believes that gets the messages in any order, and many of them twice."""
    chance = random.Random(1997)
    arriving = messages + chance.sample(messages, len(messages) // 2)
    chance.shuffle(arriving)
    consumer = AudienceConsumer()
    for message in arriving:
        consumer.apply(message)
    return {user_id: consumer.properties(AUDIENCE, user_id) for user_id in consumer.members(AUDIENCE)}


@pytest.fixture(scope="module")
def databases(postgres_server: Server) -> Iterator[tuple[str, str]]:
    """Make a database for Airflow and one for the warehouse; gives their URIs."""
    names = ("scheduled_airflow", "scheduled_warehouse")
    for name in names:
        postgres_server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.dsn(names[0]), postgres_server.dsn(names[1])
    for name in names:
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def made_warehouse(databases: tuple[str, str]) -> Warehouse:
    found = Warehouse(databases[1])
    found.make()
    return found


@pytest.fixture
def warehouse(made_warehouse: Warehouse) -> Warehouse:
    """A warehouse that knows all purchases, whatever a test before did to it."""
    made_warehouse.empty()
    made_warehouse.load()
    return made_warehouse


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    with emulator() as address:
        yield address


@pytest.fixture(scope="module")
def airflow(databases: tuple[str, str], endpoint_url: str) -> Iterator[RunningAirflow]:
    extra = {"endpoint_url": endpoint_url, "region_name": REGION}
    connections = {
        "warehouse": databases[1],
        "aws_default": json.dumps({"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}),
    }
    dags = {**dict.fromkeys(DAG_IDS, DAG_FILE), WOKEN: WOKEN_FILE, PARTITIONED: PARTITIONED_FILE}
    with running_airflow(databases[0], dags=dags, connections=connections) as running:
        yield running


@pytest.fixture
def make_stream(endpoint_url: str) -> Iterator[Callable[[str], Stream]]:
    """Make streams by name, which are gone again after the test."""
    client = boto3.client("kinesis", endpoint_url=endpoint_url, region_name=REGION)
    made: list[Stream] = []

    def make(name: str) -> Stream:
        made.append(Stream(name, client))
        return made[-1]

    yield make
    for stream in made:
        stream.delete()


def backfill(airflow: RunningAirflow, dag_id: str, hours: Sequence[datetime], *how: str) -> list[dict[str, Any]]:
    """Have all hours run, one after the other; gives the runs once they have ended.

    :param how: further options of ``airflow backfill create``.
    """

    def free() -> bool:
        known = airflow.ask("GET", "backfills", params={"dag_id": dag_id})["backfills"]
        return all(one["completed_at"] for one in known)

    # A DAG has one backfill at a time, and Airflow looks only every 30 s for those whose runs have ended.
    airflow.wait_for(f"end of the backfill of {dag_id} before", free)
    dates = ("--from-date", (hours[0] - HOUR).isoformat(), "--to-date", (hours[-1] - HOUR).isoformat())
    airflow.command("backfill", "create", "--dag-id", dag_id, *dates, "--max-active-runs", "1", *how)

    def ended() -> list[dict[str, Any]]:
        runs = airflow.runs(dag_id)
        return runs if all(run["state"] in ("success", "failed") for run in runs) else []

    return list(airflow.wait_for("end of the backfill", ended, BACKFILL_SECONDS))


def start_hour(airflow: RunningAirflow, dag_id: str, as_of: datetime) -> str:
    """Have a DAG run for the hour that ends at an instant, as whoever triggers it does; gives the run's id."""
    interval = {"data_interval_start": (as_of - HOUR).isoformat(), "data_interval_end": as_of.isoformat()}
    body = {"logical_date": interval["data_interval_start"], **interval}
    return str(airflow.ask("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])


def run_hour(airflow: RunningAirflow, dag_id: str, as_of: datetime) -> str:
    """Have a DAG run for an hour, all the way and with nobody asked; gives the run's id."""
    run_id = start_hour(airflow, dag_id, as_of)
    airflow.expect("success", dag_id, run_id)
    assert airflow.states(dag_id, run_id) == UNGUARDED
    return run_id


def woken_by(airflow: RunningAirflow, runs: int) -> list[tuple[datetime, int]]:
    """Wait for runs of the DAG that waits for changes; gives whose changes, and of how many change sets."""

    def come() -> list[dict[str, Any]]:
        found = airflow.runs(WOKEN)
        return found if len(found) >= runs and all(r["state"] == "success" for r in found) else []

    events = [
        event["extra"]
        for run in airflow.wait_for("runs that changes have woken", come)
        for event in airflow.ask("GET", f"dags/{WOKEN}/dagRuns/{run['dag_run_id']}/upstreamAssetEvents")[
            "asset_events"
        ]
    ]
    told = [(datetime.fromisoformat(extra["as_of"]), len(extra["change_sets"])) for extra in events]
    return sorted(told)


def question_path(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{APPROVE}/-1/hitlDetails"


def start_held_hour(airflow: RunningAirflow, dag_id: str, as_of: datetime, exits: int) -> str:
    """Have a DAG run for an hour until it asks a person whether so many may exit; gives the run's id."""
    run_id = start_hour(airflow, dag_id, as_of)
    airflow.wait_for_question(dag_id, run_id, APPROVE)
    assert airflow.states(dag_id, run_id) == {DIFF: "success", APPROVE: "awaiting_input", PUBLISH: None}
    assert f"{exits:,} exited" in airflow.ask("GET", question_path(dag_id, run_id))["body"]
    return run_id


def answer(airflow: RunningAirflow, dag_id: str, run_id: str, choice: str) -> dict[str, str | None]:
    """Answer a run's question as Airflow's page for it does; gives the tasks' states when the run has ended."""
    body = {"chosen_options": [choice], "params_input": {}}
    told = airflow.ask("PATCH", question_path(dag_id, run_id), json=body)
    assert told["responded_by"]["name"] == USER
    airflow.expect("success", dag_id, run_id)
    assert airflow.tasks(dag_id, run_id)[APPROVE]["try_number"] == 1
    return airflow.states(dag_id, run_id)


@pytest.mark.usefixtures("warehouse")
def test_backfilled_hours_are_delivered_once_each_however_often_an_hour_is_cleared(
    airflow: RunningAirflow, make_stream: Callable[[str], Stream]
) -> None:
    stream = make_stream(BACKFILLED)
    hours = [DAY + n * HOUR for n in range(1, 9)]
    truth: list[Members] = [{}, *map(members_at, hours)]
    expected = [counts_between(*pair) for pair in pairwise(truth)]
    assert all(counts["entered"] for counts in expected)
    assert sum(counts["exited"] for counts in expected) > 5

    runs = [run["dag_run_id"] for run in backfill(airflow, BACKFILLED, hours)]
    assert [airflow.states(BACKFILLED, run_id) for run_id in runs] == [UNGUARDED] * len(hours)
    found = [airflow.xcom(BACKFILLED, run_id, DIFF) for run_id in runs]
    assert [counts_in(summary) for summary in found] == expected
    assert [datetime.fromisoformat(summary["as_of"]) for summary in found] == hours
    assert [summary["previous_as_of"] for summary in found] == [None, *(s["as_of"] for s in found[:-1])]
    messages = stream.read()
    assert believed(messages) == truth[-1]

    middle = runs[4]
    body = {"dry_run": False, "only_failed": False}
    airflow.ask("POST", f"dags/{BACKFILLED}/dagRuns/{middle}/clear", json=body)
    airflow.expect("success", BACKFILLED, middle)
    assert airflow.states(BACKFILLED, middle) == UNGUARDED
    tasks = airflow.tasks(BACKFILLED, middle)
    assert [tasks[task_id]["try_number"] for task_id in (DIFF, PUBLISH)] == [2, 2]
    assert counts_in(airflow.xcom(BACKFILLED, middle, DIFF)) == expected[4]
    assert stream.read() == messages


@pytest.mark.long_story
@pytest.mark.usefixtures("warehouse")
def test_a_backfill_backwards_or_once_more_ends_right_or_failed_and_puts_nothing_twice(
    airflow: RunningAirflow, make_stream: Callable[[str], Stream]
) -> None:
    stream = make_stream(BACKWARDS)
    hours = [DAY + n * HOUR for n in (1, 2, 3)]
    runs = [run["dag_run_id"] for run in backfill(airflow, BACKWARDS, hours, "--run-backwards")]
    assert [airflow.states(BACKWARDS, run_id) for run_id in runs] == [COVERED, COVERED, UNGUARDED]
    messages = stream.read()
    assert believed(messages) == members_at(hours[-1])
    for behavior, tries in (("failed", 1), ("completed", 2)):
        again = backfill(airflow, BACKWARDS, hours, "--reprocess-behavior", behavior)
        assert [airflow.states(BACKWARDS, r["dag_run_id"]) for r in again] == [COVERED, COVERED, UNGUARDED]
        assert airflow.tasks(BACKWARDS, runs[-1])[DIFF]["try_number"] == tries
        assert stream.read() == messages


@pytest.mark.usefixtures("warehouse")
def test_what_a_run_could_not_publish_goes_out_with_the_next_run_and_before_its_own(
    airflow: RunningAirflow, make_stream: Callable[[str], Stream]
) -> None:
    stream = make_stream(UNPUBLISHED)
    first, second, third = (DAY + n * HOUR for n in (1, 2, 3))
    run_hour(airflow, UNPUBLISHED, first)
    known = stream.read()

    stream.delete()
    failed = start_hour(airflow, UNPUBLISHED, second)
    airflow.expect("failed", UNPUBLISHED, failed)
    assert airflow.states(UNPUBLISHED, failed) == {**UNGUARDED, PUBLISH: "failed"}

    stream.create()
    drained = run_hour(airflow, UNPUBLISHED, third)
    expected = [counts_between(members_at(a), members_at(b)) for a, b in pairwise((first, second, third))]
    found = [airflow.xcom(UNPUBLISHED, run_id, DIFF) for run_id in (failed, drained)]
    assert [counts_in(summary) for summary in found] == expected
    delivered = airflow.xcom(UNPUBLISHED, drained, PUBLISH)["delivered"]
    assert delivered == sum(counts[what] for counts in expected for what in ("entered", "exited", "updated"))
    for shard in stream.read_shards():
        times = [json.loads(message)["computed_time"] for message in shard]
        assert times == sorted(times)
        assert set(times) == {seconds_of(second), seconds_of(third)}
    assert believed(known + stream.read()) == members_at(third)
    # Only a delivery wakes whoever waits for changes; the failed one did not.
    assert woken_by(airflow, 2) == [(first, 1), (third, 2)]


def test_an_emptied_table_says_nothing_to_anybody_unless_a_person_approves(
    airflow: RunningAirflow, warehouse: Warehouse, make_stream: Callable[[str], Stream]
) -> None:
    stream = make_stream(EMPTIED)
    first, rejected, mended, approved = (DAY + n * HOUR for n in (1, 2, 3, 4))
    run_hour(airflow, EMPTIED, first)
    known = stream.read()
    assert believed(known) == members_at(first)

    warehouse.empty()
    held = start_held_hour(airflow, EMPTIED, rejected, exits=len(members_at(first)))
    assert answer(airflow, EMPTIED, held, "Reject")[PUBLISH] == "skipped"
    assert stream.read() == known

    warehouse.load()
    summary = airflow.xcom(EMPTIED, run_hour(airflow, EMPTIED, mended), DIFF)
    assert datetime.fromisoformat(summary["previous_as_of"]) == first
    assert counts_in(summary) == counts_between(members_at(first), members_at(mended))
    known = stream.read()
    assert believed(known) == members_at(mended)

    warehouse.empty()
    held = start_held_hour(airflow, EMPTIED, approved, exits=len(members_at(mended)))
    assert stream.read() == known
    assert set(answer(airflow, EMPTIED, held, "Approve").values()) == {"success"}
    assert believed(stream.read()) == {}


def known_at(messages: list[bytes], as_of: datetime) -> Members:
    return believed([m for m in messages if int(json.loads(m)["computed_time"]) <= as_of.timestamp()])


def wait_for_partitions(airflow: RunningAirflow, number: int) -> list[dict[str, Any]]:
    """Wait until so many runs of partitions have ended, the one that was made last at the end."""

    def ended() -> list[dict[str, Any]]:
        runs = sorted(airflow.runs(PARTITIONED), key=lambda run: run["queued_at"])
        return runs if sum(run["state"] in ("success", "failed") for run in runs) >= number else []

    return list(airflow.wait_for(f"end of {number} runs of partitions", ended, BACKFILL_SECONDS))


@pytest.mark.long_story
def test_the_first_partition_is_made_again_on_the_31st_and_consumers_keep_the_newest(
    airflow: RunningAirflow, made_warehouse: Warehouse, make_stream: Callable[[str], Stream]
) -> None:
    stream, first, newest = make_stream(PARTITIONED), PARTITIONS[0], PARTITIONS[-1]
    truth = {at: members_at(at) for at in PARTITIONS}
    wrong = {user_id: one for user_id, one in truth[first].items() if zlib.crc32(user_id.encode()) % 3}
    for at, members in (truth | {first: wrong}).items():
        made_warehouse.load_partition(at, members)
    airflow.ask("PATCH", f"dags/{PARTITIONED}", json={"is_paused": False})
    runs = wait_for_partitions(airflow, len(PARTITIONS))
    assert [run["state"] for run in runs] == ["success"] * len(PARTITIONS)
    published = stream.read()
    assert [known_at(published, at) for at in PARTITIONS] == [wrong, *(truth[at] for at in PARTITIONS[1:])]

    made_warehouse.load_partition(first, truth[first])
    days = {"from_date": first.isoformat(), "to_date": first.isoformat()}
    how = {"reprocess_behavior": "completed", "max_active_runs": 1, "run_backwards": False, "dag_run_conf": {}}
    airflow.ask("POST", "backfills", json={"dag_id": PARTITIONED, **days, **how})
    refused = wait_for_partitions(airflow, len(PARTITIONS) + 1)[-1]
    assert (refused["run_type"], refused["state"]) == ("backfill", "failed")
    [sentence] = airflow.xcom(PARTITIONED, refused["dag_run_id"], "diff", "state")["sentences"]
    assert "another run has already published that instant" in sentence
    assert 'set on_covered="correct"' in sentence
    assert stream.read() == published

    correcting = PARTITIONED_FILE.replace("on_covered=None", 'on_covered="correct"')
    (airflow.home / "dags" / f"{PARTITIONED}.py").write_text(correcting)
    body = {"logical_date": None, "partition_key": f"{first:%Y-%m-%dT%H:%M:%S}"}
    again = airflow.ask("POST", f"dags/{PARTITIONED}/dagRuns", json=body)["dag_run_id"]
    airflow.expect("success", PARTITIONED, again)
    summary = airflow.xcom(PARTITIONED, again, "diff")
    assert counts_in(summary) == counts_between(wrong, truth[first])
    assert (summary["corrects"], summary["inserted"]) == (first.strftime("%Y-%m-%dT%H:%M:%SZ"), True)
    messages = stream.read()
    assert len({json.loads(m)["message_id"] for m in messages}) == len(messages)
    assert set(messages) > set(published)
    assert believed(messages) == believed(published) == truth[newest]
    corrected = datetime.fromisoformat(summary["as_of"])
    assert [known_at(messages, at) for at in (first, corrected)] == [wrong, truth[first]]
    assert [known_at(messages, at) for at in PARTITIONS[1:]] == [truth[at] for at in PARTITIONS[1:]]
