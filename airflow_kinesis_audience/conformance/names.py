"""Ids and values of a history: new ones for each run of it, so that a consumer need not be emptied in between.

User ids are such as real ones are: they differ by case, by an accent or by leading zeros alone.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

PARTITIONS = 4
_IDS = uuid.UUID("4be3b6d5-5f0a-5c0e-9d3b-5a3c2f3b7c11")
_USERS = ("anna-{}", "Anna-{}", "änna-{}", "7{}", "007{}", "o'neil {}")
_PLANS = ("free", "silver", "gold")


@dataclass(frozen=True, slots=True)
class Names:
    """The ids of one run of a history.

    :param run: digits that no other run has.
    """

    run: int

    def audience_id(self, number: int) -> str:
        """Return an audience's id, which is a number, as mParticle's are."""
        return f"{self.run}{number}"

    def audience_name(self, number: int) -> str:
        """Return an audience's name."""
        return f"Audience {number}"

    def user_id(self, number: int) -> str:
        """Return a user's id."""
        return _USERS[number].format(self.run)

    def batch_id(self, step: int) -> str:
        """Return what the ids of all messages of a step begin with."""
        return str(self.uuid(f"step {step}"))

    def uuid(self, of: str) -> uuid.UUID:
        """Derive a UUID of something of this run."""
        return uuid.uuid5(_IDS, f"{self.run}/{of}")

    def email(self, user: int, version: int) -> str:
        """Return a user's address, which is another one in every second version."""
        return f"{self.user_id(user).replace(' ', '.')}.{version // 2}@example.com"


def properties_of(version: int) -> dict[str, Any]:
    """Return the properties of a version."""
    return {"plan": _PLANS[version % len(_PLANS)], "visits": version}


def partition_of(user: int) -> int:
    """Return the partition of a user, which does not depend on the run."""
    return hashlib.sha256(str(user).encode()).digest()[0] % PARTITIONS
