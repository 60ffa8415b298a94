"""What tasks report to Airflow: asset events, what stopped them, how far they have come, links.

All of it in real DAG runs, read from Airflow's own tables: the page, the notifier and other DAGs read it there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes.counts import AudienceCounts
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.changes.usual import MIN_RUNS
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.readers.masked_sample import MASK
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.operators.reporting import assets
from tests.airflow.running import DIFF, Airflow, aws, day, deployed
from tests.scripted_kinesis import TAKE, Arrived, ScriptedKinesis, Whole
from tests.warehouses import open_duckdb

if TYPE_CHECKING:
    from tests.airflow.conftest import DuckDb, Stream
    from tests.airflow.running import Run

pytestmark = pytest.mark.slow

ANNA, BORA = ("u1", "anna@x.example", "Ankara"), ("u2", "bora@x.example", "Bonn")
COST = ("statements", "statement_seconds")
NO_BOUNDS = dict.fromkeys(("max_exit_ratio_per_day", "max_exits", "max_change_ratio", "min_members"))


def test_each_change_set_is_an_event_of_the_sync_and_each_delivery_one_of_the_destination(
    airflow: Airflow, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    publish = {"stream_name": stream.name, "format_options": {"user_properties": True}}
    with deployed(airflow, duckdb_warehouse.connection, stream.connection, DIFF, publish) as dag:
        duckdb_warehouse.members([ANNA, BORA])
        dag.run(day(1))
        duckdb_warehouse.members([("u2", "bora@x.example", "Berlin")])
        run = dag.run(day(2))
        unchanged = dag.run(day(3))
        again = dag.run(day(3))
    counts = {"entered": 0, "exited": 1, "updated": 1, "members": 1}
    assert run["diff"].events == [
        {
            "asset": "audience://lapsed",
            "extra": {
                "kind": "change_set",
                "sync_id": "lapsed",
                "as_of": "2026-03-02T00:00:00Z",
                "previous_as_of": "2026-03-01T00:00:00Z",
                **counts,
                "guards": {"max_exit_ratio": 0.5, **NO_BOUNDS, "ratio_from_members": 100},
                "audiences": {"id": ["gs72ns"], "name": ["Lapsed 90 days"], **{n: [c] for n, c in counts.items()}},
                "more_audiences": 0,
                "mapping": [
                    {"column": "user_id", "role": "user id", "as": "", "rule": ""},
                    {"column": "email", "role": "identity", "as": "Email", "rule": ""},
                    {"column": "city", "role": "property", "as": "city", "rule": ""},
                ],
                **{n: run["diff"].summary[n] for n in COST},
            },
        }
    ]
    assert run["diff"].summary["statements"] > 0
    [delivery] = run["publish"].events
    assert delivery["asset"] == f"kinesis://us-east-1/{stream.name}"
    summary = run["publish"].summary
    assert {**delivery["extra"], "sample": None} == {
        "sample": None,
        "kind": "delivery",
        "message_format": "amplitude_cohort",
        **{n: v for n, v in summary.items() if n in delivery["extra"]},
    }
    reported = delivery["extra"]
    sample = reported.pop("sample")
    assert not [value for value in ("u1", "u2", "x.example", "Ankara", "Berlin") if value in sample]
    [user] = json.loads(sample)["users"]
    assert user == {"user_id": MASK, "user_properties": {"city": MASK}}
    assert {n: reported[n] for n in COST} == {n: summary[n] for n in COST}
    assert [reported[n] for n in ("sync_id", "delivered", "given_up", "exited")] == ["lapsed", 2, 0, 1]
    # Whoever is scheduled on a destination is not woken for nothing.
    assert unchanged["diff"].summary["exited"] == unchanged["publish"].summary["messages"] == 0
    assert unchanged["publish"].events == []
    assert len(unchanged["diff"].events) == 1
    [first], [second] = unchanged["diff"].events, again["diff"].events
    # Who looks at the run sees that it found its change set there.
    assert second["extra"] == {**first["extra"], "recorded": True, **{n: again["diff"].summary[n] for n in COST}}


def counted(number: int, members: int, name: str | None = None) -> AudienceCounts:
    return AudienceCounts(
        audience_id=f"a{number:04}",
        audience_name=name,
        source_rows=members,
        invalid_rows=0,
        duplicate_rows=0,
        previous_members=members,
        members=members,
        entered=number,
        exited=0,
        updated=0,
    )


class Outlets(dict[Any, Any]):
    """Takes events as Airflow does."""

    def __missing__(self, key: Any) -> Outlets:
        return self

    def add(self, asset: Any, extra: dict[str, Any]) -> None:
        self["reported"] = (asset.name, extra)


def test_of_very_many_audiences_the_largest_are_told_one_by_one() -> None:
    found = [counted(number, members=number % 700) for number in range(1_300)]
    outlets = Outlets()
    summary = {"sync_id": "a/b c", "as_of": "x", "previous_as_of": None}
    summary |= {"entered": 0, "exited": 0, "updated": 0, "members": 0}
    assets.emit_change_set({"outlet_events": outlets}, None, summary, Guards(), found, {})
    name, extra = outlets["reported"]
    assert name == "audience://a%2Fb%20c"
    reported = extra["audiences"]
    assert {len(column) for column in reported.values()} == {1_000}
    assert extra["more_audiences"] == 300
    assert reported["members"] == sorted((c.members for c in found), reverse=True)[:1_000]
    assert [f"a{entered:04}" for entered in reported["entered"]] == reported["id"] == reported["name"]


def test_what_a_guard_stopped_is_told_with_the_numbers_and_is_no_event(
    airflow: Airflow, duckdb_warehouse: DuckDb
) -> None:
    bounded = {**DIFF, "max_exits": 1}
    with deployed(airflow, duckdb_warehouse.connection, None, bounded) as failing:
        duckdb_warehouse.members([ANNA, BORA, ("u3", "", "")])
        assert "state" not in failing.run(day(1))["diff"].xcom
        duckdb_warehouse.members([ANNA])
        stopped = failing.run(day(2))["diff"]
    holding_too = {**bounded, "on_guard": "hold", **failing.adopted}
    with deployed(airflow, duckdb_warehouse.connection, None, holding_too) as held:
        holding = held.run(day(2))["diff"]
    expected = {
        "sync_id": "lapsed",
        "as_of": "2026-03-02T00:00:00Z",
        "state": "held",
        "sentences": ["audience 'gs72ns': 2 of 3 members would exit (max_exits is 1)"],
    }
    assert (stopped.state, stopped.xcom["state"], stopped.events) == ("failed", expected, [])
    assert (holding.state, holding.xcom["state"], holding.events) == ("success", expected, [])


def test_a_stop_by_what_is_usual_names_the_runs_that_it_was_compared_with(
    airflow: Airflow, duckdb_warehouse: DuckDb
) -> None:
    def sliding(number: int) -> list[tuple[str, str, str]]:
        return [(f"u{n}", "", "") for n in range(2 * number, 2 * number + 60)]

    source = Source(
        query=DIFF["sql"],
        user_id="user_id",
        audience_id=DIFF["audience_id"],
        audience_name=DIFF["audience_name"],
        identities=DIFF["identities"],
        properties={"city": "city"},
    )
    for number in range(1, MIN_RUNS + 2):
        duckdb_warehouse.members(sliding(number))
        with open_duckdb(duckdb_warehouse.path) as warehouse:
            Sync(Ledger(warehouse, "airflow_audience", "lapsed"), source).run(day(number))
    duckdb_warehouse.members(sliding(MIN_RUNS + 2)[:-20])
    with deployed(airflow, duckdb_warehouse.connection, None, {**DIFF, "usual_guards": True}) as dag:
        stopped = dag.run(day(MIN_RUNS + 2))["diff"]
    said = "audience 'gs72ns': 20 of 60 members would exit; the last 20 runs had 2 ± 0 (usual is on, up to 12)"
    assert stopped.xcom["state"]["sentences"] == [said]


def test_a_failed_delivery_tells_where_and_why(airflow: Airflow, duckdb_warehouse: DuckDb) -> None:
    duckdb_warehouse.members([ANNA])
    with (
        ScriptedKinesis(lambda _number, _records: Whole.DENIED) as kinesis,
        deployed(
            airflow, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, {"stream_name": "s"}
        ) as dag,
    ):
        run = dag.run(day(1))
    reported = run["publish"].xcom["state"]
    assert reported.keys() == {"sync_id", "as_of", "destination", "state", "sentences"}
    assert (reported["state"], reported["destination"]) == ("failed", "kinesis://us-east-1/s")
    assert "kinesis:PutRecords" in reported["sentences"][0]
    assert run["publish"].events == []


def test_the_log_of_a_failed_task_has_the_sentence_first_and_then_where_to_look(
    airflow: Airflow, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    duckdb_warehouse.members([ANNA])
    wrong = {**DIFF, "properties": ["town"]}
    with deployed(airflow, duckdb_warehouse.connection, stream.connection, wrong, None) as dag:
        run = dag.run(day(1))
    [sentence] = run["diff"].xcom["state"]["sentences"]
    assert "the query returns no column" in sentence
    lines = run.log.splitlines()
    said, where, stack = (
        next(n for n, line in enumerate(lines) if part in line)
        for part in (sentence, "docs/troubleshooting.md", "Task failed with exception")
    )
    assert said + 1 == where < stack
    assert "[error" in lines[said]


_BROKEN = """
def failing(**options):
    def render(changes, envelope):
        raise RuntimeError(f"cannot tell {changes.new_identities} of {changes.user_id}")
        yield
    return render


