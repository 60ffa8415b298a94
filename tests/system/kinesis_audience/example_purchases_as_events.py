"""A system test: the DAG of ``dags/purchases_as_events.py``, from a warehouse to a data stream, for mParticle."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, timedelta
from typing import TYPE_CHECKING

from tests.system.kinesis_audience.surroundings import get_test_run, load_example, surround

if TYPE_CHECKING:
    from airflow_kinesis_audience.demo.cdnow import Purchase


def check(messages: list[bytes], purchases: list[Purchase], day: date) -> None:
    """Compare the events with the purchases of the interval, the day before its end."""
    found = Counter(
        (
            next(i["identity"] for i in batch["user_identities"] if i["identity_type"] == "customer_id"),
            event["data"]["product_action"]["total_amount"],
        )
        for batch in map(json.loads, messages)
        for event in batch["events"]
    )
    due = [p for p in purchases if p.purchased_on == day - timedelta(days=1)]
    assert found == Counter((p.customer_id, str(p.dollar_value)) for p in due)
    assert found


dag = load_example("purchases_as_events")
surround(dag, check)

test_run = get_test_run(dag)
