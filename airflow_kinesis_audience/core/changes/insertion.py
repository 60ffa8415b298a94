"""A change set between two that exist: a run of the past that was missed, or that is computed once more.

The change sets after it stay as they are, since destinations have them. So a second one, its compensation, is put
one second before the next one. It leads the users of the first one to what they are in the membership of the next
run. A destination that gets all in order arrives at the same memberships as before. One that has the later change
sets already gets the two as well, and for each user the newest message is still true.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.changes.change_set import classify
from airflow_kinesis_audience.core.exceptions import HistoryGone, RunSuperseded, SchemaChanged
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.statements import column, table
from airflow_kinesis_audience.core.state.membership import select_membership
from airflow_kinesis_audience.core.state.rows import (
    AUDIENCE,
    audience_rows,
    change_columns,
    kept_columns,
    numbered,
)

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.membership import Tables
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.timeline import Timeline

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Where on a timeline a change set is inserted.

    :param as_of: the instant that it represents.
    :param compensated_at: the instant of its compensation, one second before the change set after the gap.
    :param following: the next change set that a run has computed; its membership stays as it is.
    """

    as_of: datetime
    compensated_at: datetime
    following: RecordedChangeSet

    def check_layout(self, timeline: Timeline, layout: TableLayout, *, differs: bool) -> None:
        """Check that the memberships around the gap are kept in the layout of the run.

        :param differs: whether the mapping is another than that of the membership before the gap.
        :raises SchemaChanged: if they are not.
        :raises HistoryGone: if they are not kept at all.
        """
        if timeline.find_base(self.following.as_of) is None:
            raise HistoryGone(
                f"the membership at {instant_text(self.following.as_of)} is no longer kept, so nothing can be "
                "inserted before it; a longer keep_history keeps the memberships of later runs for longer"
            )
        if differs or timeline.find_base(self.following.as_of, layout) is None:
            raise SchemaChanged(
                f"the mapping of this run is not the one of the memberships before {instant_text(self.as_of)} and "
                f"at {instant_text(self.following.as_of)}, between which its change set would be inserted. "
                "Nothing was computed. Use the mapping of that time, or leave the past as it is: the later change "
                "sets already contain the correct membership"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where on a timeline the change set of a run belongs.

    :param as_of: the instant of the change set; of a correction, later than the run's own.
    :param corrects: the instant whose published membership is computed once more.
    :param gap: where it is inserted; none if it comes after all others.
    """

    as_of: datetime
    corrects: datetime | None = None
    gap: Gap | None = None

    def find_confirmed(self, timeline: Timeline) -> RecordedChangeSet | None:
        """Find the change set that stays as it is if a correction finds no difference; none if it is due."""
        if self.corrects is None or timeline.find(self.as_of) is not None:
            return None
        return timeline.find(self.as_of - _SECOND)


def place(timeline: Timeline, as_of: datetime, *, insert: bool, correct: bool) -> Placement | RecordedChangeSet:
    """Find where the change set of a run belongs, or the one that is there and stays.

    :param insert: where a later run covers the instant, and it has no change set, insert one.
    :param correct: the same, and compute a published membership once more.
    :raises RunSuperseded: if a later run covers the instant, and nothing is to be inserted, or can be.
    """
    newest = timeline.newest
    if timeline.closed is not None or newest is None:
        return Placement(as_of=as_of)
    if (insert or correct) and timeline.find(as_of) is None:
        return Placement(as_of=as_of, gap=find_gap(timeline, as_of))
    there = timeline.find_final(as_of)
    if there is None or not correct:
        return there or Placement(as_of=as_of)
    if as_of in (newest.as_of, newest.detail.corrects):
        return Placement(as_of=timeline.find_correction(), corrects=as_of)
    free = find_free_second(timeline, as_of)
    return Placement(as_of=free, corrects=as_of, gap=find_gap(timeline, free))


def find_gap(timeline: Timeline, as_of: datetime) -> Gap | None:
    """Find where a change set for an instant is inserted; none if it comes after all others.

    :raises RunSuperseded: if it is before the first change set, or no second is left before the next one.
    """
    later = [c for c in timeline.change_sets if c.as_of >= as_of]
    if not later:
        return None
    compensated_at = later[0].as_of - _SECOND
    if len(later) == len(timeline.change_sets):
        raise RunSuperseded(
            f"this run represents {instant_text(as_of)}, and the sync begins with the change set as of "
            f"{instant_text(later[0].as_of)}: nothing can be inserted before it"
        )
    if compensated_at <= as_of:
        raise RunSuperseded(
            f"this run represents {instant_text(as_of)}, and the next change set follows within a second: no "
            "second is left between them for an inserted change set and its compensation"
        )
    following = next(c for c in later if c.compensates is None)
    return Gap(as_of=as_of, compensated_at=compensated_at, following=following)


def find_free_second(timeline: Timeline, as_of: datetime) -> datetime:
    """Find the first second after a change set, and after those that correct it, that has none."""
    free = as_of + _SECOND
    while (found := timeline.find(free)) is not None and found.detail.corrects == as_of:
        free += _SECOND
    return free


def select_compensation(
    inserted: str, following: Tables, layout: TableLayout, compensated_at: datetime
) -> exp.Query:
    """Build the compensation: of each user of an inserted change set, what differs in the following membership.

    :param inserted: name of the inserted change set's table.
    :param following: tables of the following membership, in the same layout.
    """
    needed, members = select_membership(following)
    names = change_columns(layout)
    origin = table(following.schema, inserted)
    was = exp.and_(*(column(k, "inserted").eq(column(k, "following")) for k in ("audience_id", "user_id")))
    had_left = column("action", "inserted").eq(Action.EXITED.value)
    is_missing = column("user_id", "following").is_(exp.null())
    # Whoever enters again is a member since the compensation.
    stayed = exp.not_(had_left.copy())
    since = exp.case().when(stayed, column("member_since", "inserted"))
    differing = (
        exp.select(
            *(column(k, "inserted") for k in ("audience_id", "user_id")),
            since.as_("member_since"),
            is_missing.as_("gone"),
            had_left.copy().as_("fresh"),
            *(column(c.new, "following").as_(c.new) for c in layout.columns),
            *(exp.case().when(stayed.copy(), column(c.new, "inserted")).as_(c.old) for c in layout.columns),
        )
        .from_(table(None, "inserted"))
        .join(table(None, "following"), on=was, join_type="left")
        .where(exp.not_(exp.and_(is_missing.copy(), had_left.copy())))
    )
    kept = ("action", "audience_id", "user_id", "member_since", *(c.new for c in layout.columns))
    given = kept_columns(layout, kept)
    changed = exp.select(*(e.as_(n) for n, e in given.items())).from_(origin).where(column("action").neq(AUDIENCE))
    audiences = audience_rows(table(following.schema, following.newest), names)
    audiences = audiences.where(column("action").eq(AUDIENCE))
    query: exp.Query = exp.union(numbered(names, table(None, "compared")), audiences, distinct=False)
    for name, body in (
        *needed,
        ("following", members),
        ("inserted", changed),
        ("differing", differing),
        ("compared", classify(layout, compensated_at)),
    ):
        query = query.with_(name, as_=body, copy=False)
    return query
