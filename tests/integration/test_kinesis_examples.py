"""Real purchases through the example DAGs to a Kinesis stream, read back by other means, in each wire format.

The emulated service is in this process, the DAG runs in another. pandas reads the purchases; newest-wins over JSON
is all that a consumer does. Every message is held against the schema that ships.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from airflow_kinesis_audience.demo.local_kinesis import local_kinesis
from airflow_kinesis_audience.schemas import load_schema

if TYPE_CHECKING:
    from collections.abc import Callable

pd = pytest.importorskip("pandas", reason="pandas is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
PACKED = ROOT / "airflow_kinesis_audience" / "demo" / "cdnow_master.txt.xz"
FIRST = date(1997, 9, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
DAG_FILES = {
    "amplitude_cohort": "lapsed_customers.py",
    "adobe_profile": "customer_profiles.py",
    "mparticle_events": "purchases_as_events.py",
}

Message = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Message]]:
    """Run the example of a format for some days, once; gives the messages that are on the stream then."""
    found: dict[str, list[Message]] = {}

    def run(message_format: str) -> list[Message]:
        if message_format not in found:
            home = tmp_path_factory.mktemp(message_format)
            with local_kinesis() as kinesis:
                given = [str(home), DAG_FILES[message_format], json.dumps(dict(kinesis.connection))]
                ran = subprocess.run(
                    [
                        sys.executable,
                        str(Path(__file__).with_name("run_example.py")),
                        *given,
                        str(FIRST),
                        str(len(DAYS)),
                    ],
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=360,
                )
                assert ran.returncode == 0, ran.stdout[-3_000:]
                found[message_format] = [json.loads(stored.data) for stored in kinesis.read_all()]
        return found[message_format]

    return run


@pytest.fixture(scope="module")
def purchases() -> Any:
    """Read the purchases: customer, day, cds, dollars."""
    with lzma.open(PACKED, "rt") as lines:
        columns = {"customer": str, "cds": int, "dollars": str}
        read = pd.read_csv(lines, sep=r"\s+", header=0, names=["customer", "day", "cds", "dollars"], dtype=columns)
    read["day"] = pd.to_datetime(read["day"].astype(str), format="%Y%m%d").dt.date
    return read


@pytest.mark.parametrize("message_format", DAG_FILES)
def test_every_message_of_the_example_is_as_the_schema_says(
    told: Callable[[str], list[Message]], message_format: str
) -> None:
    validator = Draft202012Validator(load_schema(message_format))
    messages = told(message_format)
    assert messages
    assert all(validator.is_valid(message) for message in messages)


def audiences_of(purchases: Any, as_of: date) -> dict[str, set[str]]:
    """Say which audiences each customer is in."""
    before = purchases[purchases["day"] < as_of]
    found: dict[str, set[str]] = {}
    for customer, last in before.groupby("customer")["day"].max().items():
        away = (as_of - last).days
        names = {"active_30_days"} if away <= 30 else {"lapsed_90_days"} if away > 90 else set[str]()
        found[customer] = names
    spent = before["dollars"].map(Decimal).groupby(before["customer"]).sum()
    for customer, dollars in spent.items():
        if dollars >= 500:
            found[customer].add("top_spenders")
    return found


def test_the_newest_document_of_each_customer_tells_all_audiences_and_when_they_changed(
    told: Callable[[str], list[Message]], purchases: Any
) -> None:
    history = {as_of: audiences_of(purchases, as_of) for as_of in DAYS}
    expected: dict[str, dict[str, tuple[str, str]]] = {}
    before: dict[str, set[str]] = {}
    for as_of, now in history.items():
        at = f"{as_of}T00:00:00Z"
        for customer, names in now.items():
            stays = expected.setdefault(customer, {})
            stays |= dict.fromkeys(names - before.get(customer, set()), ("realized", at))
            stays |= dict.fromkeys(before.get(customer, set()) - names, ("exited", at))
        before = now
    newest: dict[str, Message] = {}
    for document in sorted(told("adobe_profile"), key=lambda d: int(d["computedTime"])):
        newest[document["identityMap"]["crmid"][0]["id"]] = document
    found = {
        customer: {
            name: (stay["status"], stay["lastQualificationTime"])
            for name, stay in document["segmentMembership"]["ups"].items()
        }
        for customer, document in newest.items()
    }
    assert found == {customer: stays for customer, stays in expected.items() if stays}
    assert any(status == "exited" for stays in found.values() for status, _ in stays.values())
    assert any(len(stays) == 3 for stays in found.values()), "who is in one audience alone would show too little"


def test_each_purchase_of_the_days_is_one_event(told: Callable[[str], list[Message]], purchases: Any) -> None:
    events: dict[str, tuple[str, str, int, str, str]] = {}
    for batch in told("mparticle_events"):
        named = {i["identity_type"]: i["identity"] for i in batch["user_identities"]}
        assert (
            named["email"] == hashlib.sha256(f"customer-{named['customer_id']}@example.com".encode()).hexdigest()
        )
        for event in batch["events"]:
            bought = event["data"]["product_action"]
            assert event["data"]["source_message_id"] not in events
            events[event["data"]["source_message_id"]] = (
                named["customer_id"],
                event["data"]["timestamp_unixtime_ms"],
                bought["products"][0]["quantity"],
                bought["total_amount"],
                bought["action"],
            )
    due = purchases[(purchases["day"] >= DAYS[0] - timedelta(days=1)) & (purchases["day"] < DAYS[-1])]
    expected = Counter(
        (row.customer, str(int(datetime.combine(row.day, time(), UTC).timestamp()) * 1000), row.cds, row.dollars)
        for row in due.itertuples()
    )
    assert Counter(event[:4] for event in events.values()) == expected
    assert {event[4] for event in events.values()} == {"purchase"}
