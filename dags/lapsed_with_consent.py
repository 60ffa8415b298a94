"""Publish who has bought before, but nothing in the last 90 days, without those who do not want to be addressed.

Two things keep a customer out of the audience: to be on the list of those who objected, and to have not consented.
Both are read in the statement that reads the members. A member who objects exits in the next run, with the
identities that were sent last; whoever takes it back enters again.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

# One row per member. Who never answered has no row in marts.consents: the consent is NULL, which is not true.
LAPSED = """
SELECT customer_id, email, may_be_targeted
FROM marts.purchases JOIN marts.customers USING (customer_id) LEFT JOIN marts.consents USING (customer_id)
WHERE purchased_on < DATE '{{ as_of | ds }}'
GROUP BY customer_id, email, may_be_targeted
HAVING max(purchased_on) < DATE '{{ as_of | ds }}' - INTERVAL '90 days'
"""

with DAG(
    "lapsed_with_consent",
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
        sql=LAPSED,
        user_id_column="customer_id",
        identities={"email": "Email"},
        exclude_sql="SELECT customer_id FROM marts.objections WHERE objected_on < DATE '{{ as_of | ds }}'",
        consent_column="may_be_targeted",
        audience_id="lapsed_90_days_consented",
        audience_name="Lapsed 90 days, with consent",
    )

    AudienceToKinesisOperator(
        task_id="publish",
        change_set=changes.output,
        stream_name="audience-changes",
        message_format="amplitude_cohort",
    )
