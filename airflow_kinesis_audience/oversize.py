"""Members that no record can hold: which rows of a change set they are, and what they are called.

A format says so in the place of the messages about them, and goes on. They are known by their positions in the
change set, which are the same on every attempt, and named by a digest: no user id is kept or told here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from airflow_kinesis_audience.exceptions import MessageTooLarge
from airflow_kinesis_audience.settled import Settled

MOST_OVERSIZED = 100_000
"""So many members of a change set may be too large; more are the mapping's fault and not theirs."""

_MOST_NAMED = 20
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


class Rejected:
    """The rows of what is sent that are too large, as far as they were found.

    :param positions: of the rows.
    :param users: names of some of the users, sorted.
    :param largest: bytes of the largest message.
    """

    def __init__(self, positions: Settled | None = None, *, users: Iterable[str] = (), largest: int = 0) -> None:
        self.positions = positions or Settled()
        self.users = sorted(set(users))[:_MOST_NAMED]
        self.largest = largest

    def __len__(self) -> int:
        return len(self.positions)

    def add(self, found: Oversized) -> None:
        """Keep one; once more changes nothing.

        :raises MessageTooLarge: if they are too many.
        """
        self.positions.add(found.position)
        self.users = sorted({*self.users, found.user})[:_MOST_NAMED]
        self.largest = max(self.largest, found.size)
        if len(self.positions) > MOST_OVERSIZED:
            raise MessageTooLarge(
                f"more than {MOST_OVERSIZED:,} members of one change set make messages larger than a record may "
                f"be, the largest {self.largest:,} bytes: send fewer properties or identities"
            )

    @property
    def name(self) -> dict[str, Any]:
        """What may be told of them: digests, and the bytes of the largest message."""
        return {"users": self.users, "largest": self.largest}

    def as_json(self) -> dict[str, Any]:
        """Render what a checkpoint keeps: numbers and digests."""
        return {"positions": self.positions.as_json(), **self.name}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Rejected:
        """Read what :meth:`as_json` rendered."""
        return cls(Settled.from_json(found["positions"]), users=found["users"], largest=found["largest"])

    @classmethod
    def together(cls, found: Iterable[Mapping[str, Any]]) -> Rejected:
        """Join the names of several."""
        names = list(found)
        return cls(
            users=[u for n in names for u in n.get("users", ())],
            largest=max((n.get("largest", 0) for n in names), default=0),
        )
