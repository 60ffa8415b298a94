"""The nouns of event forwarding: where events are read, the interval that a run covers, and what was read.

Everything here is frozen and knows neither a warehouse nor a stream. Events are columns and not rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from airflow_kinesis_audience.core.model.instants import instant_text

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.audience import IdentityValue
    from airflow_kinesis_audience.core.model.identity_rules import IdentityRule


class Interval(NamedTuple):
    """From one instant up to, and not including, another."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{instant_text(self.start)}/{instant_text(self.end)}"


def subtract_intervals(interval: Interval, covered: Iterable[Interval]) -> list[Interval]:
    """Return what of an interval is in none of others, ascending."""
    left, start = [], interval.start
    for other in sorted(covered):
        if other.start >= interval.end:
            break
        if other.start > start:
            left.append(Interval(start, other.start))
        start = max(start, other.end)
    return [*left, *([Interval(start, interval.end)] if start < interval.end else [])]


def unite_intervals(intervals: Iterable[Interval]) -> list[Interval]:
    """Return intervals of which none touches another and that cover the same, ascending."""
    united: list[Interval] = []
    for each in sorted(intervals):
        if united and each.start <= united[-1].end:
            united[-1] = Interval(united[-1].start, max(united[-1].end, each.end))
        else:
            united.append(each)
    return united


@dataclass(frozen=True, kw_only=True, slots=True)
class EventSource:
    """Which events there are, and what each of the columns means.

    :param query: a SELECT in the warehouse's own dialect, without a closing semicolon; not limited to an interval.
    :param event_id: column of the event's id, unique for ever.
    :param arrived_at: column of when the row came into the table: what intervals are about.
    :param arrived_at_timezone: IANA name of the time zone of ``arrived_at``, where that is a date.
    :param occurred_at: column of the time of the event; by default the time of arrival.
    :param user_id: column of the user id, and ``device_id`` of a device's, for events of nobody known; one of the
        two must have a value.
    :param identities: column to identity type, and ``identity_rules`` column to what its values become.
    :param fields: column to the dotted place in the document.
    """

    query: str
    event_id: str
    arrived_at: str
    arrived_at_timezone: str | None = None
    occurred_at: str | None = None
    user_id: str | None = None
    device_id: str | None = None
    identities: Mapping[str, str] = field(default_factory=dict)
    identity_rules: Mapping[str, IdentityRule] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.user_id is None and self.device_id is None:
            raise ValueError("set user_id_column, device_id_column or both: a batch is about a user or a device")
        if self.arrived_at_timezone is not None:
            try:
                ZoneInfo(self.arrived_at_timezone)
            except (ValueError, OSError, KeyError, TypeError):  # a directory of zones is an OSError
                raise ValueError(
                    f"arrived_at_timezone is {self.arrived_at_timezone!r}; expected the IANA name of a time zone "
                    "that this machine knows, such as America/New_York or UTC"
                ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Events:
    """A run of events, as columns of one length; those of one batch stand together.

    :param sync_id: under which they are forwarded.
    :param end: the end of the interval in which they arrived.
    :param batch: per event, the number of the batch: of one user or device.
    :param event_id: per event, as text.
    :param user_id: per event; none where only a device is known.
    :param device_id: per event; none where there is none.
    :param bucket: per event, three hexadecimal digits: the place of its user or device among 4,096.
    :param occurred_at: per event, an aware datetime.
    :param identities: identity type to a column of text, or of lists of text where one may have several.
    :param fields: dotted place to a column of bool, int, float, str, date or aware datetime.
    """

    sync_id: str
    end: datetime
    batch: Sequence[int]
    event_id: Sequence[str]
    user_id: Sequence[str | None]
    device_id: Sequence[str | None]
    bucket: Sequence[str]
    occurred_at: Sequence[datetime]
    identities: Mapping[str, Sequence[IdentityValue]]
    fields: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.event_id)

    @property
    def change_count(self) -> int:
        """How many of what is to be delivered these are."""
        return len(self)
