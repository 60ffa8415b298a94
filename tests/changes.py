"""Change sets for tests, written as rows.

Builds :class:`Changes` as a ledger would read them: sorted, numbered, in columns of one length. It never decides
what changed: a row says its action, unless :func:`compare` is asked to find it between two memberships.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa

from airflow_kinesis_audience.core.model.arrow_columns import ArrowColumn
from airflow_kinesis_audience.core.model.audience import Changes

AS_OF = datetime(2026, 1, 31, tzinfo=UTC)

Memberships = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Audience id to user id to properties."""


def bucket_of(user_id: str) -> str:
    """Return a user's place among 4,096."""
    return hashlib.md5(user_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:3]


@dataclass(frozen=True)
class Row:
    """One change; ``new`` and ``old`` are properties, a name that is missing is none."""

    audience_id: str
    action: str
    user_id: str
    new: Mapping[str, Any] = field(default_factory=dict)
    old: Mapping[str, Any] = field(default_factory=dict)
    updated: str | None = None
    new_identities: Mapping[str, str] = field(default_factory=dict)
    old_identities: Mapping[str, str] = field(default_factory=dict)
    member_since: datetime = AS_OF
    bucket: str | None = None

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What a change set is sorted by."""
        return self.audience_id, self.action, self.bucket or bucket_of(self.user_id), self.user_id


def column_of(values: Iterable[Any]) -> Sequence[Any]:
    """Give values as a column that was read; what no warehouse has in one column stays a list."""
    values = list(values)
    try:
        return ArrowColumn(pa.array(values))
    except (pa.ArrowException, TypeError, UnicodeError):
        return values


def build_changes(
    rows: Iterable[Row],
    *,
    as_of: datetime = AS_OF,
    previous_as_of: datetime | None = None,
    audience_names: Mapping[str, str] | None = None,
    properties: Sequence[str] | None = None,
) -> Changes:
    """Build a change set from rows in any order.

    :param audience_names: by default ``Audience`` and the id.
    :param properties: the mapped properties; by default all that a row names.
    """
    rows = sorted(rows, key=lambda row: row.place)
    named = {row.audience_id: f"Audience {row.audience_id}" for row in rows}
    if properties is None:
        properties = sorted({name for row in rows for name in (*row.new, *row.old)})
    identities = sorted({kind for row in rows for kind in (*row.new_identities, *row.old_identities)})
    return Changes(
        sync_id="demo.diff",
        as_of=as_of,
        previous_as_of=previous_as_of,
        position=column_of(range(len(rows))),
        audience_id=column_of(row.audience_id for row in rows),
        audience_names={**named, **(audience_names or {})},
        user_id=column_of(row.user_id for row in rows),
        action=column_of(row.action for row in rows),
        updated=column_of(row.updated for row in rows),
        bucket=column_of(row.place[2] for row in rows),
        member_since=column_of(row.member_since for row in rows),
        new_identities={kind: column_of(row.new_identities.get(kind) for row in rows) for kind in identities},
        old_identities={kind: column_of(row.old_identities.get(kind) for row in rows) for kind in identities},
        new_properties={name: column_of(row.new.get(name) for row in rows) for name in properties},
        old_properties={name: column_of(row.old.get(name) for row in rows) for name in properties},
    )


def compare(old: Memberships, new: Memberships) -> Iterator[Row]:
    """Find the changes between two memberships, the slow and obvious way."""
    for audience_id in sorted({*old, *new}):
        before, after = old.get(audience_id, {}), new.get(audience_id, {})
        for user_id in sorted({*before, *after}):
            was, is_ = before.get(user_id), after.get(user_id)
            if was is None and is_ is not None:
                yield Row(audience_id, "entered", user_id, new=is_)
            elif was is not None and is_ is None:
                yield Row(audience_id, "exited", user_id, old=was)
            elif was is not None and is_ is not None and was != is_:
                yield Row(audience_id, "updated", user_id, new=is_, old=was, updated="properties")


def cut(changes: Changes, *ends: int) -> list[Changes]:
    """Cut a change set into slices that end before the given rows."""
    bounds = [0, *sorted(ends), len(changes)]
    return [_take(changes, slice(a, b)) for a, b in pairwise(bounds) if a < b]


def _take(changes: Changes, rows: slice) -> Changes:
    taken: dict[str, Any] = {}
    for column in (f.name for f in fields(changes)):
        value = getattr(changes, column)
        if column.startswith(("new_", "old_")):
            taken[column] = {name: _cut(values, rows) for name, values in value.items()}
        elif column not in ("sync_id", "as_of", "previous_as_of", "audience_names"):
            taken[column] = _cut(value, rows)
    return replace(changes, **taken)


def _cut(column: Sequence[Any], rows: slice) -> Sequence[Any]:
    if isinstance(column, ArrowColumn):
        return ArrowColumn(column.array[rows])
    return column[rows]
