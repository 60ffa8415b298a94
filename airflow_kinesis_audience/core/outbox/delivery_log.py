"""A delivery's rows in the ledger: how far it is, and what it appends.

Whoever knows an old state cannot append, nor does anybody while another task is at work. Where several
tasks share a delivery each appends to the log of its part, and the delivery's own cursor moves once all parts are
there.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace as copy
from typing import TYPE_CHECKING

from msgspec.structs import replace

from airflow_kinesis_audience.core.exceptions import DestinationReplaced, FirstRunRefused, LedgerConflict
from airflow_kinesis_audience.core.outbox.attaching import refuse_while_forgetting, rely_on
from airflow_kinesis_audience.core.outbox.turns import Turns
from airflow_kinesis_audience.core.readers.partitions import WHOLE
from airflow_kinesis_audience.core.sql.statements import drop_table, table
from airflow_kinesis_audience.core.state.delivery_details import (
    ChangeSetDelivered,
    DestinationAttached,
    DestinationRenewed,
    PartOf,
)
from airflow_kinesis_audience.core.state.sync_details import SYNC_LOG, ChangeSetSealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Set
    from contextlib import AbstractContextManager
    from datetime import datetime

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.delivery_details import DeliveryDetail
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.sync_state import SyncState
    from airflow_kinesis_audience.core.state.timeline import Timeline


class DeliveryLog:
    """The rows of one delivery, as of the ledger's last reading or append.

    :param ledger: of the sync.
    :param delivery: where to and how.
    """

    def __init__(self, ledger: Ledger, delivery: Delivery) -> None:
        self.ledger = ledger
        self.delivery = delivery
        self.turns = Turns(ledger, delivery)
        self._attachment: int | None = None

    @property
    def timeline(self) -> Timeline:
        """The sync's timeline."""
        return self.ledger.state.timeline

    @property
    def whole(self) -> DeliveryState:
        """How far the delivery is."""
        return self.ledger.state.delivery(self.delivery.log)

    @property
    def own(self) -> DeliveryState:
        """How far the part is that this task sends; the delivery itself where there are no parts."""
        return self.state_of_part(self.delivery.part_log)

    @property
    def attached(self) -> datetime:
        """Since when the destination gets changes, for a task that found it attached.

        :raises LedgerConflict: if it was detached since, or attached anew.
        """
        attached = self.whole.attached
        if attached is None or self._attachment not in (None, self.whole.attachment):
            raise LedgerConflict(
                f"{self.delivery.destination} was detached from sync {self.ledger.sync_id!r} while this task was "
                "publishing; retry: the next attempt begins again"
            )
        return attached

    def state_of_part(self, log: str) -> DeliveryState:
        """Return how far a part is, by the name of its log."""
        return self.ledger.state.delivery(log).part_of(self.whole)

    def append(self, detail: DeliveryDetail, as_of: datetime, *, lazy: bool = False, last: bool = False) -> None:
        """Append the next row of the delivery's own log; after the ``last`` one this task stops."""
        self._append(self.delivery.log, detail, as_of, lazy=lazy, last=last)

    def _append(self, log: str, detail: DeliveryDetail, as_of: datetime, *, lazy: bool, last: bool) -> None:
        self.turns.check(log)
        goes_on = detail.lease_seconds > 0 and not last
        if isinstance(detail, ChangeSetDelivered) and (found := self.timeline.find(as_of)) is not None:
            detail = replace(detail, inserted=found.inserted)
        detail = replace(self._to_stream(detail), owner=self.delivery.holder if goes_on else "")
        self.ledger.append(log, detail, as_of=as_of, lazy=lazy)

    def _to_stream(self, detail: DeliveryDetail) -> DeliveryDetail:
        """Let a row say which stream is sent to; where none has said so, it is taken as it is seen first."""
        return replace(detail, stream=self.delivery.stream)

    def end_turn(self) -> None:
        """Let another task go on at once where this one failed while it wrote a table."""
        whole = self.whole
        if whole.owner and whole.owner == self.delivery.holder and whole.attached is not None:
            tables = (whole.profiles, whole.snapshot, whole.dead_letters)
            writing = next((found for found in tables if found is not None and found.lease_seconds), None)
            if writing is not None:
                self.append(writing, whole.attached, last=True)

    def find_replaced(self, *, sent_by: str | None = None) -> str:
        """Find whether the stream is another one than what was sent to; gives which that was.

        :param sent_by: the log of the delivery that has sent to it, by default this one's.
        """
        known = self.ledger.state.delivery(sent_by or self.delivery.log).stream
        return known if self.delivery.stream not in ("", known) else ""

    def refuse_replaced(self, known: str, *, of_events: bool = False) -> None:
        """Stop before anything is put to a stream that is another one.

        :param of_events: events are forwarded, and no change sets published.
        :raises DestinationReplaced: always.
        """
        advice = (
            f"It has no member of sync {self.ledger.sync_id!r}, and changes alone do not contain all members. "
            'Nothing was put. Set on_new_stream="enter_all" to deliver all members to it, or "continue" to put '
            "only the changes. An AudienceResyncOperator fills it, too"
        )
        if of_events:
            advice = (
                f"It has no event of sync {self.ledger.sync_id!r}. Nothing was put. "
                'Set on_new_stream="continue" to forward only the events that were not forwarded yet; a run with '
                "resend=True forwards the events of its interval again"
            )
        raise DestinationReplaced(
            f"{self.delivery.destination} is not the stream of the earlier deliveries: that was {known}, and this "
            f"is {self.delivery.stream}. {advice}"
        )

    def accept_stream(self, *, log: str | None = None) -> None:
        """Write down that the destination is the stream that is reached now, if it is another one.

        :param log: of the delivery that has sent to it, by default this one's.
        """
        log = log or self.delivery.log
        while self.find_replaced(sent_by=log):
            state = self.ledger.state.delivery(log)
            as_of = state.cursor or state.attached
            assert as_of is not None  # noqa: S101
            try:
                self.ledger.append(log, self._to_stream(DestinationRenewed()), as_of=as_of)
            except LedgerConflict:
                self.ledger.read()

    def append_to_part(
        self, detail: DeliveryDetail, as_of: datetime, *, lazy: bool = False, last: bool = False
    ) -> None:
        """Append the next row of the log of this task's part; see :meth:`append`."""
        if self.delivery.part != WHOLE:
            part = self.delivery.part
            named = PartOf(number=part.number, of=part.of, delivery=self.delivery.log, attachment=self._attachment)
            detail = replace(detail, part=named)
        self._append(self.delivery.part_log, detail, as_of, lazy=lazy, last=last)

    def hold_attachment(self) -> None:
        """Rely on the destination as it is attached now: what a part puts counts until it is attached anew."""
        self._attachment = self.whole.attachment

    def take_turn(self, is_done: Callable[[], bool], *, prepare: bool) -> None:
        """Wait until it is this task's turn, which relies on nothing that an earlier one has found."""
        self._attachment = None
        self.turns.wait(is_done, prepare=prepare)

    def has(self, state: DeliveryState, as_of: datetime) -> bool:
        """Return whether this delivery, or a part of it, has delivered the change set of an instant.

        :param state: how far it is.
        """
        recorded, begun = self.timeline.find(as_of), self.whole.attached
        if recorded is not None and recorded.inserted and begun is not None and begun < as_of:
            return as_of in state.inserted
        return state.has(as_of)

    def find_inserted(self) -> list[RecordedChangeSet]:
        """List what was inserted before the cursor and this task has not sent, ascending."""
        whole, own = self.whole, self.own
        cursor = max((at for at in (whole.cursor, own.cursor) if at), default=None)
        known = copy(whole, cursor=cursor, inserted=(*whole.inserted, *own.inserted))
        return known.find_inserted(self.timeline)

    def has_begun(self, as_of: datetime) -> bool:
        """Tell whether this task or another has begun to send the change set of an instant."""
        states = [self.whole, *map(self.state_of_part, self.delivery.part_logs)]
        return any(s.sending == as_of or self.has(s, as_of) for s in states)

    @contextlib.contextmanager
    def unless_another_part_was_faster(self) -> Iterator[None]:
        """Let a part wait where another was faster; a task alone stops, and so does a part that was detached."""
        attached = self.whole.attached
        try:
            yield
        except LedgerConflict:
            if self.delivery.part == WHOLE:
                raise
            self.turns.wait()
            if attached and not self.whole.attached:
                raise

    def unless_fenced(self) -> AbstractContextManager[None]:
        """Raise ``LedgerConflict`` for a failure over a table that another publisher, or a run, has dropped."""
        # The ledger may have been read since, and then knows of the drop.
        began_with, attached = self.timeline.standing, self.whole.attached
        return self.ledger.unless_fenced(lambda known: self._find_conflict(known, began_with, attached))

    def _find_conflict(
        self, known: SyncState, began_with: Set[str], attached: datetime | None
    ) -> LedgerConflict | None:
        whole = known.delivery(self.delivery.log)
        is_same = (whole, known.timeline) == (self.whole, self.timeline) and whole.attached == attached
        is_same &= self._attachment in (None, whole.attachment)
        if is_same and began_with <= known.timeline.standing:
            return None
        return LedgerConflict(
            f"another publisher has continued the delivery to {self.delivery.destination} in the meantime, or a "
            "run has dropped old tables; retry: the next attempt continues from there"
        )

    def begin(self, as_of: datetime, on_first_run: str, *, snapshot: str = "") -> None:
        """Attach the destination at an instant, and rely on its membership.

        :param snapshot: the table that this task writes for it next.
        :raises FirstRunRefused: if the author wants to be asked first.
        """
        if on_first_run == "fail":
            raise FirstRunRefused(
                f"{self.delivery.destination} has never received anything from sync {self.ledger.sync_id!r}, and "
                'on_first_run is "fail". Set "enter_all" to put all members, or "baseline" if its consumers '
                "already have them"
            )
        refuse_while_forgetting(self, as_of)
        while self.whole.attached is None:
            # Attached to a membership that is gone, it could never get anything.
            self.timeline.tables(self.ledger.schema, as_of)
            with self.unless_another_part_was_faster():
                self.attach(as_of, on_first_run, snapshot=snapshot)
        rely_on(self, self.attached, just_attached=True)

    def seal(self, as_of: datetime) -> None:
        """Make a change set immutable: from here on a delivery relies on it."""
        while True:
            found = self.timeline.find(as_of)
            assert found is not None  # noqa: S101
            if found.sealed:
                return
            try:
                self.ledger.append(SYNC_LOG, ChangeSetSealed(), as_of=as_of, lazy=True)
            except LedgerConflict:
                self.ledger.read()

    def attach(
        self, as_of: datetime, on_first_run: str, *, snapshot: str = "", until: datetime | None = None
    ) -> None:
        """Let the delivery begin at an instant.

        :param on_first_run: what the destination gets first.
        """
        detail = DestinationAttached(
            on_first_run=on_first_run,
            destination=self.delivery.destination,
            connection=self.delivery.connection,
            message_format=self.delivery.message_format,
            snapshot=snapshot,
            until=until,
        )
        self.append(detail, as_of)

    def begin_after(self, as_of: datetime) -> None:
        """Let the destination have everything up to an instant, whatever it had: another delivery has sent it."""
        known = self.whole.snapshot
        self.attach(as_of, "baseline")
        if known is not None:
            drop_table(self.ledger.warehouse, table(self.ledger.schema, known.table))
