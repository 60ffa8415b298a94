"""What stands on a timeline: change sets that are committed, and the bases that memberships start from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.source.layout import TableLayout  # noqa: TC001 - msgspec reads it
from airflow_kinesis_audience.core.state.sync_details import (
    COUNTED,
    ChangeSetCommitted,
    ChangeSetHeld,
    ChangeSetInserted,
    FirstBase,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.sync_details import TotalCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedChangeSet:
    """A change set, from one membership to the next; the first one's table is a base.

    :param detail: what its row says.
    :param epoch: of the sync when it was committed: tells its ids from those of a state that is lost.
    :param sealed: a delivery relies on it, or it was let through as it is, so it is never computed again.
    :param inserted: a later change set was there before it, and destinations may have got that one.
    :param compensates: of a compensation, the instant of the inserted change set from which it leads to a later
        one: no run computed its membership.
    """

    as_of: datetime
    detail: FirstBase | ChangeSetCommitted | ChangeSetHeld | ChangeSetInserted
    epoch: str = ""
    sealed: bool = False
    dropped: bool = False
    inserted: bool = False
    compensates: datetime | None = None

    @property
    def previous_as_of(self) -> datetime | None:
        """The instant of the membership that it leads from; none of the first."""
        return self.detail.previous_as_of

    @property
    def table(self) -> str:
        """The table that holds it."""
        return self.detail.table

    @property
    def rows(self) -> int:
        """Changes in it; of the first, members."""
        return self.detail.rows

    @property
    def counts(self) -> TotalCounts:
        """What changed, of all audiences together."""
        return self.detail.counts

    @property
    def layout(self) -> TableLayout:
        """How its table is made."""
        return self.detail.layout

    def summary(self, sync_id: str) -> dict[str, Any]:
        """Sum the change set up: counts, and sentences about it, never rows."""
        detail = self.detail
        summary: dict[str, Any] = {
            "sync_id": sync_id,
            "as_of": instant_text(self.as_of),
            "previous_as_of": instant_text(detail.previous_as_of) if detail.previous_as_of else None,
            **{name: getattr(detail.counts, name) for name in COUNTED},
        }
        if detail.audiences is not None:
            summary["audiences"] = to_builtins(detail.audiences)
        if detail.dropped_rows:
            summary["dropped_rows"] = detail.dropped_rows
        if detail.placeholders:
            summary["placeholders"] = dict(detail.placeholders)
        if detail.let_through:
            summary["let_through"] = list(detail.let_through)
        if detail.corrects:
            summary["corrects"] = instant_text(detail.corrects)
        if self.inserted:
            summary["inserted"] = True
        return summary


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A full copy of a membership, in the layout of the change sets that come after it.

    :param left_since: the earliest exit that it remembers, as far as that is known.
    """

    as_of: datetime
    table: str
    layout: TableLayout
    left_since: datetime | None = None
