"""Runs of every kind and backfills, on a real scheduler: the table of ``docs/runs.md``, and ``docs/backfill.md``.

What a query reads through ``{{ as_of }}`` and what consumers get as the time of the change must be the same
instant. The DAG of the page on backfills is run as the page says, from a paused DAG on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest
from airflow import sdk

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo.local_kinesis import emulator
from tests.docs.pages import ROOT, blocks
from tests.integration.running_airflow import RunningAirflow, running_airflow
from tests.integration.test_scheduled import REGION, Stream

if TYPE_CHECKING:
    from tests.postgres import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

DAG_FILE = """
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable
{imports}
from airflow_kinesis_audience.operators import AudienceDiffOperator

# Once a year: each has one scheduled run, and no further one while others are tried.
with DAG(
    "{dag_id}",
    schedule={schedule},
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    # Runs that are due begin before every part of Airflow is there.
    default_args={{"retries": 3, "retry_delay": timedelta(seconds=1)}},
):
    AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="warehouse",
        sql="SELECT 'u' AS user_id, '{{{{ as_of }}}}' AS seen",
        properties=["seen"],
        audience_id="of {{{{ as_of | ds }}}}",
        sync_id="{{{{ dag.dag_id }}}}.{{{{ run_id }}}}",
    )
"""
SCHEDULES = {
    "cron": "CronTriggerTimetable('0 0 1 1 *', timezone='UTC', run_immediately=True)",
    "interval": "CronDataIntervalTimetable('0 0 1 1 *', timezone='UTC')",
    "unscheduled": "None",
    "woken": "[Asset('s3://loaded')]",
}
OF_PARTITIONS = {
    "partition": "CronPartitionTimetable('0 0 1 * *', timezone='UTC')",
    "previous": "CronPartitionTimetable('0 0 1 * *', timezone='UTC', run_offset=-1)",
    "days": "PartitionedAssetTimetable(assets=Asset('s3://days'), default_partition_mapper=StartOfDayMapper())",
    "names": "PartitionedAssetTimetable(assets=Asset('s3://names'))",
}
HAS_PARTITIONS = hasattr(sdk, "CronPartitionTimetable")
"""Since Airflow 3.2."""
HAS_DATES = "partition_date" in sdk.Context.__annotations__
"""Since Airflow 3.3 a task has the date of each partition; before, only that of a cron expression can be found."""
IMPORTS = "from airflow.sdk import CronPartitionTimetable, PartitionedAssetTimetable, StartOfDayMapper"
if HAS_PARTITIONS:
    SCHEDULES |= OF_PARTITIONS
PAST_FIRST, LIVE, GAPPED, REPLAYED = "past_first", "live", "gapped", "replayed"
DAYS = [datetime.now(UTC).date() - timedelta(days=n) for n in reversed(range(12))]
"""The days that consumers are to know of; the last is today."""
START = f"datetime({DAYS[0] - timedelta(days=1):%Y, %-m, %-d}, tzinfo=timezone.utc)"
INSERTS = {
    'task_id="diff",': 'task_id="diff", on_covered="insert", max_active_tis_per_dag=1, max_exit_ratio=1.0,',
    'default_args={"retries": 3}': 'default_args={"retries": 3, "retry_delay": timedelta(seconds=1)}',
}
YEAR = datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)
PAST = datetime(YEAR.year - 2, 5, 3, 4, tzinfo=UTC)

Began = tuple[str, Callable[[], str]]
"""A DAG's id, and what finds the id of its run."""


def gold_at(day: date) -> set[str]:
    """Name those of a hundred people who have the plan on a day."""
    return {f"u{n}" for n in range(100) if (n * 7 + day.toordinal()) % 10 < 6}


