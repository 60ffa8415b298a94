"""The guides of the docs as a reader follows them: the DAG of the page, on a running scheduler, from paused on.

A block is deployed as it stands; what differs is named here. The members are real customers, and what a consumer
should believe is worked out from their purchases in plain Python.
"""

from __future__ import annotations

import json
import random
import re
import shlex
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo.cdnow import email_of, read_purchases
from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.docs.pages import blocks
from tests.integration.running_airflow import RunningAirflow, running_airflow
from tests.integration.test_scheduled import Stream

if TYPE_CHECKING:
    from tests.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

REGION, CHANGES, EVENTS, BUCKET = "eu-west-1", "audience-changes", "events", "company-state"
READER = "guides_reader"
HOURS = 2
CUSTOMERS = 300

SCHEMA = """
CREATE SCHEMA marts;
CREATE SCHEMA privacy;
CREATE TABLE marts.customers (user_id text, plan text, city text);
CREATE TABLE marts.audience_members (ds date, user_id text, audience_id text, audience_name text);
CREATE TABLE marts.loaded (user_id text, email text, may_be_targeted boolean);
CREATE TABLE marts.lapsed (user_id text, email text, may_be_targeted boolean);
CREATE PROCEDURE marts.load_lapsed() LANGUAGE sql
    AS 'TRUNCATE marts.lapsed; INSERT INTO marts.lapsed SELECT * FROM marts.loaded';
CREATE TABLE marts.purchases (
    purchase_id text, loaded_at timestamptz, purchased_at timestamptz, customer_id text, email text, idfa text,
    amount numeric(10, 2), sku text, plan text, platform text
);
CREATE TABLE privacy.suppressed (user_id text);
CREATE TABLE privacy.erasure_requests (customer_id text, requested_at timestamptz);
"""
MODEL = """
import pandas

def churn_risk(as_of):
    for page in range(3):
        users = [f"u-{page}-{n}" for n in range(50)]
        emails = [f"{user}@example.com" for user in users]
        yield pandas.DataFrame({"user_id": users, "email": emails, "risk": [n / 50 for n in range(50)]})
"""
SINCE = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS)
"""The first of the hours whose events are forwarded."""


def block_of(page: str, having: str, changed: Mapping[str, str] | None = None) -> str:
    """Return the one block of a page that has this text, with what is changed in it."""
    [text] = [b.text for b in blocks("python", f"docs/{page}.md") if having in b.text]
    for old, new in (changed or {}).items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def in_dag(dag_id: str, block: str, message_format: str = "") -> str:
    """Put the operator that a page shows alone into a DAG, before a task that publishes what it finds, if any."""
    imports, _, operator = block.partition("\n\n") if block.startswith("from ") else ("", "", block)
    publish = f"""
AudienceToKinesisOperator(
    task_id="publish", change_set=task.output, stream_name="{CHANGES}", message_format="{message_format}"
)"""
    body = textwrap.indent(f"task = {operator.strip()}{publish if message_format else ''}", "    ")
    ours = "from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator"
    return f'from airflow.sdk import DAG\n\n{ours}\n{imports}\n\nwith DAG("{dag_id}", schedule=None):\n{body}\n'


DAGS = {
    "gold": block_of("amplitude", '"gold_plan"'),
    "all_audiences": block_of("many", "audience_id_column"),
    "plans": block_of("many", "expand_kwargs"),
    "load_lapsed": block_of("assets", "CALL marts.load_lapsed()"),
    "after_a_delivery": block_of("monitoring", '"after_a_delivery"'),
    # The sync that the page on looking back resends.
    "lapsed": in_dag("lapsed", block_of("consent", "exclude_sql"), "amplitude_cohort"),
    "lapsed_resync": block_of("lookback", "AudienceResyncOperator("),
    "forget": in_dag("forget", block_of("forgetting", "AudienceForgetOperator(", {
        'task_id="forget",': 'task_id="forget", poke_interval=2,',
    })),
    "purchases": block_of("events", "EventsToKinesisOperator(", {
        "datetime(2026, 1, 1,": f"datetime({SINCE:%Y, %-m, %-d, %-H},",
    }),
    # The page's audience is one of the page on a read-only login, too.
    "moved": block_of("migration", "on_first_run", {'"lapsed",': '"moved",', '"gs72ns"': '"moved"'}),
    "read_only": in_dag(
        "read_only",
        block_of("read-only", "# SELECT on the source", {'"warehouse"': '"reader"'}),
        "mparticle_audience",
    ),
    "churn_risk": in_dag("churn_risk", block_of("read-only", "audiences.churn_risk"), "amplitude_cohort"),
}  # fmt: skip


