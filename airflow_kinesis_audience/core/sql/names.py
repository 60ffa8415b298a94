"""How state tables, views and columns are named.

All are ours: ASCII in lower case, within every engine's bounds, and different from each other however an engine
folds letters. Tables and views are named after the sync and the instant, columns after what is sent under their
label; no name of the author's table is ever one of them. Pure: nothing here asks what is there already.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.model.instants import instant_text

if TYPE_CHECKING:
    from datetime import datetime


def view_name(sync_id: str) -> str:
    """Name the view over a sync's change sets."""
    return f"history_{slug(sync_id)}"


def delivered_view_name(sync_id: str) -> str:
    """Name the view over what was delivered of a sync."""
    return f"delivered_{slug(sync_id)}"


def table_name(what: str, sync_id: str, as_of: datetime, token: str) -> str:
    """Name a new state table after its sync and instant, in at most 60 bytes of ASCII.

    :param token: six characters that no other attempt has, so that none writes into another's table.
    """
    when = re.sub(r"[^0-9T]", "", instant_text(as_of)).replace("T", "_")
    return f"{what}_{slug(sync_id)}_{when}_{token}"


def slug(sync_id: str) -> str:
    """Shorten a sync's name to at most 28 ASCII characters that no other sync has."""
    return f"{_plain(sync_id)}_{hashlib.blake2b(sync_id.encode(), digest_size=4).hexdigest()}"


def long_slug(sync_id: str) -> str:
    """Shorten a sync's name likewise, with a digest that no two syncs share."""
    return f"{_plain(sync_id)}_{hashlib.blake2b(sync_id.encode(), digest_size=16).hexdigest()}"


def state_column(role: str, label: str) -> str:
    """Name what is kept of a column, in at most 36 bytes of ASCII that no other column has.

    The name is of what the values are sent as. So whoever reads a table in another layout than its own finds no
    such column, and never the values of another.
    """
    digest = hashlib.blake2b(f"{role} {label}".encode(), digest_size=8).hexdigest()
    return f"{_plain(str(label))}_{digest}"  # a label that is no text is refused where it is written down


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:19]