class Unfinished:
    version = 1

    def __call__(self, changes, envelope):
        return iter(())

    @property
    def apart(self):
        raise RuntimeError("said by the author's own code")
"""


def run_broken(name: str, airflow: Airflow, warehouse: DuckDb, stream: Stream) -> Run:
    """Tell of Anna in a format of the author's that does not work."""
    warehouse.members([ANNA])
    publish = {"stream_name": stream.name, "message_format": f"broken_format.{name}"}
    beside = {"broken_format.py": _BROKEN}
    with deployed(airflow, warehouse.connection, stream.connection, DIFF, publish, beside=beside) as dag:
        return dag.run(day(1))


def test_what_a_format_of_the_authors_says_of_its_failure_is_seen_nowhere(
    airflow: Airflow, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    run = run_broken("failing", airflow, duckdb_warehouse, stream)
    [sentence] = run["publish"].xcom["state"]["sentences"]
    assert "failing failed with RuntimeError (broken_format.py, line 4), on values that are not shown" in sentence
    assert "RuntimeError (broken_format.py, line 4)" in run.log
    assert not any(value in run.log for value in ANNA)


def test_of_an_error_that_is_not_ours_no_more_than_the_name_is_told(
    airflow: Airflow, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    reported = run_broken("Unfinished", airflow, duckdb_warehouse, stream)["publish"].xcom["state"]
    assert reported["sentences"] == ["RuntimeError; see the task's log"]


class SlowKinesis(ScriptedKinesis):
    """An endpoint that takes everything and thinks for a while before each answer."""

    def decide(self, entries: Any) -> Any:
        time.sleep(1)
        return super().decide(entries)


def test_a_long_delivery_tells_every_few_seconds_how_far_it_has_come(
    airflow: Airflow, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members([(f"u{number}", "", "") for number in range(9_000)])
    # One partition key: each of the nine messages waits for the one before it.
    publish = {"stream_name": "s", "partitions": 1}

    def take(_request: int, records: Sequence[Arrived]) -> list[str]:
        return [TAKE] * len(records)

    with (
        SlowKinesis(take) as kinesis,
        deployed(airflow, duckdb_warehouse.connection, aws(kinesis.endpoint_url), DIFF, publish) as dag,
    ):
        run = dag.run(day(1))
    assert run["publish"].summary["delivered"] == 9_000
    reported = run["publish"].xcom["progress"]
    assert reported.keys() == {"as_of", "done", "total", "rate", "eta_seconds", "throttled", "retried", "at"}
    assert reported["as_of"] == "2026-03-01T00:00:00Z"
    assert 0 < reported["done"] <= reported["total"] == 9_000
    assert reported["rate"] > 0
    assert reported["eta_seconds"] >= 0
    seconds = run["publish"].summary["seconds"]
    lines = re.findall(r"[\d,]+ of 9,000 changes as of 2026-03-01T00:00:00Z", run.log)
    assert 1 <= len(lines) <= seconds / 5 + 1


def test_tasks_link_to_the_page_of_their_sync_and_to_the_stream(
    airflow: Airflow, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    duckdb_warehouse.members([ANNA])
    diff = {**DIFF, "sync_id": "lapsed & more"}
    with deployed(
        airflow, duckdb_warehouse.connection, stream.connection, diff, {"stream_name": stream.arn}
    ) as dag:
        run = dag.run(day(1))
    page = "/plugin/audiences?sync=lapsed+%26+more"
    assert run["diff"].xcom["_link_AudienceLink"] == run["publish"].xcom["_link_AudienceLink"] == page
    console = "https://console.aws.amazon.com/kinesis/home?region=us-east-1#/streams/details/"
    assert run["publish"].xcom["_link_StreamLink"] == f"{console}{stream.name}/monitoring"
