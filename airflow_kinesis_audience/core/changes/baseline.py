"""What every run and every plan asks first: who belongs, and from which published membership to go on, if it may.

Nothing is computed or written here. Whatever is refused is refused before the source is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.guards import NO_PERMISSION, Breach
from airflow_kinesis_audience.core.exceptions import AudienceDeleted, SchemaChanged
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.source.exclusion import describe_exclusion
from airflow_kinesis_audience.core.source.flags import as_numbers, describe_numbers, numbers_as_before
from airflow_kinesis_audience.core.source.layout import describe_differences, describe_key_differences, layout_of
from airflow_kinesis_audience.core.source.query import describe_query
from airflow_kinesis_audience.core.sql.statements import column, render, table
from airflow_kinesis_audience.core.sql.types import DECIMAL, FILLED, LogicalType
from airflow_kinesis_audience.core.state.cursors import find_attached
from airflow_kinesis_audience.core.state.membership import select_membership

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.counts import AudienceCounts
    from airflow_kinesis_audience.core.changes.guards import Guards, Permission
    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.source.exclusion import Exclusion
    from airflow_kinesis_audience.core.source.layout import Column, TableLayout
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet


@dataclass(frozen=True, kw_only=True, slots=True)
class DescribedSource:
    """Who belongs, as the warehouse understands it.

    :param source: its columns named as the query gives them.
    :param types: column name to type name, of the query.
    :param elsewhere: whether the state is kept by another engine than the source.
    :param exclusion: who of them is in no audience; none if nobody is excluded.
    """

    source: Source
    query: str
    types: Mapping[str, str]
    layout: TableLayout
    elsewhere: bool
    exclusion: Exclusion | None = None

    @property
    def joins_rows(self) -> bool:
        """Whether what a row says depends on other rows, so that reading it costs more than the row."""
        return self.exclusion is not None or bool(self.source.exclusive_by)

    def kept_types(self, layout: TableLayout) -> Mapping[str, str]:
        """Return the types that the columns have where the state is."""
        return layout.kept_types if self.elsewhere else self.types


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The published membership that a run goes on from.

    :param previous: its change set; none where nothing is published, or what was is deleted.
    :param asked: the layout that the mapping asks for.
    :param differences: from the layout of what is published, a sentence each.
    :param layout: the same, with what it no longer has and destinations got.
    """

    previous: RecordedChangeSet | None
    asked: TableLayout
    differences: Sequence[str]
    layout: TableLayout


def describe_source(warehouse: Warehouse, source: Source, sync_id: str) -> DescribedSource:
    """Have the warehouse describe the source of a sync.

    :raises ValueError: if query or mapping cannot be used; no retry helps.
    :raises WarehouseRefused: if the warehouse cannot run the query; no retry helps.
    """
    origin = warehouse.origin
    source, query, types = describe_query(origin, source)
    if source.split is not None and not source.split.key:
        source = replace(source, split=replace(source.split, key=sync_id))
    layout = layout_of(source, types, origin.dialect)
    return DescribedSource(
        source=source,
        query=query,
        types=types,
        layout=layout,
        elsewhere=origin is not warehouse,
        exclusion=describe_exclusion(origin, source, types, layout, sync_id),
    )


def find_baseline(ledger: Ledger, described: DescribedSource, as_of: datetime, *, reuse_deleted: bool) -> Baseline:
    """Find the membership that the run for an instant goes on from, by what the ledger knows.

    :raises AudienceDeleted: if the sync was deleted, and may not begin anew.
    :raises SchemaChanged: if its ids are numbers that an earlier version wrote with zeros.
    """
    timeline, previous, layout = ledger.state.timeline, None, described.layout
    differences: list[str] = []
    if timeline.closed is not None:
        _check_reuse(ledger, timeline.closed, as_of, reuse_deleted=reuse_deleted)
    else:
        previous = next((e for e in reversed(timeline.change_sets) if e.as_of < as_of), None)
    if previous is not None:
        layout = numbers_as_before(layout, previous.layout)
        layout, differences = layout.named_as(previous.layout), describe_differences(previous.layout, layout)
        if differences:
            keeps_raw = described.source.on_identity_rule_change == "keep_old"
            layout = layout.retiring(previous.layout, keeps_raw=keeps_raw)
        _check_zeros(ledger, previous, described.layout)
    return Baseline(previous=previous, asked=described.layout, differences=differences, layout=layout)


