"""What stops a change set before it counts, and who may let one through.

Pure: counts in, breaches out. A guard sees the numbers of a change set that is written but not yet recorded;
what it stops was never there, so the baseline stays where it was. What is let through is let through once: it
belongs to the change set whose numbers were seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import GuardTripped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from airflow_kinesis_audience.core.changes.counts import AudienceCounts
    from airflow_kinesis_audience.core.changes.usual import Usual


@dataclass(frozen=True, slots=True)
class Breach:
    """One bound that a change set breaks.

    :param audience_id: the audience that breaks it, or none where it is the sync as a whole.
    :param sentence: what was found and which bound that is.
    """

    audience_id: str | None
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class Permission:
    """Whose breaches one run may pass with.

    :param everything: all of them.
    :param audiences: those of these audiences.
    """

    everything: bool = False
    audiences: Collection[str] = ()

    def covers(self, breach: Breach) -> bool:
        """Tell whether a breach is let through."""
        return self.everything or (breach.audience_id is not None and breach.audience_id in self.audiences)


NO_PERMISSION = Permission()


RATIO_FROM_MEMBERS = 100
"""Below so many previous members a ratio alone says little."""

FEW_EXITS = 20
"""So many exits of an audience that small are believed whatever their share, unless they are all."""

FEW_AUDIENCES = 20
"""Up to so many audiences the ledger and a summary have the counts of each."""

MOST_LEARNT = 100
"""Up to so many audiences guards learn what is usual of each; of more, of all together."""

EXCLUDING = ("exclude_sql", "consent_column")
"""The arguments that exclude users."""

_SHARE = "a share from 0 to 1, where 0.5 is 50%"
_NUMBER, _WHOLE = "a number of 0 or more", "a whole number of 0 or more"
_BOUNDS = {
    "max_exit_ratio": _SHARE,
    "max_exit_ratio_per_day": _SHARE,
    "max_exits": _WHOLE,
    "max_change_ratio": _NUMBER,
    "min_members": _WHOLE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Guards:
    """Limits of a change set, per audience, and what to do with invalid data.

    :param max_exit_ratio: exits as a share of the previous members. With fewer than 100 members, also more than
        20 must exit, or all. 1 or none lets all exit.
    :param max_exit_ratio_per_day: exits within the 24 hours up to the run, including this run, as a share of all
        users who were members in that time, on the same conditions. A run that was let through, and all runs
        before it, do not count. More than 20 audiences are checked as one.
    :param max_exits: exits, as a number.
    :param max_change_ratio: entries and exits together as a share of the previous members, from 100 on.
    :param min_members: members after the change.
    :param on_empty: an audience that had members and has no row in the source: ``fail``, or ``exit_all``.
    :param on_invalid_rows: a row has no user id, repeats a user, or has an identity that breaks its rule:
        ``fail``, or ``drop`` the row and count it. A member does not exit because its row was dropped.
    :param on_schema_change: the mapping, or the type of a mapped column, has changed: ``fail``, or ``update`` the
        members whose values differ. A changed key always fails.
    :param usual: also stop what is not usual for an audience by the counts of its own earlier runs, from 20 runs
        on. More than 100 audiences are checked as one.
    """

    max_exit_ratio: float | None = 0.5
    max_exit_ratio_per_day: float | None = None
    max_exits: int | None = None
    max_change_ratio: float | None = None
    min_members: int | None = None
    on_empty: str = "fail"
    on_invalid_rows: str = "fail"
    on_schema_change: str = "fail"
    usual: bool = False

    def __post_init__(self) -> None:
        for policy, other in (
            ("on_empty", "exit_all"),
            ("on_invalid_rows", "drop"),
            ("on_schema_change", "update"),
        ):
            if getattr(self, policy) not in ("fail", other):
                raise ValueError(f"{policy} is {getattr(self, policy)!r}; expected fail or {other}")
        if not isinstance(self.usual, bool):
            raise ValueError(f"usual is {self.usual!r}; expected True or False")
        for name in _BOUNDS:
            check_bound(name, getattr(self, name))

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds by their names, without the policies."""
        return {name: getattr(self, name) for name in _BOUNDS}

    def find_breaches(
        self,
        audiences: Iterable[AudienceCounts],
        exits_of_day: Mapping[str | None, int] | None = None,
        usual: Usual | None = None,
    ) -> list[Breach]:
        """Find which bounds a change set breaks: one breach per bound and audience, with the numbers.

        :param exits_of_day: what :func:`~airflow_kinesis_audience.core.changes.counts.count_exits_of_day` found.
        :param usual: what is known of earlier runs.
        """
        named = [a for a in audiences if a.audience_id is not None]
        found = self._find_static(named, exits_of_day or {})
        if self.usual and usual is not None:
            found += usual.find_breaches(named, most=MOST_LEARNT)
        return found

    def _find_static(self, named: Sequence[AudienceCounts], earlier: Mapping[str | None, int]) -> list[Breach]:
        found = [
            Breach(a.audience_id, f"audience {a.audience_id!r}: {sentence}{_excluded([a])}")
            for a in named
            for sentence in self._breaches(a)
        ]
        if None in earlier or len(named) > FEW_AUDIENCES:
            sentences = self._breaches_of_day(named, sum(earlier.values()))
            together = _excluded(named)
            return found + [Breach(None, f"all audiences together: {s}{together}") for s in sentences]
        return found + [
            Breach(a.audience_id, f"audience {a.audience_id!r}: {sentence}{_excluded([a])}")
            for a in named
            for sentence in self._breaches_of_day([a], earlier.get(a.audience_id, 0))
        ]

    def _breaches_of_day(self, audiences: Iterable[AudienceCounts], earlier: int) -> Iterator[str]:
        looked_at = [a for a in audiences if a.source_rows or self.on_empty != "exit_all"]
        exited = sum(a.exited for a in looked_at)
        before = earlier + sum(a.previous_members for a in looked_at)
        if exited and _is_mass_exit(earlier + exited, before, self.max_exit_ratio_per_day):
            yield (
                f"{earlier + exited:,} of {before:,} members would have exited within a day, "
                f"{(earlier + exited) / before:.0%} (max_exit_ratio_per_day is {self.max_exit_ratio_per_day:.0%})"
            )

    def _breaches(self, a: AudienceCounts) -> Iterator[str]:
        before = a.previous_members
        if before and a.source_rows == a.left_out.rows and self.on_empty == "fail":
            if a.outranked:
                yield f"{before:,} members before, and each user is excluded or in one before (on_empty is fail)"
            elif a.excluded:
                yield f"{before:,} members before, and every row of the source is excluded (on_empty is fail)"
            else:
                yield f"{before:,} members before, and the source has no row (on_empty is fail)"
            return
        if self.max_exits is not None and a.exited > self.max_exits:
            yield f"{a.exited:,} of {before:,} members would exit (max_exits is {self.max_exits:,})"
        if self.min_members is not None and a.members < self.min_members:
            yield f"{a.members:,} members would remain (min_members is {self.min_members:,})"
        if not a.source_rows and self.on_empty == "exit_all":
            return
        if _is_mass_exit(a.exited, before, self.max_exit_ratio):
            yield (
                f"{a.exited:,} of {before:,} members would exit, {a.exited / before:.0%} "
                f"(max_exit_ratio is {self.max_exit_ratio:.0%})"
            )
        if before < RATIO_FROM_MEMBERS:
            return
        changed = a.entered + a.exited
        if self.max_change_ratio is not None and changed > self.max_change_ratio * before:
            yield (
                f"{a.entered:,} would enter and {a.exited:,} exit of {before:,} members, "
                f"{changed / before:.0%} (max_change_ratio is {self.max_change_ratio:.0%})"
            )


