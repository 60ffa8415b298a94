"""Writes a whole history in a wire format: changes, resyncs and deletions, in the order in which they are put."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from airflow_kinesis_audience.conformance import wire
from airflow_kinesis_audience.conformance.batches import StepChanges
from airflow_kinesis_audience.conformance.expected import Sent
from airflow_kinesis_audience.conformance.histories import Change, History, HistoryStep, Place, find_changes

if TYPE_CHECKING:
    from airflow_kinesis_audience.conformance.names import Names

Write = Callable[[StepChanges], Iterator[Sent]]
Notice = Callable[[StepChanges, int, str, int, int], Sent]

FORMATS: Mapping[str, tuple[Write, Notice]] = {
    "amplitude_cohort": (wire.write_cohorts, wire.write_cohort_notice),
    "mparticle_audience": (wire.write_audience_changes, wire.write_audience_notice),
    "adobe_profile": (wire.write_profiles, wire.write_profile_notice),
    "mparticle_events": (wire.write_change_events, wire.write_event_notice),
}
"""By format, what writes the changes of a step and what writes a notice about an audience."""


def write_history(history: History, message_format: str, names: Names) -> list[Sent]:
    """Write all messages of a history, in the order in which they are put."""
    write, notice = FORMATS[message_format]
    sent: list[Sent] = []
    left: dict[Place, int] = {}
    for number, (before, after) in enumerate(history.pairs()):
        changes = _find_sent(before, after, left)
        known = _know_exits(before, after, left, keeps=history.keeps_exits)
        batch = StepChanges(
            names=names,
            number=number,
            time=after.time,
            changes=changes,
            before=before.versions,
            after=after.versions,
            members=after.members,
            left=known,
        )
        if after.resync:
            sent += _write_resync(batch, write, notice)
        else:
            sent += write(batch)
        sent += [notice(batch, audience, "deleted", 0, 0) for audience in sorted(after.deleted)]
    return sent


def _find_sent(before: HistoryStep, after: HistoryStep, left: Mapping[Place, int]) -> list[Change]:
    """List the changes that a step sends: a resync sends all members and all known exits."""
    versions = after.versions
    if after.resync:
        entries = [Change(place=p, old=None, new=versions[p.user]) for p in sorted(after.members)]
        return entries + [Change(place=p, old=versions[p.user], new=None) for p in sorted(left)]
    if after.deleted and not after.exits:
        return []
    return find_changes(before, after)


def _know_exits(
    before: HistoryStep, after: HistoryStep, left: dict[Place, int], *, keeps: bool
) -> dict[Place, int]:
    """Keep who has left, and forget what was deleted; gives what the profiles of this step name."""
    gone = dict.fromkeys(before.members - after.members, after.time)
    for place in [p for p in left if p in after.members]:
        del left[place]
    left.update(gone)
    named = dict(left) if keeps or after.resync else dict(gone)
    for place in [p for p in left if p.audience in after.deleted]:
        del left[place]
    return named


def _write_resync(batch: StepChanges, write: Write, notice: Notice) -> Iterator[Sent]:
    audiences = sorted({change.place.audience for change in batch.changes})
    counts = {
        audience: [
            sum(c.place.audience == audience and (c.new is not None) == member for c in batch.changes)
            for member in (True, False)
        ]
        for audience in audiences
    }
    yield from (notice(batch, a, "resync_begin", *counts[a]) for a in audiences)
    yield from write(batch)
    yield from (notice(batch, a, "resync_complete", *counts[a]) for a in audiences)
