"""The rows of changes on their way through an author's function: to a frame, back, and what is let through.

Pure; nothing here calls the function. The invariant: rows stay in the order of the change set.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn
from airflow_kinesis_audience.core.model.arrow_values import integers
from airflow_kinesis_audience.core.model.audience import Action, Changes
from airflow_kinesis_audience.core.model.profiles import Profiles

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pandas as pd


def rows_now(changes: Changes | Profiles) -> Sequence[int]:
    """List the rows that have values now."""
    if isinstance(changes, Profiles):
        return range(len(changes))
    return [row for row, action in enumerate(changes.action) if action != Action.EXITED]


def rows_before(changes: Changes | Profiles) -> Sequence[int]:
    """List the rows that had values before."""
    if isinstance(changes, Profiles):
        return [row for row, known in enumerate(changes.known) if known]
    return [row for row, action in enumerate(changes.action) if action != Action.ENTERED]


def take_frame_column(column: Sequence[Any], rows: Sequence[int]) -> pd.Series[Any]:
    """Give the values of some rows, with Arrow's types: one type per column, and NULL is no NaN."""
    import pandas as pd

    array = column.array if isinstance(column, ArrowColumn) else pa.array(column)
    taken = array.take(integers(rows))
    return pd.Series(pd.arrays.ArrowExtensionArray(taken))


def scatter(made: pa.Array | None, rows: Sequence[int], length: int) -> ArrowColumn:
    """Put the values of some rows where they belong, and nothing in the others."""
    if made is None:
        return ArrowColumn(pa.nulls(length, pa.string()))
    place: list[int | None] = [None] * length
    for at, row in enumerate(rows):
        place[row] = at
    return ArrowColumn(made.take(pa.array(place, pa.int64())))


def has_naive(values: pd.Series[Any]) -> bool:
    """Whether some of the times have no zone: Arrow takes them for UTC if others in the column have one."""
    return values.dtype == object and any(isinstance(v, datetime) and v.utcoffset() is None for v in values)


def let_through(changes: Changes, now: Collection[int], before: Collection[int]) -> Changes:
    """Give what is left of changes of which some rows are let through as they are, or as they were."""
    became = [_became(row in now, row in before) for row in range(len(changes))]
    if became == list(changes.action):
        return changes
    updated = [u if action == Action.UPDATED else None for action, u in zip(became, changes.updated, strict=True)]
    renewed = replace(changes, action=became, updated=updated)
    return take_rows(renewed, [row for row, action in enumerate(became) if action])


def _became(now: bool, before: bool) -> str:
    """Say what a change is, by whether its member is let through as it is and as it was; empty if it is none."""
    if now:
        return (Action.UPDATED if before else Action.ENTERED).value
    return Action.EXITED.value if before else ""


def take_rows(changes: Changes, rows: Sequence[int]) -> Changes:
    """Give some rows of changes."""

    def taken(column: Sequence[Any]) -> Sequence[Any]:
        if isinstance(column, ArrowColumn):
            return ArrowColumn(column.array.take(integers(rows)))
        return [column[row] for row in rows]

    of_rows = ("position", "audience_id", "user_id", "action", "updated", "bucket", "member_since")
    of_values = ("new_identities", "old_identities", "new_properties", "old_properties")
    values: dict[str, Any] = {n: {k: taken(c) for k, c in getattr(changes, n).items()} for n in of_values}
    found: dict[str, Any] = {n: taken(getattr(changes, n)) for n in of_rows}
    return replace(changes, **found, **values)
