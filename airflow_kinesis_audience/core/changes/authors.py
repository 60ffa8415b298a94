"""Which task computes a sync: two that share one state would each take the members of the other for its own.

The ledger keeps the author of each change set. Another task stops before it computes anything, unless it says that
it goes on with the state of the former one, as after a DAG was renamed.
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

    from airflow_kinesis_audience.core.state.timeline import Timeline


@dataclass(frozen=True, kw_only=True, slots=True)
class Author:
    """The task that computes a sync.

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

    def check(self, timeline: Timeline, sync_id: str, as_of: datetime, query: str) -> None:
        """Check that the state is this author's.

        :raises StateTaken: if another task, or another instance of the same task, keeps its state there.
        """
        newest, there = timeline.newest, timeline.find(as_of)
        known = newest.detail.author if newest is not None else None
        if newest is not None and known is not None and known.task not in (self.task, self.adopts):
            raise StateTaken(
                f"sync {sync_id!r} is computed by the task {known.task}, last as of {instant_text(newest.as_of)}, "
                f"and this is {self.task}: each would take the members of the other for its own. Give this task a "
                f"sync_id of its own; or, if {known.task} was renamed and runs no more, "
                f"adopt_state_of={known.task!r}. Nothing was computed or sent"
            )
        before = there.detail.author if there is not None else None
        now = self.sign(query)
        if before is not None and before.map_index != now.map_index and before.query != now.query:
            raise StateTaken(
                f"sync {sync_id!r} as of {instant_text(as_of)} was computed by instance {before.map_index} of "
                f"the mapped task {before.task}, from another query than that of instance {now.map_index}. "
                "Give each instance a sync_id of its own. Nothing was computed or sent"
            )
