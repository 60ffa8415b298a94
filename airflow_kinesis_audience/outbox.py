"""The outbox: what a destination still has to be told, sent in order, exactly once as far as anybody can know.

Each delivery has its own cursor. Draining sends every change set after the cursor, up to the run's, oldest
first. What is about to be sent is written down before the first record, and how far it got again and again, so
that a killed attempt goes on with the same bytes and ids from what was written last. An error leaves the cursor.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.delivery import deliver
from airflow_kinesis_audience.delivery_log import DeliveryLog, Rows
from airflow_kinesis_audience.event_rows import EventSet
from airflow_kinesis_audience.exceptions import (
    AudienceDeleted,
    AudienceError,
    DeliveryIncomplete,
    HistoryGone,
    LedgerConflict,
)
from airflow_kinesis_audience.feeds import WHOLE
from airflow_kinesis_audience.formats import exits_kept_by
from airflow_kinesis_audience.ledger import Event, Ledger
from airflow_kinesis_audience.oversize import Rejected
from airflow_kinesis_audience.rejects import Rejects, too_large
from airflow_kinesis_audience.retries import RetryPolicy
from airflow_kinesis_audience.sending import Progress, Report, Sending
from airflow_kinesis_audience.settled import Settled
from airflow_kinesis_audience.slices import ChangeSet, change_set_of
from airflow_kinesis_audience.snapshot import drop_profiles, drop_snapshot, write_profiles, write_snapshot
from airflow_kinesis_audience.sql import drop_table, table
from airflow_kinesis_audience.terms import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.messages import Message, Outcome, Record
    from airflow_kinesis_audience.profiling import ProfileSet
    from airflow_kinesis_audience.standing import Standing
    from airflow_kinesis_audience.terms import Delivery

OnFirstRun = Literal["enter_all", "baseline", "fail"]
OnRejected = Literal["fail", "skip"]


class Outbox:
    """Sends what one delivery still has to send.

    :param ledger: of the sync.
    :param delivery: where to and how.
    :param put: puts one batch; one outcome per record.
    :param watch: told after every answer.
    """

    def __init__(
        self,
        ledger: Ledger,
        delivery: Delivery,
        put: Callable[[Sequence[Record]], list[Outcome]],
        *,
        policy: RetryPolicy | None = None,
        watch: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.ledger = ledger
        self.warehouse = ledger.warehouse
        self.delivery = delivery
        self.log = DeliveryLog(ledger, delivery)
        self.report = Report()
        self.rejects = Rejects(self.log)
        self.rejected: Mapping[str, Any] = {"rows": 0, **Rejected().name}
        self._exits_kept = exits_kept_by(delivery.renderer)
        self._put = put
        self._policy = policy or RetryPolicy()
        self._watch = watch

    def drain(
        self,
        as_of: datetime,
        *,
        on_first_run: OnFirstRun = "enter_all",
        resend: bool = False,
        on_rejected: OnRejected = "fail",
    ) -> None:
        """Send every change set after the cursor up to the one that leads to ``as_of``, oldest first.

        :param on_first_run: what a destination that was never sent to is to be told.
        :param resend: send the one that leads to ``as_of`` again if it is delivered already.
        :param on_rejected: what becomes of it if members are too large for a record, once all else is delivered.
        :raises MessageTooLarge: if there are such, and it is to ``fail``; every later attempt tries them again.
        :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
        :raises DeliveryChanged: if a half-sent change set would now give other bytes.
        """
        timeline, standing = self.log.read()
        if timeline.held is not None and timeline.held.as_of == as_of and timeline.find(as_of) is None:
            raise HistoryGone(
                f"the change set of sync {self.ledger.sync_id!r} as of {instant_text(as_of)} is held by a guard "
                "and was not approved; nothing was sent"
            )
        if timeline.find(as_of) is None:
            raise HistoryGone(
                f"sync {self.ledger.sync_id!r} has no change set as of {instant_text(as_of)}; "
                "run its diff task first"
            )
        if standing.attached is None:
            if timeline.closed is not None:
                raise AudienceDeleted(
                    f"sync {self.ledger.sync_id!r} was deleted as of {instant_text(timeline.closed)}, and "
                    f"{self.delivery.destination} is not attached to it any more; nothing was sent"
                )
            self.log.begin(as_of, on_first_run)
        whole, own = self.log.look_at_part()
        already = whole.has(as_of) or own.has(as_of)
        with self.log.unless_overtaken():
            for change_set in self._pending(whole, own, as_of):
                self.send(change_set)
            found = self._try_again()
            self._drop_snapshot()
            if self._exits_kept is not None:
                drop_profiles(self.log)
            if already and resend:
                self._send_again(as_of)
                found = self.rejected if self.rejected["rows"] else found
        if on_rejected == "fail" and found["rows"]:
            raise too_large(found, self.ledger.schema, self.delivery.message_bytes)

    def _pending(self, whole: Standing, own: Standing, as_of: datetime) -> Iterator[ChangeSet]:
        """Give the change sets that this task has not sent, oldest first."""
        assert whole.attached is not None  # noqa: S101
        if whole.cursor is None and not own.has(whole.attached):
            yield self._write_snapshot(whole.attached)
        timeline, _ = self.log.read()
        cursor = max(found for found in (whole.attached, whole.cursor, own.cursor) if found)
        for edge in timeline.after(cursor, as_of):
            self.log.seal(edge.as_of)
            # What an earlier change set alone has needed may be gone since.
            timeline, _ = self.log.read()
            sealed = timeline.find(edge.as_of)
            assert sealed is not None  # noqa: S101
            yield change_set_of(self.ledger, timeline, sealed)

    def _write_snapshot(self, as_of: datetime) -> ChangeSet:
        while True:
            seen = self.log.await_snapshot()
            with self.log.unless_another_part_was_faster():
                return write_snapshot(self.log, as_of, seen=seen)

    def _drop_snapshot(self) -> None:
        if self.delivery.part == WHOLE:
            drop_snapshot(self.log)
        else:
            # Another part may do so at this moment, too; what is left the next run drops.
            with contextlib.suppress(LedgerConflict):
                drop_snapshot(self.log)

    def _send_again(self, as_of: datetime) -> None:
        timeline, standing = self.log.read()
        edge = timeline.find(as_of)
        assert edge is not None  # noqa: S101
        assert standing.attached is not None  # noqa: S101
        if as_of < standing.attached:
            # It tells of users who have left since, and whose leaving this destination was never told.
            raise HistoryGone(
                f"{self.delivery.destination} was attached as of {instant_text(standing.attached)} and was never "
                f"sent the change set as of {instant_text(as_of)}, so it cannot be sent again"
            )
        if as_of == standing.attached and standing.on_first_run == "enter_all":
            change_set = write_snapshot(self.log, as_of, keep=False)
            self.send(change_set, resend=True)
            drop_table(self.warehouse, table(self.ledger.schema, change_set.table))
        elif edge.previous_as_of is None or edge.dropped:
            raise HistoryGone(
                f"the change set as of {instant_text(as_of)} is not kept, so it cannot be sent again"
            )
        else:
            self.send(change_set_of(self.ledger, timeline, edge), resend=True)

    def tell(self, messages: Sequence[Message]) -> None:
        """Put messages that carry no change, and wait until all are acknowledged."""
        tally = deliver(
            [self.delivery.records(messages, 0)],
            self._put,
            limits=self.delivery.limits,
            destination=self.delivery.destination,
            settled=Settled(),
            on_progress=lambda _: None,
            policy=self._policy,
        )
        self.report.add(tally)
        if tally.failure is not None:
            raise tally.failure

    def send(self, change_set: ChangeSet | EventSet, *, resend: bool = False) -> None:
        """Send one change set from where its last attempt got to, and write down how far this one gets."""
        found = self._find_progress(change_set, resend=resend)
        told: ChangeSet | EventSet | ProfileSet = change_set
        if found is not None and self._exits_kept is not None and isinstance(change_set, ChangeSet):
            told = write_profiles(self.log, change_set, exits_kept=self._exits_kept, keep=not resend)
            found = self._find_progress(change_set, resend=resend)
        if found is None:
            return  # another publisher has delivered it since this one looked
        standing, resumed = found
        rows = Rows(self.log, standing, change_set.as_of, {"resend": True} if resend else {})
        sending = Sending(self.warehouse, self.delivery, told, resumed, append=rows.append, watch=self._watch)
        feeds = sending.feeds()
        sending.write(Event.SENDING)
        try:
            self._deliver(sending, feeds)
        except BaseException:
            with contextlib.suppress(AudienceError):
                sending.stop()
            raise
        finally:
            self.report.add(sending.tally, **sending.left_out)
        if sending.oversized:
            self._keep_rejected(sending, rows, resend=resend)
        sending.write(Event.DELIVERED)
        self.report.change_sets.append(instant_text(change_set.as_of))
        if self.delivery.part != WHOLE and not resend:
            self.report.concluded += self.log.conclude(change_set.as_of, self.rejects.add_parts)
        if told is not change_set and resend:
            drop_table(self.warehouse, table(self.ledger.schema, told.table))
        elif told is not change_set:
            drop_profiles(self.log)

    def _deliver(self, sending: Sending, feeds: Sequence[Iterator[Record]]) -> None:
        sending.tally = deliver(
            feeds,
            self._put,
            limits=self.delivery.limits,
            destination=self.delivery.destination,
            settled=sending.settled,
            on_progress=sending.checkpoint,
            policy=self._policy,
        )
        if sending.tally.failure is not None:
            raise sending.tally.failure
        if sending.missing:
            told = sending.left_out
            raise DeliveryIncomplete(
                f"{sending.delivered:,} of {sending.total:,} changes as of {instant_text(sending.told.as_of)} "
                f"were acknowledged, {told['rejected']:,} are too large, and {told['omitted']:,} have nothing to "
                f"say in {self.delivery.message_format}: the sums do not match"
            )

    def _keep_rejected(self, sending: Sending, rows: Rows, *, resend: bool) -> None:
        """Keep for later runs who was rejected, unless the change set is told for its own sake."""
        count, name = sending.left_out["rejected"], sending.oversized.name
        if isinstance(sending.told, EventSet):
            raise too_large({"rows": count, **name}, self.ledger.schema, self.delivery.message_bytes)
        if self.delivery.part == WHOLE and not resend and not self.delivery.resync:
            rows.standing = self.rejects.add(rows.standing, sending)
        else:
            both = Rejected.together((self.rejected, name)).name
            self.rejected = {"rows": self.rejected["rows"] + count, **both}

    def _try_again(self) -> Mapping[str, Any]:
        """Tell of who was rejected before, once all parts have told all else."""
        whole, own = self.log.look_at_part()
        known = whole.rejects
        if own.cursor is None or whole.has(own.cursor):
            known = self.rejects.try_again(self._tell_again)
        found = known if known.get("rows") else self.rejected
        self.report.still_rejected, self.report.rejected_users = known.get("rows", 0), list(found["users"])
        return found

    def _tell_again(self, change_set: ChangeSet) -> Sending:
        told: ChangeSet | ProfileSet = change_set
        if self._exits_kept is not None:
            told = write_profiles(self.log, change_set, exits_kept=self._exits_kept)
        delivery = replace(self.delivery, part=WHOLE)
        # They are few: after a kill all are told again, with the same ids.
        sending = Sending(self.warehouse, delivery, told, {}, append=lambda *_: None, watch=self._watch)
        try:
            self._deliver(sending, sending.feeds())
        finally:
            self.report.add_records(sending.tally)
            self.report.retold += sending.tally.changes_delivered
        return sending

    def _find_progress(
        self, change_set: ChangeSet | EventSet, *, resend: bool
    ) -> tuple[Standing, Mapping[str, Any]] | None:
        """Find out how far an earlier attempt at a change set got; none if it is delivered."""
        whole, standing = self.log.look_at_part()
        if not resend and any(change_set.is_told_by(s.cursor) for s in (whole, standing)):
            return None
        resumed = {} if resend or standing.sending != change_set.as_of else standing.progress
        if resumed:
            self.delivery.check_begun(resumed, change_set.as_of)
        return standing, resumed
