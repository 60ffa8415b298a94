"""What a task writes to its log of its summary: a line per fact, counts and sentences, never a row."""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.source_guards import describe_unknown_exclusive
from airflow_kinesis_audience.core.model.audience import CHANGE_COUNTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_audience.core.changes.counts import AudienceCounts

_log = logging.getLogger(__name__)
_MOST_NAMED = 5
"""So many audiences a sentence names."""


def log_change_set(summary: Mapping[str, Any], counts: Sequence[AudienceCounts] = ()) -> None:
    """Write to the log what was found, and what is unusual about it.

    :param counts: what the run found of each audience, which says why rows were dropped.
    """
    _log.info(
        "Found in %s as of %s: %s entered, %s exited, %s updated, %s members",
        *(summary[n] for n in ("sync_id", "as_of", *CHANGE_COUNTS, "members")),
    )
    if summary["previous_as_of"] is None and not summary["members"] and "excluded" not in summary:
        _log.warning("The source has no rows, so the sync starts without members. Check that the table is loaded")
    if "recorded" in summary:
        _log.warning(
            "This change set is already published and was not computed again. To correct it, see docs/backfill.md"
        )
    if "confirmed" in summary:
        _log.info(
            "Computed the membership as of %s again: what is published is already right, so nothing is added",
            summary.get("corrects", summary["as_of"]),
        )
    elif "corrects" in summary:
        _log.info("This change set corrects the membership as of %s", summary["corrects"])
    if "inserted" in summary:
        _log.info("This change set is inserted before later ones, which stay as they are; see docs/backfill.md")
    _log_left_out(summary, counts)
    for breach in summary.get("let_through", ()):
        _log.warning("Let through: %s", breach)
    for breach in summary.get("held", ()):
        _log.warning("Held for approval, nothing is published: %s", breach)
    for sentence in describe_held(summary["sync_id"], summary.get("held_audiences", {})):
        _log.warning("%s", sentence)


def _log_left_out(summary: Mapping[str, Any], counts: Sequence[AudienceCounts]) -> None:
    if "excluded" in summary:
        _log.info("Excluded %s rows of the source (exclude_sql, consent_column)", f"{summary['excluded']:,}")
    if "outranked" in summary:
        rows = f"{summary['outranked']:,}"
        _log.info("Left out %s rows whose users are in an audience before it (exclusive_by)", rows)
    if unknown := summary.get("unknown_exclusive"):
        _log.warning("%s", describe_unknown_exclusive(unknown))
    if "dropped_rows" in summary:
        why = ", ".join(f"{rows:,} {reason}" for reason, rows in sorted(_invalid(counts).items()))
        dropped = f"{summary['dropped_rows']:,}"
        _log.warning(
            "Dropped %s invalid rows of the source (on_invalid_rows)%s", dropped, f": {why}" if why else ""
        )
    log_placeholders(summary)


def describe_held(sync_id: str, held: Mapping[str, Sequence[str]]) -> list[str]:
    """Describe which audiences are held, how to approve each, and why they are.

    :param held: by audience id the limits that it exceeds.
    """
    if not held:
        return []
    named = ", ".join(map(repr, sorted(held)[:_MOST_NAMED]))
    more = f" and {len(held) - _MOST_NAMED:,} more" if len(held) > _MOST_NAMED else ""
    how = (
        f"A guard holds these audiences, which keep their published members; all others are published: {named}"
        f"{more}. Each run computes them again. If one is right, approve it with "
        f"`python -m airflow_kinesis_audience approve {shlex.quote(sync_id)} --audience ID --yes`, or trigger a "
        'run with {"let_through": ["ID"]}'
    )
    return [how, *(sentence for audience in sorted(held) for sentence in held[audience])]


def _invalid(counts: Sequence[AudienceCounts]) -> Counter[str]:
    """Sum up what is wrong with how many rows; a row can be wrong in more than one way."""
    found: Counter[str] = Counter()
    for audience in counts:
        found["have no user id or no audience id"] += audience.nameless_rows
        found["repeat a user id"] += audience.duplicate_rows
        found.update(audience.wrong)
    return +found


def log_placeholders(summary: Mapping[str, Any]) -> None:
    """Write to the log how many rows, or events, have in an identity what is none."""
    for label, rows in summary.get("placeholders", {}).items():
        _log.warning(
            "%s rows have a placeholder such as N/A in %r, which is not an identity and is not published",
            rows,
            label,
        )


def log_delivery(summary: Mapping[str, Any], message_format: str) -> None:
    """Write to the log what was delivered, and what of the changes was not sent, and why."""
    destination, change_sets = summary["destination"], len(summary["change_sets"])
    _log.info(
        "Published %s changes (%s) to %s: %s records, %s B, %s retried, %s s",
        summary["delivered"],
        f"{change_sets} change set{'' if change_sets == 1 else 's'}",
        destination,
        *(summary[n] for n in ("records", "bytes", "retried", "seconds")),
    )
    if summary["omitted"]:
        _log.info(
            "Left out %s changes that %s cannot express, for %s", summary["omitted"], message_format, destination
        )
    if summary["filtered"]:
        _log.warning(
            "Left out %s changes of members that the transform does not let through, for %s",
            summary["filtered"],
            destination,
        )
    if summary["excluded"]:
        _log.info("Left out %s members without consent, for %s", summary["excluded"], destination)
    if rejected := summary["still_rejected"]:
        users = ", ".join(f"{user}…" for user in summary["rejected_users"])
        _log.warning(
            "%s members are too large for a record of %s and were not delivered. Each run retries them. SHA-256 "
            "of their ids: %s",
            f"{rejected:,}",
            destination,
            users,
        )
    if given_up := summary["given_up"]:
        users = ", ".join(f"{user}…" for user in summary["given_up_users"])
        _log.warning(
            "%s dead letters of %s are older than keep_dead_letters and were given up. SHA-256 of their ids: %s",
            f"{given_up:,}",
            destination,
            users,
        )
