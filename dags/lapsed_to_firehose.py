"""Publish who has bought before, but nothing in the last 90 days, to a Firehose delivery stream.

Each change is one message of mParticle's audiences, with all identities of the customer. If an identity changes,
there are two: a removal with the old identities and an addition with the new ones. Only a SHA-256 digest of the
e-mail address leaves the warehouse. ``python3 run.py demo --format mparticle_audience`` runs this file unchanged.

The purchases have no advertising ids, so the query invents them: a customer who returns after another 30 days has
another phone, so that identities change.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToFirehoseOperator

# One row per member. It says what is true at the run's own instant and not what is true now, so that a run that is
# late, repeated or caught up gives the same answer.
LAPSED = """
SELECT
    customer_id,
    email,
    md5(
        customer_id || '/'
        || CAST(floor((DATE '{{ as_of | ds }}' - max(purchased_on)) / 30.0) AS integer)
    ) AS advertising_id
FROM marts.purchases JOIN marts.customers USING (customer_id)
WHERE purchased_on < DATE '{{ as_of | ds }}'
GROUP BY customer_id, email
HAVING max(purchased_on) < DATE '{{ as_of | ds }}' - INTERVAL '90 days'
"""

with DAG(
    "lapsed_to_firehose",
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
        # Sent as mParticle's CustomerId, unless the format's user_id_as says otherwise.
        user_id_column="customer_id",
        identities={"email": "Email", "advertising_id": "GoogleAdvertisingIdentifier"},
        hash_identities={"email": "sha256"},
        audience_id="90001",
        audience_name="Lapsed 90 days",
    )

    AudienceToFirehoseOperator(
        task_id="publish",
        change_set=changes.output,
        delivery_stream_name="audience-changes",
        message_format="mparticle_audience",
    )
