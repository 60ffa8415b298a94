"""The command line as its users run it: in a process of its own, with connections, a warehouse and a stream."""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from airflow_kinesis_audience.cli.airflow_commands import get_audience_commands
from airflow_kinesis_audience.cli.check import FAILED
from airflow_kinesis_audience.cli.commands import COMMANDS, import_command, main
from airflow_kinesis_audience.cli.masking import mask
from airflow_kinesis_audience.cli.plan import STOPPED
from airflow_kinesis_audience.cli.policy import make_policy
from airflow_kinesis_audience.schemas import SCHEMAS, load_schema
from tests.airflow.running import DIFF, ROOT, Airflow, audience_dag, day, deployed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.airflow.conftest import Stream, Warehouse

PEOPLE = [
    ("u1", "ada@example.com", "Oslo"),
    ("u2", "bob@example.com", "Bergen"),
    ("u3", "eve@example.com", "Oslo"),
]
PRIVATE = [value for row in PEOPLE for value in row]


class Commands:
    """Runs commands, with the connections that a test has given.

    :param environment: the variables to which connections are added.
    """

    def __init__(self, environment: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._environment, self._captured = environment, captured

    def connect(self, **connections: str) -> None:
        for name, value in connections.items():
            self._environment.setenv(f"AIRFLOW_CONN_{name.upper()}", value)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command in this process; gives what it printed, and on standard error where it was to fail."""
        self._captured.readouterr()
        assert main(arguments) == code
        printed = self._captured.readouterr()
        return printed.out if code in (0, STOPPED) else printed.err

    def in_a_process(self, *arguments: str, program: Sequence[str] = ("airflow_kinesis_audience",)) -> str:
        """Run a command as a shell does; gives what is on standard output, and nothing else may be there."""
        command = [sys.executable, "-m", *program, *arguments]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
        assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3_000:]
        return ended.stdout


@pytest.fixture(autouse=True)
def as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what a command sets for the rest of its process, so that it is gone after the test."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], airflow_db: Path) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def dag_file(airflow: Airflow, tmp_path: Path) -> Path:
    _, text = audience_dag(
        {**DIFF, "sql": "SELECT user_id, email, city FROM members WHERE '{{ as_of | ds }}' <> ''"}
    )
    path = tmp_path / "lapsed.py"
    path.write_text(text)
    return path


def test_plan_and_status_before_and_after_a_run(
    command: Commands, airflow: Airflow, warehouse: Warehouse, stream: Stream, dag_file: Path
) -> None:
    warehouse.members(PEOPLE)
    command.connect(warehouse=warehouse.connection)
    assert "has no sync yet" in command("status")
    first = json.loads(command.in_a_process("plan", str(dag_file), "--json"))
    assert (first["entered"], first["members"], first["previous_as_of"]) == (3, 3, None)

    with deployed(airflow, warehouse.connection, stream.connection, DIFF, {"stream_name": stream.name}) as dag:
        assert dag.run(day(1)).state == "success"
        warehouse.members([PEOPLE[0], ("u2", "bob@example.com", "Tromsø"), ("u4", "dan@example.com", "Oslo")])
        planned = command("plan", str(dag_file), "--as-of", "2026-03-02T00:00:00Z")
        shown = command("plan", str(dag_file), "--as-of", "2026-03-02T00:00:00Z", "--show")
        assert warehouse.newest_edge() == "2026-03-01T00:00:00Z"
        again = dag.run(day(2))
    assert again["diff"].summary["exited"] == 1

    lines = [line.strip() for line in planned.splitlines()]
    assert "lapsed as of 2026-03-02T00:00:00Z; nothing is written by this plan" in lines
    assert "compared with the membership as of 2026-03-01T00:00:00Z" in lines
    assert "1 entered, 1 exited, 1 updated, 3 members" in lines
    assert f"+ gs72ns {mask('u4')} Email, city" in lines
    assert f"- gs72ns {mask('u3')} Email, city" in lines
    assert f"~ gs72ns {mask('u2')} city" in lines
    assert any(line.endswith("would receive this change set alone") for line in lines)
    assert [value for value in (*PRIVATE, "Tromsø", "u4", "dan@example.com") if value in planned.split()] == []
    assert "~ gs72ns u2 city=Bergen -> Tromsø" in shown

    status = ("status", "--json", "--runs", "1")
    printed = json.loads(command.in_a_process(*status))
    assert json.loads(command.in_a_process(*status, program=("airflow", "audiences"))) == printed
    [sync] = printed
    assert (sync["sync_id"], sync["members"], sync["as_of"]) == ("lapsed", 3, "2026-03-02T00:00:00Z")
    assert [(e["entered"], e["exited"], e["updated"]) for e in sync["change_sets"]] == [(1, 1, 1)]
    [destination] = sync["destinations"]
    assert destination["destination"].endswith(f"/{stream.name}")
    assert (destination["change_sets"], destination["lag_seconds"]) == (0, 0)
    lines = command("status", "lapsed").splitlines()
    assert lines[0].startswith("lapsed: 3 members as of 2026-03-02T00:00:00Z, ")
    assert [line.split()[1:] for line in lines if line.startswith("  2026-03-0")] == [
        ["1", "1", "1", "3"],
        ["3", "0", "0", "3"],
    ]
    [delivered] = [line for line in lines if line.endswith(": delivered everything, up to 2026-03-02T00:00:00Z")]
    assert delivered.endswith(
        f"/{stream.name} (amplitude_cohort): delivered everything, up to 2026-03-02T00:00:00Z"
    )
    assert lines[-1].startswith("  the oldest former value is as of 2026-03-01T00:00:00Z, in base_lapsed_")
    assert "has no sync 'other'; it has 'lapsed'" in command("status", "other", code=1)


def test_a_plan_ends_with_a_code_of_its_own_where_a_guard_would_stop_the_run(
    command: Commands, duckdb_warehouse: Warehouse, dag_file: Path
) -> None:
    command.connect(warehouse=duckdb_warehouse.connection)
    duckdb_warehouse.members([*PEOPLE, PEOPLE[0]])
    planned = command("plan", str(dag_file), code=STOPPED)
    assert "a guard would stop it: audience 'gs72ns': 1 of 4 rows repeat a user id" in planned


def checked(printed: str) -> dict[str, str]:
    """Give each line of a check by what was checked, beginning with its sign."""
    found = {}
    for line in printed.splitlines():
        subject, _, text = line.partition(": ")
        found[subject.rpartition(", ")[2]] = f"{line[0]} {text}"
    return found


def write_dag(tmp_path: Path, sql: str, stream_name: str) -> str:
    _, text = audience_dag(
        {**DIFF, "sql": sql}, {"stream_name": stream_name, "message_format": "amplitude_cohort"}
    )
    (tmp_path / "checked.py").write_text(text)
    return str(tmp_path / "checked.py")


def test_a_check_finds_what_tasks_lack_and_puts_and_writes_nothing(
    command: Commands, warehouse: Warehouse, stream: Stream, tmp_path: Path
) -> None:
    warehouse.members(PEOPLE)
    command.connect(warehouse=warehouse.connection, aws_default=stream.connection)
    good = write_dag(tmp_path, "SELECT * FROM members", "{{ '" + stream.name + "' }}")
    found = checked(command("check", good))
    assert found["source"] == "✓ the query runs and returns user_id, email, city"
    assert found["state"].startswith("✓ this sync has not run yet; with write")
    assert found["stream"].startswith(
        f"✓ kinesis://us-east-1/{stream.name} accepts amplitude_cohort from this login"
    )
    assert "has no sync yet" in command("status")
    proven = checked(command("check", good, "--write"))
    assert proven["state"] == "✓ schema airflow_audience has a ledger, and a table was created there and dropped"

    bad = write_dag(tmp_path, "SELECT * FROM membres", "nowhere")
    printed = command("check", bad, code=FAILED)
    found = checked(printed)
    assert found["source"].startswith("✗ ")
    assert "This statement reads the source: correct the task's sql or table" in found["source"]
    assert found["stream"].startswith("✗ stream nowhere does not exist in us-east-1; correct stream_name")
    assert stream.records() == []
    assert [value for value in PRIVATE if value in printed] == []


def test_a_check_reads_the_columns_of_events(
    command: Commands, duckdb_warehouse: Warehouse, stream: Stream, tmp_path: Path
) -> None:
    duckdb_warehouse.members(PEOPLE)
    command.connect(warehouse=duckdb_warehouse.connection, aws_default=stream.connection)
    file = tmp_path / "events.py"
    text = EVENTS.replace("STREAM", stream.name)
    file.write_text(text)
    found = checked(command("check", str(file)))
    assert found["source"] == "✓ the query runs and returns user_id, email, city, arrived_at, event_id"
    assert found["stream"].startswith("✓ ")
    file.write_text(text.replace("AS event_id", "AS id_of_event"))
    assert "the query returns no column 'event_id'" in checked(command("check", str(file), code=FAILED))["source"]


def test_a_check_of_a_mapped_task_and_of_a_file_without_tasks_says_so(
    command: Commands, duckdb_warehouse: Warehouse, tmp_path: Path
) -> None:
    command.connect(warehouse=duckdb_warehouse.connection)
    (tmp_path / "plans.py").write_text(MAPPED.format(task="", over="listed"))
    assert command("check", str(tmp_path / "plans.py")).startswith(
        "- plans.diff, mapped: skipped: its arguments are known"
    )
    (tmp_path / "none.py").write_text("from airflow.sdk import DAG\nwith DAG('nothing'): pass\n")
    refused = command("check", str(tmp_path / "none.py"), code=1)
    assert "has no task that computes or delivers changes" in refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.py"], "nowhere.py is not a file"),
        (["{dag}", "--task", "publish"], "has these diff tasks: audience_"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why_in_a_sentence(
    command: Commands, dag_file: Path, arguments: list[str], said: str
) -> None:
    given = [argument.replace("{dag}", str(dag_file)) for argument in arguments]
    assert said in command("plan", *given, code=1)


EVENTS = """
from airflow.sdk import DAG
from airflow_kinesis_audience.operators import EventsToKinesisOperator

with DAG("clicks", schedule=None):
    EventsToKinesisOperator(
        task_id="publish",
        warehouse_conn_id="warehouse",
        sql="SELECT *, TIMESTAMPTZ '2026-03-01 00:00:00+00' AS arrived_at, user_id AS event_id FROM members",
        stream_name="STREAM",
        identities={"email": "email"},
    )
"""
MAPPED = """
from airflow.sdk import DAG, task
from airflow_kinesis_audience.operators import AudienceDiffOperator

with DAG("plans", schedule=None):
    listed = [{{"audience_id": a, "sync_id": f"plans.{{a}}"}} for a in ("gold", "free")]
    {task}
    AudienceDiffOperator.partial(
        task_id="diff", warehouse_conn_id="warehouse", sql="SELECT user_id FROM members"
    ).expand_kwargs({over})
"""


def test_a_task_that_is_mapped_over_a_list_is_planned_one_by_one(
    command: Commands, duckdb_warehouse: Warehouse, tmp_path: Path
) -> None:
    duckdb_warehouse.members(PEOPLE)
    command.connect(warehouse=duckdb_warehouse.connection)
    file = tmp_path / "plans.py"
    file.write_text(MAPPED.format(task="", over="listed"))
    assert "has these diff tasks: plans.diff[0], plans.diff[1]; choose one" in command("plan", str(file), code=1)
    planned = json.loads(command("plan", str(file), "--task", "diff[1]", "--json"))
    assert (planned["sync_id"], planned["members"]) == ("plans.free", 3)
    file.write_text(MAPPED.format(task="", over='[{"audience_id": a} for a in ("gold", "free")]'))
    assert "the task is mapped and has no sync_id" in command("plan", str(file), "--task", "diff[1]", code=1)
    file.write_text(MAPPED.format(task='listed = task(task_id="listed")(lambda: [])()', over="listed"))
    assert "plans.diff is mapped, but not with expand_kwargs over a list" in command("plan", str(file), code=1)


def test_tail_reads_what_was_delivered_and_masks_who_it_is_about(
    command: Commands, airflow: Airflow, duckdb_warehouse: Warehouse, stream: Stream
) -> None:
    duckdb_warehouse.members(PEOPLE)
    command.connect(aws=stream.connection)
    with deployed(
        airflow, duckdb_warehouse.connection, stream.connection, DIFF, {"stream_name": stream.name}
    ) as dag:
        dag.run(day(1))
        duckdb_warehouse.members(PEOPLE[1:])
        dag.run(day(2))
    read = command.in_a_process("tail", stream.name, "--aws", "aws")
    lines = read.splitlines()
    assert len(lines) == len(stream.records())
    assert sum("1 out, " + mask("u1") in line for line in lines) == 1
    assert f"{mask('u1')}" in read
    assert [value for value in PRIVATE if value in read] == []
    assert "1 out, u1" in command("tail", stream.name, "--aws", "aws", "--show")
    raw = command("tail", stream.arn, "--aws", "aws", "--raw", "--limit", "1")
    assert raw.strip().encode() == stream.records()[0].strip()
    none = command("tail", stream.name, "--aws", "aws", "--audience", "other")
    assert none == ""


def test_tail_goes_on_through_a_split_and_takes_apart_what_was_aggregated(
    command: Commands, aws_endpoint: str, stream: Stream
) -> None:
    command.connect(aws=stream.connection)
    from aws_kinesis_agg.aggregator import RecordAggregator

    client = boto3.client("kinesis", endpoint_url=aws_endpoint)
    message = {"cohort_id": "a", "cohort_name": "A", "in_cohort": True, "computed_time": "1775012400"}
    documents = [json.dumps({**message, "message_id": f"job::enter::{n}", "users": []}).encode() for n in range(3)]
    aggregator = RecordAggregator()
    for document in documents[:2]:
        aggregator.add_user_record("key", document)
    _, _, packed = aggregator.clear_and_get().get_contents()
    client.put_record(StreamName=stream.name, Data=packed, PartitionKey="key")
    client.split_shard(StreamName=stream.name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127))
    client.put_record(StreamName=stream.name, Data=documents[2], PartitionKey="key")
    client.put_record(StreamName=stream.name, Data=b"\x00 u-secret", PartitionKey="key")
    read = command("tail", stream.name, "--aws", "aws")
    assert [read.count(f"::enter::{n} ") for n in range(3)] == [1, 1, 1]
    assert "cannot be read: the message is not JSON in UTF-8" in read
    assert "u-secret" not in read


def test_tail_says_what_is_wrong_with_a_stream_that_is_not_there(command: Commands, stream: Stream) -> None:
    command.connect(aws=stream.connection)
    said = command("tail", "no-such-stream", "--aws", "aws", code=1)
    assert "stream no-such-stream cannot be read (ResourceNotFoundException of list_shards)" in said


@pytest.mark.parametrize("message_format", SCHEMAS)
def test_the_schema_that_is_printed_is_the_one_that_ships(
    message_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", message_format]) == 0
    assert json.loads(capsys.readouterr().out) == load_schema(message_format)


def test_every_command_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"{name} " in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2


def test_the_demo_of_the_command_line_is_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--days", "0"])
    assert ended.value.code == 2
    assert "--days is 0; expected 1 or more" in capsys.readouterr().err


STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/audience-changes"
DELIVERY_STREAM = "arn:aws-cn:firehose:cn-north-1:123456789012:deliverystream/audience-changes"
ROLE = "arn:aws:iam::123456789012:role/airflow-worker"


def test_a_policy_allows_what_was_asked_for_on_what_was_named_and_no_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["policy", STREAM, "--least"]) == 0
    assert json.loads(capsys.readouterr().out)["Statement"] == [
        {"Effect": "Allow", "Action": "kinesis:PutRecords", "Resource": STREAM}
    ]
    statements = make_policy([STREAM, DELIVERY_STREAM], login=ROLE, reads=True)["Statement"]
    allowed = {(action, s["Resource"]) for s in statements for action in [*_list(s["Action"])]}
    assert allowed == {
        ("firehose:PutRecordBatch", DELIVERY_STREAM),
        ("firehose:DescribeDeliveryStream", DELIVERY_STREAM),
        *((f"kinesis:{n}", STREAM) for n in ("PutRecords", "DescribeStreamSummary", "GetResourcePolicy")),
        *((f"kinesis:{n}", STREAM) for n in ("ListShards", "GetShardIterator", "GetRecords")),
        ("iam:SimulatePrincipalPolicy", ROLE),
        ("iam:GetRole", ROLE),
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    "arguments",
    [["audience-changes"], ["*"], [STREAM + "/*"], [STREAM, "--key", "alias/mine"], [STREAM, "--login", "me"]],
)
def test_a_policy_is_not_made_of_what_is_no_arn(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", *arguments]) == 1
    assert "is not an ARN of" in capsys.readouterr().err


def test_the_digest_of_a_user_is_the_beginning_of_its_sha256() -> None:
    assert mask("u1") == "u:" + hashlib.sha256(b"u1").hexdigest()[:10]
    assert mask("u1") != mask("u2")


def test_airflows_own_command_line_has_each_command_with_the_same_arguments(
    monkeypatch: pytest.MonkeyPatch, airflow_db: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["airflow", "audiences"])
    [group] = get_audience_commands()
    assert (group.name, {c.name for c in group.subcommands}) == ("audiences", COMMANDS.keys() - {"demo"})
    for found in group.subcommands:
        own = argparse.ArgumentParser()
        import_command(found.name).add_arguments(own)
        assert sorted(flag for arg in found.args for flag in arg.flags) == sorted(
            flag for a in own._actions if a.dest != "help" for flag in a.option_strings or [a.dest]
        )


def test_another_command_of_airflow_waits_for_no_import_of_ours() -> None:
    program = (
        "import sys; from airflow_kinesis_audience.cli.airflow_commands import get_audience_commands; "
        "import airflow.cli.cli_config; before = set(sys.modules); sys.argv = ['airflow', 'version']; "
        "get_audience_commands(); print(*set(sys.modules) - before)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []
