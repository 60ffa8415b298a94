"""Forget the customers who asked for it: they leave every audience, and the state has nothing of them any more.

A table has a row per request. Every day the task reads it and forgets whoever is new: it adds their exits to every
sync of the state, waits until the publish tasks of the other DAGs have delivered them, and then removes their rows
from all tables. Salted digests keep them out while the source still has them. Keep the rows in the table: a sync
that starts later knows a request only from there.

Connections: ``warehouse`` (DuckDB or PostgreSQL); the DAGs that publish have ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_kinesis_audience.operators import AudienceForgetOperator

with DAG(
    "forget_customers",
    schedule="@daily",
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["audience"],
) as dag:
    AudienceForgetOperator(
        task_id="forget",
        warehouse_conn_id="warehouse",
        table="privacy.erasure_requests",
        user_id_column="customer_id",
        # It waits without a slot, and fails if a destination has not received the exits in three days.
        timeout=timedelta(days=3),
    )
