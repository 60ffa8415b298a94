"""People are notified once when an audience's state changes, not once per retry or per run that fails again.

The decision is a table; the rest is real DAG runs, whose messages a function in the DAG file writes to a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.notifications import AudienceNotifier, LastNotified, TaskOutcome, _key, decide
from airflow_kinesis_audience.operators import AudienceApprovalOperator
from tests.airflow.running import DIFF, ROOT, Airflow, Run, aws, day
from tests.scripted_kinesis import ScriptedKinesis

if TYPE_CHECKING:
    from tests.airflow.conftest import DuckDb

MONDAY, TUESDAY = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
MEMBERS = [(f"u{number}", f"secret-{number}@x.example", "") for number in range(9)]


def last(state: Any) -> LastNotified:
    return LastNotified(state=state, as_of=MONDAY)


def happened(state: Any, **more: Any) -> TaskOutcome:
    return TaskOutcome(**{"state": state, "as_of": TUESDAY, **more})


@pytest.mark.parametrize(
    ("before", "now", "message", "after"),
    [
        (None, happened("ok"), None, "ok"),
        (None, happened("failed"), "failed", "failed"),
        (last("ok"), happened("held"), "held", "held"),
        (last("held"), happened("held"), None, "held"),
        (last("held"), happened("failed"), "failed", "failed"),
        (last("failed"), happened("failed"), None, "failed"),
        (last("failed"), happened("ok"), "ok", "ok"),
        (last("ok"), happened("failed", ended=False), None, None),
        (last("ok"), happened("failed", ended=False, overdue=True), "late", "late"),
        (last("late"), happened("failed", ended=False, overdue=True), None, None),
        (last("late"), happened("failed", overdue=True), "failed", "failed"),
        (last("failed"), happened("failed", ended=False, overdue=True), None, None),
        (last("failed"), happened("failed", overdue=True), None, "failed"),
        (last("failed"), happened("ok", overdue=True), "ok", "ok"),
        (last("late"), happened("ok", overdue=True), None, "ok"),
        (last("ok"), happened("ok", overdue=True), "late", "ok"),
        (last("ok"), happened("held", overdue=True), "held", "held"),
        (last("held"), happened("held", asks=True), "held", "held"),
        (last("held"), happened("held", asks=True, as_of=MONDAY), None, "held"),
        # a backfill says nothing of now
        (LastNotified(state="ok", as_of=TUESDAY), happened("failed", as_of=MONDAY), None, None),
        # nor does a run that was in time and is cleared
        (LastNotified(state="ok", as_of=TUESDAY), happened("ok", overdue=True), None, "ok"),
        (last("ok"), happened("failed", as_of=None), "failed", "failed"),
        (None, happened("failed", as_of=None), "failed", "failed"),
    ],
)
def test_a_message_is_for_a_change_of_state(before: Any, now: TaskOutcome, message: Any, after: Any) -> None:
    state, remembered = decide(before, now)
    assert state == message
    assert (remembered and remembered.state) == after


def test_a_run_of_unknown_instant_makes_no_other_run_older() -> None:
    _, remembered = decide(last("ok"), happened("failed", as_of=None))
    assert remembered == LastNotified(state="failed", as_of=MONDAY)
    _, remembered = decide(None, happened("failed", as_of=None))
    assert remembered is not None
    assert decide(remembered, happened("ok"))[0] == "ok"


def test_each_task_and_each_of_a_mapped_ones_has_a_state_of_its_own_under_a_name_that_a_variable_can_have() -> (
    None
):
    def key(dag_id: str, map_index: int) -> str:
        ti = SimpleNamespace(dag_id=dag_id, task_id="t" * 200, map_index=map_index)
        return _key({"ti": ti})  # type: ignore[arg-type, typeddict-item]

    keys = {key(dag_id, index) for dag_id in ("d" * 10, "d" * 200, f"{'d' * 199}e") for index in (-1, 0, 1)}
    assert len(keys) == 9
    assert max(map(len, keys)) <= 250
    assert key("d", -1) == f"audience_notified/d/{'t' * 200}"


class Kept(AudienceNotifier):
    """Keeps in memory what it has notified of."""

    last: LastNotified | None = None

    def _read(self, _key: str) -> LastNotified | None:
        return self.last

    def _write(self, _key: str, last: LastNotified) -> None:
        self.last = last


def context(state: str, *, task: Any = None, xcom: Any = None, run_type: str = "scheduled") -> Any:
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, state=state)
    ti.xcom_pull, ti.log_url = lambda **_: xcom, "x"
    run = SimpleNamespace(run_type=run_type, run_after=MONDAY)
    return {"ti": ti, "task": task, "dag_run": run, "logical_date": MONDAY}


@pytest.mark.parametrize(("run_type", "messages"), [("scheduled", ["late"]), ("backfill", [])])
def test_a_backfill_is_not_late(run_type: str, messages: list[str]) -> None:
    sent: list[str] = []
    notifier = Kept(send=[lambda c: sent.append(c["audience"]["state"])], late_after=timedelta(1))
    notifier(context("success", run_type=run_type))
    assert sent == messages


@pytest.mark.parametrize(("ended", "messages"), [("success", ["held"]), ("failed", ["held", "failed"])])
def test_an_approval_tells_of_its_question_and_of_one_that_was_not_answered(
    ended: str, messages: list[str]
) -> None:
    sent: list[str] = []
    notifier = Kept(send=[lambda c: sent.append(c["audience"]["state"])])
    approve = AudienceApprovalOperator(task_id="approve", change_set={})
    # What it has notified of when it asked is still there when it goes on.
    held = {"sync_id": "lapsed", "as_of": "2026-03-02T00:00:00Z", "state": "held", "sentences": ["3 exits"]}
    for state in ("running", "running", ended):
        notifier(context(state, task=approve, xcom=held))
    assert sent == messages


def test_whatever_goes_wrong_does_not_fail_the_task(capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[object] = []
    Kept(send=[sent.append])({"ti": SimpleNamespace(state="failed")})  # type: ignore[arg-type, typeddict-item]
    assert sent == []
    assert "could not be read (KeyError)" in capsys.readouterr().out


_DAG = """
import datetime, json
from airflow.sdk import DAG, BaseNotifier
from airflow_kinesis_audience.notifications import AudienceNotifier
from airflow_kinesis_audience.operators import *

