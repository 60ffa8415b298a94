"""What stops a change set before it counts.

Pure: counts in, sentences out. A guard sees the numbers of a change set that is written but not yet recorded;
what it stops was never there, so the baseline stays where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class AudienceCounts:
    """What one run found of one audience.

    :param audience_id: none for rows that name no audience.
    :param source_rows: rows of the source.
    :param invalid_rows: of those, rows without a user id.
    :param duplicate_rows: of those, rows beyond the first of their user.
    :param previous_members: members before the run.
    """

    audience_id: str | None
    source_rows: int
    invalid_rows: int
    duplicate_rows: int
    previous_members: int
    members: int
    entered: int
    exited: int
    updated: int

    @classmethod
    def of(
        cls,
        audience_id: str | None,
        *,
        source: tuple[int, int],
        actions: Mapping[str, tuple[int, int]],
        previous: int | None,
    ) -> AudienceCounts:
        """Work out the counts, repeated users among them, from what is cheap to count.

        The users of the source are those that stayed and those that entered. More rows than users means that
        some repeat, without the source being grouped by user.

        :param source: rows, and rows without a user id.
        :param actions: action to rows and distinct users, in the change set or, on a first run, in the base.
        :param previous: members before the run, or none on a first run.
        """
        entered = actions.get(Action.ENTERED, (0, 0))[1]
        exited = actions.get(Action.EXITED, (0, 0))[1]
        members = actions.get("member", (0, 0))[1] if previous is None else previous - exited + entered
        rows, invalid = source
        return cls(
            audience_id=audience_id,
            source_rows=rows,
            invalid_rows=invalid,
            duplicate_rows=rows - invalid - members,
            previous_members=previous or 0,
            members=members,
            entered=members if previous is None else entered,
            exited=exited,
            updated=actions.get(Action.UPDATED, (0, 0))[1],
        )


RATIO_FROM_MEMBERS = 100
"""Below so many previous members a ratio says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guards:
    """Bounds within which a change set is believed, for each audience by itself.

    :param max_exit_ratio: exits as a share of the previous members, from 100 members on.
    :param max_exits: exits, as a number.
    :param max_change_ratio: entries and exits together as a share of the previous members, from 100 on.
    :param min_members: members after the change.
    :param on_empty: what an audience without a single row in the source means: ``fail``, because not observed is
        not empty, or ``exit_all``.
    """

    max_exit_ratio: float | None = 0.5
    max_exits: int | None = None
    max_change_ratio: float | None = None
    min_members: int | None = None
    on_empty: str = "fail"

    def __post_init__(self) -> None:
        if self.on_empty not in ("fail", "exit_all"):
            raise ValueError(f"on_empty is {self.on_empty!r}; expected fail or exit_all")
        for name in ("max_exit_ratio", "max_exits", "max_change_ratio", "min_members"):
            bound = getattr(self, name)
            if bound is not None and not bound >= 0:
                raise ValueError(f"{name} is {bound!r}; expected a number from 0 on, or None for no bound")

    def find_breaches(self, audiences: Iterable[AudienceCounts]) -> list[str]:
        """Say which bounds a change set breaks: a sentence per bound and audience, with the numbers."""
        return [sentence for a in audiences if a.audience_id is not None for sentence in self._breaches(a)]

    def _breaches(self, a: AudienceCounts) -> Iterator[str]:
        name, before = f"audience {a.audience_id!r}", a.previous_members
        if before and not a.source_rows and self.on_empty == "fail":
            yield f"{name}: {before:,} members before, and no row in the source (on_empty is fail)"
            return
        if self.max_exits is not None and a.exited > self.max_exits:
            yield f"{name}: {a.exited:,} of {before:,} members would exit (max_exits is {self.max_exits:,})"
        if self.min_members is not None and a.members < self.min_members:
            yield f"{name}: {a.members:,} members would be left (min_members is {self.min_members:,})"
        if before < RATIO_FROM_MEMBERS or (not a.source_rows and self.on_empty == "exit_all"):
            return
        if self.max_exit_ratio is not None and a.exited > self.max_exit_ratio * before:
            yield (
                f"{name}: {a.exited:,} of {before:,} members would exit, {a.exited / before:.0%} "
                f"(max_exit_ratio is {self.max_exit_ratio:.0%})"
            )
        changed = a.entered + a.exited
        if self.max_change_ratio is not None and changed > self.max_change_ratio * before:
            yield (
                f"{name}: {a.entered:,} would enter and {a.exited:,} exit of {before:,} members, "
                f"{changed / before:.0%} (max_change_ratio is {self.max_change_ratio:.0%})"
            )


def find_invalid_rows(audiences: Iterable[AudienceCounts]) -> list[str]:
    """Say what of the source cannot be told apart or named: a sentence per kind and audience."""
    found = []
    for a in audiences:
        if a.audience_id is None:
            found.append(f"{a.source_rows:,} rows have no audience id")
            continue
        if a.invalid_rows:
            found.append(
                f"audience {a.audience_id!r}: {a.invalid_rows:,} of {a.source_rows:,} rows have no user id"
            )
        if a.duplicate_rows:
            found.append(
                f"audience {a.audience_id!r}: {a.duplicate_rows:,} of {a.source_rows:,} rows repeat a user id"
            )
    return found
