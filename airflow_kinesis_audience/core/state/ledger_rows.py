"""The rows of a ledger as they are kept, and those of a fold: its text in pieces, under numbers of its own."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from airflow_kinesis_audience.core.model.instants import instant_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLD_LOG = "folded"
"""The log of a sync's folds, which no delivery has."""

_PIECE_CHARACTERS, _FOLD_ROWS = 48_000, 1_000
"""A fold is kept in pieces, as an engine's texts may be bounded, under so many numbers of its own."""

FOLDS_READ = 2 * _FOLD_ROWS
"""The newest fold may be cut off; then the one before is complete."""


class Row(NamedTuple):
    """A row of the ledger as it is kept: texts, but for its number."""

    sync_id: str
    log: str
    sequence: int
    event: str
    as_of: str
    detail: str
    recorded_at: str
    token: str


class Fold(NamedTuple):
    """The newest fold of a sync.

    :ivar text: what was written, or nothing if there is none that is complete.
    :ivar rows: rows that were read with it, of each log those after a number; none if none were.
    :ivar after: log to that number; 0 for a log that is not in it.
    """

    text: str
    rows: list[Row] | None = None
    after: Mapping[str, int] = {}


def fold_rows(sync_id: str, text: str, *, number: int) -> list[Row]:
    """Make the rows of a fold, the ``number``-th of a sync."""
    pieces = [text[at : at + _PIECE_CHARACTERS] for at in range(0, len(text), _PIECE_CHARACTERS)]
    now, token = datetime.now(UTC), uuid.uuid4().hex
    return [
        Row(
            sync_id=sync_id,
            log=FOLD_LOG,
            sequence=number * _FOLD_ROWS + piece,
            event=FOLD_LOG,
            as_of=instant_text(now),
            detail=json.dumps({"of": len(pieces), "text": content}),
            recorded_at=now.isoformat(timespec="milliseconds"),
            token=token,
        )
        for piece, content in enumerate(pieces)
    ]


def newest_fold(rows: Iterable[Row]) -> tuple[int, str]:
    """Give the number of the newest fold, and the text of the newest that is complete; nothing if none is."""
    folds: dict[tuple[int, str], dict[int, str]] = {}
    for row in rows:
        number, piece = divmod(int(row.sequence), _FOLD_ROWS)
        folds.setdefault((number, row.token), {})[piece] = row.detail
    newest = max((number for number, _ in folds), default=0)
    for _, pieces in sorted(folds.items(), reverse=True):
        found = [json.loads(detail) for _, detail in sorted(pieces.items())]
        if len(found) == found[0]["of"]:
            return newest, "".join(piece["text"] for piece in found)
    return newest, ""
