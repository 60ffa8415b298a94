"""What a format gets and what it gives: the envelope, messages, notices, and what is too large for a message.

Nothing here sends, waits or looks at a clock. The invariant: ids are derived and never random, and :func:`pack` is
the one rule by which anything is grouped under a bound, so the same changes give the same bytes on every attempt.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

T = TypeVar("T")

_IDS = uuid.UUID("6f5f1d43-6c0e-5d2b-9d62-5a2f3c3b7c11")


class Direction(StrEnum):
    """Whether the users of a message enter or exit."""

    ENTER = "enter"
    EXIT = "exit"


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """What a format needs besides the changes.

    :param batch_id: first part of every message id of this change set to this destination.
    :param partitions: number of partitions per audience, a power of two up to 4,096.
    :param message_bytes: most bytes of a message's document.
    """

    batch_id: uuid.UUID
    partitions: int
    message_bytes: int

    @property
    def job(self) -> uuid.UUID:
        """The former name of ``batch_id``, which authors' own formats may still read."""
        return self.batch_id


class Lifecycle(StrEnum):
    """What happens to a whole audience."""

    RESYNC_BEGIN = "resync_begin"
    """All that is true is about to be sent again."""
    RESYNC_COMPLETE = "resync_complete"
    """All of it was acknowledged by the destination before this was put."""
    DELETED = "deleted"
    """The audience is no more: all messages about it until then are void."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What one message about a whole audience is to hold.

    :param number: of the audience among those that get a notice, from 0.
    :param time: the instant that the message is as of.
    :param members: entries that the resync sends, and ``exits`` likewise: what a consumer checks its count by.
    """

    kind: Lifecycle
    number: int
    time: datetime
    audience_id: str
    audience_name: str
    members: int = 0
    exits: int = 0


class Message(NamedTuple):
    """One JSON document in a wire format.

    :param document: UTF-8 JSON on a single line, without a newline.
    :param partition: all messages about a user of an audience share one. See :func:`partition_of`.
    :param hash_key: where on the stream's hash ring the partition lies, 0 to 2^128 - 1.
    :param changes: how many changes of the change set it carries.
    :param ordering_key: messages of the change set that share one are put in order; empty means the partition. A
        message of a single change may have a key of that change alone. It is never sent.
    """

    document: bytes
    partition: str
    hash_key: int
    changes: int
    ordering_key: str = ""


def pack(parts: Iterable[T], *, size: Callable[[T], int], max_count: int, max_bytes: int) -> Iterator[list[T]]:
    """Group parts in their order, each group as full as both bounds allow.

    :param parts: what to group; read lazily.
    :param size: bytes that a part adds to its group.
    :param max_count: most parts in a group.
    :param max_bytes: most bytes in a group. A part that is larger than that makes a group of its own: its
        renderer decides what to do with it.
    """
    group: list[T] = []
    filled = 0
    for part in parts:
        added = size(part)
        if group and (len(group) >= max_count or filled + added > max_bytes):
            yield group
            group, filled = [], 0
        group.append(part)
        filled += added
    if group:
        yield group


def derive_batch_id(
    *, sync_id: str, previous_as_of: str, as_of: str, destination: str, render_config: str
) -> uuid.UUID:
    """Derive the id that all messages of one change set to one destination share.

    :param render_config: a text that covers the format, its version and its options.
    """
    return uuid.uuid5(_IDS, json.dumps([sync_id, previous_as_of, as_of, destination, render_config]))


_DIGEST_CHARACTERS = 12


class Oversized(NamedTuple):
    """What a format gives in the place of the messages about one row that do not fit into a record.

    :param position: of the row in what is sent.
    :param changes: how many changes of the change set the row is about.
    :param user: the user, by :func:`digest_of`.
    :param size: bytes of the largest of the messages.
    """

    position: int
    changes: int
    user: str
    size: int


def digest_of(user_id: str) -> str:
    """Name a user by the beginning of the SHA-256 of the id, in hexadecimal."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
