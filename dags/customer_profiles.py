"""Publish customer profiles: one document per customer, with all audiences of the customer.

One statement has three audiences: who has bought in the last 30 days, who has bought before but nothing in the
last 90 days, and who has spent most. A customer can be in several. The format is Adobe's profile export, with the
e-mail address as a digest. ``python3 run.py demo --format adobe_profile`` runs this file unchanged.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

# One row per member of an audience, with the same attributes and identities in each audience of a customer.
AUDIENCES = """
WITH customers AS (
    SELECT
        customer_id,
        email,
        sum(dollar_value) AS spent,
        max(purchased_on) AS last_purchase,
        DATE '{{ as_of | ds }}' AS today
    FROM marts.purchases JOIN marts.customers USING (customer_id)
    WHERE purchased_on < DATE '{{ as_of | ds }}'
    GROUP BY customer_id, email
)
SELECT 'active_30_days' AS audience_id, 'Active 30 days' AS audience_name, customers.*
FROM customers WHERE last_purchase >= today - INTERVAL '30 days'
UNION ALL
SELECT 'lapsed_90_days', 'Lapsed 90 days', customers.*
FROM customers WHERE last_purchase < today - INTERVAL '90 days'
UNION ALL
SELECT 'top_spenders', 'Top spenders', customers.*
FROM customers WHERE spent >= 500
"""

with DAG(
    "customer_profiles",
    schedule="@daily",
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
        sql=AUDIENCES,
        user_id_column="customer_id",
        identities={"email": "Email"},
        hash_identities={"email": "sha256"},
        properties={"spent": "commerce.spent", "last_purchase": "commerce.lastPurchase"},
        audience_id_column="audience_id",
        audience_name_column="audience_name",
    )

    AudienceToKinesisOperator(
        task_id="publish",
        change_set=changes.output,
        stream_name="audience-changes",
        message_format="adobe_profile",
        # For consumers that read the stream again, or not in order.
        format_options={"message_ids": True},
    )
