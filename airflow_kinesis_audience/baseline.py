"""What every run and every plan asks first: who belongs, and from which published membership to go on, if it may.

Nothing is computed or written here. Whatever is refused is refused before the source is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.exceptions import AudienceDeleted, SchemaChanged
from airflow_kinesis_audience.guards import NO_PERMISSION, Breach, deleted_before
from airflow_kinesis_audience.layout import (
    describe_differences,
    describe_key_differences,
    in_given_letters,
    layout_of,
)
from airflow_kinesis_audience.sql import check_query
from airflow_kinesis_audience.standing import find_attached

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.audience import Source
    from airflow_kinesis_audience.guards import AudienceCounts, Guards, Permission
    from airflow_kinesis_audience.layout import Layout
    from airflow_kinesis_audience.ledger import Ledger
    from airflow_kinesis_audience.sql import Warehouse
    from airflow_kinesis_audience.timeline import Edge, Timeline


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Who belongs, as the warehouse understands it.

    :param source: its columns named as the query gives them.
    :param types: column name to type name, of the query.
    :param elsewhere: whether the state is kept by another engine than the source.
    """

    source: Source
    query: str
    types: Mapping[str, str]
    layout: Layout
    elsewhere: bool

    def kept_types(self, layout: Layout) -> Mapping[str, str]:
        """Return the types that the columns have where the state is."""
        return layout.kept_types if self.elsewhere else self.types


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The published membership that a run goes on from.

    :param previous: its edge; none where nothing is published, or what was is deleted.
    :param asked: the layout that the mapping asks for.
    :param differences: from the layout of what is published, a sentence each.
    :param layout: the same, with what it no longer has and destinations were told.
    """

    previous: Edge | None
    asked: Layout
    differences: Sequence[str]
    layout: Layout


def ask(warehouse: Warehouse, source: Source) -> Asked:
    """Have the warehouse describe the source.

    :raises ValueError: if query or mapping cannot be used; no retry helps.
    """
    origin = warehouse.origin
    query = check_query(source.query, origin.dialect)
    types = origin.read_types(query)
    source = in_given_letters(source, types, origin.dialect)
    layout = layout_of(source, types, origin.dialect, kept_in=warehouse.dialect)
    return Asked(source=source, query=query, types=types, layout=layout, elsewhere=origin is not warehouse)


def find_baseline(
    ledger: Ledger, timeline: Timeline, asked: Asked, as_of: datetime, *, reuse_deleted: bool
) -> Baseline:
    """Find the membership that the run for an instant goes on from.

    :raises AudienceDeleted: if the sync was deleted, and may not begin anew.
    """
    previous, layout = None, asked.layout
    differences: list[str] = []
    if timeline.closed is not None:
        _check_reuse(ledger, timeline.closed, as_of, reuse_deleted=reuse_deleted)
    else:
        previous = next((e for e in reversed(timeline.edges) if e.as_of < as_of), None)
    if previous is not None and (differences := describe_differences(previous.layout, layout)):
        layout = layout.retiring(previous.layout, ledger.warehouse.dialect)
    return Baseline(previous=previous, asked=asked.layout, differences=differences, layout=layout)


def check_mapping(
    baseline: Baseline, guards: Guards, *, permission: Permission = NO_PERMISSION, hold: bool
) -> list[Breach]:
    """Find what of the mapping is another; whatever nobody lets through, or holds, is an error.

    :raises SchemaChanged: if the mapping is not the one of the published membership.
    """
    if baseline.previous is None:
        return []
    if differences := describe_key_differences(baseline.previous.layout, baseline.asked):
        raise SchemaChanged(
            "the key is not the one that the published membership was written with: "
            f"{'; '.join(differences)}. Everybody would exit and enter, so nothing was computed. Rename or "
            "cast the column in the query to what it was, or give the new key a sync_id of its own"
        )
    if not baseline.differences or guards.on_schema_change == "update":
        return []
    told = "; ".join(baseline.differences)
    breach = Breach(None, f"the mapping has changed: {told} (on_schema_change is fail)")
    if not hold and not permission.covers(breach):
        raise SchemaChanged(
            "the mapping is not the one that the published membership was written with: "
            f"{told}. Nothing was computed. Restore the mapping, or say "
            'on_schema_change="update" to tell destinations of the members whose values are others by it, or '
            "give the new mapping a sync_id of its own"
        )
    return [breach]


def check_audiences(
    ledger: Ledger, as_of: datetime, audiences: Sequence[AudienceCounts], *, reuse_deleted: bool
) -> None:
    """Refuse an audience that is new here under the id of one that was deleted."""
    if not (fresh := {a.audience_id for a in audiences if a.audience_id and a.members and not a.previous_members}):
        return
    deleted = ledger.read_closed_audiences()
    for audience_id in sorted(fresh & deleted.keys()):
        if not reuse_deleted or deleted[audience_id] >= as_of:
            raise deleted_before(f"audience {audience_id!r}", deleted[audience_id], as_of)


def _check_reuse(ledger: Ledger, closed: datetime, as_of: datetime, *, reuse_deleted: bool) -> None:
    """Refuse a sync that was deleted, unless it may begin anew and its end is told."""
    if not reuse_deleted or as_of <= closed:
        raise deleted_before(f"sync {ledger.sync_id!r}", closed, as_of)
    if untold := find_attached(ledger.read()):
        raise AudienceDeleted(
            f"sync {ledger.sync_id!r} was deleted, and not told so: {', '.join(untold)}; run the "
            "AudienceDeleteOperator of that destination first. Nothing was computed"
        )
