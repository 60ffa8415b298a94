"""A system test: the DAG of ``dags/customer_profiles.py``, from a warehouse to a data stream, for Adobe."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.system.kinesis_audience.surroundings import get_test_run, load_example, surround

if TYPE_CHECKING:
    from airflow_kinesis_audience.demo.cdnow import Purchase


def check(messages: list[bytes], purchases: list[Purchase], day: date) -> None:
    """Compare each customer's audiences with what the purchases say: in a first run there is a document each."""
    found = {}
    for document in map(json.loads, messages):
        [customer] = (identity["id"] for identity in document["identityMap"]["crmid"])
        found[customer] = set(document["segmentMembership"]["ups"])
    spent, last = defaultdict[str, Decimal](Decimal), dict[str, date]()
    for p in purchases:
        if p.purchased_on < day:
            spent[p.customer_id] += p.dollar_value
            last[p.customer_id] = max(p.purchased_on, last.get(p.customer_id, p.purchased_on))
    away = {customer: (day - last[customer]).days for customer in last}
    expected = {
        "active_30_days": {c for c in away if away[c] <= 30},
        "lapsed_90_days": {c for c in away if away[c] > 90},
        "top_spenders": {c for c in spent if spent[c] >= 500},
    }
    assert found == {
        c: names for c in last if (names := {name for name, members in expected.items() if c in members})
    }


dag = load_example("customer_profiles")
surround(dag, check)

test_run = get_test_run(dag)