def page_dag(dag_id: str, **changed: str) -> str:
    """Return the DAG of the page, with days of its own."""
    [text] = [b.text for b in blocks("python", "docs/backfill.md") if "AudienceDiffOperator" in b.text]
    first = DAYS[0] - timedelta(days=1)
    mine = {
        "datetime(2026, 1, 1,": f"datetime({first.year}, {first.month}, {first.day},",
        '"gold_history",': f'"{dag_id}",',
        "max_active_runs=1,": "max_active_runs=1,\n    is_paused_upon_creation=True,",
        '"audience-changes"': f'"{dag_id}"',
        **changed,
    }
    for old, new in mine.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def replay_dag() -> str:
    """Return the DAG of the page that replays the sync whose days are inserted."""
    [text] = [b.text for b in blocks("python", "docs/backfill.md") if "AudienceReplayOperator(" in b.text]
    mine = {
        '"gold_replayed"': f'"{REPLAYED}"',
        '"gold_history.diff"': f'"{GAPPED}.diff"',
        '"2026-03-01T00:00:00Z"': f'"{DAYS[0]}T00:00:00Z"',
        '"another-consumer"': f'"{REPLAYED}"',
    }
    for old, new in mine.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def stream_of(airflow: RunningAirflow) -> Iterator[Callable[[str], Stream]]:
    """Make streams by name, which are gone again after the test."""
    extra = json.loads(airflow.environment["AIRFLOW_CONN_AWS_DEFAULT"])["extra"]
    client = boto3.client("kinesis", **extra, aws_access_key_id="testing", aws_secret_access_key="testing")
    made: list[Stream] = []

    def make(name: str) -> Stream:
        made.append(Stream(name, client))
        return made[-1]

    yield make
    for stream in made:
        stream.delete()


