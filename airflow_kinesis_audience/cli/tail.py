"""``tail``: the messages of a Kinesis data stream, a line each, with the user ids masked.

It reads and remembers nothing: no checkpoint, no lease, no consumer is registered. A shard may be read five times
a second by all who read it, so it asks each one once a second. It prints user ids unmasked only
where the person asks for them; of a message that cannot be read it prints that, without its content.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from airflow_kinesis_audience.cli.masking import list_users, one_line
from airflow_kinesis_audience.cli.stream import Arrived, Stream
from airflow_kinesis_audience.consumer.messages import Reading, read_message
from airflow_kinesis_audience.core.model.instants import instant, instant_text

_MOST_USERS = 3
_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("stream", help="name or ARN of the data stream")
    parser.add_argument(
        "--aws", default="aws_default", metavar="CONN_ID", help="Airflow connection (default: aws_default)"
    )
    parser.add_argument("--region", help="by default the ARN's, the connection's, or the SDK's")
    parser.add_argument(
        "--since", type=instant, metavar="INSTANT", help="start at this instant; default: the oldest record"
    )
    parser.add_argument("--new", action="store_true", help="only new records; with --follow")
    parser.add_argument("--follow", action="store_true", help="continue until Ctrl-C")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N messages")
    parser.add_argument("--audience", metavar="ID", help="only messages about this audience")
    parser.add_argument("--show", action="store_true", help="show user ids; they are masked by default")
    parser.add_argument(
        "--raw", action="store_true", help="print the messages unmasked, as they are on the stream"
    )


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Print messages until there are no more, or there have been enough."""
    from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook

    if given.since is not None and given.new:
        raise ValueError("give either --since or --new")
    if given.limit is not None and given.limit < 1:
        raise ValueError(f"--limit is {given.limit}; expected 1 or more")
    hook = KinesisStreamHook(given.stream, aws_conn_id=given.aws, region_name=given.region)
    stream = Stream(hook, since=given.since, only_new=given.new)
    printed = 0
    while True:
        for arrived in stream.read():
            reading, wrong = _read(arrived.data)
            if given.audience is not None and given.audience not in _audiences_of(reading):
                continue
            raw = arrived.data.decode(errors="replace").removesuffix("\n")
            lines = raw.split("\n") if given.raw else [describe(arrived, reading, wrong, show=given.show)]
            print("\n".join(map(one_line, lines)), flush=True, file=out)
            printed += 1
            if printed == given.limit:
                return 0
        if stream.ended or not given.follow:
            return 0
        time.sleep(_SECONDS)


def _read(message: bytes) -> tuple[Reading | None, str]:
    try:
        return read_message(message), ""
    except ValueError as error:
        return None, str(error)


def _audiences_of(reading: Reading | None) -> set[str]:
    if reading is None:
        return set()
    return {s.audience_id for s in reading.statements} | (
        {reading.notice.audience_id} if reading.notice else set()
    )


def describe(arrived: Arrived, reading: Reading | None, wrong: str, *, show: bool) -> str:
    """Describe a message in a line."""
    where = f"shard {arrived.shard}, {len(arrived.data):,} B"
    if reading is None:
        return f"{_at(arrived.at)}  cannot be read: {wrong}  ({where})"
    content = "; ".join(_describe_reading(reading, arrived.data, show=show)) or "nothing about an audience"
    return f"{_at(arrived.at)}  {content}  {_short(reading.message_id)}  ({where})"


def _describe_reading(reading: Reading, data: bytes, *, show: bool) -> Iterator[str]:
    moves: dict[tuple[str, int, bool], list[str]] = {}
    for s in reading.statements:
        moves.setdefault((s.audience_id, s.time, s.member), []).append(s.user_id)
    for (audience_id, seconds, member), users in moves.items():
        as_of, listed = _at(datetime.fromtimestamp(seconds, UTC)), list_users(users, show=show, most=_MOST_USERS)
        yield f"{audience_id} as of {as_of}: {len(users):,} {'in' if member else 'out'}, {listed}"
    if (notice := reading.notice) is not None:
        counts = f", {notice.members:,} members, {notice.exits:,} exits" if notice.members or notice.exits else ""
        yield f"{notice.audience_id}: {notice.event}{counts}"
    if not reading.statements and reading.notice is None:
        document: Mapping[str, Any] = json.loads(data)
        events: Sequence[Any] = document.get("events", ())
        if events:
            yield f"{len(events):,} events"


def _short(message_id: str) -> str:
    job, mark, rest = message_id.partition("::")
    return f"{job[:8]}…{mark}{rest}"


def _at(at: datetime) -> str:
    return instant_text(instant(at))
