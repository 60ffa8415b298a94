"""What tasks count, through Airflow's own metrics: StatsD or OpenTelemetry, whichever Airflow is set to.

Counts of changes, members, records, bytes and seconds, tagged with the sync and the destination. Never a user, nor
an audience, of which there may be thousands. A back end that fails does not fail a task.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Stats

from airflow_kinesis_audience.core.model.audience import CHANGE_COUNTS
from airflow_kinesis_audience.core.model.instants import instant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)
_UNSAFE = re.compile(r"[^\w./-]+")
"""What the protocols of StatsD end a name, a tag or a value with, and what nobody wants in one."""

_OF_DELIVERY = ("messages", "records", "bytes", "delivered", "rejected", "redelivered", "given_up", "retried")


def count_changes(summary: Mapping[str, Any]) -> None:
    """Count the changes of a recorded change set."""
    tags = _tags(summary)
    for name in CHANGE_COUNTS:
        _emit(Stats.incr, name, summary[name], tags)
    if "inserted" not in summary:
        for name in ("members", "excluded"):
            _emit(Stats.gauge, name, summary.get(name, 0), tags)


def count_delivery(summary: Mapping[str, Any], counts: Mapping[str, Any], *, pauses: bool) -> None:
    """Count what one attempt at a delivery did, also one that failed.

    :param summary: of all parts of the attempt until now; one that failed before it had read the ledger has no
        ``still_rejected``.
    :param counts: of this part alone, and nothing that a later part counts again.
    :param pauses: whether a part follows, which gauges what is known in the end.
    """
    tags = _tags(summary)
    for name in _OF_DELIVERY:
        _emit(Stats.incr, name, counts[name], tags)
    for name in () if pauses else ("seconds", "still_rejected"):
        if name in summary:
            _emit(Stats.gauge, name, summary[name], tags)


def gauge_lag(summary: Mapping[str, Any], cursor: datetime | None) -> None:
    """Gauge how old the membership is that a destination has now.

    :param cursor: of the delivery, which may be beyond the run's instant.
    """
    as_of = instant(summary["as_of"])
    lag = datetime.now(UTC) - max(as_of, cursor or as_of)
    _emit(Stats.gauge, "lag", lag.total_seconds(), _tags(summary))


def count_stop(known: Mapping[str, Any], state: str) -> None:
    """Count an attempt that was stopped.

    :param state: ``held`` by a guard, or ``failed``.
    """
    _emit(Stats.incr, state, 1, _tags(known))


def _tags(known: Mapping[str, Any]) -> dict[str, str]:
    named = {"sync": known.get("sync_id"), "destination": known.get("destination")}
    return {name: _UNSAFE.sub("_", str(value)) for name, value in named.items() if value is not None}


def _emit(how: Callable[..., Any], name: str, value: float, tags: Mapping[str, str]) -> None:
    try:
        how(f"audience.{name}", value, tags=dict(tags))
    except Exception as error:
        _log.warning("The metric audience.%s could not be emitted (%s)", name, type(error).__name__)
