"""Keeps the members of each audience, from messages in any order, with duplicates.

A reference for teams that read the stream; this project's own tests check with it that a delivery converges. It
and ``messages.py`` need Python's standard library alone and never touch a stream, a clock or a disk. The
invariant: the state is a function of the set of messages that were applied, never of their order or number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_kinesis_audience.consumer.messages import (
    READERS,
    AudienceNotice,
    MessageReader,
    Statement,
    read_message,
)


@dataclass(frozen=True, slots=True)
class Resync:
    """The progress of a resync of one audience.

    :param members: entries that it sends in all, and ``exits`` likewise.
    :param arrived_members: entries of it that have arrived, and ``arrived_exits`` likewise.
    :param ended: whether its last message has arrived, which the sender puts after everything else is
        acknowledged.
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
        """Whether everything that was sent has arrived."""
        arrived = (self.arrived_members, self.arrived_exits)
        return self.ended and arrived == (self.members, self.exits)


class AudienceConsumer:
    """Keep the membership of a stream's messages, in any order.

    Two rules: a message id that was seen is dropped, and per user and audience the newest time wins. The second
    alone is enough, since applying a message twice changes nothing; so a consumer that keeps its state on disk

    - can forget message ids at any time: they only save work;
    - can forget an exit (its time is kept, so that an older entry that arrives late does not bring the user
      back) once it is older than the stream's retention plus the longest time that a sender retries:
      after that, no older message can arrive. A replay of an archive still needs it;
    - must not forget the time of an entry while the user is a member.

    It is not safe for several threads. Consumers that share the work must divide it by partition key.

    :param readers: how messages are read, by a key that only one format's messages have.
    """

    def __init__(self, *, readers: Mapping[str, MessageReader] | None = None) -> None:
        self._readers = READERS if readers is None else readers
        self._seen: set[str] = set()
        self._stated: dict[str, dict[str, Statement]] = {}
        self._replaced_at: dict[str, int] = {}
        self._deleted: dict[str, int] = {}
        self._arrived: Counter[tuple[str, str, bool]] = Counter()
        self._notices: dict[tuple[str, str], dict[str, AudienceNotice]] = {}

    def apply(self, message: bytes | str | Mapping[str, Any]) -> bool:
        """Apply a message as a whole, or not at all.

        :param message: the record's bytes, their text, or the JSON object read already.
        :returns: false if its id was seen before, so that nothing was done.
        :raises ValueError: if the message has an unknown format; a retry does not help.
        """
        reading = read_message(message, readers=self._readers)
        if reading.message_id in self._seen:
            return False
        self._seen.add(reading.message_id)
        for statement in reading.statements:
            users = self._stated.setdefault(statement.audience_id, {})
            known = users.get(statement.user_id)
            if known is None or statement.beats(known):
                users[statement.user_id] = statement
            self._arrived[reading.batch_id, statement.audience_id, statement.member] += 1
        if reading.whole is not None:
            user_id, time = reading.whole
            self._replaced_at[user_id] = max(time, self._replaced_at.get(user_id, time))
        if reading.notice is not None:
            self._apply_notice(reading.batch_id, reading.notice)
        return True

    def _apply_notice(self, batch_id: str, notice: AudienceNotice) -> None:
        if notice.event == "deleted":
            self._deleted[notice.audience_id] = max(
                notice.time, self._deleted.get(notice.audience_id, notice.time)
            )
        else:
            self._notices.setdefault((batch_id, notice.audience_id), {})[notice.event] = notice

    def audiences(self) -> frozenset[str]:
        """Return the ids of all audiences that had a message, also of those without members."""
        return frozenset(self._stated)

    def members(self, audience_id: str) -> frozenset[str]:
        """Return the user ids of an audience's members; none for an audience without a message."""
        users = self._stated.get(audience_id, {})
        return frozenset(user_id for user_id, statement in users.items() if self._stands(statement))

    def properties(self, audience_id: str, user_id: str) -> Mapping[str, Any]:
        """Return a member's properties as last sent; empty if none were sent or the user is not a member."""
        statement = self._stated.get(audience_id, {}).get(user_id)
        return dict(statement.properties) if statement and self._stands(statement) else {}

    def identities(self, audience_id: str, user_id: str) -> Mapping[str, Any]:
        """Return a member's identities as last sent; empty if none were sent or the user is not a member."""
        statement = self._stated.get(audience_id, {}).get(user_id)
        return dict(statement.identities) if statement and self._stands(statement) else {}

    def resyncs(self) -> list[Resync]:
        """List the resyncs with a first or a last message that has arrived, oldest first."""
        found = []
        for (batch_id, audience_id), notices in self._notices.items():
            notice = next(iter(notices.values()))
            found.append(
                Resync(
                    audience_id=audience_id,
                    time=notice.time,
                    members=notice.members,
                    exits=notice.exits,
                    arrived_members=self._arrived[batch_id, audience_id, True],
                    arrived_exits=self._arrived[batch_id, audience_id, False],
                    ended="resync_complete" in notices,
                )
            )
        return sorted(found, key=lambda r: (r.time, r.audience_id))

    def _stands(self, statement: Statement) -> bool:
        """Decide whether a user is a member by a statement.

        A statement is void if the audience was deleted at its time or later, or if a later message stated
        everything about the user.
        """
        deleted = self._deleted.get(statement.audience_id)
        newest = statement.time >= self._replaced_at.get(statement.user_id, statement.time)
        return statement.member and newest and (deleted is None or statement.time > deleted)
