r"""Who has bought before, but nothing in the last 90 days, with a past that can be told day by day.

The query asks what was true at the run's own instant, so a backfill gives an edge for each day, with the time at
which each customer really entered or left::

    airflow backfill create --dag-id lapsed_backfilled --max-active-runs 1 \
        --from-date 1997-09-01 --to-date 1997-09-14

A backfill comes before the first scheduled run: change sets are edges on one line of time, and what lies before
the newest one is covered by it. Here the past is in the data. Where it is in the warehouse's time travel, the
table is asked for it: ``FROM marts.lapsed AT (TIMESTAMP => '{{ data_interval_end }}'::timestamptz)`` on
Snowflake, ``FOR SYSTEM_TIME AS OF TIMESTAMP '{{ data_interval_end }}'`` on BigQuery.

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
WHERE purchased_on < DATE '{{ data_interval_end | ds }}'
GROUP BY customer_id, email
HAVING max(purchased_on) < DATE '{{ data_interval_end | ds }}' - INTERVAL '90 days'
"""

with DAG(
    "lapsed_backfilled",
    # Real intervals: a run speaks for the end of its day, whenever it runs.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
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
        audience_id="lapsed_90_days",
        audience_name="Lapsed 90 days",
        # Long enough to answer who was a member on any day of the backfill.
        keep_history=timedelta(days=400),
        history_view=True,
    )

    AudienceToKinesisOperator(
        task_id="publish",
        change_set=changes.output,
        stream_name="audience-changes",
        message_format="amplitude_cohort",
    )
