"""What ``certify`` does: a made-up audience in a temporary warehouse, its changes on a real stream, and read back.

The first delivery is made in a process of its own and killed with SIGKILL half-way; a second one resumes. What a
consumer must have is worked out by the conformance kit from the messages that were read back. Invariant: only
made-up members are put, and in the end the audience is announced as deleted.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.cli.certify_publisher import (
    PUTS_BEFORE_KILL,
    RECORDS_PER_REQUEST,
    USERS_PER_RECORD,
    Publisher,
    read_order,
)
from airflow_kinesis_audience.cli.certify_stream import StoredRecord, StreamReader
from airflow_kinesis_audience.conformance.expected import Fact, Sent, find_expected
from airflow_kinesis_audience.core.exceptions import AudienceError, HistoryGone
from airflow_kinesis_audience.operators.checks import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

_KILL_SECONDS = 120.0
_USER_BYTES = 40
"""About so many bytes a user takes in a message."""


def describe_cost(stream: str, members: int) -> list[str]:
    """Say what is put on the stream and read from it, so that it can be multiplied with the region's prices."""
    changes = members + 2 * (members // 5)
    records = changes // USERS_PER_RECORD + 1
    size = changes * _USER_BYTES / 1e6
    return [
        f"This puts about {records:,} records ({size:,.1f} MB; each is billed as one unit of 25 KB) on {stream}, "
        "some of them twice, and reads the stream once from its beginning.",
        "Prices of your region: https://aws.amazon.com/kinesis/data-streams/pricing/. Records stay on the stream "
        "for its retention: use one that no other consumer reads.",
    ]


class Certification:
    """One certification of a stream.

    :param stream: name or ARN.
    :param members: how many made-up members enter first; a fifth of them leaves, and comes back.
    """

    def __init__(self, stream: str, aws_conn_id: str | None, region: str | None, *, members: int) -> None:
        self._audience_id = f"certify-{secrets.token_hex(6)}"
        self._order = {
            "stream": stream,
            "aws_conn_id": aws_conn_id,
            "region": region,
            "audience_id": self._audience_id,
        }
        self._members = members

    def run(self) -> Iterator[Finding]:
        """Give one finding after the other; nothing more is put after one that makes the rest meaningless."""
        with tempfile.TemporaryDirectory(prefix="audience-certify-") as folder:
            order = Path(folder) / "order.json"
            order.write_text(json.dumps(self._order | {"warehouse": str(Path(folder) / "certify.duckdb")}))
            publisher = Publisher(read_order(order))
            granted = self._try("grants", lambda: self._check_grants(publisher))
            yield granted
            if not granted.ok:
                return
            try:
                yield from self._run(publisher, order)
            finally:
                ended = self._try("clean-up", lambda: _clean_up(publisher))
            yield ended

    def _run(self, publisher: Publisher, order: Path) -> Iterator[Finding]:
        everybody = {f"u{n}" for n in range(self._members)}
        some = {f"u{n}" for n in range(0, self._members, 5)}
        publisher.write(everybody)
        publisher.compute(0)
        killed = self._try("kill", lambda: _kill(order))
        yield killed
        if not killed.ok:
            return
        yield self._try("resume", lambda: _describe_resume(publisher.publish(0)))
        for number, members in enumerate((everybody - some, everybody), 1):
            publisher.write(members)
            publisher.compute(number)
            delivered = self._try("delivery", partial(_deliver, publisher, number))
            yield delivered
            if not delivered.ok:
                return
        stored = StreamReader(publisher.hook).read(self._audience_id)
        for what, ok, text in check_stored(stored, everybody):
            yield Finding(self._name, what, ok, text)
        yield self._describe_throttles(publisher.throttled)

    def _check_grants(self, publisher: Publisher) -> str:
        publisher.hook.check()
        shards = StreamReader(publisher.hook).check()
        return f"the login of {self._order['aws_conn_id']} can put records, and read {shards} shards"

    def _describe_throttles(self, throttled: int) -> Finding:
        if throttled:
            text = f"{throttled:,} records were throttled, and all of them were delivered later"
            return Finding(self._name, "throttling", True, text)
        text = "no record was throttled, so nothing is shown; to see it, use more members or a stream of one shard"
        return Finding(self._name, "throttling", None, text)

    @property
    def _name(self) -> str:
        return str(self._order["stream"])

    def _try(self, what: str, act: Callable[[], str]) -> Finding:
        try:
            return Finding(self._name, what, True, act())
        except (AudienceError, ValueError) as error:
            return Finding(self._name, what, False, str(error))


def check_stored(stored: Sequence[StoredRecord], true: set[str]) -> Iterator[tuple[str, bool, str]]:
    """Check what a stream has of the audience: who is a member by it, in which order, how often.

    :param stored: shard by shard, in the order of the shard.
    :param true: the members of the warehouse.
    :returns: what was checked, whether it is right, and a sentence.
    """
    yield "membership", *_check_membership(stored, true)
    yield "order", *_check_order(stored)
    yield "duplicates", *_check_duplicates(stored)


def _kill(order: Path) -> str:
    """Deliver in a process of its own, and kill it after some requests."""
    command = [sys.executable, "-m", "airflow_kinesis_audience.cli.certify_publisher", str(order)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101
        waits = next((line for line in process.stdout if line.startswith("waiting")), "")
        process.kill()
        _, errors = process.communicate(timeout=_KILL_SECONDS)
    if not waits:
        said = errors.strip().splitlines()[-1:] or ["nothing"]
        raise ValueError(f"the process that delivers ended too early, and said: {said[0]}")
    return f"the process that delivered was killed with SIGKILL after {PUTS_BEFORE_KILL} requests"


def _describe_resume(report: Mapping[str, Any]) -> str:
    return (
        f"the second process delivered the rest: {report['delivered']:,} changes in {report['records']:,} records "
        f"({report['retried']:,} retried)"
    )


def _deliver(publisher: Publisher, number: int) -> str:
    report = publisher.publish(number)
    return f"delivered {report['delivered']:,} changes in {report['records']:,} records"


def _clean_up(publisher: Publisher) -> str:
    try:
        publisher.delete()
    except HistoryGone:
        return "nothing was put; the temporary warehouse is removed"
    return "the audience is announced as deleted on the stream; the temporary warehouse is removed"


def _sent(stored: StoredRecord) -> Sent:
    """Read a message as a consumer of the format does, without the package's own reader."""
    document = json.loads(stored.data)
    facts = [
        Fact(audience_id=document["cohort_id"], user_id=user["user_id"], member=document["in_cohort"])
        for user in document["users"]
    ]
    time = int(document["computed_time"])
    deleted = document["cohort_id"] if document.get("lifecycle", {}).get("event") == "deleted" else None
    named = {"message_id": document["message_id"], "time": time, "partition": 0}
    return Sent(data=stored.data, facts=facts, deleted=deleted, **named)


def _check_membership(stored: Sequence[StoredRecord], true: set[str]) -> tuple[bool, str]:
    found = {user for _, user in find_expected(map(_sent, stored))}
    if found == true:
        return True, f"a consumer has exactly the {len(true):,} members of the warehouse"
    return False, (
        f"a consumer lacks {len(true - found):,} members and has {len(found - true):,} others; expected exactly "
        f"the {len(true):,} of the warehouse. Check that records stay on the stream for some minutes, repeat the "
        "check, and report it if it persists"
    )


def _check_order(stored: Sequence[StoredRecord]) -> tuple[bool, str]:
    """Check that a message about a user is never put after a newer one, and that a user stays on one shard."""
    newest: dict[tuple[str, str], int] = {}
    shards: dict[str, set[str]] = {}
    late = 0
    for record in stored:
        sent = _sent(record)
        for fact in sent.facts:
            key = (record.shard, fact.user_id)
            late += sent.time < newest.get(key, 0)
            newest[key] = max(sent.time, newest.get(key, 0))
            shards.setdefault(fact.user_id, set()).add(record.shard)
    apart = sum(len(found) > 1 for found in shards.values())
    if late:
        return False, f"{late:,} messages about a user came after a newer one; report it with this output"
    if apart:
        return False, (
            f"the messages about {apart:,} users are on several shards: the stream was resharded meanwhile. "
            "Repeat the check while nobody reshards it"
        )
    return True, f"the messages about each of {len(shards):,} users are on one shard, in the order of their time"


def _check_duplicates(stored: Sequence[StoredRecord]) -> tuple[bool, str]:
    by_id: dict[str, set[bytes]] = {}
    for record in stored:
        by_id.setdefault(_sent(record).message_id, set()).add(record.data)
    differing = sum(len(found) > 1 for found in by_id.values())
    twice = len(stored) - len(by_id)
    if differing:
        return False, f"{differing:,} message ids have different bytes; report it with this output"
    most = PUTS_BEFORE_KILL * RECORDS_PER_REQUEST
    if twice > most:
        return False, f"{twice:,} of {len(stored):,} messages came twice; expected at most {most}, as after a kill"
    return (
        True,
        f"{twice:,} of {len(stored):,} messages came twice, with the same id and bytes: consumers drop them",
    )
