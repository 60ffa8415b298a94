"""Which task computes a sync: two that share one state would each take the members of the other for its own.

The ledger keeps the author of each change set and each interval of events. Another task stops before it computes
or sends anything, unless it says that it goes on with the state of the former one, as after a DAG was renamed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import StateTaken
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.state.sync_details import ChangeSetAuthor

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.state.cursors import DeliveryState
    from airflow_kinesis_audience.core.state.sync_state import SyncState


@dataclass(frozen=True, kw_only=True, slots=True)
class Author:
    """The task that computes a sync, or forwards its events.

    :param task: ``dag_id.task_id``.
    :param map_index: of an instance of a mapped task; -1 of one that is alone.
    :param adopts: the task whose state goes on as this one's, as ``dag_id.task_id``.
    """

    task: str
    map_index: int = -1
    adopts: str | None = None

    def sign(self, query: str) -> ChangeSetAuthor:
        """Make what the ledger keeps: the query as a digest, as its text may name a person."""
        digest = hashlib.blake2b(query.encode(), digest_size=8).hexdigest()
        return ChangeSetAuthor(task=self.task, map_index=self.map_index, query=digest)

    def check(self, state: SyncState, sync_id: str, as_of: datetime, query: str) -> None:
        """Check that the state is this author's.

        :raises StateTaken: if another task, or another instance of the same task, keeps its state there.
        """
        self.check_kind(state, sync_id, events=False)
        timeline = state.timeline
        newest, there = timeline.newest, timeline.find(as_of)
        known = newest.detail.author if newest is not None else None
        if newest is not None and known is not None and known.task not in (self.task, self.adopts):
            raise StateTaken(
                f"sync {sync_id!r} is computed by the task {known.task}, last as of {instant_text(newest.as_of)}, "
                f"and this is {self.task}: each would treat the other's members as its own. "
                f"{self._describe_choice(known)}. Nothing was computed or sent"
            )
        before = there.detail.author if there is not None else None
        if before is not None and self._is_another_instance(before, query):
            raise StateTaken(
                f"sync {sync_id!r} as of {instant_text(as_of)} was computed by instance {before.map_index} of "
                f"the mapped task {before.task}, from another query than the one of instance {self.map_index}. "
                "Give each instance its own sync_id. Nothing was computed or sent"
            )

    def check_events(self, forwarded: DeliveryState, sync_id: str, end: datetime, query: str) -> None:
        """Check that a delivery of events is this author's.

        :param end: of the interval that is to be forwarded.
        :raises StateTaken: if another task, or another instance of the same task, forwards events by it.
        """
        known, until = forwarded.author, forwarded.signed_until
        if known is None or until is None:
            return
        if known.task not in (self.task, self.adopts):
            raise StateTaken(
                f"events of sync {sync_id!r} are forwarded by the task {known.task}, last up to "
                f"{instant_text(until)}, and this is {self.task}: each would treat the other's intervals as "
                f"forwarded and skip its own events. {self._describe_choice(known)}. Nothing was sent"
            )
        if until == end and self._is_another_instance(known, query):
            raise StateTaken(
                f"events of sync {sync_id!r} up to {instant_text(until)} were forwarded by instance "
                f"{known.map_index} of the mapped task {known.task}, from another query than the one of instance "
                f"{self.map_index}. Give each instance its own sync_id. Nothing was sent"
            )

    @staticmethod
    def check_kind(state: SyncState, sync_id: str, *, events: bool) -> None:
        """Check that a sync has change sets or events, not both: the tables of one are litter to the other.

        :param events: whether events are to be forwarded.
        :raises StateTaken: if the other kind of task keeps its state there.
        """
        forwarding = [
            d.author for d in state.deliveries.values() if d.author is not None and d.attached is not None
        ]
        newest = state.timeline.newest if state.timeline.closed is None else None
        if events and newest is not None:
            by = f" by the task {newest.detail.author.task}" if newest.detail.author is not None else ""
            raise StateTaken(
                f"change sets of sync {sync_id!r} are computed{by}, and this task forwards events: each would "
                "drop the other's tables. Give this task its own sync_id. Nothing was sent"
            )
        if forwarding and not events:
            raise StateTaken(
                f"events of sync {sync_id!r} are forwarded by the task {forwarding[0].task}, and this one "
                "computes change sets: each would drop the other's tables. Give this task its own sync_id. Or "
                "give the other task one, and detach its destinations from this sync. Nothing was computed or sent"
            )

    def _is_another_instance(self, known: ChangeSetAuthor, query: str) -> bool:
        now = self.sign(query)
        return known.map_index != now.map_index and known.query != now.query

    @staticmethod
    def _describe_choice(known: ChangeSetAuthor) -> str:
        return (
            f"Give this task its own sync_id. Or, if {known.task} was renamed and no longer runs, set "
            f"adopt_state_of={known.task!r}"
        )
