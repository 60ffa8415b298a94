"""The system tests, as docs/testing.md says to run them, with stand-ins on this machine for AWS and the warehouse.

They run in a process of their own, with an Airflow of their own: what they set and start reaches no other test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.airflow.running import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.airflow.conftest import Postgres

SYSTEM = ROOT / "tests" / "system" / "kinesis_audience"
EXAMPLES = sorted(path.name for path in SYSTEM.glob("example_*.py"))

Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_examples(airflow_db: Path, tmp_path: Path) -> Runner:
    """Return what runs examples by their names; each test has a copy of the migrated metadata database."""
    database = tmp_path / "airflow.db"
    shutil.copy(airflow_db / "airflow.db", database)

    def run(names: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--confcutdir=tests/system"),
                *(str(SYSTEM / name) for name in names),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "AIRFLOW_HOME": str(tmp_path),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
                "AIRFLOW__CORE__DAGS_FOLDER": str(SYSTEM),
                "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs"),
                "PYTHONPATH": str(ROOT),
                "PYTEST_ADDOPTS": "",  # what the tests themselves run with need not be there
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
        )

    return run


def schemas(warehouse: Postgres) -> set[str]:
    rows = warehouse.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'audience_system%'")
    return {str(name) for (name,) in rows}


@pytest.mark.slow
def test_each_system_test_passes_on_the_stand_ins(run_examples: Runner) -> None:
    ran = run_examples(EXAMPLES)
    assert ran.returncode == 0, ran.stdout[-6000:]
    assert f"{len(EXAMPLES)} passed" in ran.stdout


@pytest.mark.long_story
@pytest.mark.slow
def test_a_system_test_uses_the_warehouse_that_it_is_given_and_leaves_what_is_not_its_own(
    run_examples: Runner, postgres_warehouse: Postgres
) -> None:
    postgres_warehouse.execute("CREATE SCHEMA audience_system_marts_pr18")
    given = {"AIRFLOW_CONN_WAREHOUSE": postgres_warehouse.connection, "SYSTEM_TESTS_ENV_ID": "PR17"}
    ran = run_examples(["example_lapsed_customers.py"], **given)
    assert ran.returncode == 0, ran.stdout[-6000:]
    assert "1 passed" in ran.stdout
    assert schemas(postgres_warehouse) == {"audience_system_marts_pr18"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_system_test_ends_with_its_teardown_and_fails_if_any_task_fails(name: str) -> None:
    import runpy

    found = runpy.run_path(str(SYSTEM / name))
    dag: Any = found["dag"]
    watcher, tear_down = dag.get_task("watcher"), dag.get_task("tear_down")
    assert watcher.upstream_task_ids == {task.task_id for task in dag.tasks} - {"watcher"}
    assert (watcher.trigger_rule, tear_down.trigger_rule) == ("one_failed", "all_done")
    assert dag.leaves == [watcher]
    assert dag.get_task("set_up").upstream_task_ids == set()
    assert tear_down.upstream_task_ids == {"check"}
    assert callable(found["test_run"])
