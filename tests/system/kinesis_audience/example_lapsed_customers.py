"""A system test: the DAG of ``dags/lapsed_customers.py``, from a warehouse to a data stream, for Amplitude."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from airflow_kinesis_audience.consumer import AudienceConsumer
from tests.system.kinesis_audience.surroundings import get_test_run, load_example, surround

if TYPE_CHECKING:
    from airflow_kinesis_audience.demo.cdnow import Purchase


def check(messages: list[bytes], purchases: list[Purchase], day: date) -> None:
    """Compare what a consumer believes with what the purchases say."""
    consumer = AudienceConsumer()
    for message in messages:
        consumer.apply(message)
    before = [p for p in purchases if p.purchased_on < day]
    recent = {p.customer_id for p in before if p.purchased_on >= day - timedelta(days=90)}
    assert consumer.members("lapsed_90_days") == {p.customer_id for p in before} - recent


dag = load_example("lapsed_customers")
surround(dag, check)

test_run = get_test_run(dag)
