"""Publish who has bought before, but nothing in the last 90 days, to a Kinesis stream.

Every day at midnight UTC, the first task computes the members in the warehouse and records what changed since the
previous run; the second task delivers exactly that. There are two tasks because their retries differ: a diff can
be repeated, and a put cannot be taken back. The demo runs this file unchanged. Copy it and change four things: the
query, the audience's id and name, the stream, and the start date.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

# One row per member. It says what is true at the run's own instant and not what is true now, so that a run that is
# late, repeated or caught up gives the same answer.
LAPSED = """
SELECT
    customer_id,
    email,
    sum(dollar_value) AS spent,
    CAST(floor((DATE '{{ as_of | ds }}' - max(purchased_on)) / 30.0) AS integer) AS months_away
FROM marts.purchases JOIN marts.customers USING (customer_id)
WHERE purchased_on < DATE '{{ as_of | ds }}'
GROUP BY customer_id, email
HAVING max(purchased_on) < DATE '{{ as_of | ds }}' - INTERVAL '90 days'
"""

with DAG(
    "lapsed_customers",
    schedule="@daily",
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    # A run's changes are taken against what was published last, however long ago: days that were missed need no
    # runs of their own.
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["audience"],
) as dag:
    changes = AudienceDiffOperator(
        task_id="diff",
        warehouse_conn_id="warehouse",
        sql=LAPSED,
        user_id_column="customer_id",
        identities={"email": "Email"},
        properties=["spent", "months_away"],
        audience_id="lapsed_90_days",
        audience_name="Lapsed 90 days",
    )

    AudienceToKinesisOperator(
        task_id="publish",
        change_set=changes.output,
        stream_name="audience-changes",
        message_format="amplitude_cohort",
        format_options={"user_properties": True},
    )
