"""Two DAGs: one loads and updates an asset; the other runs after each update and delivers the changes.

A run that an asset triggers has no data interval: it is as of its logical date or, without one, as here, of the
time at which it was due. A DAG that runs after the delivery of changes is in ``docs/monitoring.md``.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import DAG, Asset

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

TOP_SPENDERS = Asset("warehouse://marts/top_spenders")

with DAG(
    "load_top_spenders",
    schedule="@daily",
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["load"],
) as load:
    SQLExecuteQueryOperator(
        task_id="load",
        conn_id="warehouse",
        sql=[
            "DROP TABLE IF EXISTS marts.top_spenders",
            "CREATE TABLE marts.top_spenders AS SELECT customer_id, sum(dollar_value) AS spent "
            "FROM marts.purchases "
            "WHERE purchased_on < DATE '{{ data_interval_end | default(dag_run.run_after) | ds }}' "
            "GROUP BY customer_id HAVING sum(dollar_value) >= 500",
        ],
        autocommit=True,
        outlets=[TOP_SPENDERS],
    )

with DAG(
    "top_spenders",
    schedule=[TOP_SPENDERS],
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["audience"],
) as dag:
    changes = AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="warehouse",
        table="marts.top_spenders",
        user_id_column="customer_id",
        properties=["spent"],
        audience_id="top_spenders",
        audience_name="Top spenders",
    )

    AudienceToKinesisOperator(
        task_id="publish",
        change_set=changes.output,
        stream_name="audience-changes",
        message_format="amplitude_cohort",
        format_options={"user_properties": True},
    )
