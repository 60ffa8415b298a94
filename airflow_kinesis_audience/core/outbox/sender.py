"""Sends one change set, or its events or profiles, to one destination, from where its last attempt got to.

What is about to be sent is written down before the first record, and how far it got again and again; the cursor
moves when the sums match. Which change sets are to be sent is not decided here.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace as replace_detail

from airflow_kinesis_audience.core.changes.guards import NO_PERMISSION
from airflow_kinesis_audience.core.exceptions import AudienceError, DeliveryIncomplete, LedgerConflict
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.attempt import DeliveryAttempt
from airflow_kinesis_audience.core.outbox.dead_letters import DeadLetters
from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
from airflow_kinesis_audience.core.outbox.notice_log import NoticeLog
from airflow_kinesis_audience.core.outbox.parts import check_parts, conclude
from airflow_kinesis_audience.core.outbox.report import ForwardedEvents, Progress, Report
from airflow_kinesis_audience.core.outbox.tables import (
    announce_litter,
    drop_profiles,
    find_or_write_profiles,
    write_profiles,
)
from airflow_kinesis_audience.core.outbox.too_large import TooLargeSummary
from airflow_kinesis_audience.core.producer.backoff import RetryPolicy
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.producer.records import Destination
from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
from airflow_kinesis_audience.core.readers.events import EventSet
from airflow_kinesis_audience.core.readers.partitions import WHOLE
from airflow_kinesis_audience.core.state.delivery_details import AttemptStarted, ChangeSetDelivered
from airflow_kinesis_audience.core.state.ledger_tables import RowLeftBehind
from airflow_kinesis_audience.core.state.sync_details import ChangeSetInserted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.guards import Permission
    from airflow_kinesis_audience.core.model.messages import Message
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.producer.records import Outcome, Record
    from airflow_kinesis_audience.core.readers.profiles import ProfileSet
    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.delivery_details import AttemptDetail, DeadLettersTable
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet

T = TypeVar("T")

_TRIES = 20
"""So often a task begins when another one begins at the same time."""


class Sender:
    """Sends change sets of one delivery.

    :param ledger: of the sync.
    :param delivery: where to and how.
    :param put: puts one batch; one outcome per record.
    :param permission: which guards' breaches the run may pass with.
    :param watch: called after every response.
    """

    def __init__(
        self,
        ledger: Ledger,
        delivery: Delivery,
        put: Callable[[Sequence[Record]], list[Outcome]],
        *,
        policy: RetryPolicy | None = None,
        permission: Permission = NO_PERMISSION,
        watch: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.ledger = ledger
        self.warehouse = ledger.warehouse
        self.delivery = delivery
        self.log = DeliveryLog(ledger, delivery)
        self.report = Report()
        self.forwarded = ForwardedEvents()
        self.dead_letters = DeadLetters(self.log)
        self.too_large = TooLargeSummary()
        self._exits_kept = delivery.renderer.traits.exits_kept
        self._put = put
        self._policy = policy or RetryPolicy()
        self._permission = permission
        self._watch = watch
        self._half_sent = False
        self._counted_again: dict[str, int] = {}
        self.notices = NoticeLog()

    def lasting_counts(self) -> dict[str, int]:
        """Return the counts of which the next attempt will count a part again, each without that part."""
        return {n: getattr(self.report, n) - v for n, v in self._counted_again.items()}

    def in_turn(
        self, work: Callable[[], T], is_done: Callable[[], bool] = lambda: False, *, prepare: bool = False
    ) -> T:
        """Do something with the delivery while no other task is at work on it.

        Where another one is faster this one waits, and looks again. It stops where something of its own is half
        sent, and where nobody could see that another is at work.

        :param is_done: tells by the ledger whether nothing is left to do, so that nobody need be waited for.
        :param prepare: make the ledger where it is missing.
        :raises LedgerConflict: if it stops, or another one is at work for too long; a retry goes on from there.
        """
        tries = 0
        while True:
            self.log.take_turn(is_done, prepare=prepare)
            try:
                return work()
            except LedgerConflict as conflict:
                self._drop_superseded()
                tries += 1
                is_seen = self.delivery.owner or isinstance(conflict, RowLeftBehind)
                if self._half_sent or not is_seen or tries == _TRIES:
                    raise
            except BaseException:
                with contextlib.suppress(AudienceError):
                    self.log.end_turn()
                raise

    def _drop_superseded(self) -> None:
        """Drop what this task has written and another has gone on without."""

    def describe_rejected(self, known: DeadLettersTable) -> TooLargeSummary:
        """Say in the report who is too large still."""
        found = TooLargeSummary.of(known) if known.open else self.too_large
        self.report.still_rejected, self.report.rejected_users = known.open, list(found.users)
        return found

    def put_notices(self, messages: Sequence[Message]) -> None:
        """Put messages that carry no change, and wait until all are acknowledged."""
        records = list(self.delivery.records(messages, 0))
        with self.notices.acknowledged(records) as acknowledged:
            result = produce(
                [records],
                self._destination,
                acknowledged=acknowledged,
                on_progress=lambda _: None,
                policy=self._policy,
            )
        self.report.add(result)
        if result.failure is not None:
            raise result.failure

    @property
    def _destination(self) -> Destination:
        return Destination(put=self._put, limits=self.delivery.limits, name=self.delivery.destination)

    def send(self, change_set: ChangeSet | EventSet, *, resend: bool = False) -> None:
        """Send one change set from where its last attempt got to, and write down how far this one gets."""
        if self.delivery.part != WHOLE:
            self.ledger.read()  # other tasks move the delivery on
            check_parts(self.log)
        if not resend and any(self._is_delivered_by(s, change_set) for s in (self.log.whole, self.log.own)):
            return  # another publisher has delivered it meanwhile
        is_late = not resend and change_set.as_of in {c.as_of for c in self.log.find_inserted()}
        resumed = self._find_checkpoint(change_set, resend=resend)
        content = self._gather(change_set, resend=resend) if isinstance(change_set, ChangeSet) else change_set

        def append(detail: AttemptDetail, last: bool) -> None:
            detail = replace_detail(detail, resend=resend)
            # Nobody has to see that an attempt has begun, nor its end before the snapshot is dropped.
            lazy = isinstance(detail, AttemptStarted) or (
                isinstance(detail, ChangeSetDelivered) and self._is_snapshot(detail.table)
            )
            self.log.append_to_part(detail, change_set.as_of, lazy=lazy, last=last)

        attempt = DeliveryAttempt(
            self.warehouse, self.delivery, content, resumed, append=append, watch=self._watch
        )
        groups = attempt.partition_groups()
        attempt.write(AttemptStarted)
        self._half_sent = True
        try:
            self._produce(attempt, groups)
        except BaseException:
            with contextlib.suppress(AudienceError):
                attempt.stop()
            # The checkpoint has them, or they are rendered again.
            left_out = attempt.left_out
            rejected = attempt.result.changes_failed + left_out.pop("too_large")
            self._counted_again = {**left_out, "rejected": rejected}
            raise
        finally:
            self.report.add(attempt.result, **attempt.left_out)
        if attempt.too_large and is_late:
            self._leave_out_inserted_before(change_set.as_of)
        elif attempt.too_large:
            self._keep_too_large(attempt, resend=resend)
        attempt.write(ChangeSetDelivered)
        self._half_sent = False
        self.report.change_sets.append(instant_text(change_set.as_of))
        if self.delivery.part != WHOLE and not resend:
            self.report.concluded += conclude(self.log, change_set.as_of, self.dead_letters.add_parts)
        if content is not change_set and not resend:
            drop_profiles(self.log)

    def leave_out(self, recorded: RecordedChangeSet) -> None:
        """Write down that the destination does not get a change set that was inserted before what it has."""
        detail = ChangeSetDelivered(
            render_config=self.delivery.render_config, table=recorded.table, omitted=recorded.rows
        )
        self.log.append_to_part(detail, recorded.as_of)
        self.report.omitted += recorded.rows
        if self.delivery.part != WHOLE:
            conclude(self.log, recorded.as_of, lambda _: None)

    def _leave_out_inserted_before(self, compensated_at: datetime) -> None:
        """Leave out an inserted change set whose compensation does not reach all of its users."""
        for recorded in self.log.find_inserted():
            detail = recorded.detail
            if isinstance(detail, ChangeSetInserted) and detail.compensated_at == compensated_at:
                self.leave_out(recorded)

    def _is_delivered_by(self, state: DeliveryState, content: ChangeSet | EventSet) -> bool:
        if isinstance(content, EventSet):
            return content.is_delivered_by(state.cursor)
        return self.log.has(state, content.as_of)

    def _is_snapshot(self, name: str) -> bool:
        """Return whether a table is the snapshot that this task drops next."""
        known = self.log.whole.snapshot
        return self.delivery.part == WHOLE and known is not None and known.table == name and not known.end

    def _find_checkpoint(self, change_set: ChangeSet | EventSet, *, resend: bool) -> AttemptDetail | None:
        """Find out how far an earlier attempt at a change set got."""
        own = self.log.own
        if resend or own.sending != change_set.as_of or own.checkpoint is None:
            return None
        self.delivery.check_resumable(own.checkpoint, change_set.as_of)
        return own.checkpoint

    def _gather(self, change_set: ChangeSet, *, resend: bool) -> ChangeSet | ProfileSet:
        """Gather what is sent of a change set: itself, or the profiles that it is about."""
        if self._exits_kept is None:
            return change_set
        if resend:
            name = announce_litter(self.log, "profiles", change_set.as_of)
            return write_profiles(self.log, change_set, name, exits_kept=self._exits_kept)
        return find_or_write_profiles(self.log, change_set, exits_kept=self._exits_kept)

    def _produce(self, attempt: DeliveryAttempt, groups: Sequence[Iterator[Record]]) -> None:
        try:
            attempt.result = produce(
                groups,
                self._destination,
                acknowledged=attempt.acknowledged,
                on_progress=attempt.checkpoint,
                policy=self._policy,
            )
        finally:
            attempt.close()
        if attempt.result.failure is not None:
            raise attempt.result.failure
        if attempt.missing:
            left_out = attempt.left_out
            raise DeliveryIncomplete(
                f"{attempt.delivered:,} of {attempt.total:,} changes as of {instant_text(attempt.content.as_of)} "
                f"were acknowledged, {left_out['too_large']:,} are too large, {left_out['filtered']:,} are left "
                f"out by a transform, and {left_out['omitted']:,} cannot be expressed in "
                f"{self.delivery.message_format}: the sums do not match. A transform must always return the same "
                "members for the same frame; without one, this is a bug. Retry, and report it if it persists"
            )

    def _keep_too_large(self, attempt: DeliveryAttempt, *, resend: bool) -> None:
        """Keep members that are too large as dead letters, unless later runs do not have to try them again."""
        rows = attempt.left_out["too_large"]
        if isinstance(attempt.content, EventSet):
            found = TooLargeSummary().and_those(rows, attempt.too_large)
            raise found.error(self.ledger.schema, self.delivery.message_bytes)
        if self.delivery.part == WHOLE and not resend and not self.delivery.resync:
            self.dead_letters.add(attempt)
        else:
            self.too_large = self.too_large.and_those(rows, attempt.too_large)

    def _redeliver(self, change_set: ChangeSet) -> DeliveryAttempt:
        content = self._gather(change_set, resend=False)
        delivery = replace(self.delivery, part=WHOLE)
        # They are few: after a kill all are sent again, with the same ids.
        attempt = DeliveryAttempt(
            self.warehouse, delivery, content, None, append=self.dead_letters.go_on, watch=self._watch
        )
        try:
            self._produce(attempt, attempt.partition_groups())
        except BaseException:
            self._counted_again = {"redelivered": attempt.result.changes_delivered}
            raise
        finally:
            self.report.add_records(attempt.result)
            self.report.redelivered += attempt.result.changes_delivered
        return attempt
