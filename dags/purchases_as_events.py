"""Forward the purchases of each day to a Kinesis stream, as mParticle's commerce events.

``python3 run.py demo --format mparticle_events`` runs this file unchanged. The purchases have a date only, and
this file uses it as the date of arrival, too.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_kinesis_audience.operators import EventsToKinesisOperator

# All purchases, and not those of a day: the interval is the operator's. They have no id, so one is made of what
# they say; a customer who bought the same twice on a day has two.
PURCHASES = """
SELECT
    customer_id || '/' || CAST(purchased_on AS varchar) || '/' || CAST(
        row_number() OVER (PARTITION BY customer_id, purchased_on ORDER BY number_of_cds, dollar_value) AS varchar
    ) AS purchase_id,
    customer_id,
    email,
    purchased_on,
    number_of_cds,
    dollar_value,
    'commerce_event' AS event_type,
    'purchase' AS action,
    'USD' AS currency,
    'cd' AS product
FROM marts.purchases JOIN marts.customers USING (customer_id)
"""

with DAG(
    "purchases_as_events",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    # Each interval has events of its own: those that were missed are caught up.
    catchup=True,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["events"],
) as dag:
    EventsToKinesisOperator(
        task_id="publish",
        warehouse_conn_id="warehouse",
        sql=PURCHASES,
        event_id_column="purchase_id",
        arrived_at_column="purchased_on",
        arrived_at_timezone="UTC",
        user_id_column="customer_id",
        identities={"email": "Email"},
        hash_identities={"email": "sha256"},
        fields={
            "event_type": "event_type",
            "action": "data.product_action.action",
            "dollar_value": "data.product_action.total_amount",
            "currency": "data.currency_code",
            "product": "data.product_action.products.0.id",
            "number_of_cds": "data.product_action.products.0.quantity",
        },
        stream_name="audience-changes",
        format_options={"constants": {"context.data_plan.plan_id": "cdnow", "context.data_plan.plan_version": 1}},
    )
