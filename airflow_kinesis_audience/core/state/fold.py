"""A fold: what all rows of a sync add up to, kept as a text, so that a run reads only the rows after it.

The rows decide. A fold that is missing, cut off, or written by code of another shape counts for nothing: all rows
are read, and the next run that writes folds them again. Rows stay where they are, for whoever looks back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from airflow_kinesis_audience import __version__
from airflow_kinesis_audience.core.state.sync_state import SyncState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_audience.core.state.ledger_rows import Row

FOLD_BYTES = 50_000
"""So many bytes of rows since the last fold make the next one, or as many as that one has."""


def is_due(rows: Sequence[Row], last: str) -> bool:
    """Tell whether rows are to be folded.

    :param rows: since the last fold, and ``last`` that one.
    """
    return sum(len(str(value)) for row in rows for value in row) > max(FOLD_BYTES, len(last))


def fold_state(state: SyncState) -> str:
    """Write a state as a text, without what nobody asks for any more."""
    content = zlib.compress(msgspec.json.encode(state.without_what_is_gone()))
    return f"{_shape()} {base64.b64encode(content).decode()}"


def unfold_state(text: str) -> SyncState | None:
    """Read a state; none if the text is not whole, or was written by other code."""
    shape, _, content = text.partition(" ")
    if shape != _shape():
        return None
    try:
        return msgspec.json.decode(zlib.decompress(base64.b64decode(content, validate=True)), type=SyncState)
    except (ValueError, zlib.error):
        return None


@cache
def _shape() -> str:
    """Name the code by its version and by what a state is made of, so that no other takes a fold for its own."""
    schema = json.dumps(msgspec.json.schema(SyncState), sort_keys=True)
    return f"{__version__}-{hashlib.blake2b(schema.encode(), digest_size=8).hexdigest()}"
