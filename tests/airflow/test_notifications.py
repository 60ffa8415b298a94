"""People are told once when an audience's state changes, and not once per retry or per run that fails again.

The decision is a table; the rest is real DAG runs, whose messages a function in the DAG file writes to a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.notifications import Happened, Told, decide
from tests.airflow.running import DIFF, Airflow, Run, aws, day
from tests.scripted_kinesis import ScriptedKinesis

if TYPE_CHECKING:
    from tests.airflow.conftest import DuckDb

MONDAY, TUESDAY = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
MEMBERS = [(f"u{number}", f"secret-{number}@x.example", "") for number in range(9)]


def told(state: Any) -> Told:
    return Told(state=state, as_of=MONDAY)


def happened(state: Any, **more: Any) -> Happened:
    return Happened(**{"state": state, "as_of": TUESDAY, **more})


@pytest.mark.parametrize(
    ("before", "now", "message", "after"),
    [
        (None, happened("ok"), None, "ok"),
        (None, happened("failed"), "failed", "failed"),
        (told("ok"), happened("held"), "held", "held"),
        (told("held"), happened("held"), None, "held"),
        (told("held"), happened("failed"), "failed", "failed"),
        (told("failed"), happened("failed"), None, "failed"),
        (told("failed"), happened("ok"), "ok", "ok"),
        (told("ok"), happened("failed", ended=False), None, None),
        (told("ok"), happened("failed", ended=False, overdue=True), "late", "late"),
        (told("late"), happened("failed", ended=False, overdue=True), None, "late"),
        (told("late"), happened("ok", overdue=True), None, "ok"),
        (told("ok"), happened("ok", overdue=True), "late", "ok"),
        (told("ok"), happened("held", overdue=True), "held", "held"),
        (told("held"), happened("held", asks=True), "held", "held"),
        (told("held"), happened("held", asks=True, as_of=MONDAY), None, "held"),
        # a backfill says nothing of now
        (Told(state="ok", as_of=TUESDAY), happened("failed", as_of=MONDAY), None, None),
    ],
)
def test_a_message_is_for_a_change_of_state(before: Any, now: Happened, message: Any, after: Any) -> None:
    state, remembered = decide(before, now)
    assert state == message
    assert (remembered and remembered.state) == after


_DAG = """
import datetime, json
from airflow.sdk import DAG
from airflow_kinesis_audience.notifications import AudienceNotifier
from airflow_kinesis_audience.operators import *

def write(context):
    with open({file!r}, "a") as file:
        print(json.dumps(context["audience"]), file=file)

def fail(context):
    raise RuntimeError("the mail server is away")

notifier = AudienceNotifier(send=[fail, write], late_after={late_after})
told = dict(on_failure_callback=notifier, on_success_callback=notifier, on_retry_callback=notifier)
again = dict(retries={retries}, retry_delay=datetime.timedelta(0), **told)
with DAG({dag_id!r}, schedule=None, default_args=again) as dag:
    diff = AudienceDiffOperator(task_id="diff", **{diff!r})
    AudienceToKinesisOperator(
        task_id="publish",
        change_set=diff.output,
        stream_name="s",
        aws_conn_id="aws",
        message_format="amplitude_cohort",
    )
"""


class Notified:
    """A DAG whose tasks tell of themselves, and what they told."""

    def __init__(self, run: Callable[[int], Run], file: Path) -> None:
        self.run, self._file = run, file

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages since the last time."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self._file.write_text("")
        return [json.loads(line) for line in lines]


@pytest.fixture
def kinesis() -> Iterator[ScriptedKinesis]:
    with ScriptedKinesis() as kinesis:
        yield kinesis


@pytest.fixture
def notified(
    request: pytest.FixtureRequest,
    airflow: Airflow,
    duckdb_warehouse: DuckDb,
    kinesis: ScriptedKinesis,
    tmp_path: Path,
) -> Iterator[Notified]:
    settings = {"retries": 0, "late_after": None, **getattr(request, "param", {})}
    dag_id, file = f"notified_{tmp_path.name}", tmp_path / "messages"
    diff = {**DIFF, "max_exits": 3}
    connections = {"warehouse": duckdb_warehouse.connection, "aws": aws(kinesis.endpoint_url)}
    text = _DAG.format(dag_id=dag_id, file=str(file), diff=diff, **settings)
    with airflow.dag_file(dag_id, text) as dag_file:
        yield Notified(lambda n: airflow.run(dag_file, connections=connections, logical_date=day(n)), file)


@pytest.mark.slow
def test_a_guard_that_trips_in_three_runs_is_one_message_and_so_is_the_end_of_it(
    notified: Notified, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members(MEMBERS)
    assert notified.run(1).state == "success"
    assert notified.messages() == []
    duckdb_warehouse.members(MEMBERS[:1])
    for number in (2, 3, 4):
        assert notified.run(number)["diff"].state == "failed"
    [message] = notified.messages()
    assert message["title"] == "lapsed: held by a guard"
    assert "8 of 9 members would exit (max_exits is 3)" in message["text"]
    assert (message["state"], message["as_of"]) == ("held", "2026-03-02T00:00:00Z")
    assert "/diff" in message["url"]
    assert "secret" not in json.dumps(message)
    duckdb_warehouse.members(MEMBERS[:7])
    assert notified.run(5).state == "success"
    [message] = notified.messages()
    assert message["title"] == "lapsed: ok again"
    assert "2 exited" in message["text"]


@pytest.mark.slow
@pytest.mark.parametrize("notified", [{"retries": 2}], indirect=True)
def test_a_delivery_that_fails_is_one_message_however_often_it_is_tried(
    notified: Notified, duckdb_warehouse: DuckDb, kinesis: ScriptedKinesis
) -> None:
    duckdb_warehouse.members(MEMBERS)
    kinesis.describe = {"StreamStatus": "CREATING"}
    for number in (1, 2):
        publish = notified.run(number)["publish"]
        assert (publish.state, publish.tries) == ("failed", 3)
    [message] = notified.messages()
    assert message["title"] == "lapsed to kinesis://us-east-1/s: failed"
    kinesis.describe = {}
    assert notified.run(3).state == "success"
    assert [m["title"] for m in notified.messages()] == ["lapsed to kinesis://us-east-1/s: ok again"]


@pytest.mark.slow
@pytest.mark.parametrize("notified", [{"late_after": "datetime.timedelta(hours=1)"}], indirect=True)
def test_what_succeeds_too_late_is_told_as_late_each_time(notified: Notified, duckdb_warehouse: DuckDb) -> None:
    duckdb_warehouse.members(MEMBERS)
    assert notified.run(1).state == "success"  # for a day in March
    assert [m["state"] for m in notified.messages()] == ["late", "late"]
