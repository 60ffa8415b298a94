"""Amplitude's cohort updates: batches of users entering or leaving one audience.

Renders changes to messages and nothing else: no clock, no network, nothing kept between calls. A message is about
one audience, one direction and one partition, and never has more users or bytes than its bounds allow.
Format: https://amplitude.com/docs/data/destination-catalog/amazon-kinesis-cohort
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import compress, pairwise
from typing import Any, ClassVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn
from airflow_kinesis_audience.core.model.arrow_values import binary, integer, integers, texts
from airflow_kinesis_audience.core.model.audience import Action, Changes, UpdatedPart
from airflow_kinesis_audience.core.model.instants import epoch_seconds
from airflow_kinesis_audience.core.model.messages import (
    Direction,
    Envelope,
    Lifecycle,
    Message,
    Notice,
    Oversized,
    digest_of,
)
from airflow_kinesis_audience.core.model.partitioning import digits_of, partition_number, partition_of
from airflow_kinesis_audience.core.model.renderer import Mapped, Renderer, RendererTraits
from airflow_kinesis_audience.formats.json_values import encode, find_differing, render_array, require_texts
from airflow_kinesis_audience.formats.option_names import check_mapped

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
        return _Users(self._fragments.take(integers(rows)))

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
        whole = [_USER, self._ids, *pieces, b""]
        typed = (binary(p) if isinstance(p, bytes) else p for p in whole)
        return _Users(pc.binary_join_element_wise(*typed))


@dataclass(frozen=True, kw_only=True)
class AmplitudeCohort(Renderer):
    """Render changes as Amplitude's cohort messages.

    :param max_users: limit of users in a message; the vendor does not publish its own limit.
    :param user_properties: none, all mapped properties, or a list of those to send. An update is sent only if it
        changes a property that is sent. Exits have user ids only.
    :raises ValueError: if an option is invalid; a retry does not help.
    """

    version: ClassVar[int] = 1
    traits: ClassVar[RendererTraits] = RendererTraits(version=version, renders_notices=True)

    max_users: int = 1000
    user_properties: bool | Sequence[str] = False

    def __post_init__(self) -> None:
        if type(self.max_users) is not int or self.max_users < 1:
            raise ValueError(f"max_users is {self.max_users!r}; expected a whole number of 1 or more")
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
        names = self._names(changes.new_properties)
        if not len(changes):
            return
        users = _RenderedUsers(changes, names)
        for run in _find_runs(changes, envelope.partitions):
            rows: Sequence[int] = run.rows
            if run.action is Action.UPDATED:
                rows = self._find_shown(changes, run.rows, names)
            if rows:
                rendered = users.exiting if run.direction is Direction.EXIT else users.entering
                yield from self._render_run(changes, envelope, rendered, run, rows)

    def render_notice(self, notice: Notice, envelope: Envelope) -> Message:
        """Render what happens to a whole cohort: a message that moves no user, with a key of its own.

        The vendor has no such message. A consumer that does not know the key reads a batch of no users.
        """
        partition, hash_key = partition_of(notice.audience_id, "000", envelope.partitions)
        event = {"event": notice.kind.value}
        counts = {} if notice.kind is Lifecycle.DELETED else {"members": notice.members, "exits": notice.exits}
        document = {
            "cohort_name": notice.audience_name,
            "cohort_id": notice.audience_id,
            "in_cohort": notice.kind is not Lifecycle.DELETED,
            "computed_time": epoch_seconds(notice.time),
            "message_id": f"{envelope.batch_id}::{notice.kind}::{notice.number}",
            "users": [],
            "lifecycle": event | counts,
        }
        return Message(encode(document), partition, hash_key, 0)

    def check_options(self, mapped: Mapped) -> None:
        """Check that the properties which are to be sent are mapped."""
        self._names(mapped.properties)

    def _names(self, mapped: Collection[str]) -> Sequence[str]:
        if isinstance(self.user_properties, bool):
            # Sorted, so that the bytes don't depend on the order in which a mapping was written down.
            names = sorted(mapped) if self.user_properties else []
            _check_count(names)
            return names
        check_mapped("user_properties", self.user_properties, mapped)
        return self.user_properties

    def _find_shown(self, changes: Changes, rows: range, names: Sequence[str]) -> Sequence[int]:
        """Return the updates that differ in what is sent; this format has no message for the others."""
        asked = _find_rows(changes.updated, rows, (UpdatedPart.PROPERTIES, UpdatedPart.BOTH)) if names else []
        if self.user_properties is True or not asked:
            return asked

        sides = (changes.new_properties, changes.old_properties)
        differing = (
            find_differing(f"property {n}", *(_take_rows(side[n], asked) for side in sides)) for n in names
        )
        differs = reduce(pc.or_, differing)
        return list(compress(asked, differs.to_pylist()))

    def _render_run(
        self, changes: Changes, envelope: Envelope, users: _Users, run: _Run, rows: Sequence[int]
    ) -> Iterator[Message | Oversized]:
        partition, hash_key = partition_of(
            run.audience_id, _value_at(changes.bucket, rows[0]), envelope.partitions
        )
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
            "list the properties to send"
        )


def _find_runs(changes: Changes, partitions: int) -> Iterator[_Run]:
    """Find the rows, side by side, that may share a message."""
    if not len(changes):
        return
    starts = {0, *_find_breaks(_array(changes.audience_id)), *_find_breaks(_array(changes.action))}
    number = None
    digits = pc.utf8_slice_codeunits(_array(changes.bucket), 0, digits_of(partitions))
    for row in (0, *_find_breaks(digits)):
        before, number = number, partition_number(_value_at(changes.bucket, row), partitions)
        if number != before:
            starts.add(row)
    for start, stop in pairwise((*sorted(starts), len(changes))):
        action = Action(_value_at(changes.action, start))
        yield _Run(_value_at(changes.audience_id, start), action, range(start, stop))


def _array(column: Sequence[Any]) -> pa.Array:
    """Give a column as Arrow: as it was read, or as an author's own format has made it."""
    return column.array if isinstance(column, ArrowColumn) else pa.array(column)


def _find_breaks(array: pa.Array) -> list[int]:
    """Find the rows whose value is not that of the row before."""
    ends: list[int] = pc.run_end_encode(array).run_ends.to_pylist()
    return ends[:-1]


def _find_rows(column: Sequence[Any], rows: range, values: Collection[str]) -> list[int]:
    """Find, among rows side by side, those that have one of the values."""
    has = pc.is_in(_array(column).slice(rows.start, len(rows)), value_set=texts(values))
    found: list[int] = pc.add(pc.indices_nonzero(has).cast(pa.int64()), integer(rows.start)).to_pylist()
    return found


def _take_rows(column: Sequence[Any], rows: Sequence[int]) -> ArrowColumn:
    return ArrowColumn(_array(column).take(integers(rows)))


def _value_at(column: Sequence[Any], row: int) -> Any:
    """Give one value, without making all of them."""
    return _array(column)[row].as_py()


def _head(changes: Changes, envelope: Envelope, run: _Run, first_row: int) -> bytes:
    document = {
        "cohort_name": changes.audience_names[run.audience_id],
        "cohort_id": run.audience_id,
        "in_cohort": run.direction is Direction.ENTER,
        "computed_time": epoch_seconds(changes.as_of),
        "message_id": f"{envelope.batch_id}::{run.direction}::{_value_at(changes.position, first_row)}",
    }
    return encode(document)[: -len(b"}")] + _USERS
