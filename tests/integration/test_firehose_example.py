"""Real purchases through the example DAG and a Firehose to a bucket, whose objects are read back by other means.

The emulated service is in this process, the DAG runs in another. pandas reads the purchases and sets say who has
lapsed; boto3 reads the objects, and newest-wins over lines of JSON is all that a consumer does.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest

from airflow_kinesis_audience.demo.local_firehose import BUCKET, LocalFirehose, local_firehose

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

pd = pytest.importorskip("pandas", reason="pandas is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
PACKED = ROOT / "airflow_kinesis_audience" / "demo" / "cdnow_master.txt.xz"
FIRST = date(1997, 9, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(5)]

Message = dict[str, Any]
Identities = dict[str, str]


class Landed(NamedTuple):
    """What is in the bucket in the end, and what the runs printed on the way."""

    objects: list[bytes]
    messages: list[Message]
    output: str


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Landed:
    """Run the example for some days against an emulated Firehose."""
    home = tmp_path_factory.mktemp("example")
    with local_firehose() as firehose:
        ran = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("run_example.py")),
                str(home),
                "lapsed_to_firehose.py",
                json.dumps(dict(firehose.connection)),
                str(FIRST),
                str(len(DAYS)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=360,
        )
        objects = read_objects(firehose)
    logs = "".join(path.read_text() for path in (home / "airflow" / "logs").rglob("*.log"))
    assert ran.returncode == 0, ran.stdout[-3_000:]
    lines = [line for landed in objects for line in landed.splitlines()]
    return Landed(objects, [json.loads(line) for line in lines], ran.stdout + logs)


def read_objects(firehose: LocalFirehose) -> list[bytes]:
    s3: Any = boto3.client("s3", endpoint_url=firehose.endpoint_url, region_name="us-east-1")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    return [s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]


@pytest.fixture(scope="module")
def lapsed() -> dict[date, dict[str, Identities]]:
    """Who has lapsed as of each day, and what names them then."""
    with lzma.open(PACKED, "rt") as lines:
        read = pd.read_csv(
            lines, sep=r"\s+", header=0, names=["customer", "day", "cds", "dollars"], dtype={"customer": str}
        )
    read["day"] = pd.to_datetime(read["day"].astype(str), format="%Y%m%d").dt.date
    found: dict[date, dict[str, Identities]] = {}
    for as_of in DAYS:
        last = read[read["day"] < as_of].groupby("customer")["day"].max()
        away = {customer: (as_of - day).days for customer, day in last.items()}
        found[as_of] = {customer: identities(customer, days // 30) for customer, days in away.items() if days > 90}
    return found


def identities(customer: str, months: int) -> Identities:
    email, phone = f"customer-{customer}@example.com", f"{customer}/{months}"
    return {
        "CustomerId": customer,
        "Email": hashlib.sha256(email.encode()).hexdigest(),
        "GoogleAdvertisingIdentifier": hashlib.md5(phone.encode(), usedforsecurity=False).hexdigest(),
    }


def newest(messages: list[Message], key: Callable[[Identities], Hashable]) -> dict[Hashable, Message]:
    """Let the newest message about a key stand; of two of one time the one that adds."""
    found: dict[Hashable, Message] = {}
    for message in sorted(messages, key=lambda m: (int(m["MembershipChangedTimestamp"]), m["IsMember"])):
        found[key(message["UserIdentities"])] = message
    return {k: message for k, message in found.items() if message["IsMember"]}


def test_every_object_is_whole_lines_of_the_vendors_keys(landed: Landed) -> None:
    assert len(landed.objects) > len(DAYS)
    assert all(found.endswith(b"}\n") for found in landed.objects)
    keys = ["MembershipChangedTimestamp", "AudienceId", "AudienceName", "IsMember", "UserIdentities"]
    assert all(list(message) == keys for message in landed.messages)
    assert {(m["AudienceId"], m["AudienceName"]) for m in landed.messages} == {(90001, "Lapsed 90 days")}


def test_the_lines_give_the_membership_of_every_day_and_the_identities_of_each_member(
    landed: Landed, lapsed: dict[date, dict[str, Identities]]
) -> None:
    for as_of in DAYS:
        until = int(datetime.combine(as_of, time(), UTC).timestamp())
        told = [m for m in landed.messages if int(m["MembershipChangedTimestamp"]) <= until]
        known = newest(told, lambda found: found["CustomerId"])
        assert {customer: m["UserIdentities"] for customer, m in known.items()} == lapsed[as_of]


@pytest.mark.parametrize("name", ["Email", "GoogleAdvertisingIdentifier"])
def test_a_consumer_that_knows_one_identity_alone_is_right_too(
    landed: Landed, lapsed: dict[date, dict[str, Identities]], name: str
) -> None:
    known = newest(landed.messages, lambda found: found[name])
    assert known.keys() == {found[name] for found in lapsed[DAYS[-1]].values()}


def test_who_gets_another_advertising_id_is_removed_by_the_old_and_added_by_the_new(
    landed: Landed, lapsed: dict[date, dict[str, Identities]]
) -> None:
    removals = Counter(m["UserIdentities"]["CustomerId"] for m in landed.messages if not m["IsMember"])
    changed = Counter[str]()
    for before, after in itertools.pairwise(DAYS):
        old, new = lapsed[before], lapsed[after]
        changed.update(c for c in old.keys() & new.keys() if old[c] != new[c])
        removals.subtract(old.keys() - new.keys())
    assert changed
    assert +removals == changed


def test_no_identity_is_in_anything_that_was_printed_or_logged_at_debug_level(
    landed: Landed, lapsed: dict[date, dict[str, Identities]]
) -> None:
    assert "DEBUG" in landed.output or "[debug" in landed.output
    printed = landed.output
    for found in lapsed.values():
        for customer, named in found.items():
            assert f"customer-{customer}@" not in printed
            assert named["Email"] not in printed
            assert named["GoogleAdvertisingIdentifier"] not in printed
