"""Applies records to a store, each at least once; skips and counts what the store can never hold.

The part of a consumer that is the same for every store. It needs only Python's standard library, and logs no
value of a message. The invariant: when ``apply_records`` returns, every record was applied or skipped; when it
raises, the caller must not record any of them as done.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from airflow_kinesis_audience.consumer.aggregated import split_record
from airflow_kinesis_audience.consumer.messages import Reading, read_message

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
"""Seconds."""
_MOST_TEXT = 500

log = logging.getLogger(__name__)


class Unfit(Exception):
    """A write that the store can never accept, also after retries; the error's text must show no value.

    Do not raise it for a temporary error: a lock, a lost connection, a full disk, a missing grant.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAside:
    """A message that was skipped, as a whole or in parts. Its texts are ASCII, so that any store can hold them.

    :param where: the record's place in the stream, as given by the caller, and the message's place in the record;
        a repeated record has the same place.
    :param message_id: empty if the message cannot be read.
    :param parts: positions of its statements that were not applied; none if the message cannot be read.
    :param reason: the error, without the message's content.
    :param data: the message.
    """

    where: str
    message_id: str
    parts: tuple[int, ...]
    reason: str
    data: bytes


def apply_records(
    records: Iterable[tuple[str, bytes]],
    *,
    write: Callable[[Sequence[Reading]], None],
    set_aside: Callable[[SetAside], None],
    read: Callable[[bytes], Reading] = read_message,
) -> int:
    """Apply records, and skip what cannot be applied.

    All are written at once. If the store can never hold that, they are written one by one, then statement by
    statement: of a message about a thousand users, only the invalid one is skipped. An exit with invalid values
    is applied without them, so that no user stays a member.

    :param records: place of each record in the stream (shard and sequence number), and its bytes.
    :param write: writes all statements of some messages, or none; raises :class:`Unfit` if the store can never
        hold one of them, and any other error if a retry can help.
    :param set_aside: stores a message that was skipped.
    :param read: raises ``ValueError`` if a message cannot be read.
    :returns: the number of skipped messages.
    """
    found: list[tuple[str, bytes, Reading]] = []
    aside: list[SetAside] = []
    for where, message in _split(records):
        try:
            found.append((where, message, read(message)))
        except ValueError as error:
            aside.append(_refused(where, message, "", {}, str(error)))
    try:
        write([reading for _, _, reading in found])
    except Unfit:
        for where, message, reading in found:
            # One that was alone was refused as a whole already.
            if (len(found) == 1 or _try(reading, write) is not None) and (refused := _write_apart(reading, write)):
                reasons = ", ".join(sorted(set(refused.values())))
                aside.append(_refused(where, message, reading.message_id, refused, reasons))
    for one in aside:
        set_aside(one)
        log.warning("message %s at %s was skipped: %s", one.message_id or "without an id", one.where, one.reason)
    return len(aside)


def persist(
    work: Callable[[], object], *, seconds: float = 600, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Retry something until it succeeds, with growing pauses; after the limit, end the process.

    It raises ``SystemExit`` because the KCL for Python ignores every other error and then records these records
    as done. A process that ended is started again, from the last checkpoint.

    :param work: retried from its start; it opens the session that it needs.
    :param seconds: limit of the pauses together.
    """
    waited, pause = 0.0, _FIRST_PAUSE
    while True:
        try:
            work()
            return
        except Exception as error:  # whatever it is: a record that is not applied must not be passed over
            what = type(error).__name__  # its text may hold values
        if waited >= seconds:
            raise SystemExit(
                f"stopped after {waited:.0f} s of retries, the last error was {what}; start the process again"
            )
        log.warning("failed with %s; retrying in %.1f s", what, pause)
        sleep(pause)
        waited, pause = waited + pause, min(pause * random.uniform(1.5, 2.5), _LONGEST_PAUSE)  # noqa: S311


def _split(records: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    for where, data in records:
        messages = split_record(data)
        for n, message in enumerate(messages):
            yield (where if len(messages) == 1 else f"{where}/{n}"), message


def _write_apart(reading: Reading, write: Callable[[Sequence[Reading]], None]) -> dict[int, str]:
    """Write what of a message can be written; return why not, by position of the statement."""
    refused = {}
    for n, statement in enumerate(reading.statements):
        one = replace(reading, statements=[statement], notice=None, whole=None)
        if (reason := _try(one, write)) is not None:
            refused[n] = reason
            if not statement.member:
                bare = replace(statement, properties={}, identities={})
                _try(replace(one, statements=[bare]), write)
    # That a message is all about its user counts only if all of it is there.
    if not refused and (reason := _try(replace(reading, statements=[]), write)) is not None:
        refused[len(reading.statements)] = reason
    return refused


def _try(reading: Reading, write: Callable[[Sequence[Reading]], None]) -> str | None:
    try:
        write([reading])
    except Unfit as error:
        return str(error)
    return None


def _refused(where: str, message: bytes, message_id: str, parts: Iterable[int], reason: str) -> SetAside:
    return SetAside(
        where=_ascii(where), message_id=_ascii(message_id), parts=tuple(parts), reason=_ascii(reason), data=message
    )


def _ascii(text: str) -> str:
    return text.encode("unicode_escape").decode()[:_MOST_TEXT]
