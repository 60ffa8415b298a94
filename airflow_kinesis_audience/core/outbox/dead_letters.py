"""Dead letters: members whose message is larger than a record may be. Kept per destination, and retried.

They stand in a table with the rows of a change set: what the destination must get of each, by what is true at an
instant. When the delivery has come to a later one, or has other options, a new table is made of the old one and
the membership, and sent after everything else. So a dead letter never overtakes a newer change of its user, and
what is delivered is never older than what was. A table counts once the ledger says that it is written, one at a
time. Whichever is old enough is tried once more, and given up if it is too large still.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace as replace_detail

from airflow_kinesis_audience.core.changes.replay import Undelivered, select_undelivered
from airflow_kinesis_audience.core.exceptions import AudienceError, LedgerConflict
from airflow_kinesis_audience.core.outbox.giving_up import (
    after_report,
    count_letters,
    find_end,
    find_given_up,
    join_reports,
    name_open,
    read_clock,
)
from airflow_kinesis_audience.core.outbox.tables import drop_replaced, list_replaced, name_table
from airflow_kinesis_audience.core.outbox.too_large import TooLargeMembers, join_names
from airflow_kinesis_audience.core.outbox.undelivered import (
    at,
    open_since,
    still_undelivered,
    times_before,
    undelivered_of,
)
from airflow_kinesis_audience.core.readers.change_sets import change_set_of
from airflow_kinesis_audience.core.sql.statements import drop_table, table, write_table
from airflow_kinesis_audience.core.state.delivery_details import (
    ChangeSetDelivered,
    DeadLettersTable,
    DeliveryDetail,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from airflow_kinesis_audience.core.outbox.attempt import DeliveryAttempt
    from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
    from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
    from airflow_kinesis_audience.core.state.delivery_details import TooLarge
    from airflow_kinesis_audience.core.state.entries import Entry
    from airflow_kinesis_audience.core.state.letters_given_up import LettersGivenUp


class DeadLetters:
    """The dead letters of one delivery; of all its parts, whichever a task sends.

    :param log: of the delivery.

    A task that publishes sets ``keep``, how long each is kept at most, and ``run``, the instant that it is for.
    """

    def __init__(self, log: DeliveryLog) -> None:
        self.log = log
        self.keep: timedelta | None = None
        self.run: datetime | None = None
        self._schema = log.ledger.schema
        self._warehouse = log.ledger.warehouse

    @property
    def known(self) -> DeadLettersTable:
        """What the ledger says of them."""
        return self.log.whole.dead_letters

    def add(self, attempt: DeliveryAttempt) -> None:
        """Keep what was too large, before the ledger says that the change set is delivered.

        To do it once more, after a kill, changes nothing.
        """
        as_of = attempt.content.as_of
        if not self._has_added(as_of):
            found = undelivered_of(self.log, attempt.content, attempt.too_large, read_clock())
            self._write(self._reached_with(as_of), [found], attempt.too_large, added=as_of)

    def _has_added(self, as_of: datetime) -> bool:
        """Return whether an attempt that was killed has added those of a change set, of several in their order."""
        added, cursor = self.known.added, self.log.whole.cursor
        is_later = cursor is None or as_of > cursor
        return added is not None and (as_of == added or (is_later and as_of < added))

    def add_parts(self, entries: Sequence[Entry]) -> None:
        """Keep what was too large in several tasks, each of its own users, before the delivery's cursor moves.

        :param entries: rows of what they have delivered.
        """
        found: dict[datetime, list[tuple[str, TooLarge]]] = {}
        for entry in entries:
            detail = entry.detail
            if isinstance(detail, ChangeSetDelivered) and detail.too_large_members is not None:
                found.setdefault(entry.as_of, []).append((detail.table, detail.too_large_members))
        whole = self.log.whole
        for as_of, parts in sorted(found.items()):
            if self._has_added(as_of):
                continue
            layout = self.log.timeline.tables(self._schema, as_of).layout
            if whole.snapshot is not None and as_of == whole.attached:
                parts = [(whole.snapshot.table, members) for _, members in parts]  # it may be written again
            undelivered = [
                Undelivered(
                    table=name,
                    layout=layout,
                    rows=at(TooLargeMembers.of(members).positions),
                    recorded_at=read_clock(),
                )
                for name, members in parts
            ]
            members = [TooLargeMembers.of(m) for _, m in parts]
            self._write(self._reached_with(as_of), undelivered, *members, added=as_of)

    def retry(self, send: Callable[[ChangeSet], DeliveryAttempt]) -> DeadLettersTable:
        """Send what is true by now of the dead letters, if that can make a difference.

        :param send: sends a change set whole.
        :returns: what is left.
        """
        self._tidy()
        cursor = self.log.whole.cursor
        if not self.known.rows or cursor is None:
            return DeadLettersTable()
        if self.known.as_of != cursor:
            self._write(cursor, [])
        until = find_end(self.known, self.keep)
        if self.known.rows and (self.known.tried != self.log.delivery.render_config or until is not None):
            self.go_on()
            try:
                attempt = send(self._change_set())
            except BaseException:
                with contextlib.suppress(AudienceError):
                    self.log.append(self.known, cursor, last=True)
                raise
            self._settle(attempt, until)
        return self.known

    def report_given_up(self) -> LettersGivenUp | None:
        """Find what was given up and no run has reported, and write down that this one reports it."""
        report = self.known.report
        if report is None or self.run is None or self.log.turns.of_another():
            return None
        reports, left = after_report(report, self.run, self.log.delivery.part.number)
        if left != report:
            self._append(self._reached, replace_detail(self.known, report=left))
        return report if reports else None

    def go_on(self, *_: object) -> None:
        """Write down that they are being sent, by a task that is at work."""
        self._append(self._reached, replace_detail(self.known, begun=True))

    def forget(self) -> None:
        """Drop the table at the end of a delivery."""
        if self.known != DeadLettersTable():
            self._clear()

    def _settle(self, attempt: DeliveryAttempt, until: datetime | None) -> None:
        """Keep what is too large again, and nothing else.

        :param until: what was recorded up to then is given up, if not none.
        """
        known, found, as_of = self.known, attempt.too_large, attempt.content.as_of
        tried = self.log.delivery.render_config
        if not found:
            self._clear()
            return
        still = undelivered_of(self.log, attempt.content, found, open_since(known))
        given_up = None
        if until is not None:
            given_up = find_given_up(self.log.ledger, known, still.rows, until, largest=found.largest)
        if given_up is None and attempt.left_out["too_large"] == known.rows:
            users, largest = join_names([found])
            users = known.users if known.given_up else users
            self._append(as_of, replace_detail(known, users=users, largest=largest, tried=tried, begun=False))
        else:
            still = replace(still, given_up_until=until if given_up else None)
            self._write(as_of, [still], found, instead=True, tried=tried, given_up=given_up)

    def _write(
        self,
        as_of: datetime,
        undelivered: Sequence[Undelivered],
        *found: TooLargeMembers,
        instead: bool = False,
        tried: str = "",
        given_up: LettersGivenUp | None = None,
        added: datetime | None = None,
    ) -> None:
        """Write the table of what was too large until an instant, and let it count.

        :param instead: leave out what was too large before.
        :param tried: the render config with which they were put already.
        :param given_up: which of them are given up.
        :param added: the instant of the change set of which they are.
        """
        self.log.ledger.read()  # sending may have taken long, and a run may have cleared up
        self._tidy()
        known = self.known
        tables = self.log.timeline.tables(self._schema, as_of)
        users, largest = join_names(found)
        if known.rows and not instead:
            by_profile = bool(undelivered) and self.log.delivery.renderer.traits.exits_kept is not None
            undelivered = [still_undelivered(known, maybe_known=by_profile), *undelivered]
            users, largest = join_names((*found, known))
        name = name_table(self.log, "rejects", as_of)
        self._append(as_of, replace_detail(known, writing=name))
        query = select_undelivered(tables, [*undelivered, *times_before(self.log)])
        target = table(self._schema, name)
        write_table(self._warehouse, target, query, sliced_by="position", has_audience_rows=True)
        rows, asleep, since = count_letters(self.log.ledger, name)
        if asleep:
            users = name_open(self.log.ledger, name)
        report = join_reports(known.report, given_up, self.run)
        try:
            if not rows:
                self._clear(report, added=added)
                return
            self._append(
                as_of,
                DeadLettersTable(
                    table=name,
                    rows=rows,
                    as_of=as_of,
                    layout=tables.layout,
                    # Their messages must not share an id with those of another redelivery.
                    number=self.log.whole.sequence,
                    tried=tried,
                    replaced=known.table or None,
                    users=users,
                    largest=largest,
                    has_times=True,
                    since=since,
                    given_up=asleep,
                    report=report,
                    added=added,
                ),
            )
        except LedgerConflict:
            drop_table(self._warehouse, table(self._schema, name))
            raise
        self._tidy()

    def _clear(self, report: LettersGivenUp | None = None, *, added: datetime | None = None) -> None:
        """Let there be no dead letters any more.

        :param report: what has to be reported of them, beside what had to be before.
        """
        names = tuple(name for name in (self.known.table, self.known.writing) if name)
        report = report or self.known.report
        self._append(self._reached, DeadLettersTable(replaced=names or None, report=report, added=added))
        self._tidy()

    def _tidy(self) -> None:
        if list_replaced(self.known):
            drop_replaced(self.log.ledger, self.log.delivery.log, partial(self._append, self._reached))

    def _append(self, as_of: datetime, detail: DeliveryDetail) -> None:
        self.log.append(detail, as_of)

    @property
    def _reached(self) -> datetime:
        return self.log.whole.cursor or self.log.attached

    def _reached_with(self, as_of: datetime) -> datetime:
        """Return how far the delivery is with a change set: one that was inserted moves no cursor."""
        return max(as_of, self.log.whole.cursor or as_of)

    def _change_set(self) -> ChangeSet:
        known = self.known
        assert known.as_of is not None  # noqa: S101
        assert known.layout is not None  # noqa: S101
        recorded = self.log.timeline.find(known.as_of)
        assert recorded is not None  # noqa: S101
        return replace(
            change_set_of(self.log.ledger, self.log.timeline, recorded),
            previous_as_of=None,
            table=known.table,
            rows=known.rows,
            layout=known.layout,
            redelivered=f"rejected {known.number}",
        )
