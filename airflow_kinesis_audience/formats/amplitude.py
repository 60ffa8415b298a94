"""Amplitude's cohort updates: batches of users entering or leaving one audience.

Renders changes to messages and nothing else: no clock, no network, nothing kept between calls. A message speaks of
one audience, one direction and one partition, and never of more users or bytes than its bounds allow.
Format: https://amplitude.com/docs/data/destination-catalog/amazon-kinesis-cohort
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import compress, pairwise
from typing import TYPE_CHECKING, ClassVar

import orjson

from airflow_kinesis_audience.audience import Action, Changes, Updated, epoch_seconds
from airflow_kinesis_audience.columns import find_breaks, find_rows, first_letters, take_rows, value_at
from airflow_kinesis_audience.formats.values import encode, find_differing, render_array, require_texts
from airflow_kinesis_audience.messages import (
    Direction,
    Envelope,
    Lifecycle,
    Message,
    Notice,
    digits_of,
    partition_number,
    partition_of,
)
from airflow_kinesis_audience.oversize import Oversized, digest_of

if TYPE_CHECKING:
    import pyarrow as pa

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


class _Users:
    """One fragment per row, in one buffer: a user's JSON with the comma that parts it from the user before."""

    def __init__(self, fragments: pa.Array) -> None:
        _, ends, text = fragments.buffers()
        self._ends = memoryview(ends).cast("q")[fragments.offset : fragments.offset + len(fragments) + 1]
        self._text = memoryview(text)
        self._fragments = fragments

    def of(self, rows: range | Sequence[int]) -> _Users:
        """Give those of some rows."""
        if isinstance(rows, range):
            return _Users(self._fragments.slice(rows.start, len(rows)))
        return _Users(self._fragments.take(rows))

    def fill(self, start: int, *, max_count: int, max_bytes: int) -> int:
        """Find the end of a group that begins at a row: as full as both bounds allow, and one at least."""
        last = min(start + max_count, len(self._fragments))
        after = bisect_right(self._ends, self._ends[start] + max_bytes, start + 1, last + 1)
        return max(after - 1, start + 1)

    def joined(self, start: int, stop: int) -> memoryview:
        """Give a group as it stands in a message's list."""
        return self._text[self._ends[start] + len(b",") : self._ends[stop]]


class _RenderedUsers:
    """All users of a slice, rendered when they are first asked for, by columns: a dict per user costs much more.

    :param names: of the properties that are sent.
    """

    def __init__(self, changes: Changes, names: Sequence[str]) -> None:
        self._changes, self._names = changes, names
        self._ids = render_array("user_id", require_texts("user_id", changes.user_id))

    @cached_property
    def exiting(self) -> _Users:
        """Each with the id alone."""
        return self._join([b"}"])

    @cached_property
    def entering(self) -> _Users:
        """Each with id and properties."""
        pieces: list[bytes | pa.Array] = []
        before = b',"user_properties":{'
        for name in self._names:
            pieces += [
                before + orjson.dumps(name) + b":",
                render_array(f"property {name}", self._changes.new_properties[name]),
            ]
            before = b","
        return self._join([*pieces, b"}}"]) if pieces else self.exiting

    def _join(self, pieces: list[bytes | pa.Array]) -> _Users:
        import pyarrow as pa
        import pyarrow.compute as pc

        whole = [_USER, self._ids, *pieces, b""]
        typed = (pa.scalar(p, pa.large_binary()) if isinstance(p, bytes) else p for p in whole)
        return _Users(pc.binary_join_element_wise(*typed))


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

    def __call__(self, changes: Changes, envelope: Envelope) -> Iterator[Message | Oversized]:
        """Render a slice; a user who alone exceeds ``envelope.message_bytes`` is given as :class:`Oversized`.

        :raises ValueError: if a property is not mapped or a value has no exact JSON; a retry does not help.
        """
        names = self._names(changes)
        if not len(changes):
            return
        users = _RenderedUsers(changes, names)
        for run in _find_runs(changes, envelope.partitions):
            rows: Sequence[int] = run.rows
            if run.action is Action.UPDATED:
                rows = self._telling(changes, run.rows, names)
            if rows:
                told = users.exiting if run.direction is Direction.EXIT else users.entering
                yield from self._render_run(changes, envelope, told, run, rows)

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
        asked = find_rows(changes.updated, rows, (Updated.PROPERTIES, Updated.BOTH)) if names else []
        if self.user_properties is True or not asked:
            return asked
        import pyarrow.compute as pc

        sides = (changes.new_properties, changes.old_properties)
        differing = (
            find_differing(f"property {n}", *(take_rows(side[n], asked) for side in sides)) for n in names
        )
        differs = reduce(pc.or_, differing)
        return list(compress(asked, differs.to_pylist()))

    def _render_run(
        self, changes: Changes, envelope: Envelope, users: _Users, run: _Run, rows: Sequence[int]
    ) -> Iterator[Message | Oversized]:
        partition, hash_key = partition_of(run.audience_id, value_at(changes.bucket, rows[0]), envelope.partitions)
        # The last row has the longest number, so a head made for it is as long as the run's longest.
        around_bytes = len(_head(changes, envelope, run, rows[-1])) - len(b",") + len(_END)
        group = users.of(rows)
        start = 0
        while start < len(rows):
            stop = group.fill(start, max_count=self.max_users, max_bytes=envelope.message_bytes - around_bytes)
            head = _head(changes, envelope, run, rows[start])
            document = b"".join((head, group.joined(start, stop), _END))
            if len(document) > envelope.message_bytes:
                # It is one user: a group that may be divided fits.
                row = rows[start]
                yield Oversized(changes.position[row], 1, digest_of(changes.user_id[row]), len(document))
            else:
                yield Message(document, partition, hash_key, stop - start)
            start = stop


def _check_count(names: Sequence[str]) -> None:
    if len(names) > MAX_USER_PROPERTIES:
        raise ValueError(
            f"user_properties are {len(names)}; Amplitude takes at most {MAX_USER_PROPERTIES}: "
            f"give a list of those to send"
        )


def _find_runs(changes: Changes, partitions: int) -> Iterator[_Run]:
    """Find the rows, side by side, that may share a message."""
    if not len(changes):
        return
    starts = {0, *find_breaks(changes.audience_id), *find_breaks(changes.action)}
    number = None
    for row in (0, *find_breaks(first_letters(changes.bucket, digits_of(partitions)))):
        before, number = number, partition_number(value_at(changes.bucket, row), partitions)
        if number != before:
            starts.add(row)
    for start, stop in pairwise((*sorted(starts), len(changes))):
        action = Action(value_at(changes.action, start))
        yield _Run(value_at(changes.audience_id, start), action, range(start, stop))


def _head(changes: Changes, envelope: Envelope, run: _Run, first_row: int) -> bytes:
    document = {
        "cohort_name": changes.audience_names[run.audience_id],
        "cohort_id": run.audience_id,
        "in_cohort": run.direction is Direction.ENTER,
        "computed_time": epoch_seconds(changes.as_of),
        "message_id": f"{envelope.job}::{run.direction}::{value_at(changes.position, first_row)}",
    }
    return encode(document)[: -len(b"}")] + _USERS
