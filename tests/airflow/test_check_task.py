"""The task that checks the others of its DAG: green, or one failed attempt with all that is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.source import arrival
from airflow_kinesis_audience.operators import checks
from tests.airflow.running import DIFF, Airflow, day

if TYPE_CHECKING:
    from tests.airflow.conftest import DuckDb, Stream

TEXT = """
from airflow.sdk import DAG
from airflow_kinesis_audience.operators import *

with DAG({dag_id!r}, schedule=None, default_args={{"retries": 3}}) as dag:
    check = AudienceCheckOperator(task_id="check", write=True)
    diff = AudienceDiffOperator(task_id="diff", **{diff!r})
    publish = AudienceToKinesisOperator(
        task_id="publish", change_set=diff.output, stream_name={stream!r}, aws_conn_id="aws",
        message_format="amplitude_cohort",
    )
    check >> diff
"""


@pytest.mark.slow
def test_a_check_in_the_dag_says_what_each_task_lacks_or_lets_them_run(
    airflow: Airflow, duckdb_warehouse: DuckDb, stream: Stream
) -> None:
    duckdb_warehouse.members([("u1", "ada@x.example", "Oslo")])
    connections = {"warehouse": duckdb_warehouse.connection, "aws": stream.connection}
    good = {**DIFF, "sql": "SELECT * FROM members WHERE '{{ as_of | ds }}' <> ''"}
    with airflow.dag_file("checked", TEXT.format(dag_id="checked", diff=good, stream=stream.name)) as file:
        run = airflow.run(file, connections=connections, logical_date=None, run_after=day(1))
    assert run.state == "success", run.log[-3000:]
    assert [line[0] for line in run["check"].summary["checked"]] == ["✓"] * 4
    bad = {**DIFF, "sql": "SELECT * FROM membres"}
    with airflow.dag_file("unchecked", TEXT.format(dag_id="unchecked", diff=bad, stream="nowhere")) as file:
        run = airflow.run(file, connections=connections, logical_date=day(1))
    assert (run["check"].state, run["check"].tries, run["diff"].state) == ("failed", 1, "upstream_failed")
    source, published = run["check"].xcom["state"]["sentences"]
    assert source.startswith("✗ unchecked.diff, source: ")
    assert "This statement reads the source: correct the task's sql or table" in source
    assert published.startswith("✗ unchecked.publish, stream: stream nowhere does not exist")


@pytest.mark.parametrize(("apart", "word"), [(-3600, "behind"), (7200, "ahead of")])
def test_a_clock_or_zone_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch, apart: int, word: str) -> None:
    def clock(seconds: float) -> Any:
        return lambda _: (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)

    monkeypatch.setattr(arrival, "read_clock", clock(apart))
    with pytest.raises(
        ValueError, match=rf"clock, in UTC, is \d,\d+ s {word} this worker's; expected at most 60 s"
    ):
        checks._compare_clocks(None)  # type: ignore[arg-type]
    monkeypatch.setattr(arrival, "read_clock", clock(20))
    assert "agree" in checks._compare_clocks(None)  # type: ignore[arg-type]
