"""Amplitude's cohort updates: batches of users entering or leaving one audience.

Renders changes to messages and nothing else: no clock, no network, nothing kept between calls. A message speaks of
one audience, one direction and one partition, and never of more users or bytes than its bounds allow.
Format: https://amplitude.com/docs/data/destination-catalog/amazon-kinesis-cohort
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, count, islice, pairwise, repeat
from operator import ne
from typing import ClassVar

import orjson

from airflow_kinesis_audience.audience import Action, Changes, Updated, epoch_seconds
from airflow_kinesis_audience.exceptions import MessageTooLarge
from airflow_kinesis_audience.formats.values import encode, render_column, render_texts
from airflow_kinesis_audience.messages import (
    Direction,
    Envelope,
    Lifecycle,
    Message,
    Notice,
    pack,
    partition_number,
    partition_of,
)

MAX_USER_PROPERTIES = 50
"""Most user properties of a user, by the vendor's documentation of its cohort destinations."""

_USERS = b',"users":['
_USER = b',{"user_id":'
_END = b"]}"
_DIRECTIONS = {
    Action.ENTERED: Direction.ENTER,
    Action.EXITED: Direction.EXIT,
    # The format has no word for an update: entering again, at a later time, carries the new properties.
    Action.UPDATED: Direction.ENTER,
}


@dataclass(frozen=True, slots=True)
class _Run:
    audience_id: str
    action: Action
    rows: range

    @property
    def direction(self) -> Direction:
        return _DIRECTIONS[self.action]


@dataclass(frozen=True, slots=True)
class _Users:
    """One fragment per row: a user's JSON with the comma that parts it from the user before."""

    entering: Sequence[bytes]
    exiting: Sequence[bytes]


