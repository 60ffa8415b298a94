"""What tasks import: libraries that they do not need would take time and memory in every run."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_kinesis_audience.operators.errors import airflow_outcome
from tests.airflow.running import Airflow, day

if TYPE_CHECKING:
    from tests.airflow.conftest import Stream, Warehouse

pytestmark = pytest.mark.slow

FORMATS = ("amplitude_cohort", "mparticle_audience", "adobe_profile")
DAG_ID = "light_tasks"
DAG = f"""
import sys

from airflow.sdk import DAG

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator


class Saying:
    def post_execute(self, context, result=None):
        loaded = {{"duckdb", "numpy", "pandas", "pyarrow"}} & sys.modules.keys()
        context["ti"].xcom_push(key="loaded", value=sorted(loaded))


class Diff(Saying, AudienceDiffOperator):
    pass


class Publish(Saying, AudienceToKinesisOperator):
    pass


with DAG("{DAG_ID}", schedule=None) as dag:
    diff = Diff(
        task_id="diff",
        warehouse_conn_id="warehouse",
        table="members",
        audience_id="gs72ns",
        audience_name="Lapsed 90 days",
        identities={{"email": "Email"}},
        properties=["city"],
        sync_id="light",
    )
    for message_format in {FORMATS!r}:
        Publish(
            task_id=message_format,
            aws_conn_id="aws",
            change_set=diff.output,
            stream_name="{{stream}}",
            message_format=message_format,
            format_options={{"user_properties": ["city"]}} if message_format == "amplitude_cohort" else {{}},
        )
"""


def test_a_diff_loads_no_arrow_and_a_delivery_no_pandas(
    airflow_db: Path, postgres_warehouse: Warehouse, stream: Stream
) -> None:
    connections = {"warehouse": postgres_warehouse.connection, "aws": stream.connection}
    postgres_warehouse.members([(f"u{n}", f"u{n}@x.example", f"city {n}") for n in range(50)])
    text = DAG.replace("{stream}", stream.name)
    # A process of the test's own, which has not loaded for others what its tasks would find there.
    with Airflow(airflow_db) as airflow, airflow.dag_file(DAG_ID, text) as file:
        run = airflow.run(file, connections=connections, logical_date=day(1), supervised=True)
    assert run.state == "success", run.log[-4_000:]
    loaded = {task_id: set(task.xcom["loaded"]) for task_id, task in run.tasks.items()}
    assert loaded.pop("diff") == set()
    assert all(run[name].summary["delivered"] for name in FORMATS)
    assert loaded == {name: loaded[name] - {"pandas", "duckdb"} for name in FORMATS}


def test_what_was_loaded_before_a_task_is_passed_over_until_it_has_ended() -> None:
    gc.unfreeze()
    with airflow_outcome():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
    with pytest.raises(AirflowFailException), airflow_outcome():
        raise ValueError("wrong")
    assert gc.get_freeze_count() == 0
