"""The two ways on which the demo can go: which DAG, to what, and how what arrived is read and shown.

Each is a row of words and functions; whoever runs the demo asks the row and never which of the two it is.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from airflow_kinesis_audience.consumer import AudienceConsumer
from airflow_kinesis_audience.demo import cdnow
from airflow_kinesis_audience.demo.local_firehose import LocalFirehose, local_firehose
from airflow_kinesis_audience.demo.local_kinesis import SHARDS, LocalKinesis, Stored, local_kinesis

_FEW = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """One way.

    :param open: runs the emulated service.
    :param audience: the audience's id in a message.
    :param known: what a consumer knows of a member.
    :param true: what it should know, by a customer's id and what the warehouse says of the customer.
    :param choose: a stored message to show, and a sentence on where it is.
    :param spread: where the messages are, in words.
    """

    service: str
    dag_file: str
    open: Callable[[], AbstractContextManager[LocalKinesis | LocalFirehose]]
    audience: str
    known: Callable[[AudienceConsumer, str, str], Mapping[str, Any]]
    true: Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
    choose: Callable[[Sequence[Stored]], tuple[str, dict[str, Any]]]
    spread: Callable[[Sequence[Stored]], str]
    each: str


def _choose_batch(stored: Sequence[Stored]) -> tuple[str, dict[str, Any]]:
    """Choose a record of some few who entered, on the last day if anybody did."""

    def worth(candidate: tuple[Stored, dict[str, Any]]) -> tuple[bool, str, bool, int]:
        message = candidate[1]
        users = len(message["users"])
        return message["in_cohort"], message["computed_time"], users >= _FEW, -users

    record, message = max(((record, json.loads(record.data)) for record in stored), key=worth)
    shard = int(record.place.rpartition("-")[2]) + 1
    return f"One of the records, in shard {shard}, partition key {record.partition_key}:", message


def _choose_line(stored: Sequence[Stored]) -> tuple[str, dict[str, Any]]:
    """Choose a line of somebody who entered on the last day if anybody did."""
    found = ((record, json.loads(record.data)) for record in stored)
    record, message = max(found, key=lambda f: (f[1]["IsMember"], f[1]["MembershipChangedTimestamp"]))
    return f"One of the lines, in {record.place}:", message


def _spread_over_shards(stored: Sequence[Stored]) -> str:
    shards = Counter(record.place for record in stored)
    keys = len({record.partition_key for record in stored})
    counts = ", ".join(f"{n:,}" for _, n in sorted(shards.items()))
    return f"{keys} partition keys, on {len(shards)} of {SHARDS} shards: {counts} records"


def _spread_over_objects(stored: Sequence[Stored]) -> str:
    removed = sum(b'"IsMember":false' in record.data for record in stored)
    objects = len({record.place for record in stored})
    return f"{len(stored):,} lines in {objects:,} objects of the bucket: {removed:,} remove, the others add"


def _identities(customer_id: str, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what a message names a customer by, in other words than the example DAG's query."""
    advertising_id = f"{customer_id}/{told['months_away']}".encode()
    return {
        "CustomerId": customer_id,
        "Email": hashlib.sha256(cdnow.email_of(customer_id).encode()).hexdigest(),
        "GoogleAdvertisingIdentifier": hashlib.md5(advertising_id, usedforsecurity=False).hexdigest(),
    }


DESTINATIONS: Mapping[str, Destination] = {
    "kinesis": Destination(
        service="Kinesis",
        dag_file="lapsed_customers.py",
        open=local_kinesis,
        audience="lapsed_90_days",
        known=AudienceConsumer.properties,
        true=lambda _, told: told,
        choose=_choose_batch,
        spread=_spread_over_shards,
        each="property",
    ),
    "firehose": Destination(
        service="Firehose",
        dag_file="lapsed_to_firehose.py",
        open=local_firehose,
        audience="90001",
        known=AudienceConsumer.identities,
        true=_identities,
        choose=_choose_line,
        spread=_spread_over_objects,
        each="identity",
    ),
}