@pytest.fixture(scope="module")
def airflow(postgres_server: Server) -> Iterator[RunningAirflow]:
    names = ("kinds_airflow", "kinds_warehouse")
    for name in names:
        postgres_server.execute(f"CREATE DATABASE {name}")
    dags = {
        dag_id: DAG_FILE.format(dag_id=dag_id, schedule=given, imports=IMPORTS if HAS_PARTITIONS else "")
        for dag_id, given in SCHEDULES.items()
    }
    with emulator() as endpoint_url, psycopg.connect(postgres_server.dsn(names[1]), autocommit=True) as warehouse:
        warehouse.execute("CREATE SCHEMA marts; CREATE TABLE marts.plans (ds date, user_id text, plan text)")
        warehouse.cursor().executemany(
            "INSERT INTO marts.plans VALUES (%s, %s, 'gold')", [(d, u) for d in DAYS for u in gold_at(d)]
        )
        extra = {"endpoint_url": endpoint_url, "region_name": REGION}
        aws = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        with running_airflow(
            postgres_server.dsn(names[0]),
            dags={
                **dags,
                PAST_FIRST: page_dag(PAST_FIRST),
                LIVE: page_dag(LIVE, **{"catchup=True": "catchup=False"}),
                GAPPED: page_dag(GAPPED, **{"catchup=True,": f"catchup=True, end_date={START},", **INSERTS}),
                REPLAYED: replay_dag(),
            },
            connections={"warehouse": postgres_server.dsn(names[1]), "aws_default": json.dumps(aws)},
        ) as running:
            yield running
    for name in names:
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass
class Starter:
    """Begins runs; the commands are run later, in one process, since each takes seconds to begin.

    :ivar commands: the arguments of ``airflow``, each.
    """

    airflow: RunningAirflow
    commands: list[Sequence[str]] = field(default_factory=list)

    def run_commands(self) -> None:
        script = "import sys, json; from airflow.cli.cli_parser import get_parser\n"
        script += "for given in json.loads(sys.argv[1]): asked = get_parser().parse_args(given); asked.func(asked)"
        ended = subprocess.run(
            [sys.executable, "-c", script, json.dumps(self.commands)],
            capture_output=True, text=True, check=False, env=self.airflow.environment, cwd=self.airflow.home,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def first(self, dag_id: str, is_meant: Callable[[Mapping[str, Any]], bool]) -> str:
        def found() -> str | None:
            return next((str(r["dag_run_id"]) for r in self.airflow.runs(dag_id) if is_meant(r)), None)

        return str(self.airflow.wait_for(f"run of {dag_id}", found))


def scheduled(dag_id: str, start: Starter) -> Began:
    """Wait for the run that the schedule asks for."""
    return dag_id, lambda: start.first(dag_id, lambda run: run["run_type"] == "scheduled")


def by_command(dag_id: str, start: Starter, *, at: datetime | None = None) -> Began:
    run_id = f"by_command_{at and at.isoformat()}"
    logical = ("--logical-date", at.isoformat()) if at else ()
    given = ("--run-id", run_id, "--conf", '{"let_through": true}', *logical)
    start.commands.append(("dags", "trigger", dag_id, *given))
    return dag_id, lambda: run_id


def by_api(dag_id: str, start: Starter, **body: Any) -> Began:
    found = start.airflow.ask("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, **body})
    return dag_id, lambda: str(found["dag_run_id"])


def backfilled(dag_id: str, start: Starter) -> Began:
    dates = ("--from-date", "2022-01-01", "--to-date", "2022-01-02")
    start.commands.append(("backfill", "create", "--dag-id", dag_id, *dates))
    return dag_id, lambda: start.first(dag_id, lambda run: run["run_type"] == "backfill")


def by_asset(dag_id: str, start: Starter, uri: str, **event: Any) -> Began:
    [asset] = start.airflow.ask("GET", "assets", params={"uri_pattern": uri})["assets"]
    start.airflow.ask("POST", "assets/events", json={"asset_id": asset["id"], **event})
    return dag_id, lambda: start.first(dag_id, lambda run: run["run_type"].startswith("asset"))


def text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


LATER, TODAY = "the logical date", "when it was due"
BY_API = PAST + timedelta(days=1)  # a DAG has one run of a logical date
DATES = {"logical_date": text(BY_API)}
KEY = "2024-03-01T00:00:00"
MONTH, NEXT_MONTH = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)
REFUSED = "refused"

# The row of the table: how the run begins, what it speaks for in words, and in figures where they are known.
KINDS: dict[str, tuple[Callable[[Starter], Began], str, datetime | None]] = {
    "scheduled, with a data interval": (partial(scheduled, "interval"), "the end of its interval", YEAR),
    "scheduled, `@daily` or a cron expression alone": (partial(scheduled, "cron"), LATER, YEAR),
    "backfill, with a data interval": (
        partial(backfilled, "interval"), "the end of its interval", datetime(2023, 1, 1, tzinfo=UTC),
    ),
    "backfill, `@daily` or a cron expression alone": (
        partial(backfilled, "cron"), LATER, datetime(2022, 1, 1, tzinfo=UTC),
    ),
    "`airflow dags trigger`, with a data interval": (partial(by_command, "interval"), TODAY, None),
    "`airflow dags trigger`, `@daily` or a cron expression alone": (partial(by_command, "cron"), TODAY, None),
    "`airflow dags trigger`, no schedule": (partial(by_command, "unscheduled"), TODAY, None),
    "`airflow dags trigger` with a logical date of the past": (
        partial(by_command, "cron", at=PAST), REFUSED, None,
    ),
    "the same, with a data interval": (partial(by_command, "interval", at=PAST), REFUSED, None),
    "the same, no schedule": (partial(by_command, "unscheduled", at=PAST), REFUSED, None),
    "UI or API with a logical date, with a data interval": (partial(by_api, "interval", **DATES), LATER, BY_API),
    "UI or API with a logical date, `@daily` or a cron expression alone": (
        partial(by_api, "cron", **DATES), LATER, BY_API,
    ),
    "UI or API with a logical date, no schedule": (partial(by_api, "unscheduled", **DATES), LATER, BY_API),
    "UI or API with an interval": (
        partial(
            by_api,
            "interval",
            logical_date="2021-01-01T00:00:00Z",
            data_interval_start="2021-01-01T00:00:00Z",
            data_interval_end="2022-01-01T00:00:00Z",
        ),
        "the end of its interval",
        datetime(2022, 1, 1, tzinfo=UTC),
    ),
    "UI or API without a logical date": (partial(by_api, "cron"), TODAY, None),
    "triggered by an asset": (partial(by_asset, "woken", uri="s3://loaded"), TODAY, None),
    "partition of a cron expression": (
        partial(by_api, "partition", partition_key=KEY), "the partition's own instant", MONTH,
    ),
    "partition, `run_offset=-1`": (
        partial(by_api, "previous", partition_key=KEY), "the partition's end", NEXT_MONTH,
    ),
    "backfill of partitions, `run_offset=-1`": (
        # The dates of a backfill are those of partitions; in Airflow 3.2 they are those of runs.
        partial(backfilled, "previous"),
        "the partition's end",
        datetime(2022, 2 if HAS_DATES else 1, 1, tzinfo=UTC),
    ),
    "triggered by a partition of an asset that is a day": (
        partial(by_asset, "days", uri="s3://days", partition_key="2024-03-01T05:00:00"),
        "the partition's beginning",
        MONTH,
    ),
    "triggered by a partition whose key is no time": (
        partial(by_asset, "names", uri="s3://names", partition_key="gold"),
        "refused, unless `as_of` is given",
        None,
    ),
    "a partitioned DAG, triggered without a key": (
        partial(by_api, "partition"), "refused, unless `as_of` is given", None,
    ),
}  # fmt: skip


def test_each_kind_of_run_speaks_for_one_instant(airflow: RunningAirflow) -> None:
    start = Starter(airflow)
    kinds = {kind: begin for kind, (begin, _, _) in KINDS.items() if HAS_PARTITIONS or "partition" not in kind}
    began = {kind: begin(start) for kind, begin in kinds.items()}
    start.run_commands()
    for kind, (dag_id, find) in began.items():
        run_id = find()
        _, words, expected = KINDS[kind]
        if dag_id == "days" and not HAS_DATES:
            words = REFUSED
        ended = airflow.finished(dag_id, run_id)
        if words.startswith(REFUSED):
            assert ended == "failed", kind
            found = airflow.xcom(dag_id, run_id, "diff", "state")
            assert "set as_of" in found["sentences"][0] or "as_of=" in found["sentences"][0], kind
            continue
        assert ended == "success", f"{kind}\n{airflow.logs()}"
        summary = airflow.xcom(dag_id, run_id, "diff")
        assert summary["entered"] == 1
        if expected is None:
            [run] = [r for r in airflow.runs(dag_id) if r["dag_run_id"] == run_id]
            expected = datetime.fromisoformat(run["run_after"]).replace(microsecond=0)
            assert datetime.now(UTC) - expected < timedelta(hours=1), kind
        assert summary["as_of"] == text(expected), kind
        rendered = airflow.ask("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/diff")["rendered_fields"]
        seen = re.search("'u' AS user_id, '([^']+)'", rendered["sql"])
        assert seen is not None
        assert datetime.fromisoformat(seen[1]).replace(microsecond=0) == expected, kind


def test_a_run_that_is_cleared_speaks_for_the_same_instant(airflow: RunningAirflow) -> None:
    dag_id, find = by_api("cron", Starter(airflow))
    run_id = find()
    airflow.expect("success", dag_id, run_id)
    before = airflow.xcom(dag_id, run_id, "diff")["as_of"]
    clear(airflow, dag_id, run_id)
    assert airflow.tasks(dag_id, run_id)["diff"]["try_number"] > 1
    assert airflow.xcom(dag_id, run_id, "diff")["as_of"] == before


def test_the_page_says_the_same_of_each_kind() -> None:
    page = (ROOT / "docs" / "runs.md").read_text()
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", page.partition("| kind of run |")[2].partition("\n\n")[0], re.M)
    assert dict(found[1:]) == {kind: words for kind, (_, words, _) in KINDS.items()}


def wait_for_runs(airflow: RunningAirflow, dag_id: str, number: int) -> list[dict[str, Any]]:
    """Wait until so many runs have ended, oldest first."""

    def ended() -> list[dict[str, Any]]:
        runs = airflow.runs(dag_id)
        return runs if sum(run["state"] in ("success", "failed") for run in runs) >= number else []

    return list(airflow.wait_for(f"end of {number} runs of {dag_id}", ended, 600))


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def clear(airflow: RunningAirflow, dag_id: str, run_id: str) -> None:
    """Have all tasks of a run run again, and wait for them."""
    airflow.ask("POST", f"dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False})
    airflow.expect("success", dag_id, run_id)


def believed(messages: Sequence[bytes], until: date = date.max) -> set[str]:
    """Name the members of a consumer that gets all messages up to a day twice, the second time backwards."""
    consumer = AudienceConsumer()
    for message in (*messages, *reversed(messages)):
        if datetime.fromtimestamp(int(json.loads(message)["computed_time"]), UTC) <= midnight(until):
            consumer.apply(message)
    return set(consumer.members("gold_plan"))


def test_the_past_goes_out_day_by_day_as_the_page_says_and_the_newest_day_is_corrected(
    airflow: RunningAirflow, stream_of: Callable[[str], Stream]
) -> None:
    stream = stream_of(PAST_FIRST)
    [command] = [block.text for block in blocks("console", "docs/backfill.md")]
    airflow.command(*command.replace("gold_history", PAST_FIRST).split()[1:])
    runs = wait_for_runs(airflow, PAST_FIRST, len(DAYS))
    found = [airflow.xcom(PAST_FIRST, run["dag_run_id"], "diff") for run in runs]
    assert [summary["as_of"] for summary in found] == [f"{day}T00:00:00Z" for day in DAYS]
    messages = stream.read()
    ids = [json.loads(message)["message_id"] for message in messages]
    assert len(set(ids)) == len(ids)
    times = {int(json.loads(message)["computed_time"]) for message in messages}
    assert times == {int(midnight(day).timestamp()) for day in DAYS}
    assert believed(messages) == gold_at(DAYS[-1])

    with psycopg.connect(airflow.environment["AIRFLOW_CONN_WAREHOUSE"], autocommit=True) as warehouse:
        left = sorted(gold_at(DAYS[-1]))[:3]
        warehouse.execute("DELETE FROM marts.plans WHERE ds = %s AND user_id = ANY(%s)", (DAYS[-1], left))
        warehouse.execute("INSERT INTO marts.plans VALUES (%s, 'late', 'gold')", (DAYS[-1],))
    newest = runs[-1]["dag_run_id"]
    clear(airflow, PAST_FIRST, newest)
    assert airflow.xcom(PAST_FIRST, newest, "diff")["recorded"] is True
    assert stream.read() == messages

    correcting = page_dag(PAST_FIRST, **{'task_id="diff",': 'task_id="diff", on_covered="correct",'})
    (airflow.home / "dags" / f"{PAST_FIRST}.py").write_text(correcting)
    clear(airflow, PAST_FIRST, newest)
    summary = airflow.xcom(PAST_FIRST, newest, "diff")
    assert (summary["corrects"], summary["as_of"]) == (f"{DAYS[-1]}T00:00:00Z", f"{DAYS[-1]}T00:00:01Z")
    assert believed(stream.read()) == gold_at(DAYS[-1]) - set(left) | {"late"}


def test_a_backfill_of_what_a_live_sync_has_covered_fails_and_says_what_to_do(
    airflow: RunningAirflow, stream_of: Callable[[str], Stream]
) -> None:
    stream = stream_of(LIVE)
    airflow.command("dags", "unpause", LIVE)
    wait_for_runs(airflow, LIVE, 1)
    before = stream.read()
    with psycopg.connect(airflow.environment["AIRFLOW_CONN_WAREHOUSE"]) as warehouse:
        found = warehouse.execute("SELECT user_id FROM marts.plans WHERE ds = %s", (DAYS[-1],)).fetchall()
    assert believed(before) == {user for (user,) in found}
    dates = ("--from-date", str(DAYS[1]), "--to-date", str(DAYS[2]))
    airflow.command("backfill", "create", "--dag-id", LIVE, *dates, "--max-active-runs", "1")
    runs = wait_for_runs(airflow, LIVE, 3)
    of_backfill = [run for run in runs if run["run_type"] == "backfill"]
    assert [run["state"] for run in of_backfill] == ["failed", "failed"]
    for run in of_backfill:
        [sentence] = airflow.xcom(LIVE, run["dag_run_id"], "diff", "state")["sentences"]
        assert "a later run has already covered it" in sentence
        assert "docs/backfill.md" in sentence
    assert stream.read() == before


@pytest.mark.long_story
def test_missed_days_are_inserted_beside_a_live_sync_and_replayed(
    airflow: RunningAirflow, stream_of: Callable[[str], Stream]
) -> None:
    stream, dag_file = stream_of(GAPPED), airflow.home / "dags" / f"{GAPPED}.py"
    airflow.command("dags", "unpause", GAPPED)
    wait_for_runs(airflow, GAPPED, 1)
    dag_file.write_text(page_dag(GAPPED, **{"catchup=True": "catchup=False", **INSERTS}))

    def newest_is_there() -> bool:
        ended = [r["data_interval_end"][:10] for r in airflow.runs(GAPPED) if r["state"] == "success"]
        return str(DAYS[-1]) in ended

    airflow.wait_for("the run of today", newest_is_there, 300)
    ran = len(airflow.runs(GAPPED))
    assert ran < len(DAYS) - 1
    before = stream.read()
    with psycopg.connect(airflow.environment["AIRFLOW_CONN_WAREHOUSE"], autocommit=True) as warehouse:
        truth = {
            day: {u for (u,) in warehouse.execute("SELECT user_id FROM marts.plans WHERE ds = %s", (day,))}
            for day in DAYS
        }
        assert believed(before) == truth[DAYS[-1]]
        # All at once, the newest first.
        dates = ("--from-date", str(DAYS[0]), "--to-date", str(DAYS[-3]))
        airflow.command("backfill", "create", "--dag-id", GAPPED, *dates, "--run-backwards")
        runs = wait_for_runs(airflow, GAPPED, len(DAYS))
        assert [run["state"] for run in runs] == ["success"] * len(DAYS)
        inserted = [r["dag_run_id"] for r in runs if r["run_type"] == "backfill"]
        assert len(inserted) == len(DAYS) - ran
        assert all(airflow.xcom(GAPPED, run_id, "diff")["inserted"] for run_id in inserted)

        old = DAYS[3]
        warehouse.execute("DELETE FROM marts.plans WHERE ds = %s AND user_id < 'u3'", (old,))
    correcting = {**INSERTS, 'task_id="diff",': 'task_id="diff", on_covered="correct", max_exit_ratio=1.0,'}
    dag_file.write_text(page_dag(GAPPED, **{"catchup=True": "catchup=False", **correcting}))
    [wrong] = [r for r in inserted if airflow.xcom(GAPPED, r, "diff")["as_of"] == f"{old}T00:00:00Z"]
    clear(airflow, GAPPED, wrong)
    assert airflow.xcom(GAPPED, wrong, "diff")["corrects"] == f"{old}T00:00:00Z"

    messages = stream.read()
    assert len({json.loads(m)["message_id"] for m in messages}) == len(messages)
    assert believed(messages) == truth[DAYS[-1]]
    for day in DAYS:
        assert believed(messages, day) == truth[day], day
    # A shard keeps the order of each user's messages, so any order of the shards does.
    later = [message for message in messages if message not in before]
    for number in range(len(later)):
        assert believed([*before, *later[:number]]) == truth[DAYS[-1]], "an up-to-date consumer was wrong"

    another = stream_of(REPLAYED)
    airflow.command("dags", "unpause", REPLAYED)
    airflow.command("dags", "trigger", REPLAYED)
    wait_for_runs(airflow, REPLAYED, 1)
    replayed = another.read()
    assert len({json.loads(m)["message_id"] for m in replayed}) == len(replayed)
    for day in DAYS:
        assert believed(replayed, day) == truth[day], day
