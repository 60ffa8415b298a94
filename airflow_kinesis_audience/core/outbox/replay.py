"""Replay: a destination gets the membership of an instant, and then the change sets after it up to another one.

They are those that are kept, with the times, bytes and ids that a publisher to this destination gives them. A
replay is a delivery of its own that comes to an end. Until then it keeps the history that it needs, and whoever
publishes to the same destination waits; after that the destination has everything up to the replay's end, and
publishing goes on right there. What is no longer kept is refused before anything is put.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace as replace_detail

from airflow_kinesis_audience.core.exceptions import (
    AudienceDeleted,
    DestinationReplaced,
    HistoryGone,
    LedgerConflict,
    ReplayUnfinished,
)
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.outbox.attaching import refuse_while_forgetting, rely_on
from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
from airflow_kinesis_audience.core.outbox.option_check import check_options
from airflow_kinesis_audience.core.outbox.remembered import check_nothing_lost
from airflow_kinesis_audience.core.outbox.tables import drop_all
from airflow_kinesis_audience.core.state.cursors import REPLAY
from airflow_kinesis_audience.core.state.delivery_details import (
    DeadLettersTable,
    DestinationDetached,
    DestinationRenewed,
)

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.outbox import OnRejected, Outbox
    from airflow_kinesis_audience.core.outbox.remembered import Remembered
    from airflow_kinesis_audience.core.outbox.too_large import TooLargeSummary
    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """What is to be replayed.

    :param since: of the newest change set at or before it comes the membership.
    :param until: the newest change set at or before it is the last one; none for the newest of all.
    """

    since: datetime
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.until is not None and self.until < self.since:
            raise ValueError(
                f"since is {instant_text(self.since)} and until {instant_text(self.until)}; expected until at or "
                "after since"
            )


def replay(
    outbox: Outbox,
    delivery: Delivery,
    span: Span,
    *,
    on_rejected: OnRejected = "fail",
    remembered: Remembered | None = None,
) -> datetime:
    """Replay what is kept of a span, or go on where an earlier attempt stopped.

    :param outbox: of the same delivery with a ``replay`` name, which tells one replay from another.
    :param delivery: what the destination gets, or is to get, its changes by.
    :param on_rejected: what it means if members are too large for a record, once all else is delivered.
    :param remembered: how far the delivery was, as it is known outside of the ledger.
    :returns: the instant up to which the destination has everything.
    :raises HistoryGone: if not all of the span is kept; the sentence says from when on it is.
    :raises ValueError: if the destination has, or is getting, more than the replay would give it.
    :raises ReplayUnfinished: if another replay to it is not finished.
    :raises MessageTooLarge: if members are too large for a record, and it is to ``fail``.
    :raises DeliveryIncomplete: if records were not acknowledged; the next attempt sends exactly those.
    """
    task = _Replay(outbox, DeliveryLog(outbox.ledger, delivery), span, remembered)
    found = outbox.in_turn(task.work, lambda: outbox.log.whole.replayed is not None)
    if on_rejected == "fail" and found.rows:
        raise found.error(outbox.ledger.schema, outbox.delivery.message_bytes)
    until = outbox.log.whole.replayed
    assert until is not None  # noqa: S101
    return until


class _Replay:
    """One attempt at a replay, while it has its turn.

    :param changes: the log by which the destination gets its changes otherwise.
    """

    def __init__(self, outbox: Outbox, changes: DeliveryLog, span: Span, remembered: Remembered | None) -> None:
        self._outbox, self._log, self._changes = outbox, outbox.log, changes
        self._ledger, self._span, self._remembered = outbox.ledger, span, remembered

    def work(self) -> TooLargeSummary:
        """Send what is left of the replay, and let publishing go on after it; gives what is too large."""
        if self._log.whole.replayed is not None:
            return self._outbox.describe_rejected(self._changes.whole.dead_letters)
        if self._log.whole.attached is None:
            self._begin()
        elif replaced := self._log.find_replaced():
            raise DestinationReplaced(
                f"{self._log.delivery.destination} was deleted and created again during the replay: the replay "
                f"started on {replaced}, and this is {self._log.delivery.stream}. Nothing more was put; trigger "
                "another replay"
            )
        if self._log.whole.cursor is None and self._log.whole.sending is None:
            self._take_over()
        until = self._until()
        found = self._outbox.drain_in_turn(until)
        self._hand_over(until)
        return found

    def _until(self) -> datetime:
        """Return up to when the destination gets everything by the replay, which has begun."""
        attached = self._log.whole.destination
        assert attached is not None  # noqa: S101
        assert attached.until is not None  # noqa: S101
        return attached.until

    def _begin(self) -> None:
        """Let the replay begin, which from then on keeps what it needs."""
        self._log.turns.refuse_while_replayed()
        check_nothing_lost(self._changes, self._remembered)
        start, end = self._find_ends()
        self._check_kept(start, end)
        self._check_reach(end.as_of)
        after = self._log.timeline.after(start.as_of, end.as_of)
        check_options(self._ledger, self._log.delivery, [start, *after])
        refuse_while_forgetting(self._log, start.as_of)
        self._log.attach(start.as_of, REPLAY, until=end.as_of)
        self._ledger.read()
        rely_on(self._log, start.as_of, just_attached=True)

    def _take_over(self) -> None:
        """Make sure that nothing is gone by now, and that nobody else is about to put anything.

        Of two replays that begin at once one at least sees the other here, and gives way.
        """
        attached = self._log.attached
        start, end = (self._log.timeline.find(at) for at in (attached, self._until()))
        assert start is not None  # noqa: S101
        assert end is not None  # noqa: S101
        try:
            self._log.turns.refuse_while_replayed()
            self._check_kept(start, end)
            self._check_reach(end.as_of)
        except (HistoryGone, ReplayUnfinished, ValueError):
            self._log.append(DestinationDetached(), attached)
            raise
        for other in self._published():
            # Who has not seen the replay cannot append any more; what is half sent is in the replay.
            self._ledger.append(
                other.log, DestinationRenewed(part=other.part, stream=other.stream), as_of=end.as_of
            )

    def _hand_over(self, until: datetime) -> None:
        """Let the destination have everything up to an instant, and end the replay."""
        log, changes = self._log, self._changes
        while not changes.whole.has(until):
            try:
                changes.begin_after(until)
            except LedgerConflict:
                self._ledger.read()
        changes.accept_stream()
        mine, known = log.whole.dead_letters, changes.whole.dead_letters
        if mine.rows and known.table != mine.table:
            # Whoever was too large before is in the replay, too.
            old = tuple(name for name in (known.table, known.writing) if name)
            taken = replace_detail(mine, begun=False, replaced=old or None, report=known.report)
            changes.append(taken, until)
        if mine != DeadLettersTable():
            log.append(DeadLettersTable(), until)
        drop_all(log)
        log.append(DestinationDetached(replayed=True), until)

    def _published(self) -> list[DeliveryState]:
        """List the logs by which the destination gets its changes otherwise: the delivery's, and its parts'."""
        own = self._changes.delivery.log
        states = self._ledger.state.deliveries.values()
        return [self._changes.whole, *(s for s in states if s.part and s.part.delivery == own)]

    def _find_ends(self) -> tuple[RecordedChangeSet, RecordedChangeSet]:
        """Find the change sets with which the replay begins and ends."""
        timeline, ledger, span = self._log.timeline, self._ledger, self._span
        if timeline.closed is not None:
            raise AudienceDeleted(
                f"sync {ledger.sync_id!r} was deleted as of {instant_text(timeline.closed)}, so there is nothing "
                "to replay; nothing was sent"
            )
        if timeline.newest is None:
            raise HistoryGone(
                f"sync {ledger.sync_id!r} has no membership in schema {ledger.schema!r}; run its diff task first"
            )
        first = timeline.change_sets[0]
        until = timeline.newest.as_of if span.until is None else span.until
        known = [c for c in timeline.change_sets if c.as_of <= until]
        start = next((c for c in reversed(known) if c.as_of <= span.since), None)
        if start is None and known and first.previous_as_of is None:
            start = first  # nobody was a member before
        if start is None:
            raise self._gone(until)
        return start, known[-1]

    def _check_kept(self, start: RecordedChangeSet, end: RecordedChangeSet) -> None:
        if not self._is_kept(start, end):
            raise self._gone(end.as_of)

    def _is_kept(self, start: RecordedChangeSet, end: RecordedChangeSet) -> bool:
        """Return whether everything is kept of which a replay is made."""
        timeline, schema = self._log.timeline, self._ledger.schema
        by_profile = self._log.delivery.renderer.traits.exits_kept is not None
        try:
            timeline.tables(schema, start.as_of)
            for found in timeline.after(start.as_of, end.as_of):
                for at in (found.previous_as_of, found.as_of) if by_profile else ():
                    assert at is not None  # noqa: S101
                    timeline.tables(schema, at, found.layout)
        except HistoryGone:
            return False
        return True

    def _gone(self, until: datetime) -> HistoryGone:
        """Make the error that says from which instant on a replay can be made."""
        timeline = self._log.timeline
        newest = timeline.newest
        assert newest is not None  # noqa: S101
        last = next((c for c in reversed(timeline.change_sets) if c.as_of <= until), newest)
        for end in (last, newest):
            found = next((c for c in timeline.change_sets if c.as_of <= end.as_of and self._is_kept(c, end)), None)
            if found is not None:
                return HistoryGone(
                    f"sync {self._ledger.sync_id!r} no longer keeps everything from "
                    f"{instant_text(self._span.since)} to {instant_text(until)}: history older than keep_history "
                    f"was dropped. A replay up to {instant_text(end.as_of)} can start at "
                    f"{instant_text(found.as_of)} or later. Nothing was sent"
                )
        return HistoryGone(
            f"sync {self._ledger.sync_id!r} no longer keeps a membership, so nothing can be replayed"
        )

    def _check_reach(self, until: datetime) -> None:
        """Check that the destination has nothing that comes after the replay."""
        reached = [at for s in self._published() for at in (s.attached, s.cursor, s.sending) if at is not None]
        if reached and max(reached) > until:
            raise ValueError(
                f"{self._log.delivery.destination} has the changes of sync {self._ledger.sync_id!r} up to "
                f"{instant_text(max(reached))}, and the replay would end at {instant_text(until)}: a consumer "
                "that starts with the replay would miss the changes in between. Set a later until, or remove it. "
                "Nothing was sent"
            )
