"""What is shown of a user where nobody asked for more: a short digest of the id, and the names of values.

The same id has the same digest everywhere, so that a person who knows an id can look for it. It is a pseudonym and
no anonymity: whoever has the ids can compute the digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_SHOWN_DIGITS = 10


def mask(user_id: str) -> str:
    """Give the digest that stands for a user id: ``u:`` and the first ten digits of its SHA-256."""
    return f"u:{hashlib.sha256(user_id.encode()).hexdigest()[:_SHOWN_DIGITS]}"


def list_users(user_ids: Iterable[str], *, show: bool, most: int) -> str:
    """List users, masked unless they are to be shown, the first ``most`` of them."""
    listed = list(user_ids)
    shown = ", ".join(user_id if show else mask(user_id) for user_id in listed[:most])
    return f"{shown}, and {len(listed) - most:,} more" if len(listed) > most else shown
