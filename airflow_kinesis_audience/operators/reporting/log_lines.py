"""What a task writes to its log of its summary: a line per fact, counts and sentences, never a row."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.audience import CHANGE_COUNTS

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)


def log_change_set(summary: Mapping[str, Any]) -> None:
    """Write to the log what was found, and what is unusual about it."""
    _log.info(
        "%s as of %s: %s members, %s entered, %s exited, %s updated",
        *(summary[n] for n in ("sync_id", "as_of", "members", *CHANGE_COUNTS)),
    )
    if "recorded" in summary:
        _log.warning("It is published already and was not computed again; to correct it: docs/backfill.md")
    if "corrects" in summary:
        _log.info("It corrects the membership as of %s", summary["corrects"])
    if "dropped_rows" in summary:
        _log.warning("%s rows of the source were left out", summary["dropped_rows"])
    for label, rows in summary.get("placeholders", {}).items():
        _log.warning("%s rows have in %r a placeholder such as N/A, which is sent as no identity", rows, label)
    for breach in summary.get("let_through", ()):
        _log.warning("let through: %s", breach)
    for breach in summary.get("held", ()):
        _log.warning("held until a person approves it, nothing is sent: %s", breach)
