"""What the ledger says of earlier runs when a run is looked at; it takes no statement of the warehouse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.changes.counts import count_exits_of_day
from airflow_kinesis_audience.core.changes.usual import Usual

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet
    from airflow_kinesis_audience.core.state.timeline import Timeline


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """What guards compare the counts of a run with.

    :param exits_of_day: who exited within the 24 hours before it.
    :param usual: what runs counted so far.
    """

    exits_of_day: Mapping[str | None, int]
    usual: Usual

    @classmethod
    def of(
        cls, timeline: Timeline, as_of: datetime, previous: RecordedChangeSet | None, layout: TableLayout
    ) -> Earlier:
        """Find it for a run.

        :param previous: the change set whose membership the run leads from.
        :param layout: of the run.
        """
        return cls(
            exits_of_day=count_exits_of_day(timeline.change_sets, as_of),
            usual=Usual(
                runs=timeline.counted_runs(as_of) if previous else (),
                as_of=as_of,
                same_mapping=previous is not None and layout.matches(previous.layout),
            ),
        )
