"""A wait that holds no worker slot: a task whose stream throttles it is deferred, and continues after a pause.

It ends as any attempt does: what was put is recorded, and its turn at the delivery is over. So the task that
Airflow starts after the pause continues there, and another run that came first has left nothing of it to do.
Between the two Airflow keeps how long the task has waited, and the counts for its summary.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import DestinationThrottled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 300.0
"""Each pause that was in vain is followed by one of twice its length."""

SLOW_SECONDS = 60.0
"""A stream that accepts next to nothing for that long is waited for."""

_ADDED = (
    *("change_sets", "messages", "records", "bytes", "delivered", "rejected", "omitted", "excluded", "filtered"),
    *("retried", "seconds", "concluded", "redelivered", "statements", "statement_seconds", "bytes_scanned"),
    *("events", "intervals", "dropped_rows"),
)
"""What a summary counts anew after each pause."""

_BY_NAME = "placeholders"
"""The same, of each name."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """What Airflow keeps of a task while it is deferred.

    :param seconds: how long it has waited in all.
    :param in_vain: how many of its last pauses ended with a stream that accepted nothing.
    :param counts: of its summary, until now.
    :param notices: which messages about whole audiences it has put, as ``NoticeLog`` keeps it.
    """

    seconds: float = 0.0
    in_vain: int = 0
    counts: Mapping[str, Any] = field(default_factory=dict)
    notices: Mapping[str, str] = field(default_factory=dict)

    def add_to(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        """Give counts together with those from before the pauses."""
        return add_counts(self.counts, counts)


def add_counts(before: Mapping[str, Any], counts: Mapping[str, Any]) -> dict[str, Any]:
    """Add the counts of a task to those from before a pause; what no count is, is as it was last."""
    sums: dict[str, Any] = {n: before[n] + v for n, v in counts.items() if n in _ADDED and n in before}
    if _BY_NAME in before:
        sums[_BY_NAME] = dict(Counter(before[_BY_NAME]) + Counter(counts.get(_BY_NAME, {})))
    # The first part knows where the task began; to the next one all before it is forwarded.
    began = {"start": before["start"]} if "start" in before else {}
    return {**before, **counts, **sums, **began}


class DeferringIfThrottled:
    """Within it, a delivery that fails by throttling alone defers the task, if that may wait any longer.

    :param operator: whose method ``resume`` continues after the pause, and whose ``longest_wait`` says how long
        the task may wait in all.
    :param waits: those until now.
    :param may_wait: whether the task may be deferred.
    """

    def __init__(self, operator: Any, waits: Waits, *, may_wait: bool) -> None:
        if may_wait and not isinstance(operator.longest_wait, timedelta):
            raise ValueError(f"longest_wait is {operator.longest_wait!r}; expected a timedelta")
        self.may_wait = may_wait
        self._operator = operator
        self._waits = waits
        self._counts: Mapping[str, Any] = {}
        self._notices: Mapping[str, str] = {}

    @property
    def _seconds_left(self) -> float:
        longest_wait: timedelta = self._operator.longest_wait
        return longest_wait.total_seconds() - self._waits.seconds

    def pauses(
        self, error: BaseException | None, *, counts: Mapping[str, Any], notices: Mapping[str, str]
    ) -> bool:
        """Return whether the task pauses and then continues, and keep what it has done until then.

        :param error: that ends this part of the attempt, if it fails.
        :param counts: what the next part does not count again.
        :param notices: which messages about whole audiences were put.
        """
        self._counts, self._notices = counts, notices
        return self.may_wait and isinstance(error, DestinationThrottled) and self._seconds_left > 0

    def __enter__(self) -> DeferringIfThrottled:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, DestinationThrottled) or not self.may_wait:
            return
        left = self._seconds_left
        if left <= 0:
            _log.warning("The task has waited for longest_wait, %s, in all", self._operator.longest_wait)
            return
        in_vain = 0 if self._counts.get("delivered") else self._waits.in_vain
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(in_vain, 9), LONGEST_PAUSE_SECONDS, left)
        _log.warning("%s. The task waits for %.0f s without a worker slot, and then continues", error, pause)
        waits = replace(
            self._waits,
            seconds=self._waits.seconds + pause,
            in_vain=in_vain + 1,
            counts=self._waits.add_to(self._counts),
            notices=self._notices,
        )
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self._operator.defer(
            trigger=TimeDeltaTrigger(timedelta(seconds=pause)),
            method_name="resume",
            kwargs={"waits": asdict(waits)},
            # Without a triggerer nothing would end the wait.
            timeout=timedelta(seconds=left + LONGEST_PAUSE_SECONDS),
        )
