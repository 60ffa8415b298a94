"""History as pandas frames with Arrow-backed columns: one type per column, and NULL is not NaN.

A frame is in memory as a whole. For too many members, use ``read_members``, which reads batches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_kinesis_audience.core.changes.replay import select_entries
from airflow_kinesis_audience.core.exceptions import HistoryGone
from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn
from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.core.readers.change_sets import change_set_of, read_slice
from airflow_kinesis_audience.core.readers.outline import read_audience_names
from airflow_kinesis_audience.history.members import all_members, find_membership
from airflow_kinesis_audience.hooks.warehouses.dbapi import as_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd
    from sqlglot import exp

    from airflow_kinesis_audience.core.model.audience import Changes
    from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
    from airflow_kinesis_audience.core.state.ledger import Ledger

_MEMBER = ("audience_id", "user_id", "member_since")
_CHANGE = ("audience_id", "user_id", "action", "updated", "member_since")


def members_frame(ledger: Ledger, at: datetime | str) -> pd.DataFrame:
    """Return the members of all audiences at an instant, with the values that were published.

    :param at: any instant; the newest membership at or before it counts.
    :returns: a row per member: ``audience_id``, ``user_id``, ``member_since`` (RFC 3339 in UTC), and a column for
        each identity and property, by its label. If an identity and a property have the same label, each name
        starts with its role: ``identity plan``. Numbers that JSON cannot represent exactly are text.
    :raises HistoryGone: if there was no membership, or it is no longer kept.
    """
    found = find_membership(ledger, instant(at))
    tables = ledger.state.timeline.tables(ledger.schema, found.as_of)
    members = _read_whole(ledger, all_members(ledger, found, tables), sent=select_entries(tables))
    return _frame(_columns(members, _MEMBER))


def changes_frame(ledger: Ledger, as_of: datetime | str) -> pd.DataFrame:
    """Return the changes that a run found.

    :param as_of: the ``as_of`` of a diff task's summary.
    :returns: a row per change: ``audience_id``, ``user_id``, ``action``, ``updated``, ``member_since``, and two
        columns for each identity and property: ``Email`` has the run's value, ``old Email`` the value that was
        published before. See :func:`members_frame`.
    :raises HistoryGone: if there is no such change set, or it is no longer kept.
    """
    timeline, as_of = ledger.read().timeline, instant(as_of)
    recorded = timeline.find(as_of)
    if recorded is None or recorded.dropped:
        why = "does not exist" if recorded is None else "is no longer kept"
        raise HistoryGone(f"the change set of sync {ledger.sync_id!r} as of {instant_text(as_of)} {why}")
    if recorded.previous_as_of is None:
        raise HistoryGone(
            f"the first run of sync {ledger.sync_id!r} was as of {instant_text(as_of)}, so there is no change "
            "set: all members entered. Read them with members_frame"
        )
    changes = _read_whole(ledger, change_set_of(ledger, timeline, recorded))
    return _frame(_columns(changes, _CHANGE, with_old=True))


def _read_whole(ledger: Ledger, change_set: ChangeSet, *, sent: exp.Query | None = None) -> Changes:
    """Read a change set as one slice."""
    whole = replace(change_set, slice_rows=max(1, change_set.rows))
    return read_slice(ledger.warehouse, whole, 0, read_audience_names(ledger.warehouse, whole), sent=sent)


def _columns(changes: Changes, keys: Sequence[str], *, with_old: bool = False) -> dict[str, Sequence[Any]]:
    """Name the columns of a frame."""
    found = {name: getattr(changes, name) for name in keys}
    shared = set(changes.new_identities) & set(changes.new_properties)
    for role, now, before in (
        ("identity", changes.new_identities, changes.old_identities),
        ("property", changes.new_properties, changes.old_properties),
    ):
        for label in now:
            name = f"{role} {label}" if label in {*shared, *keys} else label
            found[name] = now[label]
            if with_old:
                found[f"old {name}"] = before[label]
    return found


def _frame(columns: dict[str, Sequence[Any]]) -> pd.DataFrame:
    arrays = {n: c.array if isinstance(c, ArrowColumn) else pa.array(c) for n, c in columns.items()}
    return as_frame(pa.RecordBatch.from_pydict(arrays))
