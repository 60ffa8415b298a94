"""Templates in runs of every kind: a name that the run lacks is an error at once, and plan and check say so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_audience.cli.commands import main
from tests.airflow.running import DIFF, ROOT, Airflow, audience_dag, aws, day, deployed
from tests.scripted_kinesis import ScriptedKinesis

if TYPE_CHECKING:
    from tests.airflow.conftest import DuckDb

BY_DATE = "SELECT user_id, email, city FROM members WHERE '{{ ds }}' <> ''"
BY_AS_OF = "SELECT user_id, email, city FROM members WHERE '{{ as_of | ds }}' <> ''"
USE_AS_OF = "In a diff task, use as_of, which every run has: {{ as_of | ds }}"


@pytest.mark.slow
def test_a_triggered_run_whose_template_needs_a_date_fails_at_once_and_says_what_to_use(
    airflow: Airflow, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members([("u1", "ada@x.example", "Oslo")])
    with deployed(airflow, duckdb_warehouse.connection, None, {**DIFF, "sql": BY_DATE}, retries=3) as dag:
        run = dag.run(None, run_after=day(1))
        assert dag.run(day(1)).state == "success"
    assert (run["diff"].state, run["diff"].tries) == ("failed", 1)
    [said] = run["diff"].xcom["state"]["sentences"]
    assert said.startswith(
        "a template of the task cannot be rendered: 'ds' is undefined. This run has no logical date"
    )
    assert USE_AS_OF in said


@pytest.mark.slow
def test_a_delivery_whose_template_needs_a_date_fails_at_once_too(
    airflow: Airflow, duckdb_warehouse: DuckDb
) -> None:
    duckdb_warehouse.members([("u1", "ada@x.example", "Oslo")])
    publish = {"stream_name": "changes-{{ ds }}"}
    with ScriptedKinesis() as kinesis:
        where = (duckdb_warehouse.connection, aws(kinesis.endpoint_url))
        with deployed(airflow, *where, {**DIFF, "sql": BY_AS_OF}, publish, retries=3) as dag:
            run = dag.run(None, run_after=day(1))
    assert run["diff"].state == "success"
    assert (run["publish"].state, run["publish"].tries) == ("failed", 1)
    assert "{{ dag_run.run_after | ds }}" in run["publish"].xcom["state"]["sentences"][0]


@pytest.mark.parametrize("schedule", ["None", "'@daily'"])
def test_a_plan_renders_as_the_dags_own_runs_do_and_says_what_a_triggered_one_lacks(
    duckdb_warehouse: DuckDb,
    airflow_db: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    schedule: str,
) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", duckdb_warehouse.connection)
    duckdb_warehouse.members([("u1", "ada@x.example", "Oslo")])
    printed = {}
    for name, sql in (("by_date", BY_DATE), ("by_as_of", BY_AS_OF)):
        file = tmp_path / f"{name}.py"
        file.write_text(audience_dag({**DIFF, "sql": sql}, schedule=schedule)[1])
        capsys.readouterr()
        code = main(["plan", str(file)])
        printed[name] = (code, "".join(capsys.readouterr()))
        assert main(["plan", str(file), "--as-of", "2026-03-01T00:00:00Z"]) == 0, "as by the API with a date"
    assert printed["by_as_of"][0] == 0
    assert "a triggered run would fail" not in printed["by_as_of"][1]
    assert printed["by_date"][0] == (1 if schedule == "None" else 0)
    assert USE_AS_OF in printed["by_date"][1]


def test_the_examples_need_no_logical_date() -> None:
    """All templates of the examples render for a run that ``airflow dags trigger`` starts."""
    program = """
import sys
from pathlib import Path
from airflow_kinesis_audience.cli import dag_task
from airflow_kinesis_audience.operators import AudienceDiffOperator
tasks = [task for file in map(Path, sys.argv[1:]) for dag in dag_task.load(file) for task in dag.tasks]
for task in tasks:
    if isinstance(task, AudienceDiffOperator):
        dag_task.render(task, None, scheduled=False)
        print(task.dag_id, task.task_id, type(task).__name__)
"""
    files = sorted(map(str, (ROOT / "dags").glob("*.py")))
    command = [sys.executable, "-c", program, *files]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.count("AudienceDiffOperator") > 5
