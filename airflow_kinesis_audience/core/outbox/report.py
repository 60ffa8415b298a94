"""What a delivery reports: counts while it runs, and when it ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_audience.core.producer.result import ProduceResult


@dataclass(slots=True)
class Report:
    """What draining did, filled while it runs, so that it is there before an error is raised.

    :param rejected: changes that were given up, or that no record can hold.
    :param concluded: changes of change sets of which the last part was missing, and is delivered now.
    :param redelivered: dead letters of earlier runs that are delivered now.
    :param still_rejected: dead letters that are left: members whose message is too large for a record.
    :param rejected_users: the beginnings of the SHA-256 of some of their ids.
    :param given_up: dead letters that are older than they are kept, and still too large; each in one run.
    :param given_up_users: the same of them.
    """

    change_sets: list[str] = field(default_factory=list)
    messages: int = 0
    records: int = 0
    bytes: int = 0
    delivered: int = 0
    rejected: int = 0
    omitted: int = 0
    excluded: int = 0
    filtered: int = 0
    retried: int = 0
    seconds: float = 0.0
    concluded: int = 0
    redelivered: int = 0
    still_rejected: int = 0
    rejected_users: list[str] = field(default_factory=list)
    given_up: int = 0
    given_up_users: list[str] = field(default_factory=list)

    def add(self, result: ProduceResult, *, too_large: int = 0, **left_out: int) -> None:
        """Count an attempt at one change set.

        :param left_out: ``omitted``, ``excluded`` and ``filtered`` changes.
        """
        for name, changes in left_out.items():
            setattr(self, name, getattr(self, name) + changes)
        self.delivered += result.changes_delivered
        self.rejected += result.changes_failed + too_large
        self.add_records(result)

    def add_records(self, result: ProduceResult) -> None:
        """Count what was put, whatever it carries."""
        self.messages += result.messages_delivered
        self.records += result.delivered
        self.bytes += result.bytes_delivered
        self.retried += result.retried
        self.seconds = round(self.seconds + result.seconds, 3)


@dataclass(slots=True)
class ForwardedEvents:
    """What a task has forwarded: an interval counts once all of its events are acknowledged.

    :param start: where the first interval that the task was to forward starts; none if it stopped before that.
    :param dropped_rows: rows of the intervals that are no events.
    :param placeholders: by identity, the events whose value stands for none.
    """

    start: str | None = None
    events: int = 0
    intervals: list[str] = field(default_factory=list)
    dropped_rows: int = 0
    placeholders: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Return it for a task's summary, without the counts that are zero."""
        found: dict[str, Any] = {} if self.start is None else {"start": self.start}
        found |= {"events": self.events, "intervals": list(self.intervals)}
        if self.dropped_rows:
            found["dropped_rows"] = self.dropped_rows
        if self.placeholders:
            found["placeholders"] = dict(self.placeholders)
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the change set that is being sent has come; counts are changes."""

    as_of: datetime
    done: int
    total: int
    result: ProduceResult
