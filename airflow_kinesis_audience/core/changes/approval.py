"""Approves one held change set: the very one whose numbers a person has seen.

Nothing is computed. The held table is committed as it is, if the membership that it was computed from is still the
newest; the permission is then used up, and a change set that was let through is never computed again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import LedgerConflict, ReleaseRefused
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.state.commits import TableCommitter, begin_timeline
from airflow_kinesis_audience.core.state.sync_details import (
    ChangeSetCommitted,
    ChangeSetDetail,
    ChangeSetHeld,
    Detail,
    TableStarted,
)

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.timeline import Timeline


def is_approved(ledger: Ledger, as_of: datetime, held_table: str) -> bool:
    """Return whether a change set that was held counts by now."""
    return _find(ledger.read().timeline, as_of, held_table) is not None


def approve(ledger: Ledger, as_of: datetime, held_table: str) -> dict[str, Any]:
    """Commit the change set that is held for an instant, or find that this was done.

    :param held_table: the table whose numbers were seen.
    :returns: the summary, as of any run.
    :raises ReleaseRefused: if something else is held, or the timeline has moved on since.
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
        with contextlib.suppress(LedgerConflict):
            # Announced anew, so that a run that is computing meanwhile can no longer commit.
            committer.append(TableStarted(table=held_table), as_of)
            committer.commit(held_table, _approved(held.detail), as_of)


def _approved(held: ChangeSetHeld) -> ChangeSetDetail:
    kind = begin_timeline if held.previous_as_of is None else ChangeSetCommitted
    own = set(ChangeSetDetail.__struct_fields__) - set(Detail.__struct_fields__)
    kept = {name: getattr(held, name) for name in sorted(own)}
    return kind(**kept | {"let_through": held.breaches})


def _find(timeline: Timeline, as_of: datetime, held_table: str) -> RecordedChangeSet | None:
    found = timeline.find(as_of)
    return found if found is not None and found.table == held_table else None