def write(context):
    with open({file!r}, "a") as file:
        print(json.dumps(context["audience"]), file=file)

class Mail(BaseNotifier):
    template_fields = ("subject",)

    def __init__(self):
        super().__init__()
        self.subject = "{{{{ audience.title }}}}"

    def notify(self, context):
        with open({file!r} + ".mail", "a") as file:
            print(self.subject, file=file)

def fail(context):
    raise RuntimeError("the mail server is away")

notifier = AudienceNotifier(send=[fail, write, Mail()], late_after={late_after})
callbacks = dict(on_failure_callback=notifier, on_success_callback=notifier, on_retry_callback=notifier)
again = dict(retries={retries}, retry_delay=datetime.timedelta(0), **callbacks)
with DAG({dag_id!r}, schedule=None, default_args=again) as dag:
    diff = AudienceDiffOperator(task_id="diff", **{diff!r})
    AudienceToKinesisOperator(
        task_id="publish",
        change_set=diff.output,
        stream_name="s",
        aws_conn_id="aws",
        message_format="amplitude_cohort",
        **{publish!r},
    )
"""


class Notified:
    """A DAG whose tasks notify, and what they sent."""

    def __init__(self, run: Callable[..., Run], kill: Callable[..., None], file: Path) -> None:
        self.run, self.kill, self._file = run, kill, file

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages since the last time."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self._file.write_text("")
        return [json.loads(line) for line in lines]

    def mails(self) -> list[str]:
        """Return the subjects of all mails."""
        return self._file.with_name(f"{self._file.name}.mail").read_text().splitlines()


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
    settings = {"retries": 0, "late_after": None, "publish": {}, **getattr(request, "param", {})}
    dag_id, file = f"notified_{tmp_path.name}", tmp_path / "messages"
    diff = {**DIFF, "max_exits": 3}
    connections = {"warehouse": duckdb_warehouse.connection, "aws": aws(kinesis.endpoint_url)}
    text = _DAG.format(dag_id=dag_id, file=str(file), diff=diff, **settings)
    with airflow.dag_file(dag_id, text) as dag_file:

        def run(number: int | datetime, **how: Any) -> Run:
            date = number if isinstance(number, datetime) else day(number)
            return airflow.run(dag_file, connections=connections, logical_date=date, **how)

        def kill(*tasks: str) -> None:
            """Have Airflow tell that tasks of the newest run were killed."""
            given = {f"AIRFLOW_CONN_{name.upper()}": made_of for name, made_of in connections.items()}
            command = [sys.executable, "-m", "tests.airflow.lost_task", str(dag_file), dag_id, *tasks]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), **given}
            subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=240)

        yield Notified(run, kill, file)


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


@pytest.mark.slow
def test_of_a_task_that_was_killed_it_is_told_as_of_one_that_failed(
    notified: Notified, duckdb_warehouse: DuckDb, kinesis: ScriptedKinesis
) -> None:
    duckdb_warehouse.members(MEMBERS)
    assert notified.run(1).state == "success"
    kinesis.describe = {"StreamStatus": "CREATING"}
    assert notified.run(2)["publish"].state == "failed"
    [failed] = notified.messages()
    notified.kill("publish", "diff")
    [message] = notified.messages()
    assert (message["title"], message["state"]) == ("lapsed: failed", "failed")
    assert "it was killed, or its machine failed" in message["text"]
    notified.kill("diff")
    assert notified.messages() == []
    kinesis.describe = {}
    assert notified.run(3, supervised=True).state == "success"
    well = ["lapsed: ok again", "lapsed to kinesis://us-east-1/s: ok again"]
    assert [m["title"] for m in notified.messages()] == well
    # One notifier serves both tasks, and each task has a mail of its own.
    assert notified.mails() == [failed["title"], message["title"], *well]


@pytest.mark.slow
def test_a_run_of_the_future_does_not_make_every_run_until_then_one_of_the_past(
    notified: Notified, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members(MEMBERS)
    assert notified.run(1).state == "success"
    assert notified.run(datetime.now(UTC) + timedelta(days=300))["diff"].state == "failed"
    [message] = notified.messages()
    assert message["title"] == "lapsed: failed"
    assert "which is in the future" in message["text"]
    assert notified.run(2).state == "success"
    assert [m["title"] for m in notified.messages()] == ["lapsed: ok again"]


@pytest.mark.slow
@pytest.mark.parametrize("notified", [{"publish": {"on_first_run": "nonsense"}}], indirect=True)
def test_a_task_that_breaks_off_before_it_knows_its_instant_tells_why(
    notified: Notified, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members(MEMBERS)
    assert notified.run(1)["publish"].state == "failed"
    [message] = notified.messages()
    assert message["state"] == "failed"
    assert "on_first_run is 'nonsense'" in message["text"]
