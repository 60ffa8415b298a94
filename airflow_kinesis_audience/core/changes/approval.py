"""Approves what is held: one change set, or audiences of one, and the very numbers that a person has seen.

The source is not read. What is held counts as it was found, if the membership that it was computed from is still
the newest: a later run reads the source again, and its numbers are others. The permission is then used up, and a
change set that was let through is never computed again.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec import structs

from airflow_kinesis_audience.core.changes.forgotten import refuse_while_unfinished
from airflow_kinesis_audience.core.changes.holding import select_approved
from airflow_kinesis_audience.core.exceptions import LedgerConflict, ReleaseRefused
from airflow_kinesis_audience.core.model.audience import CHANGE_COUNTS
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.sql.statements import render, table, write_table
from airflow_kinesis_audience.core.state.commits import TableCommitter, begin_timeline
from airflow_kinesis_audience.core.state.rows import select_counts
from airflow_kinesis_audience.core.state.sync_details import (
    ApprovedAudiences,
    ChangeSetCommitted,
    ChangeSetDetail,
    ChangeSetHeld,
    Counts,
    Detail,
    TableStarted,
    TotalCounts,
    carried_over,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.sync_details import HeldAudiences
    from airflow_kinesis_audience.core.state.timeline import Timeline


def is_approved(ledger: Ledger, as_of: datetime, held_table: str) -> bool:
    """Return whether a change set that was held counts by now."""
    return _find(ledger.read().timeline, as_of, held_table) is not None


def approve(ledger: Ledger, as_of: datetime, held_table: str) -> dict[str, Any]:
    """Commit the change set that is held for an instant, or find that this was done.

    :param held_table: the table whose numbers were seen.
    :returns: the summary, as of any run.
    :raises ReleaseRefused: if something else is held, or the timeline has moved on since.
    :raises ForgettingUnfinished: if it may let users enter who are being forgotten; a retry helps.
    """
    committer = TableCommitter(ledger)
    while True:
        timeline = ledger.read().timeline
        if (found := _find(timeline, as_of, held_table)) is not None:
            return found.summary(ledger.sync_id)
        held, current = timeline.held, timeline.find(as_of)
        is_sealed = current is not None and current.sealed
        if is_sealed or held is None or held.table != held_table or not isinstance(held.detail, ChangeSetHeld):
            raise ReleaseRefused(
                f"the change set of sync {ledger.sync_id!r} as of {instant_text(as_of)} that was approved is no "
                "longer held: another run was recorded, held or delivered in the meantime. Nothing was sent. "
                "Clear the diff task of this run to compute the present changes"
            )
        refuse_while_unfinished(ledger, "what was held before", until_exits=True)
        with contextlib.suppress(LedgerConflict):
            # Announced anew, so that a run that is computing meanwhile can no longer commit.
            committer.append(TableStarted(table=held_table), as_of)
            committer.commit(held_table, _approved(held.detail), as_of)


def approve_audiences(ledger: Ledger, held_table: str, audiences: Collection[str]) -> dict[str, Any]:
    """Commit what was found of audiences that are held alone, a second after the newest change set.

    :param held_table: the table whose numbers were seen.
    :param audiences: ids of those that are approved; the others stay held.
    :returns: the summary, as of any run. If this was done before, that of the change set that has them all.
    :raises ReleaseRefused: if they are not held, or a later run was recorded since, or others that are held
        exclude them.
    :raises ForgettingUnfinished: if they may let users enter who are being forgotten; a retry helps.
    """
    committer, asked = TableCommitter(ledger), set(audiences)
    while True:
        timeline = ledger.read().timeline
        for done in timeline.change_sets:
            of = done.detail.approves
            if of is not None and of.table == held_table and asked <= set(of.audiences):
                return done.summary(ledger.sync_id)
        held = timeline.held_audiences
        if held is None or held.table != held_table or not asked or asked - held.breaches.keys():
            named = ", ".join(map(repr, sorted(asked))) or "none"
            raise ReleaseRefused(
                f"the audiences of sync {ledger.sync_id!r} that were approved are no longer held: {named}. A "
                "later run has computed them again, or another approval was faster. Nothing was sent. The command "
                "`approve` without --yes lists what is held now"
            )
        _refuse_part(held, asked)
        refuse_while_unfinished(ledger, "what was held before", until_exits=True)
        with contextlib.suppress(LedgerConflict):
            return _commit_audiences(committer, held, asked).summary(ledger.sync_id)


def _refuse_part(held: HeldAudiences, asked: set[str]) -> None:
    """Refuse to approve a part of those that exclude each other: a user who moves would be in two, or in none."""
    if (part := asked.intersection(held.together)) and (others := sorted(set(held.together) - asked)):
        raise ReleaseRefused(
            f"the audiences {', '.join(map(repr, sorted(part)))} exclude others that are held too (exclusive_by): "
            "a user who moves between them would be in two of them, or in none. Approve these with them: "
            f"{', '.join(map(repr, others))}. Nothing was changed"
        )


def _commit_audiences(committer: TableCommitter, held: HeldAudiences, approved: set[str]) -> RecordedChangeSet:
    ledger, timeline = committer.ledger, committer.timeline
    newest = timeline.newest
    assert newest is not None  # noqa: S101
    newest_in = timeline.audiences_table(newest)
    assert newest_in is not None  # noqa: S101
    as_of = newest.as_of + timedelta(seconds=1)
    name = committer.announce("changes", as_of)
    with committer.unless_fenced(name, as_of):
        query = select_approved(
            ledger.schema,
            held.table,
            newest.layout,
            approved,
            as_of,
            newest_in=newest_in,
            is_first=held.table.startswith("base_"),
        )
        target = table(ledger.schema, name)
        write_table(ledger.warehouse, target, query, sliced_by="position", has_audience_rows=True)
        counted = ledger.warehouse.read_rows(render(select_counts(ledger.schema, name), ledger.warehouse.dialect))
    total, each = _count(newest, approved, counted)
    left = {a: sentences for a, sentences in held.breaches.items() if a not in approved}
    together = tuple(a for a in held.together if a in left)
    detail = ChangeSetCommitted(
        table=name,
        previous_as_of=newest.as_of,
        rows=total.changes,
        slice_rows=newest.detail.slice_rows,
        layout=newest.layout,
        counts=total,
        audiences=each,
        **carried_over(newest.detail),
        let_through=tuple(s for a in sorted(approved) for s in held.breaches[a]),
        bounds=newest.detail.bounds,
        corrects=newest.detail.corrects or newest.as_of,
        author=newest.detail.author,
        held_audiences=structs.replace(held, breaches=left, together=together) if left else None,
        approves=ApprovedAudiences(table=held.table, audiences=tuple(sorted(approved))),
    )
    found = committer.commit(name, detail, as_of).find(as_of)
    assert found is not None  # noqa: S101
    return found


def _count(
    newest: RecordedChangeSet, approved: set[str], counted: Iterable[Sequence[Any]]
) -> tuple[TotalCounts, Mapping[str, Counts] | None]:
    """Count what approved audiences change, in total and, where the change set before has those, of each."""
    changes: dict[str, dict[str, Any]] = {audience: dict.fromkeys(CHANGE_COUNTS, 0) for audience in approved}
    for audience, action, rows, _ in counted:
        changes[audience][action] = rows
    total: dict[str, Any] = {n: sum(of[n] for of in changes.values()) for n in CHANGE_COUNTS}
    members = newest.counts.members + total["entered"] - total["exited"]
    whole = TotalCounts(**total, members=members, changes=sum(total.values()))
    if newest.detail.audiences is None:
        return whole, None
    before = {audience: counts.members for audience, counts in newest.detail.audiences.items()}
    each = {}
    for audience in sorted(before.keys() | approved):
        of: dict[str, Any] = changes.get(audience, dict.fromkeys(CHANGE_COUNTS, 0))
        each[audience] = Counts(**of, members=before.get(audience, 0) + of["entered"] - of["exited"])
    return whole, each


def _approved(held: ChangeSetHeld) -> ChangeSetDetail:
    kind = begin_timeline if held.previous_as_of is None else ChangeSetCommitted
    own = set(ChangeSetDetail.__struct_fields__) - set(Detail.__struct_fields__)
    kept = {name: getattr(held, name) for name in sorted(own)}
    return kind(**kept | {"let_through": held.breaches})


def _find(timeline: Timeline, as_of: datetime, held_table: str) -> RecordedChangeSet | None:
    found = timeline.find(as_of)
    return found if found is not None and found.table == held_table else None
