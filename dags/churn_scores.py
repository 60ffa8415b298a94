"""Publish the customers that a model expects to lose, by scores that Python computes.

A function reads each customer's purchases from the warehouse, batch by batch, scores them, and yields those with a
high risk. What it yields is compared with what was published last, as the rows of a query are. The function stands
for any model: load yours instead, for example with joblib, and call its ``predict_proba``. The rows are in no
warehouse, so the state is kept in files (``state_path``), in a bucket that ``aws_default`` may write to.

Connections: ``warehouse`` and ``aws_default``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, task

from airflow_kinesis_audience.operators import AudienceToKinesisOperator

if TYPE_CHECKING:
    import pandas as pd

HIGH_RISK = 0.8
PURCHASES = """
SELECT
    customer_id,
    email,
    COUNT(*) AS purchases,
    CAST(DATE 'AS_OF' - MAX(purchased_on) AS BIGINT) AS days_away
FROM marts.purchases JOIN marts.customers USING (customer_id)
WHERE purchased_on < DATE 'AS_OF'
GROUP BY customer_id, email
"""

with DAG(
    "churn_scores",
    schedule="@daily",
    start_date=datetime(1997, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["audience"],
) as dag:

    @task.audience(
        audience_id="churn_risk",
        audience_name="High risk of churn",
        user_id_column="customer_id",
        identities={"email": "Email"},
        properties=["risk"],
        state_path="s3://aws_default@audience-state/churn",
    )
    def churn_scores(as_of: datetime) -> Iterator[pd.DataFrame]:
        """Yield the customers with a high risk as of the run's instant."""
        import numpy as np
        import pyarrow as pa

        from airflow_kinesis_audience.hooks.warehouse import open_warehouse

        query = PURCHASES.replace("AS_OF", f"{as_of:%Y-%m-%d}")
        schema = pa.schema(
            [
                ("customer_id", pa.string()),
                ("email", pa.string()),
                ("purchases", pa.int64()),
                ("days_away", pa.int64()),
            ]
        )
        with open_warehouse("warehouse") as warehouse:
            for batch in warehouse.read_batches(query, schema, rows=50_000):
                scored = batch.to_pandas()
                scored["risk"] = 1 / (1 + np.exp(0.9 * scored["purchases"] - 0.03 * scored["days_away"]))
                scored["risk"] = scored["risk"].round(2)
                yield scored.loc[scored["risk"] >= HIGH_RISK, ["customer_id", "email", "risk"]]

    AudienceToKinesisOperator(
        task_id="publish",
        change_set=churn_scores(),
        stream_name="audience-changes",
        message_format="amplitude_cohort",
    )
