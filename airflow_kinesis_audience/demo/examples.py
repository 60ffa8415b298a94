"""What the demo can run: an example DAG per wire format, to what, and how what arrived is read and judged.

Each is a row of words and functions; whoever runs the demo asks the row and never which of them it is.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo import cdnow
from airflow_kinesis_audience.demo.local_firehose import LocalFirehose, local_firehose
from airflow_kinesis_audience.demo.local_kinesis import SHARDS, LocalKinesis, Stored, local_kinesis

_FEW = 3
_LAPSED = "bought before, but nothing in the last 90 days; as of midnight UTC of each day"

Known = Mapping[str, Mapping[str, Any]]
"""What a consumer knows or should know: members, profiles or purchases, and what of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One example.

    :param sends: what is sent, in a sentence.
    :param open: runs the emulated service.
    :param read: what a consumer knows after these messages, in whatever order.
    :param true: what it should know, by the warehouse and the days that were run.
    :param choose: a stored message to show, and a sentence on where it is.
    :param spread: where the messages are, in words.
    :param known: what is known, in the plural, and ``each`` what of each.
    :param events: whether events are sent, and not changes of memberships.
    """

    service: str
    dag_file: str
    sends: str
    open: Callable[[], AbstractContextManager[LocalKinesis | LocalFirehose]]
    read: Callable[[Iterable[bytes]], Known]
    true: Callable[[Path, Sequence[date]], Known]
    choose: Callable[[Sequence[Stored]], tuple[str, dict[str, Any]]]
    spread: Callable[[Sequence[Stored]], str]
    known: str = "members"
    each: str
    events: bool = False


# --- what a consumer knows ---------------------------------------------------------------------------------------


def _consume(messages: Iterable[bytes]) -> AudienceConsumer:
    consumer = AudienceConsumer()
    for message in messages:
        consumer.apply(message)
    return consumer


def _read_properties(messages: Iterable[bytes]) -> Known:
    consumer = _consume(messages)
    return {
        user_id: consumer.properties("lapsed_90_days", user_id) for user_id in consumer.members("lapsed_90_days")
    }


def _read_identities(messages: Iterable[bytes]) -> Known:
    consumer, audience_id = _consume(messages), "90001"
    return {user_id: consumer.identities(audience_id, user_id) for user_id in consumer.members(audience_id)}


def _read_profiles(messages: Iterable[bytes]) -> Known:
    consumer, found = _consume(messages), dict[str, dict[str, Any]]()
    for audience_id in sorted(consumer.audiences()):
        for user_id in consumer.members(audience_id):
            known = {**consumer.properties(audience_id, user_id), **consumer.identities(audience_id, user_id)}
            found.setdefault(user_id, {"audiences": [], **known})["audiences"].append(audience_id)
    return found


def _read_purchases(messages: Iterable[bytes]) -> Known:
    """Drop events that came before, and count what is left by what they say."""
    events: dict[str, str] = {}
    for batch in map(json.loads, messages):
        named = {i["identity_type"]: i["identity"] for i in batch["user_identities"]}
        for event in batch["events"]:
            data, bought = event["data"], event["data"]["product_action"]
            purchase = (
                named["customer_id"],
                named["email"],
                data["timestamp_unixtime_ms"],
                bought["products"][0]["quantity"],
                bought["total_amount"],
            )
            events[data["source_message_id"]] = json.dumps(purchase)
    return {purchase: {"times": times} for purchase, times in Counter(events.values()).items()}


# --- what it should know, in other words than the examples' queries ----------------------------------------------


def _hashed_email(customer_id: str) -> str:
    return hashlib.sha256(cdnow.email_of(customer_id).encode()).hexdigest()


def _true_properties(warehouse: Path, days: Sequence[date]) -> Known:
    return cdnow.read_lapsed(warehouse, days[-1])


def _true_identities(warehouse: Path, days: Sequence[date]) -> Known:
    return {
        customer_id: {
            "CustomerId": customer_id,
            "Email": _hashed_email(customer_id),
            "GoogleAdvertisingIdentifier": hashlib.md5(
                f"{customer_id}/{properties['months_away']}".encode(), usedforsecurity=False
            ).hexdigest(),
        }
        for customer_id, properties in cdnow.read_lapsed(warehouse, days[-1]).items()
    }


def _true_profiles(_: Path, days: Sequence[date]) -> Known:
    bought: dict[str, list[cdnow.Purchase]] = {}
    for purchase in cdnow.read_purchases():
        if purchase.purchased_on < days[-1]:
            bought.setdefault(purchase.customer_id, []).append(purchase)
    found = {}
    for customer_id, purchases in bought.items():
        last, spent = max(p.purchased_on for p in purchases), sum(p.dollar_value for p in purchases)
        away = (days[-1] - last).days
        audiences = ["active_30_days"] * (away <= 30) + ["lapsed_90_days"] * (away > 90)
        if audiences := audiences + ["top_spenders"] * (spent >= 500):
            found[customer_id] = {
                "audiences": audiences,
                "commerce": {"spent": str(spent), "lastPurchase": str(last)},
                "crmid": customer_id,
                "email_lc_sha256": _hashed_email(customer_id),
            }
    return found


def _true_purchases(_: Path, days: Sequence[date]) -> Known:
    found: Counter[str] = Counter()
    for p in cdnow.read_purchases():
        if days[0] - timedelta(days=1) <= p.purchased_on < days[-1]:
            at = (p.purchased_on - date(1970, 1, 1)).days * 86_400_000
            known = (p.customer_id, _hashed_email(p.customer_id), str(at), p.number_of_cds, str(p.dollar_value))
            found[json.dumps(known)] += 1
    return {purchase: {"times": times} for purchase, times in found.items()}


# --- what is shown -----------------------------------------------------------------------------------------------


def _choose_batch(stored: Sequence[Stored]) -> tuple[str, dict[str, Any]]:
    """Choose a record of some few who entered, on the last day if anybody did."""

    def worth(candidate: tuple[Stored, dict[str, Any]]) -> tuple[bool, str, bool, int]:
        message = candidate[1]
        users = len(message["users"])
        return message["in_cohort"], message["computed_time"], users >= _FEW, -users

    record, message = max(((record, json.loads(record.data)) for record in stored), key=worth)
    return _where(record), message


def _choose_line(stored: Sequence[Stored]) -> tuple[str, dict[str, Any]]:
    """Choose a line of somebody who entered on the last day if anybody did."""
    found = ((record, json.loads(record.data)) for record in stored)
    record, message = max(found, key=lambda f: (f[1]["IsMember"], f[1]["MembershipChangedTimestamp"]))
    return f"One of the lines, in {record.place}:", message


def _choose_profile(stored: Sequence[Stored]) -> tuple[str, dict[str, Any]]:
    """Choose a document of the last day, with as many audiences as there are."""
    found = ((record, json.loads(record.data)) for record in stored)
    record, message = max(found, key=lambda f: (f[1]["computedTime"], len(f[1]["segmentMembership"]["ups"])))
    return _where(record), message


def _choose_event(stored: Sequence[Stored]) -> tuple[str, dict[str, Any]]:
    """Choose a batch of the last day, of one event."""
    found = ((record, json.loads(record.data)) for record in stored)
    record, message = max(found, key=lambda f: (f[1]["timestamp_unixtime_ms"], -len(f[1]["events"])))
    return _where(record), message


def _where(record: Stored) -> str:
    shard = int(record.place.rpartition("-")[2]) + 1
    return f"One of the records, in shard {shard}, partition key {record.partition_key}:"


def _spread_over_shards(stored: Sequence[Stored]) -> str:
    shards = Counter(record.place for record in stored)
    keys = len({record.partition_key for record in stored})
    counts = ", ".join(f"{n:,}" for _, n in sorted(shards.items()))
    return f"{keys} partition keys, on {len(shards)} of {SHARDS} shards: {counts} records"


def _spread_over_objects(stored: Sequence[Stored]) -> str:
    removed = sum(b'"IsMember":false' in record.data for record in stored)
    objects = len({record.place for record in stored})
    return f"{len(stored):,} lines in {objects:,} objects of the bucket: {removed:,} remove, the others add"


EXAMPLES: Mapping[str, Example] = {
    "amplitude_cohort": Example(
        service="Kinesis",
        dag_file="lapsed_customers.py",
        sends=_LAPSED,
        open=local_kinesis,
        read=_read_properties,
        true=_true_properties,
        choose=_choose_batch,
        spread=_spread_over_shards,
        each="every property of each",
    ),
    "mparticle_audience": Example(
        service="Firehose",
        dag_file="lapsed_to_firehose.py",
        sends=_LAPSED,
        open=local_firehose,
        read=_read_identities,
        true=_true_identities,
        choose=_choose_line,
        spread=_spread_over_objects,
        each="every identity of each",
    ),
    "adobe_profile": Example(
        service="Kinesis",
        dag_file="customer_profiles.py",
        sends="who bought in the last 30 days; before, but not in the last 90; for 500 dollars or more",
        open=local_kinesis,
        read=_read_profiles,
        true=_true_profiles,
        choose=_choose_profile,
        spread=_spread_over_shards,
        known="profiles",
        each="every audience, attribute and identity of each",
    ),
    "mparticle_events": Example(
        service="Kinesis",
        dag_file="purchases_as_events.py",
        sends="the purchases of the day before, as events",
        open=local_kinesis,
        read=_read_purchases,
        true=_true_purchases,
        choose=_choose_event,
        spread=_spread_over_shards,
        known="purchases",
        each="every field of each",
        events=True,
    ),
}
"""By wire format."""