def _excluded(audiences: Sequence[AudienceCounts]) -> str:
    """Say how many rows are excluded: a list of too many users looks like a mass exit."""
    excluded, rows = sum(a.excluded for a in audiences), sum(a.source_rows for a in audiences)
    outranked = sum(a.outranked for a in audiences)
    said = f"; {excluded:,} of {rows:,} rows are excluded ({', '.join(EXCLUDING)})" if excluded else ""
    if outranked:
        said += f"; the users of {outranked:,} of {rows:,} rows are in an audience before it (exclusive_by)"
    return said


def check_bound(name: str, bound: float | None) -> None:
    """Check one bound by its name.

    :raises ValueError: if no change set could be held against it; a retry does not help.
    """
    if bound is not None and not _is_bound(bound, _BOUNDS[name]):
        raise ValueError(f"{name} is {bound!r}; expected {_BOUNDS[name]}, or None for no limit")


def _is_bound(bound: Any, expected: str) -> bool:
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 <= bound < math.inf:
        return False
    return {_SHARE: bound <= 1, _NUMBER: True, _WHOLE: bound == math.floor(bound)}[expected]


def _is_mass_exit(exited: int, before: int, ratio: float | None) -> bool:
    if ratio is None or exited <= ratio * before:
        return False
    return before >= RATIO_FROM_MEMBERS or exited > FEW_EXITS or exited == before


def stop(
    sync_id: str, audiences: Iterable[AudienceCounts], stopped: Sequence[Breach], permission: Permission
) -> GuardTripped:
    """Make the error of a change set that was stopped, which says what to do.

    :param stopped: breaches that the permission does not cover.
    """
    # No error by itself: a run's configuration is that of all its syncs, each with audiences of its own.
    others = ", ".join(repr(a) for a in sorted({*permission.audiences} - {a.audience_id for a in audiences}))
    unknown = f"let_through names {others}, which this sync does not have. " if others else ""
    found = "; ".join(map(str, stopped))
    return GuardTripped(
        f"the change set of sync {sync_id!r} was stopped: {found}. {unknown}"
        "If the source is wrong, correct it and clear this task. If it is right, let one run through: trigger a "
        'run with the configuration {"let_through": true}, or name the audiences: {"let_through": ["id", …]}. '
        "Nothing was sent and the baseline is unchanged",
        [str(b) for b in stopped],
    )