@dataclass(frozen=True, kw_only=True)
class AmplitudeCohort:
    """Render changes as Amplitude's cohort messages.

    :param max_users: most users in a message; the vendor does not publish its own number.
    :param user_properties: none, all mapped properties, or a list of those to send. An update is sent only if it
        touches a property that is sent. Exits carry user ids alone.
    :raises ValueError: if an option is not one of these; a retry does not help.
    """

    version: ClassVar[int] = 1

    max_users: int = 1000
    user_properties: bool | Sequence[str] = False

    def __post_init__(self) -> None:
        if type(self.max_users) is not int or self.max_users < 1:
            raise ValueError(f"max_users is {self.max_users!r}; expected a whole number from 1 on")
        if isinstance(self.user_properties, bool):
            return
        names = self.user_properties
        if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
            raise ValueError(f"user_properties is {names!r}; expected true, false or a list of property names")
        if len(set(names)) < len(names):
            raise ValueError(f"user_properties names a property twice: {', '.join(names)}")
        _check_count(names)
        object.__setattr__(self, "user_properties", tuple(names))

    def __call__(self, changes: Changes, envelope: Envelope) -> Iterator[Message]:
        """Render a slice.

        :raises ValueError: if a property is not mapped or a value has no exact JSON; a retry does not help.
        :raises MessageTooLarge: if one user alone exceeds ``envelope.message_bytes``.
        """
        names = self._names(changes)
        users = _render_users(changes, names)
        for run in _find_runs(changes, envelope.partitions):
            rows: Sequence[int] = run.rows
            if run.action is Action.UPDATED:
                rows = self._telling(changes, run.rows, names)
            if rows:
                yield from self._render_run(changes, envelope, users, run, rows)

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole cohort: a message that moves no user, with a key of its own.

        The vendor has no such message. A consumer that does not know the key reads a batch of no users.
        """
        partition, hash_key = partition_of(notice.audience_id, "000", envelope.partitions)
        told = {"event": notice.kind.value}
        counts = {} if notice.kind is Lifecycle.DELETED else {"members": notice.members, "exits": notice.exits}
        document = {
            "cohort_name": notice.audience_name,
            "cohort_id": notice.audience_id,
            "in_cohort": notice.kind is not Lifecycle.DELETED,
            "computed_time": epoch_seconds(notice.time),
            "message_id": f"{envelope.job}::{notice.kind}::{notice.number}",
            "users": [],
            "lifecycle": told | counts,
        }
        return Message(encode(document), partition, hash_key, 0)

    def _names(self, changes: Changes) -> Sequence[str]:
        if isinstance(self.user_properties, bool):
            # Sorted, so that the bytes don't depend on the order in which a mapping was written down.
            names = sorted(changes.new_properties) if self.user_properties else []
            _check_count(names)
            return names
        if unknown := sorted(set(self.user_properties) - set(changes.new_properties)):
            raise ValueError(
                f"user_properties has {', '.join(unknown)}; "
                f"the mapped properties are {', '.join(sorted(changes.new_properties)) or 'none'}"
            )
        return self.user_properties

    def _telling(self, changes: Changes, rows: range, names: Sequence[str]) -> Sequence[int]:
        """Return the updates that differ in what is sent; the others have nothing to say in this format."""
        if not names:
            return []
        asked = [row for row in rows if changes.updated[row] in (Updated.PROPERTIES, Updated.BOTH)]
        if self.user_properties is True or not asked:
            return asked
        differs = [False] * len(asked)
        for name in names:
            new, old = (
                render_column(f"property {name}", [column[row] for row in asked])
                for column in (changes.new_properties[name], changes.old_properties[name])
            )
            differs = [known or a != b for known, a, b in zip(differs, new, old, strict=True)]
        return [row for row, tells in zip(asked, differs, strict=True) if tells]

    def _render_run(
        self, changes: Changes, envelope: Envelope, users: _Users, run: _Run, rows: Sequence[int]
    ) -> Iterator[Message]:
        column = users.exiting if run.direction is Direction.EXIT else users.entering
        partition, hash_key = partition_of(run.audience_id, changes.bucket[rows[0]], envelope.partitions)
        # The last row has the longest number, so a head made for it is as long as the run's longest.
        around_bytes = len(_head(changes, envelope, run, rows[-1])) - len(b",") + len(_END)
        parts = map(column.__getitem__, rows)
        room_bytes = envelope.message_bytes - around_bytes
        done = 0
        for group in pack(parts, size=len, max_count=self.max_users, max_bytes=room_bytes):
            first_row = rows[done]
            head = _head(changes, envelope, run, first_row)
            document = b"".join((head, b"".join(group)[len(b",") :], _END))
            if len(document) > envelope.message_bytes:
                raise _too_large(changes, first_row, len(document), envelope.message_bytes)
            yield Message(document, partition, hash_key, len(group))
            done += len(group)


def _check_count(names: Sequence[str]) -> None:
    if len(names) > MAX_USER_PROPERTIES:
        raise ValueError(
            f"user_properties are {len(names)}; Amplitude takes at most {MAX_USER_PROPERTIES}: "
            f"give a list of those to send"
        )


def _find_runs(changes: Changes, partitions: int) -> Iterator[_Run]:
    """Find the rows, side by side, that may share a message."""
    numbers = {bucket: partition_number(bucket, partitions) for bucket in set(changes.bucket)}
    columns = (changes.audience_id, changes.action, [numbers[bucket] for bucket in changes.bucket])
    starts = {0}.union(*map(_find_breaks, columns)) if len(changes) else set()
    for start, stop in pairwise((*sorted(starts), len(changes))):
        yield _Run(changes.audience_id[start], Action(changes.action[start]), range(start, stop))


def _find_breaks(column: Sequence[object]) -> Iterator[int]:
    """Find the rows whose value is not that of the row before."""
    return compress(count(1), map(ne, column, islice(column, 1, None)))


def _render_users(changes: Changes, names: Sequence[str]) -> _Users:
    # By columns, and joined once: a dict per user would cost three times as much.
    ids = render_texts("user_id", changes.user_id)
    alone = [_USER + user_id + b"}" for user_id in ids]
    if not names:
        return _Users(alone, alone)
    pieces: list[Iterator[bytes] | list[bytes]] = [ids]
    before = b',"user_properties":{'
    for name in names:
        pieces.append(repeat(before + orjson.dumps(name) + b":", len(ids)))
        pieces.append(render_column(f"property {name}", changes.new_properties[name]))
        before = b","
    whole = [_USER + b"".join(row) + b"}}" for row in zip(*pieces, strict=True)]
    return _Users(whole, alone)


def _head(changes: Changes, envelope: Envelope, run: _Run, first_row: int) -> bytes:
    document = {
        "cohort_name": changes.audience_names[run.audience_id],
        "cohort_id": run.audience_id,
        "in_cohort": run.direction is Direction.ENTER,
        "computed_time": epoch_seconds(changes.as_of),
        "message_id": f"{envelope.job}::{run.direction}::{changes.position[first_row]}",
    }
    return encode(document)[: -len(b"}")] + _USERS


def _too_large(changes: Changes, row: int, found_bytes: int, limit_bytes: int) -> MessageTooLarge:
    digest = hashlib.sha256(changes.user_id[row].encode()).hexdigest()[:12]
    return MessageTooLarge(
        f"one user of audience {changes.audience_id[row]} makes a message of {found_bytes:,} bytes, the limit is "
        f"{limit_bytes:,}; send fewer user_properties, or find the user whose id has the SHA-256 {digest}…"
    )
