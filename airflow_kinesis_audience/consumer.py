"""The other side of the stream: who is in which audience, from messages in any order, with duplicates.

A reference for teams that read the stream, and the judge of this project's own promise to converge. Pure
standard library: it never touches a stream, a clock or a disk. The invariant: the state is a function of the set
of messages applied, never of their order or number.
"""

from __future__ import annotations

import json
import re
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
class Reading:
    """A message, read: its id, and all that it states."""

    message_id: str
    statements: Sequence[Statement]


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
        return True

    def audiences(self) -> frozenset[str]:
        """Return the ids of all audiences that were spoken of, also of those that everybody has left."""
        return frozenset(self._stated)

    def members(self, audience_id: str) -> frozenset[str]:
        """Return the user ids of an audience's members; none for an audience that was never spoken of."""
        users = self._stated.get(audience_id, {})
        return frozenset(user_id for user_id, statement in users.items() if statement.member)

    def properties(self, audience_id: str, user_id: str) -> Mapping[str, Any]:
        """Return a member's properties as last told; empty if none were told or the user is no member."""
        statement = self._stated.get(audience_id, {}).get(user_id)
        return dict(statement.properties) if statement and statement.member else {}


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
    return Reading(_expect(message, "message_id", str), statements)


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
