"""How far a delivery has come, while it runs: a line in the task's log, and an XCom for the page."""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.hooks.warehouses.opening import ASKING_AIRFLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from airflow_kinesis_audience.core.outbox.report import Progress

PROGRESS_SECONDS = 5.0
"""How often a line of the task's log, and an XCom, report how far a delivery has come."""

PROGRESS_KEY = "progress"
"""XCom key of how far a delivery has come, for the page."""

_log = logging.getLogger(__name__)


def watch_progress(context: Context) -> Callable[[Progress], None]:
    """Make the function that reports progress: once every few seconds, however many answers come in."""
    reported = time.monotonic()

    def watch(progress: Progress) -> None:
        nonlocal reported
        if time.monotonic() - reported >= PROGRESS_SECONDS:
            reported = time.monotonic()
            found = describe(progress)
            _log.info(
                "Published %s of %s changes as of %s: %.0f/s, %s left, %s records retried, %s throttled",
                f"{found['done']:,}",
                f"{found['total']:,}",
                found["as_of"],
                found["rate"],
                "unknown" if found["eta_seconds"] is None else f"{found['eta_seconds']:,.0f} s",
                found["retried"],
                found["throttled"],
            )
            # That the page is out of date is no reason to stop a delivery.
            with contextlib.suppress(Exception), ASKING_AIRFLOW:
                context["ti"].xcom_push(key=PROGRESS_KEY, value=found)

    return watch


def describe(progress: Progress) -> dict[str, Any]:
    """Sum up how far a delivery has come: changes, changes a second, and the seconds that the rest will take."""
    result = progress.result
    rate = result.changes_delivered / max(result.seconds, 0.001)
    return {
        "as_of": instant_text(progress.as_of),
        "done": progress.done,
        "total": progress.total,
        "rate": round(rate, 1),
        "eta_seconds": round((progress.total - progress.done) / rate, 1) if rate else None,
        "throttled": result.throttles.total(),
        "retried": result.retried,
        "at": instant_text(datetime.now(UTC)),
    }
