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
    if summary["previous_as_of"] is None and not summary["members"]:
        _log.warning("The source has no rows, so the sync begins without members; is its table loaded?")
    if "recorded" in summary:
        _log.warning("It is published already and was not computed again; to correct it: docs/backfill.md")
    if "corrects" in summary:
        _log.info("It corrects the membership as of %s", summary["corrects"])
    if "dropped_rows" in summary:
        _log.warning("%s rows of the source were left out", summary["dropped_rows"])
    log_placeholders(summary)
    for breach in summary.get("let_through", ()):
        _log.warning("let through: %s", breach)
    for breach in summary.get("held", ()):
        _log.warning("held until a person approves it, nothing is sent: %s", breach)


def log_placeholders(summary: Mapping[str, Any]) -> None:
    """Write to the log how many rows, or events, have in an identity what is none."""
    for label, rows in summary.get("placeholders", {}).items():
        _log.warning("%s rows have in %r a placeholder such as N/A, which is sent as no identity", rows, label)


def log_delivery(summary: Mapping[str, Any], message_format: str) -> None:
    """Write to the log what was delivered, and what of the changes was not sent, and why."""
    destination = summary["destination"]
    _log.info(
        "%s: %s change sets, %s changes in %s records (%s bytes) delivered, %s put again, in %s s",
        destination,
        len(summary["change_sets"]),
        *(summary[n] for n in ("delivered", "records", "bytes", "retried", "seconds")),
    )
    if summary["omitted"]:
        _log.info(
            "%s: %s changes are nothing that %s can express", destination, summary["omitted"], message_format
        )
    if summary["excluded"]:
        _log.info("%s: %s members have not consented, and were not sent", destination, summary["excluded"])
    if rejected := summary["still_rejected"]:
        users = ", ".join(f"{user}…" for user in summary["rejected_users"])
        _log.warning(
            "%s: %s members are too large for a record and were not delivered; the SHA-256 of their ids: %s",
            destination,
            f"{rejected:,}",
            users,
        )
