"""A replay as a task: the past of a live sync goes to a new stream, and publishing there goes on after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.airflow.conftest import Stream
from tests.airflow.running import DIFF, Airflow, day, deployed
from tests.airflow.test_letting_through import alone, heard

if TYPE_CHECKING:
    from tests.airflow.conftest import Warehouse

pytestmark = pytest.mark.slow

RELAXED = {**DIFF, "max_exit_ratio": None}
ROWS = {f"u{n}": (f"u{n}", f"u{n}@x.example", "Bonn") for n in range(9)}
MEMBERS = {1: "0123", 2: "1234", 3: "2345", 4: "0345", 5: "3456"}


def test_a_new_stream_gets_the_past_and_then_the_present(
    airflow: Airflow, warehouse: Warehouse, stream: Stream, aws_endpoint: str
) -> None:
    new = Stream(aws_endpoint)

    def members(number: int) -> set[str]:
        return {f"u{n}" for n in MEMBERS[number]}

    def believed(number: int) -> set[str]:
        records = [r for r in new.records() if int(json.loads(r)["computed_time"]) <= day(number).timestamp()]
        return set(heard(records).members("gs72ns"))

    with deployed(airflow, warehouse.connection, stream.connection, RELAXED, {"stream_name": stream.name}) as dag:
        for number in range(1, 5):
            warehouse.members([ROWS[user] for user in sorted(members(number))])
            assert dag.run(day(number)).state == "success"
        before = stream.records()
        given = {"since": "{{ params.begin }}", "until": "2026-03-03T12:00:00Z", "params": {"begin": str(day(2))}}
        with alone(airflow, warehouse, new, "AudienceReplayOperator", **given) as replay:
            done = replay.run(day(8))
            assert done.state == "success", done.log
            summary = done["tell"].summary
            assert (summary["since"], summary["as_of"]) == ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")
            assert summary["change_sets"] == ["2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"]
            assert done["tell"].xcom["delivery"]["delivered"] == 6
        assert stream.records() == before
        assert {n: believed(n) for n in (2, 3)} == {n: members(n) for n in (2, 3)}
        backwards = {"since": "2026-03-04T00:00:00Z", "until": "2026-03-02T00:00:00Z"}
        with alone(airflow, warehouse, new, "AudienceReplayOperator", **backwards) as replay:
            refused = replay.run(day(9))
            assert (refused.state, refused["tell"].tries) == ("failed", 1)
            assert "expected until at or after since" in refused.log
    renamed = {**RELAXED, **dag.adopted}
    with deployed(airflow, warehouse.connection, stream.connection, renamed, {"stream_name": new.name}) as dag:
        warehouse.members([ROWS[user] for user in sorted(members(5))])
        assert dag.run(day(5)).state == "success"
    assert {n: believed(n) for n in range(2, 6)} == {n: members(n) for n in range(2, 6)}
    ids = [json.loads(record)["message_id"] for record in new.records()]
    assert len(ids) == len(set(ids))
