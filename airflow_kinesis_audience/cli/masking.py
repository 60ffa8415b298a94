"""What is shown of a user where nobody asked for more: a short digest of the id, and the names of values.

And how a text of somebody else is shown on a terminal, whose cursor and colours it must not move.

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


def one_line(text: str) -> str:
    """Give a text as a line of a terminal: what moves the cursor, or the order of reading, is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def list_users(user_ids: Iterable[str], *, show: bool, most: int) -> str:
    """List users, masked unless they are to be shown, the first ``most`` of them."""
    listed = list(user_ids)
    shown = ", ".join(user_id if show else mask(user_id) for user_id in listed[:most])
    return f"{shown}, and {len(listed) - most:,} more" if len(listed) > most else shown
