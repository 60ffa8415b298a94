"""What stands on a timeline: change sets that are committed, and the bases that memberships start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.audience import CHANGE_COUNTS
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.source.layout import TableLayout  # noqa: TC001 - msgspec reads it
from airflow_kinesis_audience.core.state.sync_details import (
    COUNTED,
    ChangeSetCommitted,
    ChangeSetDetail,
    ChangeSetHeld,
    ChangeSetInserted,
    Counts,
    FirstBase,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.sync_details import TotalCounts

FEW_SHOWN = 20
"""Up to so many audiences a summary has the counts of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedChangeSet:
    """A change set, from one membership to the next; the first one's table is a base.

    :param detail: what its row says.
    :param epoch: of the sync when it was committed: tells its ids from those of a state that is lost.
    :param sealed: a delivery relies on it, or it was let through as it is, so it is never computed again.
    :param inserted: a later change set was there before it, and destinations may have got that one.
    :param compensates: of a compensation, the instant of the inserted change set from which it leads to a later
        one: no run computed its membership.
    :param replaced_by: the table that has its rows without those of users who are forgotten; ``erased``, how many
        these were. Each row that is left keeps its position.
    """

    as_of: datetime
    detail: FirstBase | ChangeSetCommitted | ChangeSetHeld | ChangeSetInserted
    epoch: str = ""
    sealed: bool = False
    dropped: bool = False
    inserted: bool = False
    compensates: datetime | None = None
    replaced_by: str = ""
    erased: int = 0

    @property
    def previous_as_of(self) -> datetime | None:
        """The instant of the membership that it leads from; none of the first."""
        return self.detail.previous_as_of

    @property
    def table(self) -> str:
        """The table that holds it."""
        return self.replaced_by or self.detail.table

    @property
    def rows(self) -> int:
        """Changes in it as it was computed; of the first, members."""
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
        if detail.audiences is not None and len(detail.audiences) <= FEW_SHOWN:
            summary["audiences"] = {a: {n: getattr(c, n) for n in COUNTED} for a, c in detail.audiences.items()}
        summary |= _summarize_left_out(detail)
        if detail.let_through:
            summary["let_through"] = list(detail.let_through)
        if detail.corrects:
            summary["corrects"] = instant_text(detail.corrects)
        if self.inserted:
            summary["inserted"] = True
        if isinstance(detail, ChangeSetInserted):
            summary["compensation"] = _summarize_compensation(detail)
        return summary


def _summarize_left_out(detail: ChangeSetDetail) -> dict[str, Any]:
    """Sum up which rows of the source are nobody's, and for what reason."""
    counted: dict[str, Any] = {n: getattr(detail, n) for n in ("dropped_rows", "excluded", "outranked")}
    if len(detail.excluded_by) > 1:
        counted["excluded_by"] = dict(detail.excluded_by)
    return {n: rows for n, rows in (*counted.items(), ("placeholders", dict(detail.placeholders))) if rows}


def _summarize_compensation(detail: ChangeSetInserted) -> dict[str, Any]:
    """Sum up the second change set of an insertion: its changes alone, since no run computed its membership."""

    def counted(counts: Counts) -> dict[str, int]:
        return {name: getattr(counts, name) for name in CHANGE_COUNTS}

    made = detail.compensation
    few = made.audiences if made.audiences is not None and len(made.audiences) <= FEW_SHOWN else None
    audiences = {} if few is None else {"audiences": {a: counted(c) for a, c in few.items()}}
    return {"as_of": instant_text(detail.compensated_at), **counted(made.counts), **audiences}


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedRun:
    """What a run counted that was believed: guards learn from it.

    :param since: the instant of the membership that it leads from.
    :param total: of all audiences together; none where some of them were held, or approved.
    :param audiences: of each, as far as the ledger has them.
    :param released: a guard stopped it, and somebody let it through; ``passed`` the audiences of which that is
        so, and none of them where it is so of the change set as a whole.
    """

    as_of: datetime
    since: datetime
    total: Counts | None
    audiences: Mapping[str, Counts]
    released: bool = False
    passed: tuple[str, ...] = ()

    def has_released(self, audience_id: str) -> bool:
        """Tell whether somebody let an audience through."""
        return self.released and (not self.passed or audience_id in self.passed)

    @classmethod
    def of(cls, recorded: RecordedChangeSet) -> CountedRun | None:
        """Give what a change set teaches; none of a first one, of a correction and of what was inserted.

        Audiences that were held are not in it, but in the change set that a person has approved.
        """
        detail = recorded.detail
        found = dict(detail.audiences or {})
        if detail.approves is not None:
            found = {a: c for a, c in found.items() if a in detail.approves.audiences}
        elif detail.previous_as_of is None or detail.corrects is not None or recorded.inserted:
            return None
        elif detail.held_audiences is not None:
            found = {a: c for a, c in found.items() if a not in detail.held_audiences.breaches}
        if detail.previous_as_of is None:
            return None
        is_whole = detail.approves is None and detail.held_audiences is None
        total = Counts(**{n: getattr(detail.counts, n) for n in COUNTED}, dropped=detail.dropped_rows)
        return cls(
            as_of=recorded.as_of,
            since=detail.previous_as_of,
            total=total if is_whole else None,
            audiences=found,
            released=bool(detail.let_through),
            passed=tuple(sorted(find_passed(detail) or ())),
        )


def find_passed(detail: ChangeSetDetail) -> frozenset[str] | None:
    """Find which audiences a guard stopped and somebody let through; none if it was the change set as a whole."""
    if detail.approves is not None:
        return frozenset(detail.approves.audiences)
    named = {a: f"audience {a!r}: " for a in detail.audiences or {}}
    if not all(sentence.startswith((*named.values(),)) for sentence in detail.let_through):
        return None
    return frozenset(a for a, start in named.items() if any(s.startswith(start) for s in detail.let_through))


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A full copy of a membership, in the layout of the change sets that come after it.

    :param left_since: the earliest exit that it remembers, as far as that is known.
    :param missed: name and instant of each compensation's table that was inserted before its instant since it was
        written, ascending: of who exited there it may know nothing.
    """

    as_of: datetime
    table: str
    layout: TableLayout
    left_since: datetime | None = None
    missed: tuple[tuple[str, datetime], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tombstones:
    """Users who are forgotten: no run lets them be members again.

    :param table: of the digests of their ids; empty if there are none any more.
    :param salt: what stands before an id that is digested.
    :param users: how many they are.
    :param since: the instant of the newest change set when the last of them were named.
    :param exits_at: the instant of the change set in which they exit; none if there is none.
    :param erased: their rows are gone from all tables.
    :param erased_until: the instant up to which memberships lost rows, so that what is sent of these once more has
        other ids; ``mark`` is a text for those ids.
    """

    table: str
    salt: str
    users: int
    since: datetime
    exits_at: datetime | None = None
    erased: bool = False
    erased_until: datetime | None = None
    mark: str = ""

    def after(self, known: Tombstones) -> Tombstones:
        """Return what holds after a row of the ledger that says this, where other tombstones were known."""
        until, mark = known.erased_until, known.mark
        if self.erased and not known.erased and known.exits_at is not None:
            until, mark = known.exits_at, self.table
        found = replace(self, erased_until=until, mark=mark)
        return replace(found, since=known.since, exits_at=known.exits_at) if self.erased else found
