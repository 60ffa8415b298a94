"""The other side of the stream: who is in which audience, from messages in any order, with duplicates.

A reference for teams that read the stream, and the judge of this project's own promise to converge. Pure
standard library: it never touches a stream, a clock or a disk. The invariant: the state is a function of the set
of messages applied, never of their order or number.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_EPOCH_SECONDS = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a message says of one user of one audience at one time.

    :param time: what to order by; comparable among all messages of a format, here Unix epoch seconds.
    :param properties: the user's properties as of that time, empty where the message tells none.
    """

    audience_id: str
    user_id: str
    time: int
    member: bool
    properties: Mapping[str, Any] = field(default_factory=dict)

    def beats(self, other: Statement) -> bool:
        """Tell whether this statement stands against another about the same user and audience.

        The newer one does. Between two of one time the choice is arbitrary but must not depend on which came
        first: coming beats going, because a format may tell a replacement as both.
        """
        if self.time != other.time:
            return self.time > other.time
        return self._rank() > other._rank()

    def _rank(self) -> tuple[bool, str]:
        return self.member, json.dumps(self.properties, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a message says of a whole audience.

    :param event: ``resync_begin``, ``resync_complete`` or ``deleted``.
    :param members: entries that the resync tells, and ``exits`` likewise.
    """

    audience_id: str
    time: int
    event: str
    members: int = 0
    exits: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """A message, read: its id, and all that it states.

    The part of the id before ``::`` is shared by all messages of one change set, or of one resync.
    """

    message_id: str
    statements: Sequence[Statement]
    notice: Notice | None = None

    @property
    def job(self) -> str:
        """What all messages that were sent together have in common."""
        return self.message_id.partition("::")[0]


@dataclass(frozen=True, slots=True)
class Resync:
    """How far a resync of one audience has arrived.

    :param members: entries that it tells in all, and ``exits`` likewise.
    :param arrived_members: entries of it that have arrived, and ``arrived_exits`` likewise.
    :param ended: whether its last message is there, which the sender puts when all else is acknowledged.
    """

    audience_id: str
    time: int
    members: int
    exits: int
    arrived_members: int
    arrived_exits: int
    ended: bool

    @property
    def complete(self) -> bool:
        """Tell whether everything that was told has arrived."""
        arrived = (self.arrived_members, self.arrived_exits)
        return self.ended and arrived == (self.members, self.exits)


class AudienceConsumer:
    """Keep the membership that a stream's messages tell, whatever their order.

    Two rules: a message id that was seen is dropped, and per user and audience the newest time wins. The second
    alone is enough, since applying a message twice changes nothing; so a consumer that keeps its state on disk

    - may forget message ids whenever it likes: they only save work;
    - may forget an exit (its time is kept, so that an older entry that arrives late does not bring the user
      back) once it is older than the stream's retention plus the longest time that a sender goes on retrying:
      no older message can arrive then. A replay of an archive needs it still;
    - must not forget the time of an entry while the user is a member.

    Not safe for several threads at once. Consumers that share the work must share it by partition key.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._stated: dict[str, dict[str, Statement]] = {}
        self._deleted: dict[str, int] = {}
        self._arrived: Counter[tuple[str, str, bool]] = Counter()
        self._notices: dict[tuple[str, str], dict[str, Notice]] = {}

    def apply(self, message: bytes | str | Mapping[str, Any]) -> bool:
        """Apply a message as a whole, or not at all.

        :param message: the record's bytes, their text, or the JSON object read already.
        :returns: false if its id was seen before, and nothing was done.
        :raises ValueError: if it is no message of a known format; a retry does not help.
        """
        reading = read_message(message)
        if reading.message_id in self._seen:
            return False
        self._seen.add(reading.message_id)
        for statement in reading.statements:
            users = self._stated.setdefault(statement.audience_id, {})
            known = users.get(statement.user_id)
            if known is None or statement.beats(known):
                users[statement.user_id] = statement
            self._arrived[reading.job, statement.audience_id, statement.member] += 1
        if reading.notice is not None:
            self._apply_notice(reading.job, reading.notice)
        return True

    def _apply_notice(self, job: str, notice: Notice) -> None:
        if notice.event == "deleted":
            self._deleted[notice.audience_id] = max(
                notice.time, self._deleted.get(notice.audience_id, notice.time)
            )
        else:
            self._notices.setdefault((job, notice.audience_id), {})[notice.event] = notice

    def audiences(self) -> frozenset[str]:
        """Return the ids of all audiences that were spoken of, also of those that everybody has left."""
        return frozenset(self._stated)

    def members(self, audience_id: str) -> frozenset[str]:
        """Return the user ids of an audience's members; none for an audience that was never spoken of."""
        users = self._stated.get(audience_id, {})
        return frozenset(user_id for user_id, statement in users.items() if self._stands(statement))

    def properties(self, audience_id: str, user_id: str) -> Mapping[str, Any]:
        """Return a member's properties as last told; empty if none were told or the user is no member."""
        statement = self._stated.get(audience_id, {}).get(user_id)
        return dict(statement.properties) if statement and self._stands(statement) else {}

    def resyncs(self) -> list[Resync]:
        """List the resyncs of which a first or a last message has arrived, oldest first."""
        found = []
        for (job, audience_id), notices in self._notices.items():
            told = next(iter(notices.values()))
            found.append(
                Resync(
                    audience_id=audience_id,
                    time=told.time,
                    members=told.members,
                    exits=told.exits,
                    arrived_members=self._arrived[job, audience_id, True],
                    arrived_exits=self._arrived[job, audience_id, False],
                    ended="resync_complete" in notices,
                )
            )
        return sorted(found, key=lambda r: (r.time, r.audience_id))

    def _stands(self, statement: Statement) -> bool:
        """Tell whether a user is a member by a statement: what was said until an audience was deleted is void."""
        deleted = self._deleted.get(statement.audience_id)
        return statement.member and (deleted is None or statement.time > deleted)


def read_message(message: bytes | str | Mapping[str, Any]) -> Reading:
    """Read a message of any known format.

    :raises ValueError: if it is none, saying what is wrong but nothing of its content.
    """
    if not isinstance(message, Mapping):
        try:
            message = json.loads(message)
        except (ValueError, RecursionError):  # the cause is dropped: it carries the whole document
            raise ValueError("the message is not JSON in UTF-8; expected one JSON object") from None
        if not isinstance(message, Mapping):
            raise ValueError(f"the message is a JSON {type(message).__name__}; expected one JSON object")
    for mark, read in READERS.items():
        if mark in message:
            return read(message)
    raise ValueError(f"the message is of no known format; expected one of the keys {', '.join(READERS)}")


def read_amplitude_cohort(message: Mapping[str, Any]) -> Reading:
    """Read a message of the format ``amplitude_cohort``.

    :raises ValueError: if a key is missing or of another type.
    """
    audience_id = _expect(message, "cohort_id", str)
    member = _expect(message, "in_cohort", bool)
    time = _expect(message, "computed_time", str)
    if not _EPOCH_SECONDS.fullmatch(time):
        raise ValueError("computed_time is not a string of Unix epoch seconds")
    statements = []
    for user in _expect(message, "users", list):
        if not isinstance(user, Mapping):
            raise ValueError(f"users holds a {type(user).__name__}; expected objects")
        properties = dict(_expect(user, "user_properties", Mapping)) if "user_properties" in user else {}
        user_id = _expect(user, "user_id", str)
        statements.append(Statement(audience_id, user_id, int(time), member, properties))
    notice = None
    if "lifecycle" in message:
        told = _expect(message, "lifecycle", Mapping)
        counts = [told.get(n, 0) for n in ("members", "exits")]
        if not all(isinstance(count, int) for count in counts):
            raise ValueError("lifecycle has members or exits that are no numbers")
        notice = Notice(audience_id, int(time), _expect(told, "event", str), *counts)
    return Reading(_expect(message, "message_id", str), statements, notice)


READERS: Mapping[str, Callable[[Mapping[str, Any]], Reading]] = {
    "cohort_id": read_amplitude_cohort,
}
"""A key that only one format's messages have, to that format's reader."""


def _expect(found: Mapping[str, Any], key: str, kind: type) -> Any:
    if key not in found:
        raise ValueError(f"the message lacks {key}; expected a {kind.__name__}")
    if not isinstance(found[key], kind):
        raise ValueError(f"{key} is a {type(found[key]).__name__}; expected a {kind.__name__}")
    return found[key]
