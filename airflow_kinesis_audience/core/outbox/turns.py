"""Turns: of several tasks that publish one delivery, one is at work, and the others wait before they put anything.

Each row of a delivery's log says who is at work until the next one comes: a task that is about to write a table,
or that sends, and whose checkpoints are its signs of life. No clocks are compared. Who waits measures by its own
clock for how long nothing was written, and who sends writes a row before that time is over, or puts nothing more.
A replay has a log of its own, and takes turns with those who publish to its destination all the same.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import LedgerConflict, ReplayUnfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.ledger import Ledger

WAIT_SECONDS = 900.0
"""How long a task waits while another one is at work and shows it; then it asks for a retry."""

_FIRST_LOOK_SECONDS, _LAST_LOOK_SECONDS = 0.5, 10.0
"""After which the ledger is read again; each time it takes twice as long."""

REPLAY_SECONDS = 60.0
"""So long a replay may write no row between two change sets; one that sends writes one earlier."""


class Turns:
    """Whose turn it is, of those who publish a delivery.

    :param ledger: of the sync.
    :param delivery: where to and how, and who this task is.
    """

    def __init__(self, ledger: Ledger, delivery: Delivery) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._given_up: dict[str, int] = {}

    def of_another(self) -> list[DeliveryState]:
        """List the logs, of the delivery and of this task's part, that another task is at work on."""
        own = {self._delivery.log, self._delivery.part_log}
        states = [self._ledger.state.delivery(log) for log in own]
        return [state for state in (*states, *self._beside(own)) if self._is_of_another(state)]

    def refuse_while_replayed(self) -> None:
        """Refuse to go on with a destination that a replay is not done with.

        :raises ReplayUnfinished: if there is one.
        """
        found = next((s for s in self._beside({self._delivery.log}) if s.is_replay), None)
        if found is not None:
            raise ReplayUnfinished(
                f"a replay of sync {self._ledger.sync_id!r} to {self._delivery.destination} is not finished, and "
                "later changes wait for it. Nothing was put. If its task failed, clear the task: the replay "
                "continues where it stopped. To give it up, run `detach` and then a resync"
            )

    def _beside(self, own: set[str]) -> Iterator[DeliveryState]:
        """Give the other deliveries of this destination where one of the two is a replay."""
        mine = self._delivery
        published = replace(mine, replay="").log if mine.replay else ""
        for state in self._ledger.state.deliveries.values():
            if state.log in own:
                continue
            found = state.destination
            named = found and (found.destination, found.connection, found.message_format)
            same = named == (mine.destination, mine.connection, mine.message_format)
            if same and state.is_replay and "" not in (state.stream, mine.stream):
                same = state.stream == mine.stream  # of a stream that is no more nobody hears
            if (same and (mine.replay or state.is_replay)) or (state.part and state.part.delivery == published):
                yield state

    def check(self, log: str) -> None:
        """Refuse to write to a log that another task is at work on.

        :raises LedgerConflict: if one is.
        """
        if self._is_of_another(self._ledger.state.delivery(log)):
            raise self._conflict()

    def wait(self, is_done: Callable[[], bool] = lambda: False, *, prepare: bool = False) -> None:
        """Read the ledger until no other task is at work, or this one has nothing left to do.

        :param is_done: tells by the ledger whether nothing is left to do.
        :param prepare: make the ledger where it is missing.
        :raises LedgerConflict: if another one is at work for too long.
        """
        began, pause = time.monotonic(), _FIRST_LOOK_SECONDS
        seen: dict[str, tuple[int, float]] = {}
        while True:
            (self._ledger.prepare if prepare else self._ledger.read)()
            now = time.monotonic()
            busy = self.of_another()
            for state in busy:
                if seen.get(state.log, (0, now))[0] != state.sequence:
                    seen[state.log] = state.sequence, now
            silent = {s.log: s.sequence for s in busy if now - seen[s.log][1] >= self._patience(s)}
            if len(silent) == len(busy):
                self._given_up |= silent
                return
            if is_done():
                return
            if now - began >= WAIT_SECONDS:
                raise self._conflict()
            time.sleep(pause)
            pause = min(2 * pause, _LAST_LOOK_SECONDS)

    def _is_of_another(self, state: DeliveryState) -> bool:
        at_work = state.owner not in ("", self._delivery.holder)
        at_work |= state.is_replay and state.log != self._delivery.log
        return at_work and self._given_up.get(state.log) != state.sequence

    @staticmethod
    def _patience(state: DeliveryState) -> float:
        """Return for how many seconds a task that is at work may write no row."""
        return REPLAY_SECONDS if state.is_replay and not state.owner else state.lease_seconds

    def _conflict(self) -> LedgerConflict:
        return LedgerConflict(
            f"another task is delivering to {self._delivery.destination} at this moment, and this task has put "
            "nothing of what is left. Retry: the next attempt continues from what the other task has recorded. To "
            "run one at a time, set max_active_tis_per_dag=1"
        )
