"""Publish who has bought before, but nothing in the last 90 days, with a past that is sent day by day.

The query reads what was true at the run's instant. With ``catchup=True``, Airflow runs each day from
``start_date`` on, oldest first, when the DAG is unpaused. So consumers receive the time at which each customer
really entered or left, and the DAG continues with the present without a gap.

Here the data has the past. If the warehouse has it (time travel), query the table as of the instant:
``FROM marts.lapsed AT (TIMESTAMP => '{{ as_of }}'::timestamptz)`` on Snowflake, ``FOR SYSTEM_TIME AS OF TIMESTAMP
'{{ as_of }}'`` on BigQuery.

Connections: ``warehouse`` (DuckDB or PostgreSQL) and ``aws_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_kinesis_audience.operators import AudienceDiffOperator, AudienceToKinesisOperator

LAPSED = """
SELECT customer_id, email
FROM marts.purchases JOIN marts.customers USING (customer_id)
WHERE purchased_on < DATE '{{ as_of | ds }}'
GROUP BY customer_id, email
HAVING max(purchased_on) < DATE '{{ as_of | ds }}' - INTERVAL '90 days'
"""

with DAG(
    "lapsed_backfilled",
    # Real intervals: a run speaks for the end of its day, whenever it runs.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    # The first day that consumers are to know of, and the last of these purchases; a live audience has no end.
    start_date=datetime(1997, 9, 1, tzinfo=UTC),
    end_date=datetime(1998, 7, 1, tzinfo=UTC),
    catchup=True,
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
        audience_id="lapsed_90_days_history",
        audience_name="Lapsed 90 days, with its past",
        # Long enough to answer who was a member on any of these days.
        keep_history=timedelta(days=400),
        history_view=True,
    )

    AudienceToKinesisOperator(
        task_id="publish",
        change_set=changes.output,
        stream_name="audience-changes",
        message_format="amplitude_cohort",
    )
