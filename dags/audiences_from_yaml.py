"""Publish many audiences that a YAML file lists, with a mapped task for each.

Each audience has its own sync, so that a guard that stops one does not stop the others. If one table has all
audiences, a single task with ``audience_id_column`` is cheaper: see ``customer_profiles.py``.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

LISTED = Path(__file__).with_name("audiences.yaml")

CUSTOMERS = """
SELECT customer_id, email FROM (
    SELECT
        customer_id,
        email,
        count(*) AS purchases,
        sum(dollar_value) AS spent,
        DATE '{{ as_of | ds }}' - max(purchased_on) AS days_away
    FROM marts.purchases JOIN marts.customers USING (customer_id)
    WHERE purchased_on < DATE '{{ as_of | ds }}'
    GROUP BY customer_id, email
) AS customers
WHERE """

with DAG(
    "audiences_from_yaml",
    schedule="@daily",
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["audience"],
) as dag:

    @task
    def read_audiences() -> list[dict[str, str]]:
        """Read the file; gives the arguments of one diff task for each audience."""
        return [
            {
                "audience_id": listed["audience_id"],
                "audience_name": listed["audience_name"],
                "sync_id": f"audiences_from_yaml.{listed['audience_id']}",
                "sql": CUSTOMERS + listed["where"],
            }
            for listed in yaml.safe_load(LISTED.read_text())
        ]

    changes = AudienceDiffOperator.partial(
        task_id="diff",
        warehouse_conn_id="warehouse",
        user_id_column="customer_id",
        identities={"email": "Email"},
        # DuckDB lets one process write at a time; a server's warehouse needs no such bound.
        max_active_tis_per_dag=1,
        map_index_template="{{ task.audience_id }}",
    ).expand_kwargs(read_audiences())

    published = AudienceToKinesisOperator.partial(
        task_id="publish",
        stream_name="audience-changes",
        message_format="amplitude_cohort",
        max_active_tis_per_dag=1,
        # One audience whose guard tripped does not keep the others from being delivered.
        trigger_rule="all_done",
    ).expand(change_set=changes.output)

    # The last task decides whether the run is a success: without this one, a run with a stopped audience would be.
    [changes, published] >> EmptyOperator(task_id="all_published")
