"""What stops a change set before it counts, and who may let one through.

Pure: counts in, breaches out. A guard sees the numbers of a change set that is written but not yet recorded;
what it stops was never there, so the baseline stays where it was. What is let through is let through once: it
belongs to the change set whose numbers were seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_kinesis_audience.audience import Action, instant_text
from airflow_kinesis_audience.exceptions import AudienceDeleted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime


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


@dataclass(frozen=True, kw_only=True, slots=True)
class AudienceCounts:
    """What one run found of one audience.

    :param audience_id: none for rows that name no audience.
    :param audience_name: none where no row of the source names it.
    :param source_rows: rows of the source.
    :param invalid_rows: of those, rows without a user id, or with an identity that is not what its rule promises.
    :param wrong_rows: of those with a user id, rows with such an identity, and ``wrong`` how many rows have what.
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
    audience_name: str | None = None
    wrong_rows: int = 0
    wrong: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        audience_id: str | None,
        *,
        name: str | None = None,
        source: tuple[int, int],
        actions: Mapping[str, tuple[int, int]],
        previous: int | None,
        wrong: tuple[int, Mapping[str, int]] = (0, {}),
    ) -> AudienceCounts:
        """Work out the counts, repeated users among them, from what is cheap to count.

        The users of the source are those that stayed and those that entered. More rows than users means that
        some repeat, without the source being grouped by user.

        :param source: rows, and rows that are invalid.
        :param actions: action to rows and distinct users, in the change set or, on a first run, in the base.
        :param previous: members before the run, or none on a first run.
        :param wrong: rows with an identity that is not what its rule promises, and how many have what.
        """
        entered = actions.get(Action.ENTERED, (0, 0))[1]
        exited = actions.get(Action.EXITED, (0, 0))[1]
        members = actions.get("member", (0, 0))[1] if previous is None else previous - exited + entered
        rows, invalid = source
        return cls(
            audience_id=audience_id,
            audience_name=name,
            source_rows=rows,
            invalid_rows=invalid,
            duplicate_rows=rows - invalid - members,
            previous_members=previous or 0,
            members=members,
            entered=members if previous is None else entered,
            exited=exited,
            updated=actions.get(Action.UPDATED, (0, 0))[1],
            wrong_rows=wrong[0],
            wrong=wrong[1],
        )

    @property
    def dropped_rows(self) -> int:
        """Rows of the source that are left out where the policy is to drop what is invalid."""
        return self.source_rows - self.members


RATIO_FROM_MEMBERS = 100
"""Below so many previous members a ratio says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guards:
    """Bounds within which a change set is believed, for each audience by itself, and what disorder means.

    :param max_exit_ratio: exits as a share of the previous members, from 100 members on.
    :param max_exits: exits, as a number.
    :param max_change_ratio: entries and exits together as a share of the previous members, from 100 on.
    :param min_members: members after the change.
    :param on_empty: what an audience without a single row in the source means: ``fail``, because not observed is
        not empty, or ``exit_all``.
    :param on_invalid_rows: what a row without a user id, beyond the first of its user, or with an identity that is
        not what its rule promises, means: ``fail``, or ``drop`` it and count it.
    :param on_schema_change: what another mapping, or another type of a mapped column, means: ``fail``, or
        ``update`` the members whose values are others by it. A changed key always fails.
    """

    max_exit_ratio: float | None = 0.5
    max_exits: int | None = None
    max_change_ratio: float | None = None
    min_members: int | None = None
    on_empty: str = "fail"
    on_invalid_rows: str = "fail"
    on_schema_change: str = "fail"

    def __post_init__(self) -> None:
        for policy, other in (
            ("on_empty", "exit_all"),
            ("on_invalid_rows", "drop"),
            ("on_schema_change", "update"),
        ):
            if getattr(self, policy) not in ("fail", other):
                raise ValueError(f"{policy} is {getattr(self, policy)!r}; expected fail or {other}")
        for name in ("max_exit_ratio", "max_exits", "max_change_ratio", "min_members"):
            bound = getattr(self, name)
            if bound is not None and not bound >= 0:
                raise ValueError(f"{name} is {bound!r}; expected a number from 0 on, or None for no bound")

    def find_breaches(self, audiences: Iterable[AudienceCounts]) -> list[Breach]:
        """Find which bounds a change set breaks: one breach per bound and audience, with the numbers."""
        return [
            Breach(a.audience_id, f"audience {a.audience_id!r}: {sentence}")
            for a in audiences
            if a.audience_id is not None
            for sentence in self._breaches(a)
        ]

    def _breaches(self, a: AudienceCounts) -> Iterator[str]:
        before = a.previous_members
        if before and not a.source_rows and self.on_empty == "fail":
            yield f"{before:,} members before, and no row in the source (on_empty is fail)"
            return
        if self.max_exits is not None and a.exited > self.max_exits:
            yield f"{a.exited:,} of {before:,} members would exit (max_exits is {self.max_exits:,})"
        if self.min_members is not None and a.members < self.min_members:
            yield f"{a.members:,} members would be left (min_members is {self.min_members:,})"
        if before < RATIO_FROM_MEMBERS or (not a.source_rows and self.on_empty == "exit_all"):
            return
        if self.max_exit_ratio is not None and a.exited > self.max_exit_ratio * before:
            yield (
                f"{a.exited:,} of {before:,} members would exit, {a.exited / before:.0%} "
                f"(max_exit_ratio is {self.max_exit_ratio:.0%})"
            )
        changed = a.entered + a.exited
        if self.max_change_ratio is not None and changed > self.max_change_ratio * before:
            yield (
                f"{a.entered:,} would enter and {a.exited:,} exit of {before:,} members, "
                f"{changed / before:.0%} (max_change_ratio is {self.max_change_ratio:.0%})"
            )


def find_invalid_rows(audiences: Iterable[AudienceCounts]) -> list[Breach]:
    """Find what of the source cannot be told apart or named: one breach per kind and audience."""
    found = []
    for a in audiences:
        if a.audience_id is None:
            found.append(Breach(None, f"{a.source_rows:,} rows have no audience id (on_invalid_rows is fail)"))
            continue
        nameless = a.invalid_rows - a.wrong_rows
        repeated = {"repeat a user id": a.duplicate_rows}
        for what, rows in {"have no user id": nameless, **repeated, **a.wrong}.items():
            if rows:
                sentence = f"{rows:,} of {a.source_rows:,} rows {what} (on_invalid_rows is fail)"
                found.append(Breach(a.audience_id, f"audience {a.audience_id!r}: {sentence}"))
    return found


def deleted_before(what: str, deleted_at: datetime, as_of: datetime) -> AudienceDeleted:
    """Make the error of what was deleted, and is computed again."""
    advice = "give reuse_deleted=True to begin anew under it: consumers then hear of everybody as entering"
    if as_of <= deleted_at:
        advice = "and this run speaks for an instant that is not after it, so consumers could not tell which holds"
    return AudienceDeleted(f"{what} was deleted as of {instant_text(deleted_at)}; {advice}. Nothing was computed")
