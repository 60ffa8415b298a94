"""The outbox: what a destination still has to get, delivered in order, at least once and idempotently.

Each delivery has its own cursor. Draining sends every change set after the cursor, up to the run's, oldest
first. What is about to be sent is written down before the first record, and how far it got again and again, so
that a killed attempt goes on with the same bytes and ids from what was written last. An error leaves the cursor.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Literal

from airflow_kinesis_audience.core.exceptions import AudienceDeleted, AudienceError, HistoryGone, LedgerConflict
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.beginning import make_attached
from airflow_kinesis_audience.core.outbox.giving_up import given_up_error
from airflow_kinesis_audience.core.outbox.option_check import check_options
from airflow_kinesis_audience.core.outbox.parts import check_parts
from airflow_kinesis_audience.core.outbox.remembered import check_nothing_lost
from airflow_kinesis_audience.core.outbox.removals import check_removals
from airflow_kinesis_audience.core.outbox.sender import Sender
from airflow_kinesis_audience.core.outbox.tables import (
    announce_litter,
    drop_litter,
    drop_profiles,
    drop_snapshot,
    find_or_write_snapshot,
    snapshot_of,
    write_snapshot,
)
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet, change_set_of
from airflow_kinesis_audience.core.readers.partitions import WHOLE
from airflow_kinesis_audience.core.sql.statements import drop_table, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from airflow_kinesis_audience.core.outbox.beginning import OnFirstRun, OnOtherSync
    from airflow_kinesis_audience.core.outbox.remembered import Remembered
    from airflow_kinesis_audience.core.outbox.too_large import TooLargeSummary
    from airflow_kinesis_audience.core.state.letters_given_up import LettersGivenUp
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet

OnRejected = Literal["fail", "skip"]


class Outbox(Sender):
    """What one delivery still has to send."""

    _snapshot = ""
    """The snapshot that this task has written or found."""

    def drain(
        self,
        as_of: datetime,
        *,
        on_first_run: OnFirstRun = "enter_all",
        on_other_sync: OnOtherSync = "fail",
        resend: bool = False,
        on_rejected: OnRejected = "fail",
        keep_dead_letters: timedelta | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        """Send every change set after the cursor up to the one that leads to ``as_of``, oldest first.

        :param on_first_run: what a destination gets that was never sent to.
        :param on_other_sync: what it means then that another sync delivers one of the audiences there already.
        :param resend: send the one that leads to ``as_of`` again if it is delivered already.
        :param on_rejected: what becomes of it if members are too large for a record, once all else is delivered.
        :param keep_dead_letters: whoever is too large for so long is given up; none for nobody.
        :param remembered: how far the delivery was, as it is known outside of the ledger.
        :raises AudienceTaken: if another sync does, and it is to ``fail``.
        :raises LedgerBehind: if the ledger does not know that any more.
        :raises MessageTooLarge: if there are such, and it is to ``fail``; every later attempt tries them again.
        :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
        :raises DeliveryChanged: if a half-sent change set would now give other bytes.
        """
        self.dead_letters.keep, self.dead_letters.run = keep_dead_letters, as_of

        def work() -> tuple[TooLargeSummary, LettersGivenUp | None]:
            check_nothing_lost(self.log, remembered)
            left = self.drain_in_turn(as_of, on_first_run=on_first_run, on_other_sync=on_other_sync, resend=resend)
            return left, self.dead_letters.report_given_up()

        found, given_up = self.in_turn(work, lambda: not resend and self._is_delivered(as_of))
        if given_up is not None:
            self.report.given_up, self.report.given_up_users = given_up.rows, list(given_up.users)
            if on_rejected == "fail":
                raise given_up_error(given_up, self.delivery.message_bytes, self.report.still_rejected)
        if on_rejected == "fail" and found.rows:
            raise found.error(self.ledger.schema, self.delivery.message_bytes)

    def drain_in_turn(
        self,
        as_of: datetime,
        *,
        on_first_run: OnFirstRun = "fail",
        on_other_sync: OnOtherSync = "fail",
        resend: bool = False,
    ) -> TooLargeSummary:
        """Send what is to be sent, as whoever's turn it is; gives what is too large. See :meth:`drain`."""
        if self.log.turns.of_another():
            return self.describe_rejected(self.log.whole.dead_letters)
        if not self.delivery.replay and (resend or not self._is_delivered(as_of)):
            self.log.turns.refuse_while_replayed()
        self._check(as_of)
        check_options(self.ledger, self.delivery, self._to_be_sent(as_of, resend=resend))
        self.delivery.check_filter(self.log.whole.rendered_as or self.log.own.rendered_as)
        announced = make_attached(self.log, as_of, on_first_run, on_other_sync)
        self.log.hold_attachment()
        check_parts(self.log)
        already = self._has(as_of)
        with self.log.unless_fenced():
            for change_set in self._pending(as_of, announced):
                self.send(change_set)
            found = self._retry_dead_letters()
            self._drop_snapshot()
            if self._exits_kept is not None:
                drop_profiles(self.log)
            drop_litter(self.log)  # also of a resend that was killed, before another
            if already and resend:
                self._resend(as_of)
                drop_litter(self.log)
                found = self.too_large if self.too_large.rows else found
        return found

    def _is_delivered(self, as_of: datetime) -> bool:
        """Whether the stream that is reached now has everything up to an instant."""
        return not self.log.find_replaced() and self._has(as_of) and not self.log.find_inserted()

    def _has(self, as_of: datetime) -> bool:
        return any(self.log.has(state, as_of) for state in (self.log.whole, self.log.own))

    def _check(self, as_of: datetime) -> None:
        """Check that there is a change set for an instant, and that the destination may get it."""
        timeline, sync_id = self.log.timeline, self.ledger.sync_id
        if timeline.find(as_of) is None:
            if timeline.held is not None and timeline.held.as_of == as_of:
                raise HistoryGone(
                    f"the change set of sync {sync_id!r} as of {instant_text(as_of)} is held for approval and was "
                    "not approved; nothing was sent"
                )
            raise HistoryGone(
                f"sync {sync_id!r} has no change set as of {instant_text(as_of)}; run its diff task first"
            )
        if self.log.whole.attached is None and timeline.closed is not None:
            raise AudienceDeleted(
                f"sync {sync_id!r} was deleted as of {instant_text(timeline.closed)}, and "
                f"{self.delivery.destination} is no longer attached to it; nothing was sent"
            )

    def _to_be_sent(self, as_of: datetime, *, resend: bool) -> list[RecordedChangeSet]:
        """List the change sets whose layouts are about to be sent, ascending; nothing is decided by it."""
        whole, own = self.log.whole, self.log.own
        if whole.attached is None:
            return [c for c in self.log.timeline.change_sets if c.as_of == as_of]
        sent = max(found for found in (whole.attached, whole.cursor, own.cursor) if found)
        again = {as_of} if resend else set()
        if self.delivery.on_new_stream == "enter_all" and self.log.find_replaced():
            again |= {max(as_of, whole.cursor or as_of)}
        again |= {whole.attached} if whole.cursor is None and not own.has(whole.attached) else set()
        again |= {c.as_of for c in self.log.find_inserted()}
        return [c for c in self.log.timeline.change_sets if sent < c.as_of <= as_of or c.as_of in again]

    def _pending(self, as_of: datetime, announced: str) -> Iterator[ChangeSet]:
        """Give the change sets that this task has not sent."""
        attached, sent = self.log.attached, False
        if self.log.whole.cursor is None and not self.log.own.has(attached):
            yield self._write_snapshot(attached, announced)
            sent = True
        while self._find_next(as_of) is not None:
            if sent:
                self.ledger.read()  # what an earlier one alone has needed may be gone since
            recorded = self._find_next(as_of)
            if recorded is None:
                return
            if self.delivery.renderer.traits.ordered_by_stream and recorded in self.log.find_inserted():
                self.leave_out(recorded)
                continue
            yield self._seal(recorded)
            sent = True

    def _find_next(self, as_of: datetime) -> RecordedChangeSet | None:
        """Find what this task sends next: what is half sent, then what was inserted, then what comes after.

        Of what was inserted the newest is first: the compensation of a change set is there before it.
        """
        whole, own = self.log.whole, self.log.own
        cursor = max(found for found in (self.log.attached, whole.cursor, own.cursor) if found)
        inserted, timeline = self.log.find_inserted(), self.log.timeline
        waiting = [*reversed(inserted), *timeline.after(cursor, as_of)]
        if not waiting:
            return None
        unsent = (*inserted, *(c for c in timeline.change_sets if c.as_of > cursor))
        return next((c for c in unsent if c.as_of == own.sending), waiting[0])

    def _seal(self, recorded: RecordedChangeSet) -> ChangeSet:
        """Make a change set immutable that the destination may get; until then it may be computed again."""
        while True:
            found = self.log.timeline.find(recorded.as_of)
            assert found is not None  # noqa: S101
            change_set = change_set_of(self.ledger, self.log.timeline, found)
            check_removals(self.log, found, self._permission, partial(self._gather, change_set, resend=False))
            self.log.seal(recorded.as_of)
            sealed = self.log.timeline.find(recorded.as_of)
            if sealed is not None and sealed.table == found.table:
                return change_set

    def _write_snapshot(self, as_of: datetime, announced: str) -> ChangeSet:
        while True:
            with self.log.unless_another_part_was_faster():
                found = find_or_write_snapshot(self.log, as_of, announced=announced)
                self._snapshot = found.table
                return found

    def _drop_superseded(self) -> None:
        """See :class:`Sender`: the snapshot that this task has written."""
        with contextlib.suppress(AudienceError):
            self.ledger.read()
            known = self.log.whole.snapshot
            if self._snapshot and (known is None or known.table != self._snapshot):
                drop_table(self.warehouse, table(self.ledger.schema, self._snapshot))

    def _drop_snapshot(self) -> None:
        # Another part may do so at this moment, too; what is left the next run drops.
        conflicts = () if self.delivery.part == WHOLE else (LedgerConflict,)
        with contextlib.suppress(*conflicts):
            drop_snapshot(self.log)

    def _resend(self, as_of: datetime) -> None:
        recorded, whole, attached = self.log.timeline.find(as_of), self.log.whole, self.log.attached
        assert recorded is not None  # noqa: S101
        if as_of < attached:
            # It has exits of users whose entry this destination never got.
            raise HistoryGone(
                f"{self.delivery.destination} was attached as of {instant_text(attached)} and never "
                f"received the change set as of {instant_text(as_of)}, so it cannot be sent again"
            )
        newest = max(at for at in (attached, whole.cursor, self.log.own.cursor) if at)
        if self.delivery.renderer.traits.ordered_by_stream and as_of < newest:
            raise HistoryGone(
                f"{self.delivery.destination} has later change sets than the one as of {instant_text(as_of)}, and "
                f"messages of {self.delivery.message_format} have no time: its old values would count as the "
                "newest. Nothing was put. Use an AudienceResyncOperator instead"
            )
        if as_of == attached and whole.on_first_run == "enter_all":
            name = announce_litter(self.log, "snapshot", as_of)
            write_snapshot(self.log, as_of, name)
            self.send(snapshot_of(self.log, as_of, name), resend=True)
        elif recorded.previous_as_of is None or recorded.dropped:
            raise HistoryGone(f"the change set as of {instant_text(as_of)} is not kept; it cannot be sent again")
        else:
            self.send(change_set_of(self.ledger, self.log.timeline, recorded), resend=True)

    def _retry_dead_letters(self) -> TooLargeSummary:
        """Send dead letters again, once all parts have delivered all else."""
        known = self.log.whole.dead_letters
        if self.log.own.cursor is None or self.log.whole.has(self.log.own.cursor):
            known = self.dead_letters.retry(self._redeliver)
        return self.describe_rejected(known)
