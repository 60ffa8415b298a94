"""The example DAGs as they stand, run on CDNOW's purchases: what a consumer believes is what the purchases say.

What is true is worked out in plain Python from the purchases, in other words than the DAGs' queries. The examples
of the demo, which are as large as the data set, have tests of their own in the integration tests.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo import cdnow
from airflow_kinesis_audience.demo.local_kinesis import STREAM
from tests.airflow.conftest import DuckDb, Stream
from tests.airflow.running import ROOT, Airflow, Deployed, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DAGS = ROOT / "dags"
FIRST = date(1997, 9, 1)
NEXT = FIRST + timedelta(days=1)
TENTH = 10
"""One customer in so many is enough."""


@pytest.fixture(scope="module")
def purchases() -> list[cdnow.Purchase]:
    return [p for p in cdnow.read_purchases() if int(p.customer_id) % TENTH == 0]


@pytest.fixture
def marts(duckdb_warehouse: DuckDb, purchases: list[cdnow.Purchase]) -> DuckDb:
    cdnow.write_warehouse(duckdb_warehouse.path, purchases)
    return duckdb_warehouse


@pytest.fixture
def stream(aws_endpoint: str) -> Iterator[Stream]:
    """The stream that the examples name, empty."""
    stream = Stream(aws_endpoint, STREAM)
    yield stream
    stream.delete()


@contextmanager
def example(airflow: Airflow, marts: DuckDb, stream: Stream, name: str, *beside: str) -> Iterator[Deployed]:
    """Deploy an example as it stands, with the connections that it names."""
    files = {other: (DAGS / other).read_text() for other in beside}
    with airflow.dag_file(name, (DAGS / f"{name}.py").read_text(), beside=files) as file:
        yield Deployed(airflow, file, {"warehouse": marts.connection, "aws_default": stream.connection})


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def succeeded(run: Run) -> Run:
    assert run.state == "success", run.log[-4_000:]
    return run


def heard(stream: Stream) -> AudienceConsumer:
    consumer = AudienceConsumer()
    for record in stream.records():
        consumer.apply(record)
    return consumer


def last_purchase(purchases: list[cdnow.Purchase], until: date) -> dict[str, date]:
    """The last purchase of each customer before a day."""
    found: dict[str, date] = {}
    for p in purchases:
        if p.purchased_on < until:
            found[p.customer_id] = max(p.purchased_on, found.get(p.customer_id, p.purchased_on))
    return found


def lapsed(purchases: list[cdnow.Purchase], day: date) -> set[str]:
    return {c for c, last in last_purchase(purchases, day).items() if last < day - timedelta(days=90)}


def test_an_hour_in_which_nothing_changed_puts_nothing(
    airflow: Airflow, marts: DuckDb, stream: Stream, purchases: list[cdnow.Purchase]
) -> None:
    day = date(1997, 3, 10)
    with example(airflow, marts, stream, "active_hourly") as dag:
        late = succeeded(dag.run(midnight(day) - timedelta(hours=1)))
        on_the_hour = succeeded(dag.run(midnight(day)))
        quiet = succeeded(dag.run(midnight(day) + timedelta(hours=1)))
    assert late["publish"].summary["delivered"] > 0
    assert on_the_hour["diff"].summary["entered"] > 0
    assert (quiet["publish"].summary["records"], quiet["publish"].summary["delivered"]) == (0, 0)
    true: dict[str, int] = defaultdict(int)
    for p in purchases:
        if day - timedelta(days=30) < p.purchased_on <= day:
            true[p.customer_id] += 1
    consumer = heard(stream)
    assert consumer.members("active_30_days") == true.keys()
    assert {c: consumer.properties("active_30_days", c) for c in true} == {
        c: {"purchases": n} for c, n in true.items()
    }


def test_the_audiences_of_the_file_are_delivered_each_by_its_own_tasks(
    airflow: Airflow, marts: DuckDb, stream: Stream, purchases: list[cdnow.Purchase]
) -> None:
    listed = [a["audience_id"] for a in yaml.safe_load((DAGS / "audiences.yaml").read_text())]
    with example(airflow, marts, stream, "audiences_from_yaml", "audiences.yaml") as dag:
        run = succeeded(dag.run(midnight(FIRST)))
    assert [run[f"diff[{n}]"].summary["sync_id"] for n in range(len(listed))] == [
        f"audiences_from_yaml.{audience_id}" for audience_id in listed
    ]
    before = [p for p in purchases if p.purchased_on < FIRST]
    spent, times = defaultdict[str, Decimal](Decimal), defaultdict[str, int](int)
    for p in before:
        spent[p.customer_id] += p.dollar_value
        times[p.customer_id] += 1
    last = last_purchase(purchases, FIRST)
    consumer = heard(stream)
    assert {audience_id: consumer.members(audience_id) for audience_id in listed} == {
        "big_spenders": {c for c in spent if spent[c] >= 500},
        "one_time_buyers": {c for c in times if times[c] == 1},
        "lapsed_half_a_year": {c for c in last if (FIRST - last[c]).days > 182},
    }
    assert all(consumer.members(audience_id) for audience_id in listed)


def test_one_audience_that_a_guard_stops_does_not_stop_the_others(
    airflow: Airflow, marts: DuckDb, stream: Stream
) -> None:
    with example(airflow, marts, stream, "audiences_from_yaml", "audiences.yaml") as dag:
        succeeded(dag.run(midnight(FIRST)))
        # Who had bought once has bought twice: all of that audience would exit, and nobody of the others.
        again = "INSERT INTO marts.purchases SELECT customer_id, DATE '1997-02-01', 1, 1 FROM marts.customers"
        marts.execute(again)
        run = dag.run(midnight(NEXT))
    states = {name: task.state for name, task in run.tasks.items()}
    assert run.state == "failed"
    assert states["diff[1]"] == "failed"
    assert "the source has no row" in run["diff[1]"].xcom["state"]["sentences"][0]
    # The stopped one has nothing to map over.
    assert {name: state for name, state in states.items() if name.startswith("publish")} == {
        "publish[0]": "success",
        "publish[1]": "success",
    }
    synced = {run[f"publish[{n}]"].summary["sync_id"] for n in (0, 1)}
    assert synced == {"audiences_from_yaml.big_spenders", "audiences_from_yaml.lapsed_half_a_year"}


def test_a_backfill_sends_the_past_day_by_day(
    airflow: Airflow, marts: DuckDb, stream: Stream, purchases: list[cdnow.Purchase]
) -> None:
    days = [FIRST + timedelta(days=n) for n in range(3)]
    with example(airflow, marts, stream, "lapsed_backfilled") as dag:
        runs = [succeeded(dag.run(midnight(day))) for day in days]
    assert [run["diff"].summary["as_of"] for run in runs] == [f"{day}T00:00:00Z" for day in days]
    members = [lapsed(purchases, day) for day in days]
    assert heard(stream).members("lapsed_90_days_history") == members[-1]
    for before, now, run in zip(members, members[1:], runs[1:], strict=False):
        summary = run["diff"].summary
        assert (summary["entered"], summary["exited"]) == (len(now - before), len(before - now))
    [view] = marts.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'airflow_audience' "
        "AND table_name LIKE 'history_%'"
    )
    entered = marts.execute(
        f"SELECT as_of, count(*) FROM airflow_audience.{view[0]} WHERE action = 'entered' GROUP BY 1 ORDER BY 1"
    )
    expected = [(f"{days[n]}T00:00:00Z", len(members[n] - members[n - 1])) for n in (1, 2)]
    assert entered == [row for row in expected if row[1]]


def test_a_dag_runs_when_another_has_loaded(
    airflow: Airflow, marts: DuckDb, stream: Stream, purchases: list[cdnow.Purchase]
) -> None:
    with example(airflow, marts, stream, "after_a_load") as dag:
        loaded = succeeded(dag.run(midnight(FIRST), dag="load"))
        assert [event["asset"] for event in loaded["load"].events] == ["warehouse://marts/top_spenders"]
        run = succeeded(dag.run(None, run_after=midnight(FIRST) + timedelta(minutes=7)))
    assert run["diff"].summary["as_of"] == "1997-09-01T00:07:00Z"
    spent: dict[str, Decimal] = defaultdict(Decimal)
    for p in purchases:
        if p.purchased_on < FIRST:
            spent[p.customer_id] += p.dollar_value
    consumer = heard(stream)
    true = {c: {"spent": str(value)} for c, value in spent.items() if value >= 500}
    assert {c: consumer.properties("top_spenders", c) for c in consumer.members("top_spenders")} == true
    assert true


def test_what_no_guard_stops_needs_no_approval_and_what_one_stops_is_held(
    airflow: Airflow, marts: DuckDb, stream: Stream, purchases: list[cdnow.Purchase]
) -> None:
    with example(airflow, marts, stream, "lapsed_with_approval") as dag:
        run = succeeded(dag.run(midnight(FIRST)))
        assert {n.rpartition(".")[2]: t.state for n, t in run.tasks.items()} == {
            "diff": "success",
            "approve": "skipped",
            "publish": "success",
        }
    assert heard(stream).members("lapsed_90_days_approved") == lapsed(purchases, FIRST)


def test_who_objects_or_does_not_consent_is_in_no_audience(
    airflow: Airflow, marts: DuckDb, stream: Stream, purchases: list[cdnow.Purchase]
) -> None:
    marts.execute("CREATE TABLE marts.consents (customer_id VARCHAR, may_be_targeted BOOLEAN)")
    marts.execute("CREATE TABLE marts.objections (customer_id VARCHAR, objected_on DATE)")
    there = sorted(lapsed(purchases, FIRST))
    answers = {c: [True, True, False, None][n % 4] for n, c in enumerate(there) if n % 5}
    marts.execute("INSERT INTO marts.consents VALUES ($1, $2)", list(answers.items()))
    asked = {c for c, answer in answers.items() if answer}
    with example(airflow, marts, stream, "lapsed_with_consent") as dag:
        run = succeeded(dag.run(midnight(FIRST)))
        assert heard(stream).members("lapsed_90_days_consented") == asked
        assert run["diff"].summary["excluded"] == len(there) - len(asked)
        assert run["diff"].events[0]["extra"]["excluded"] == len(there) - len(asked)
        objected = sorted(asked)[:3]
        marts.execute("INSERT INTO marts.objections VALUES ($1, $2)", [(c, FIRST) for c in objected])
        run = succeeded(dag.run(midnight(NEXT)))
    assert "rows of the source (exclude_sql, consent_column)" in run.log
    left = (asked & lapsed(purchases, NEXT)) - {*objected}
    assert heard(stream).members("lapsed_90_days_consented") == left


def test_every_example_says_what_it_is_for_and_how_it_runs() -> None:
    import runpy

    for path in sorted(DAGS.glob("*.py")):
        dag: Any = runpy.run_path(str(path))["dag"]
        assert dag.doc_md.strip().endswith("``aws_default``."), path.name
        assert dag.max_active_runs == 1
        named = {getattr(t, n, None) for t in dag.tasks for n in ("warehouse_conn_id", "aws_conn_id")}
        # Rows of a function are in no warehouse.
        assert named <= {"warehouse", "aws_default", "" if path.name == "churn_scores.py" else None, None}, (
            path.name
        )


def test_the_examples_can_be_deployed_together() -> None:
    """No two of them publish one audience in one format: the second one would stop."""
    import runpy

    published = [
        (audience, task.message_format)
        for path in sorted(DAGS.glob("*.py"))
        for dag in [runpy.run_path(str(path))["dag"]]
        for audience in [getattr(t, "audience_id", None) for t in dag.tasks]
        for task in dag.tasks
        if audience and getattr(task, "message_format", None)
    ]
    assert len(published) == len(set(published)) == 8


def test_the_consumer_believes_in_the_customers_that_the_function_expects_to_lose(
    airflow: Airflow, marts: DuckDb, stream: Stream, purchases: list[cdnow.Purchase], tmp_path: Path
) -> None:
    text = (DAGS / "churn_scores.py").read_text()
    assert '"s3://aws_default@audience-state/churn"' in text
    text = text.replace("s3://aws_default@audience-state/churn", str(tmp_path / "state"))
    with airflow.dag_file("churn_scores", text) as file:
        dag = Deployed(airflow, file, {"warehouse": marts.connection, "aws_default": stream.connection})
        for day in (FIRST, FIRST + timedelta(days=30)):
            succeeded(dag.run(midnight(day)))
            bought, last = Counter[str](), last_purchase(purchases, day)
            bought.update(p.customer_id for p in purchases if p.purchased_on < day)
            lost = {c for c, n in bought.items() if is_lost(n, (day - last[c]).days)}
            assert 10 < len(lost) < len(bought)
            assert heard(stream).members("churn_risk") == lost


def is_lost(purchases: int, days_away: int) -> bool:
    return round(1 / (1 + math.exp(0.9 * purchases - 0.03 * days_away)), 2) >= 0.8