@dataclass
class Shop:
    """What a reader has: an Airflow, a warehouse of real customers, and two streams."""

    airflow: RunningAirflow
    dsn: str
    streams: Mapping[str, Stream]
    bought: Counter[str]

    def execute(self, sql: str, rows: Sequence[Sequence[Any]] | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as database, database.cursor() as cursor:
            if rows is not None:
                cursor.executemany(sql.encode(), rows)
                return []
            cursor.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def unpause(self, *dag_ids: str) -> None:
        for dag_id in dag_ids:
            self.airflow.ask("PATCH", f"dags/{dag_id}", json={"is_paused": False})

    def start(self, dag_id: str) -> str:
        """Trigger a DAG as the button of the UI does, and return the id of the run."""
        self.unpause(dag_id)
        return str(self.airflow.ask("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None})["dag_run_id"])

    def run(self, dag_id: str, ends: str = "success") -> str:
        run_id = self.start(dag_id)
        self.airflow.expect(ends, dag_id, run_id)
        return run_id

    def runs_that_ended(self, dag_id: str, number: int) -> list[dict[str, Any]]:
        def ended() -> list[dict[str, Any]]:
            runs = [run for run in self.airflow.runs(dag_id) if run["state"] in ("success", "failed")]
            return runs if len(runs) >= number else []

        return list(self.airflow.wait_for(f"end of {number} runs of {dag_id}", ended))

    def messages(self, stream: str = CHANGES) -> list[bytes]:
        return self.streams[stream].read()

    def believed(self, audience_id: str, messages: Iterable[bytes] | None = None) -> set[str]:
        """Name the members of a consumer that gets all messages twice and in any order."""
        arriving = 2 * list(self.messages() if messages is None else messages)
        random.shuffle(arriving)
        consumer = AudienceConsumer()
        for message in arriving:
            consumer.apply(message)
        return set(consumer.members(audience_id))


@pytest.fixture(scope="module")
def shop(postgres_server: Server) -> Iterator[Shop]:
    names = ("guides_airflow", "guides_warehouse")
    for name in names:
        postgres_server.execute(f"CREATE DATABASE {name}")
    dsn = postgres_server.dsn(names[1])
    with emulator() as endpoint_url, psycopg.connect(dsn, autocommit=True) as warehouse:
        warehouse.execute(SCHEMA)
        warehouse.execute(f"CREATE ROLE {READER} LOGIN")
        warehouse.execute(f"GRANT USAGE ON SCHEMA marts TO {READER}; GRANT SELECT ON marts.lapsed TO {READER}")
        login = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        place: dict[str, Any] = {"endpoint_url": endpoint_url, "region_name": REGION}
        boto3.client("s3", **place, **login).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        kinesis = boto3.client("kinesis", **place, **login)
        aws = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": place}
        connections = {
            "warehouse": dsn,
            "reader": dsn.replace("postgres@", f"{READER}@"),
            "aws_default": json.dumps(aws),
        }
        with running_airflow(
            postgres_server.dsn(names[0]), dags=DAGS, connections=connections, paused=True
        ) as running:
            package = running.home / "dags" / "my_company"
            package.mkdir()
            (package / "__init__.py").touch()
            (package / "audiences.py").write_text(MODEL)
            bought = Counter(purchase.customer_id for purchase in read_purchases()[: 3 * CUSTOMERS])
            streams = {name: Stream(name, kinesis) for name in (CHANGES, EVENTS)}
            yield Shop(running, dsn, streams, bought)
    for name in names:
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    postgres_server.execute(f"DROP ROLE {READER}")


def test_consent_resync_and_forgetting(shop: Shop) -> None:
    users = sorted(shop.bought)[:120]
    refused, suppressed = set(users[:10]), set(users[5:20])
    shop.execute("TRUNCATE marts.lapsed")
    rows = [(user, email_of(user), user not in refused) for user in users]
    shop.execute("INSERT INTO marts.lapsed VALUES (%s, %s, %s)", rows)
    shop.execute("INSERT INTO privacy.suppressed VALUES (%s)", [(user,) for user in suppressed])
    expected = set(users) - refused - suppressed
    run_id = shop.run("lapsed")
    assert shop.airflow.xcom("lapsed", run_id, "diff")["excluded"] == len(refused | suppressed)
    assert shop.believed("lapsed_90_days") == expected

    shop.execute("UPDATE marts.lapsed SET may_be_targeted = false WHERE user_id = %s", [(users[-1],)])
    shop.run("lapsed")
    expected -= {users[-1]}
    before = shop.messages()
    shop.run("lapsed_resync")
    again = [message for message in shop.messages() if message not in before]
    assert shop.believed("lapsed_90_days", again) == shop.believed("lapsed_90_days") == expected

    gone = users[60]
    del shop.bought[gone]  # No sync that begins later lets the user enter.
    shop.execute("INSERT INTO privacy.erasure_requests VALUES (%s, now() - interval '1 day')", [(gone,)])
    forgetting = shop.start("forget")
    shop.airflow.wait_for(
        "the exits", lambda: shop.airflow.states("forget", forgetting)["forget"] == "up_for_reschedule"
    )
    shop.run("lapsed")
    shop.airflow.expect("success", "forget", forgetting)
    assert shop.believed("lapsed_90_days") == expected - {gone}
    assert email_of(gone) not in everything_in(shop)
    assert email_of(users[61]) in everything_in(shop)  # or the search would find nobody


def everything_in(shop: Shop) -> str:
    """Return every value of the state, and every line of a log."""
    tables = shop.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'airflow_audience'")
    rows = [
        row for (name,) in tables for (row,) in shop.execute(f'SELECT t::text FROM airflow_audience."{name}" t')
    ]
    logs = [path.read_text(errors="replace") for path in shop.airflow.home.rglob("*.log")]
    return "\n".join([*rows, *logs])


def test_cohorts_and_a_dag_after_their_delivery(shop: Shop) -> None:
    def load() -> set[str]:
        gold = {user for user, number in shop.bought.items() if number > 1}
        rows = [(user, "gold" if user in gold else "free", "Oslo") for user in shop.bought]
        shop.execute("TRUNCATE marts.customers")
        shop.execute("INSERT INTO marts.customers VALUES (%s, %s, %s)", rows)
        return gold

    shop.unpause("after_a_delivery")
    gold = load()
    shop.run("gold")
    assert shop.believed("gold_plan") == gold

    def is_printed() -> bool:
        # The run of the DAG's schedule may come before the one that is triggered, and deliver all there is.
        looked = shop.runs_that_ended("after_a_delivery", 1)
        assert {run["state"] for run in looked} == {"success"}
        paths = [f"dags/after_a_delivery/dagRuns/{run['dag_run_id']}/taskInstances/look/logs/1" for run in looked]
        logs = [json.dumps(shop.airflow.ask("GET", p, headers={"Accept": "application/json"})) for p in paths]
        return any(re.search(rf"gold\.diff \S+Z {len(gold)}\b", log) for log in logs)

    # What a task prints may come into its log when the task has ended already.
    shop.airflow.wait_for("line of what was delivered", is_printed, 60)

    shop.bought.update(random.sample(sorted(shop.bought.keys() - gold), 3))
    more = load()
    assert len(more) == len(gold) + 3
    shop.run("gold")
    assert shop.believed("gold_plan") == more


def test_many_audiences_of_one_table(shop: Shop) -> None:
    def load() -> dict[str, set[str]]:
        audiences = {f"bought_{n}": {u for u, number in shop.bought.items() if number >= n} for n in (1, 2, 3)}
        rows = [(datetime.now(UTC), u, name, name.title()) for name, users in audiences.items() for u in users]
        shop.execute("TRUNCATE marts.audience_members")
        shop.execute("INSERT INTO marts.audience_members VALUES (%s, %s, %s, %s)", rows)
        return audiences

    for _ in range(2):
        expected = load()
        shop.run("all_audiences")
        messages = shop.messages()
        assert {name: shop.believed(name, messages) for name in expected} == expected
        shop.bought.update(random.sample(sorted(shop.bought), 20))


def test_an_audience_that_a_guard_stops_does_not_stop_the_other_ones(shop: Shop) -> None:
    rows = [(user, "gold" if number > 1 else "free", "Oslo") for user, number in shop.bought.items()]
    shop.execute("TRUNCATE marts.customers")
    shop.execute("INSERT INTO marts.customers VALUES (%s, %s, %s)", rows)
    shop.run("plans")
    gold, free = ({user for user, plan, _ in rows if plan == name} for name in ("gold", "free"))
    assert (shop.believed("gold"), shop.believed("free")) == (gold, free)
    shop.execute("DELETE FROM marts.customers WHERE plan = 'gold'")
    shop.execute("INSERT INTO marts.customers VALUES ('late', 'free', 'Bergen')")
    shop.run("plans", ends="failed")
    assert (shop.believed("gold"), shop.believed("free")) == (gold, free | {"late"})


def test_a_dag_after_a_load(shop: Shop) -> None:
    users = sorted(shop.bought)[:100]
    shop.execute("TRUNCATE marts.loaded")
    shop.execute("INSERT INTO marts.loaded VALUES (%s, %s, true)", [(user, email_of(user)) for user in users])
    shop.unpause("lapsed_after_load")
    shop.run("load_lapsed")
    [loaded] = shop.runs_that_ended("lapsed_after_load", 1)
    assert loaded["state"] == "success"
    assert shop.believed("lapsed_90") == set(users)


def test_events_are_forwarded_each_once(shop: Shop) -> None:
    users = sorted(shop.bought)[:50]
    rows = [
        (f"p-{user}-{n}", SINCE + timedelta(minutes=(37 * n + k) % (60 * HOURS)), SINCE, user, email_of(user))
        for k, user in enumerate(users)
        for n in range(shop.bought[user])
    ]
    shop.execute(
        "INSERT INTO marts.purchases (purchase_id, loaded_at, purchased_at, customer_id, email, amount)"
        " VALUES (%s, %s, %s, %s, %s, 12.5)",
        rows,
    )
    shop.unpause("purchases")
    runs = shop.runs_that_ended("purchases", HOURS)
    assert {run["state"] for run in runs} == {"success"}
    batches = [json.loads(message) for message in shop.messages(EVENTS)]
    found = Counter(
        (identity["identity"], event["event_type"])
        for batch in batches
        for event in batch["events"]
        for identity in batch["user_identities"]
        if identity["identity_type"] == "customer_id"
    )
    assert found == Counter((user, "commerce_event") for _, _, _, user, _ in rows)
    ids = [event["data"]["source_message_id"] for batch in batches for event in batch["events"]]
    assert len(set(ids)) == len(ids) == len(rows)


def test_an_audience_of_another_system_is_taken_over(shop: Shop) -> None:
    users = sorted(shop.bought)[:60]
    exported, present = set(users[:50]), set(users[5:])
    shop.execute("CREATE TABLE marts.lapsed_as_exported (user_id text, email text, city text)")
    shop.execute("ALTER TABLE marts.lapsed ADD city text")
    shop.execute("TRUNCATE marts.lapsed")
    for name, of in (("lapsed_as_exported", exported), ("lapsed", present)):
        rows = [(user, email_of(user), "Oslo") for user in of]
        shop.execute(f"INSERT INTO marts.{name} (user_id, email, city) VALUES (%s, %s, %s)", rows)
    _, trigger, plan = "\n".join(b.text for b in blocks("console", "docs/migration.md")).splitlines()
    before = shop.messages()
    shop.unpause("moved")
    shop.airflow.command(*shlex.split(trigger.replace("lapsed ", "moved "))[1:])
    shop.runs_that_ended("moved", 1)
    assert shop.messages() == before
    command = [sys.executable, *shlex.split(plan.replace("lapsed.py", "moved.py"))[1:]]
    planned = subprocess.run(
        command, capture_output=True, text=True, check=True, env=shop.airflow.environment, cwd=shop.airflow.home
    )
    assert "10 entered, 5 exited" in planned.stdout
    shop.run("moved")
    moved = [message for message in shop.messages() if message not in before]
    changed = {user["user_id"] for message in moved for user in json.loads(message)["users"]}
    assert changed == exported ^ present
    assert shop.believed("moved", moved) == present - exported


def test_a_login_that_may_only_read_and_members_from_a_function(shop: Shop) -> None:
    users = sorted(shop.bought)[:40]
    shop.execute("TRUNCATE marts.lapsed")
    shop.execute("INSERT INTO marts.lapsed VALUES (%s, %s, true)", [(user, email_of(user)) for user in users])
    runs = [(dag_id, shop.start(dag_id)) for dag_id in ("read_only", "churn_risk")]
    for dag_id, run_id in runs:
        shop.airflow.expect("success", dag_id, run_id)
    messages = shop.messages()
    assert not any(email_of(user).encode() in message for message in messages for user in users)
    assert shop.believed("gs72ns", messages) == set(users)
    assert shop.believed("churn_risk", messages) == {f"u-{page}-{n}" for page in range(3) for n in range(50)}