def check_mapping(
    baseline: Baseline, guards: Guards, *, permission: Permission = NO_PERMISSION, hold: bool
) -> list[Breach]:
    """Find what of the mapping is another; whatever nobody lets through, or holds, is an error.

    :raises SchemaChanged: if the mapping is not the one of the published membership.
    """
    if baseline.previous is None:
        return []
    if of_key := describe_key_differences(baseline.previous.layout, baseline.asked):
        raise SchemaChanged(
            f"the key differs from the key of the published membership: {'; '.join(of_key)}. Every member would "
            "exit and enter again, so nothing was computed. Rename or cast the column in the query so that it has "
            "the published name and values, or set a new sync_id for the new key"
        )
    if not baseline.differences or guards.on_schema_change == "update":
        return []
    differences = "; ".join(baseline.differences)
    breach = Breach(None, f"the mapping has changed: {differences} (on_schema_change is fail)")
    if not hold and not permission.covers(breach):
        raise SchemaChanged(
            "the mapping differs from the mapping of the published membership: "
            f'{differences}. Nothing was computed. Restore the mapping, set on_schema_change="update" to send an '
            "update for every member whose values differ, or choose a new sync_id for the new mapping"
        )
    return [breach]


def settle_numbers(
    layout: TableLayout, numbers: Sequence[Column], previous: RecordedChangeSet | None
) -> TableLayout:
    """Take for numbers what was taken for booleans and has other numbers: of a first run, which has sent nothing.

    :raises SchemaChanged: if there was a run before.
    """
    if numbers and previous is not None:
        raise SchemaChanged(
            f"the mapping differs from the mapping of the published membership: {describe_numbers(numbers)}. With "
            'on_schema_change="update" the cast sends an update for every member that has the property'
        )
    return as_numbers(layout, numbers)


def check_audiences(
    ledger: Ledger, as_of: datetime, audiences: Sequence[AudienceCounts], *, reuse_deleted: bool
) -> None:
    """Refuse an audience that is new here under the id of one that was deleted."""
    if not (new := {a.audience_id for a in audiences if a.audience_id and a.members and not a.previous_members}):
        return
    deleted = ledger.read_closed_audiences()
    for audience_id in sorted(new & deleted.keys()):
        if not reuse_deleted or deleted[audience_id] >= as_of:
            raise deleted_before(f"audience {audience_id!r}", deleted[audience_id], as_of)


def _check_zeros(ledger: Ledger, previous: RecordedChangeSet, asked: TableLayout) -> None:
    """Refuse ids that were published as 7.00 or 007 and are 7 now; asked once, of a state that may have such."""
    were, are = previous.layout.key_types, asked.key_types
    named = {"user_id": asked.user_id, "audience_id": asked.audience_id_column}
    old = [n for n, c in named.items() if c and _may_have_zeros(were.get(c, LogicalType.EXACT), are.get(c, ""))]
    if not old:
        return
    needed, members = select_membership(ledger.state.timeline.tables(ledger.schema, previous.as_of))
    counted: exp.Query = exp.select(exp.Count(this=exp.Star())).from_(table(None, "published"))
    counted = counted.where(exp.or_(*map(_has_zeros, old)))
    for name, body in (*needed, ("published", members)):
        counted = counted.with_(name, as_=body, copy=False)
    if ledger.warehouse.read_rows(render(counted, ledger.warehouse.dialect))[0][0]:
        raise SchemaChanged(
            f"{' and '.join(repr(named[n]) for n in old)} has numbers. An earlier version published them with "
            "trailing zeros, or leading ones: 7.00 or 007, and not 7. Every member would exit and enter again, so "
            "nothing was computed. Cast the column in the query to the text that was published, or set a new "
            "sync_id for the ids without zeros"
        )


def _may_have_zeros(was: str, is_: str) -> bool:
    """Whether an earlier version wrote a column's numbers with zeros that are left out now."""
    filled = is_.endswith(FILLED) and not was.endswith(FILLED)
    return filled or (was == LogicalType.EXACT and is_ == DECIMAL)


def _has_zeros(name: str) -> exp.Expr:
    """Build the condition that an id has zeros at the end of its decimals, or before its first digit."""

    def like(pattern: str) -> exp.Expr:
        return exp.Like(this=column(name), expression=exp.Literal.string(pattern))

    return exp.or_(like("%.%0"), exp.and_(like("0_%"), exp.not_(like("0.%"))))


def _check_reuse(ledger: Ledger, closed: datetime, as_of: datetime, *, reuse_deleted: bool) -> None:
    """Refuse a sync that was deleted, unless it may begin anew and every destination got the deletion."""
    if not reuse_deleted or as_of <= closed:
        raise deleted_before(f"sync {ledger.sync_id!r}", closed, as_of)
    if attached := find_attached(ledger.state.deliveries.values()):
        raise AudienceDeleted(
            f"sync {ledger.sync_id!r} was deleted, and {', '.join(attached)} did not receive the deletion. First "
            "run the AudienceDeleteOperator of that destination. Nothing was computed"
        )


def deleted_before(what: str, deleted_at: datetime, as_of: datetime) -> AudienceDeleted:
    """Make the error of what was deleted, and is computed again."""
    advice = "set reuse_deleted=True to start again under this id: every member is then published as entered"
    if as_of <= deleted_at:
        advice = (
            "this run's instant is not later, so consumers could not order the two: run it for a later instant"
        )
    return AudienceDeleted(f"{what} was deleted as of {instant_text(deleted_at)}; {advice}. Nothing was computed")
