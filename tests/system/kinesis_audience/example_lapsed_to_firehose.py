"""A system test: the DAG of ``dags/lapsed_to_firehose.py``, through Firehose to a bucket, for mParticle.

On AWS it needs a bucket, and a role that Firehose can write to it with: ``docs/testing.md``.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date, timedelta

from airflow_kinesis_audience.demo.cdnow import Purchase, email_of
from tests.system.kinesis_audience.surroundings import get_test_run, load_example, surround


def check(messages: list[bytes], purchases: list[Purchase], day: date) -> None:
    """Compare the customers and their addresses with what the purchases say: in a first run everybody enters."""
    landed = [json.loads(message) for message in messages]
    before = [p for p in purchases if p.purchased_on < day]
    recent = {p.customer_id for p in before if p.purchased_on >= day - timedelta(days=90)}
    lapsed = {p.customer_id for p in before} - recent
    assert all(m["IsMember"] and m["AudienceId"] == 90001 for m in landed)
    assert {m["UserIdentities"]["CustomerId"]: m["UserIdentities"]["Email"] for m in landed} == {
        customer: hashlib.sha256(email_of(customer).encode()).hexdigest() for customer in lapsed
    }


dag = load_example("lapsed_to_firehose")
surround(dag, check, firehose=True)

test_run = get_test_run(dag)
