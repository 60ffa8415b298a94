"""Every example DAG is triggered by hand: by the command, the API and the button of the UI, on a scheduler.

A run that is triggered has no logical date, or one that is no midnight. The customers are real; their purchases
are moved to end yesterday, as those of a living shop. What a consumer should believe is worked out in Python.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo import cdnow
from airflow_kinesis_audience.demo.local_firehose import LocalFirehose
from airflow_kinesis_audience.demo.local_kinesis import LocalKinesis, emulator, make_client
from tests.integration.browser import HOW_TO_INSTALL, find_chromium, log_in, running_browser, visitor
from tests.integration.running_airflow import ROOT, USER, RunningAirflow, running_airflow

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DAGS = ROOT / "dags"
TENTH = 10
"""One customer in so many is enough."""
DATABASES = ("triggered_airflow", "triggered_warehouse")
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
TABLES = """
CREATE SCHEMA marts;
CREATE SCHEMA privacy;
CREATE TABLE marts.purchases (
    customer_id text, purchased_on date, number_of_cds integer, dollar_value numeric(10, 2)
);
CREATE TABLE marts.customers (customer_id text, email text);
CREATE TABLE marts.consents (customer_id text, may_be_targeted boolean);
CREATE TABLE marts.objections (customer_id text, objected_on date);
CREATE TABLE privacy.erasure_requests (customer_id text);
"""
CHANGED = {
    # These two would run for each day since 1997 before the run that is triggered.
    "lapsed_backfilled": [
        ("    catchup=True", "    catchup=False"),
        # A live audience has no end, it says there; and after the end Airflow runs no task.
        ("    end_date=datetime(1998, 7, 1, tzinfo=UTC),\n", ""),
    ],
    "purchases_as_events": [("    catchup=True", "    catchup=False")],
}
FILES = {"load_top_spenders": "after_a_load", "top_spenders": ""}
"""The file of a DAG that is not called as the DAG; none, where it is that of another one."""

Members = dict[str, set[str]]


@dataclass(frozen=True)
class Shop:
    """Purchases by customer as of today, and who consented."""

    bought: dict[str, list[cdnow.Purchase]] = field(default_factory=lambda: defaultdict(list))

    def away(self, customer: str) -> int:
        """Return for how many days a customer has bought nothing."""
        return (YESTERDAY - max(p.purchased_on for p in self.bought[customer])).days + 1

    def spent(self, customer: str) -> Any:
        return sum(p.dollar_value for p in self.bought[customer])

    def who(self, rule: Callable[[str], bool]) -> set[str]:
        return {customer for customer in self.bought if rule(customer)}

    @property
    def lapsed(self) -> set[str]:
        return self.who(lambda c: self.away(c) > 90)

    @property
    def top(self) -> set[str]:
        return self.who(lambda c: self.spent(c) >= 500)


def consents(customer: str) -> bool:
    return int(customer) % 30 != 0


def objects(customer: str) -> bool:
    return int(customer) % 40 == 0


def risk(purchases: int, away: int) -> float:
    return round(1 / (1 + math.exp(0.9 * purchases - 0.03 * away)), 2)


EXPECTED: dict[str, Callable[[Shop], Members]] = {
    "active_hourly": lambda shop: {"active_30_days": shop.who(lambda c: shop.away(c) < 30)},
    "audiences_from_yaml": lambda shop: {
        "big_spenders": shop.top,
        "one_time_buyers": shop.who(lambda c: len(shop.bought[c]) == 1),
        "lapsed_half_a_year": shop.who(lambda c: shop.away(c) > 182),
    },
    "churn_scores": lambda shop: {
        "churn_risk": shop.who(lambda c: risk(len(shop.bought[c]), shop.away(c)) >= 0.8)
    },
    "customer_profiles": lambda shop: {
        "active_30_days": shop.who(lambda c: shop.away(c) <= 30),
        "lapsed_90_days": shop.lapsed,
        "top_spenders": shop.top,
    },
    "forget_customers": lambda _: {},
    "lapsed_backfilled": lambda shop: {"lapsed_90_days_history": shop.lapsed},
    "lapsed_customers": lambda shop: {"lapsed_90_days": shop.lapsed},
    "lapsed_to_firehose": lambda shop: {"90001": shop.lapsed},
    "lapsed_with_approval": lambda shop: {"lapsed_90_days_approved": shop.lapsed},
    "lapsed_with_consent": lambda shop: {
        "lapsed_90_days_consented": {c for c in shop.lapsed if consents(c) and not objects(c)}
    },
    # Of yesterday or of no day at all, by what the run speaks for: see the test of events.
    "purchases_as_events": lambda _: {},
    "load_top_spenders": lambda _: {},
    "top_spenders": lambda shop: {"top_spenders": shop.top},
}


@dataclass
class Triggered:
    """An Airflow with the examples, all paused, and where they deliver to."""

    airflow: RunningAirflow
    shop: Shop
    page: Page
    streams: tuple[LocalKinesis, LocalFirehose]
    seen: int = 0
    messages: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def trigger(self, dag_id: str, way: str) -> str:
        """Trigger a DAG that is not paused, and return the id of the run."""
        if way == "command":
            self.airflow.command("dags", "trigger", dag_id, "--run-id", "by_command")
            return "by_command"
        path = f"dags/{dag_id}/dagRuns"
        if way == "api":
            return str(self.airflow.ask("POST", path, json={"logical_date": None})["dag_run_id"])
        before = self.manual_runs(dag_id)
        self.page.goto(f"/dags/{dag_id}")
        self.page.get_by_role("button", name="Trigger").first.click()
        self.page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
        [run_id] = self.airflow.wait_for("run of the button", lambda: self.manual_runs(dag_id) - before)
        return str(run_id)

    def manual_runs(self, dag_id: str) -> set[str]:
        return {run["dag_run_id"] for run in self.airflow.runs(dag_id) if run["run_type"] == "manual"}

    def run(self, dag_id: str, way: str) -> None:
        """Trigger a DAG, wait for the end of its runs, and keep what was delivered meanwhile as its messages."""
        self.pause(dag_id, is_paused=False)
        run_id = self.trigger(dag_id, way)
        self.airflow.finished(dag_id, run_id)
        self.pause(dag_id, is_paused=True)
        for run in self.airflow.runs(dag_id):
            self.airflow.finished(dag_id, run["dag_run_id"])
        self.airflow.expect("success", dag_id, run_id)
        delivered = [stored.data for stream in self.streams for stored in stream.read_all()]
        new = Counter(delivered) - self.known()
        self.messages[dag_id] += new.elements()

    def known(self) -> Counter[bytes]:
        return Counter(message for messages in self.messages.values() for message in messages)

    def pause(self, dag_id: str, *, is_paused: bool) -> None:
        self.airflow.ask("PATCH", f"dags/{dag_id}", json={"is_paused": is_paused})

    def believed(self, dag_id: str, audience_ids: Iterable[str]) -> Members:
        consumer = AudienceConsumer()
        for message in self.messages[dag_id]:
            consumer.apply(message)
        return {audience_id: set(consumer.members(audience_id)) for audience_id in audience_ids}


def dag_of(dag_id: str) -> str:
    text = (DAGS / f"{FILES.get(dag_id, dag_id)}.py").read_text()
    for old, new in CHANGED.get(dag_id, ()):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def fill(dsn: str) -> Shop:
    """Load a tenth of the customers, with their purchases moved to now."""
    purchases = [p for p in cdnow.read_purchases() if int(p.customer_id) % TENTH == 0]
    later = YESTERDAY - max(p.purchased_on for p in purchases)
    shop = Shop()
    with psycopg.connect(dsn) as database, database.cursor() as cursor:
        cursor.execute(TABLES)
        for p in purchases:
            moved = p._replace(purchased_on=p.purchased_on + later)
            shop.bought[p.customer_id].append(moved)
            cursor.execute("INSERT INTO marts.purchases VALUES (%s, %s, %s, %s)", moved)
        for customer in shop.bought:
            cursor.execute("INSERT INTO marts.customers VALUES (%s, %s)", (customer, cdnow.email_of(customer)))
            cursor.execute("INSERT INTO marts.consents VALUES (%s, %s)", (customer, consents(customer)))
            if objects(customer):
                cursor.execute("INSERT INTO marts.objections VALUES (%s, %s)", (customer, YESTERDAY))
    return shop


@pytest.fixture(scope="module")
def triggered(postgres_server: Server) -> Iterator[Triggered]:
    if find_chromium() is None:
        pytest.skip(HOW_TO_INSTALL)
    for name in DATABASES:
        postgres_server.execute(f"CREATE DATABASE {name}")
    dsn = postgres_server.dsn(DATABASES[1])
    shop = fill(dsn)
    with emulator() as endpoint_url:
        streams = LocalKinesis(endpoint_url), LocalFirehose(endpoint_url)
        make_client("s3", endpoint_url).create_bucket(Bucket="audience-state")
        connections = {"warehouse": dsn, "aws_default": json.dumps(streams[0].connection)}
        with (
            running_airflow(
                postgres_server.dsn(DATABASES[0]),
                dags={dag_id: dag_of(dag_id) for dag_id in EXPECTED if FILES.get(dag_id) != ""},
                beside={"audiences.yaml": (DAGS / "audiences.yaml").read_text()},
                connections=connections,
                paused=True,
            ) as running,
            running_browser() as browser,
            visitor(browser, running) as page,
        ):
            log_in(page, USER, running.password)
            yield Triggered(running, shop, page, streams)
    for name in DATABASES:
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


OFTEN = {
    ("lapsed_customers", "command"),
    ("audiences_from_yaml", "api"),
    ("churn_scores", "api"),
    ("lapsed_with_approval", "api"),
    ("customer_profiles", "button"),
    ("purchases_as_events", "button"),
}
EACH_IN_EACH_WAY = [
    # Some examples in one way each in every run of the tests; all in all ways on request.
    pytest.param(dag_id, way, marks=[] if (dag_id, way) in OFTEN else [pytest.mark.long_story])
    for way in ("command", "api", "button")
    for dag_id in EXPECTED
]


@pytest.mark.parametrize(("dag_id", "way"), EACH_IN_EACH_WAY)
def test_an_example_that_is_triggered_delivers_what_is_true_now(
    triggered: Triggered, dag_id: str, way: str
) -> None:
    if dag_id == "top_spenders":
        triggered.run("load_top_spenders", "api")
    triggered.run(dag_id, way)
    expected = EXPECTED[dag_id](triggered.shop)
    assert triggered.believed(dag_id, expected) == expected
    assert all(expected.values()), "an audience without a member shows nothing"
