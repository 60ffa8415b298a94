"""Publish, every hour, who has bought something in the last 30 days.

Most hours change little, and an hour without changes puts nothing on the stream. A run that failed or was missed
does not need to be repeated: the next run's change set covers both hours. The guards are tighter than the
defaults, because one hour should never change much.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

# A day's purchases count from its first hour on.
ACTIVE = """
SELECT customer_id, email, count(*) AS purchases
FROM marts.purchases JOIN marts.customers USING (customer_id)
WHERE purchased_on <= DATE '{{ as_of | ds }}'
AND purchased_on > DATE '{{ as_of | ds }}' - INTERVAL '30 days'
GROUP BY customer_id, email
"""

with DAG(
    "active_hourly",
    schedule="@hourly",
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    doc_md=__doc__,
    tags=["audience"],
) as dag:
    changes = AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="warehouse",
        sql=ACTIVE,
        user_id_column="customer_id",
        identities={"email": "Email"},
        properties=["purchases"],
        audience_id="active_30_days",
        audience_name="Active 30 days",
        max_exit_ratio=0.2,
        min_members=1,
    )

    AudienceToKinesisOperator(
        task_id="publish",
        change_set=changes.output,
        stream_name="audience-changes",
        message_format="amplitude_cohort",
        format_options={"user_properties": ["purchases"]},
    )
