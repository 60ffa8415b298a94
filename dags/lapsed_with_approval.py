"""Publish the customers of ``lapsed_customers.py``, with an approval before anything unusual is sent.

A group has three tasks: the diff, an approval, and the delivery. The approval is skipped unless a guard stops the
change set; then it waits under Airflow's required actions until somebody approves or rejects the numbers. Here at
most 200 customers may leave at once, and at most a tenth of them.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_kinesis_audience.operators import audience_sync

LAPSED = """
SELECT customer_id, email, sum(dollar_value) AS spent
FROM marts.purchases JOIN marts.customers USING (customer_id)
WHERE purchased_on < DATE '{{ as_of | ds }}'
GROUP BY customer_id, email
HAVING max(purchased_on) < DATE '{{ as_of | ds }}' - INTERVAL '90 days'
"""

with DAG(
    "lapsed_with_approval",
    schedule="@daily",
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    catchup=False,
    # While a run waits for a person no other begins, so that what is approved is always the newest.
    max_active_runs=1,
    doc_md=__doc__,
    tags=["audience"],
) as dag:
    audience_sync(
        group_id="lapsed",
        default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
        approval={"response_timeout": timedelta(days=3)},
        warehouse_conn_id="warehouse",
        sql=LAPSED,
        user_id_column="customer_id",
        identities={"email": "Email"},
        properties=["spent"],
        audience_id="lapsed_90_days_approved",
        audience_name="Lapsed 90 days, approved",
        max_exit_ratio=0.1,
        max_exits=200,
        stream_name="audience-changes",
        message_format="amplitude_cohort",
        format_options={"user_properties": True},
    )
