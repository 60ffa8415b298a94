"""Random histories: who is in which audience after each run, with resyncs and deletions.

Nothing here knows a format, an id or a consumer: users and audiences are numbers, and values are versions. The
last step of a history is what a consumer must have in the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import NamedTuple

AUDIENCES, USERS = 2, 6
FIRST_TIME = 1_775_001_600
"""2026-04-01T00:00:00Z, in epoch seconds."""
_HOUR = 3600


class Place(NamedTuple):
    """A user of an audience, by number."""

    audience: int
    user: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryStep:
    """What is true at one instant.

    :param time: epoch seconds.
    :param members: who belongs.
    :param versions: per user, the version of the values.
    :param resync: everything is sent again as of this instant, which is that of the step before.
    :param deleted: audiences that end at this instant; ``exits`` says whether their members exit, too.
    """

    time: int
    members: frozenset[Place]
    versions: tuple[int, ...]
    resync: bool = False
    deleted: frozenset[int] = frozenset()
    exits: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What happens to a user of an audience; ``old`` and ``new`` are versions, none where there is no member."""

    place: Place
    old: int | None
    new: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Steps in the order of time.

    :param keeps_exits: whether a whole profile names audiences that a user has left before.
    """

    steps: tuple[HistoryStep, ...]
    keeps_exits: bool = True

    def pairs(self) -> Iterator[tuple[HistoryStep, HistoryStep]]:
        """Give each step with the one before it."""
        start = HistoryStep(time=0, members=frozenset(), versions=(0,) * USERS)
        yield from pairwise((start, *self.steps))


def find_changes(before: HistoryStep, after: HistoryStep) -> list[Change]:
    """List the changes from one step to the next, of all users who entered, exited or have another version."""
    found = []
    for place in sorted(before.members | after.members):
        old = before.versions[place.user] if place in before.members else None
        new = after.versions[place.user] if place in after.members else None
        if old != new:
            found.append(Change(place=place, old=old, new=new))
    return found


def draw_history(chance: Random, *, deletes_all: bool) -> History:
    """Draw a history of four to nine steps.

    :param deletes_all: a deletion is one of all audiences, as of a format that sends whole profiles.
    """
    step = HistoryStep(time=FIRST_TIME, members=_move(chance, frozenset()), versions=(0,) * USERS)
    steps = [step]
    for _ in range(chance.randint(3, 8)):
        what = chance.random()
        if what < 0.15 and not step.deleted:
            step = HistoryStep(time=step.time, members=step.members, versions=step.versions, resync=True)
        elif what < 0.3:
            step = _delete(chance, step, deletes_all=deletes_all)
        else:
            versions = tuple(v + (chance.random() < 0.3) for v in step.versions)
            step = HistoryStep(time=_later(chance, step), members=_move(chance, step.members), versions=versions)
        steps.append(step)
    return History(steps=tuple(steps), keeps_exits=chance.random() < 0.5)


def _move(chance: Random, members: frozenset[Place]) -> frozenset[Place]:
    places = [Place(a, u) for a in range(AUDIENCES) for u in range(USERS)]
    return members ^ frozenset(p for p in places if chance.random() < 0.35)


def _delete(chance: Random, step: HistoryStep, *, deletes_all: bool) -> HistoryStep:
    audiences = range(AUDIENCES)
    deleted = frozenset(audiences if deletes_all else [chance.choice(audiences)])
    return HistoryStep(
        time=_later(chance, step),
        members=frozenset(p for p in step.members if p.audience not in deleted),
        versions=step.versions,
        deleted=deleted,
        exits=chance.random() < 0.5,
    )


def _later(chance: Random, step: HistoryStep) -> int:
    return step.time + chance.choice((1, 60, _HOUR, 24 * _HOUR))
