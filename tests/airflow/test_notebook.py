"""What a person asks in a notebook: frames that agree with the next run, and whether a connection works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.state.commits import TableCommitter
from airflow_kinesis_audience.history import changes_frame, open_history
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_audience.hooks.warehouse import open_warehouse
from airflow_kinesis_audience.notebook import compute_changes
from airflow_kinesis_audience.operators import AudienceDiffOperator
from tests.airflow.running import DIFF, aws, day
from tests.scripted_kinesis import ScriptedKinesis

if TYPE_CHECKING:
    from tests.airflow.conftest import Warehouse

ARGUMENTS = {name: value for name, value in DIFF.items() if name != "warehouse_conn_id"}


def run(number: int) -> None:
    """Run a diff, as its task does."""
    task = AudienceDiffOperator(task_id="diff", **DIFF)
    with open_history("warehouse", "lapsed") as ledger:
        Sync(ledger, task.build_source(ledger.warehouse.dialect)).run(day(number))


@pytest.fixture
def members(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse.connection)
    warehouse.members([("u1", "ada@x.org", "Oslo"), ("u2", "bob@x.org", None), ("u3", "eve@x.org", "Rome")])
    return warehouse


def rows(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    found = [[None if pd.isna(v) else v for v in frame[c]] for c in columns]
    return sorted(zip(*found, strict=True), key=repr)


def test_what_would_change_is_a_frame_and_the_run_finds_just_that(members: Warehouse) -> None:
    first = compute_changes("warehouse", as_of=day(1), **ARGUMENTS)
    assert rows(first, "user_id", "action") == [("u1", "entered"), ("u2", "entered"), ("u3", "entered")]
    assert {name: first.attrs[name] for name in ("entered", "members", "stopped")} == {
        "entered": 3,
        "members": 3,
        "stopped": [],
    }
    run(1)
    members.members([("u1", "ada@x.org", "Bern"), ("u3", "eve@x.org", "Rome"), ("u4", "dan@x.org", "Oslo")])
    frame = compute_changes("warehouse", as_of=day(2), **ARGUMENTS)
    with open_history("warehouse", "lapsed") as ledger:
        assert [c.as_of for c in ledger.read().timeline.change_sets] == [day(1)], "nothing is recorded"
    run(2)
    with open_history("warehouse", "lapsed") as ledger:
        recorded = changes_frame(ledger, day(2))
    assert list(frame.columns) == [
        "audience_id",
        "user_id",
        "action",
        "updated",
        "Email",
        "old Email",
        "city",
        "old city",
    ]
    for changed in (("user_id", "action"), ("user_id", "Email", "old Email"), ("user_id", "city", "old city")):
        assert rows(frame, *changed) == rows(recorded, *changed)
    with open_history("warehouse", "lapsed") as ledger:
        ledger.read()
        TableCommitter(ledger).seal_newest()
    with pytest.raises(
        ValueError, match=r"has a change set as of this instant: read it with history\.changes_frame"
    ):
        compute_changes("warehouse", as_of=day(2), **ARGUMENTS)


def test_more_changes_than_asked_for_are_an_error_and_never_a_part(members: Warehouse) -> None:
    with pytest.raises(ValueError, match="there are more changes than most_rows, which is 2: 3 entered"):
        compute_changes("warehouse", most_rows=2, **ARGUMENTS)
    with pytest.raises(ValueError, match="set sync_id"):
        compute_changes("warehouse", **{**ARGUMENTS, "sync_id": None})


def test_a_guard_that_would_stop_the_run_is_in_the_frames_attributes(members: Warehouse) -> None:
    members.members([("u1", "ada@x.org", "Oslo"), ("u1", "ada@x.org", "Oslo")])
    [stopped] = compute_changes("warehouse", **ARGUMENTS).attrs["stopped"]
    assert "repeat a user id" in stopped


def test_hooks_say_whether_their_connection_works(members: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_warehouse("warehouse") as warehouse:
        assert warehouse.test_connection() == (True, "the warehouse answers")
    nowhere = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "a", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", json.dumps(nowhere))
    with open_warehouse("nowhere") as warehouse:
        works, said = warehouse.test_connection()
    assert not works
    assert "warehouse connection 'nowhere' (127.0.0.1:1) cannot be opened" in said
    with ScriptedKinesis() as kinesis:
        monkeypatch.setenv("AIRFLOW_CONN_AWS", aws(kinesis.endpoint_url))
        works, said = KinesisStreamHook("changes", aws_conn_id="aws", region_name="eu-west-1").test_connection()
    assert (works, "kinesis://eu-west-1/changes accepts records" in said) == (True, True)
    assert (
        KinesisStreamHook("changes", aws_conn_id="missing", region_name="eu-west-1").test_connection()[0] is False
    )
