"""The pace of an audience's runs: how much time usually lies between two of them, and since when nothing changes.

Pure: instants and numbers of changes in, numbers out. Only runs that count for the audience are known here, so
while it is held, the time since the last of them grows. What somebody triggers between two runs is a run like all
others: it makes the usual time no shorter, and takes no whole interval of it.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.changes.levels import SEASON_RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

BETWEEN = 0.1
"""A run after a smaller share of an interval is one between two others."""

EARLY = 0.1
"""A run is due so much of an interval before it is over."""


class RunPace:
    """Earlier runs, and as the last one the run that is looked at.

    :ivar hours: since the run before, of each.
    :ivar changes: how many each has.
    """

    def __init__(self, since: datetime, at: Sequence[datetime], changes: Sequence[int]) -> None:
        """Look at runs.

        :param since: the instant from which the first one leads.
        """
        self.hours = [_hours(b - a) for a, b in pairwise([since, *at])]
        self.changes = changes

    @cached_property
    def usually(self) -> float:
        """Hours between two runs; those between do not count while a third of the others is left."""
        hours = sorted(self.hours[-1 - SEASON_RUNS : -1])
        least = BETWEEN * hours[2 * len(hours) // 3]
        return max(median(h for h in hours if h >= least), 1e-3)

    @cached_property
    def longer(self) -> Sequence[float]:
        """How much longer than usual it is since the last run with a change."""
        quiet, found = 0.0, []
        for hours, changes in zip(self.hours, self.changes, strict=True):
            whole = hours + quiet
            quiet = 0.0 if changes else whole
            found.append(whole / self.usually if whole > 1.5 * self.usually else 1.0)
        return found

    @cached_property
    def quiet(self) -> Sequence[float]:
        """How many intervals it is since the last run with a change; where runs were missed, a run is one."""
        quiet, found = 0.0, []
        for hours, changes in zip(self.hours, self.changes, strict=True):
            whole = quiet + min(hours / self.usually, 1.0)
            quiet = 0.0 if changes else whole
            found.append(whole)
        return found

    @property
    def quiet_runs(self) -> int:
        """How many runs before this one have had no change, in a row."""
        return next((n for n, changes in enumerate(reversed(self.changes[:-1])) if changes), len(self.changes) - 1)


def _hours(time: timedelta) -> float:
    return time.total_seconds() / 3600
