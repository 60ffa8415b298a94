"""Synthetic audiences, a year each, and what happens upstream of them: nothing here knows of the guards.

A world is what a source has on each day: who enters, leaves and changes, and what its columns hold. A year has
weekly seasons, campaigns whose members leave again weeks later, growth, holidays, noise that comes in bursts,
monthly scorings that update everybody, and audiences so small that most days change nothing. An accident is what a
day's reading of it looks like if something upstream breaks, as numbers that a diff would find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

DAYS = 365
COLUMNS = ("identity Email", "property city", "property score")


@dataclass(frozen=True, kw_only=True)
class Day:
    """What a diff would find of one day: users, rows, and by column the rows with nothing in it."""

    before: int
    entered: int
    exited: int
    updated: int
    dropped: int
    nulls: tuple[int, ...]
    is_quiet: bool = False

    @property
    def members(self) -> int:
        return self.before + self.entered - self.exited

    @property
    def rows(self) -> int:
        return self.members + self.dropped


@dataclass
class World:
    """One audience: its traits, drawn from a seed, and its membership as time goes on."""

    seed: int
    traits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = rng = np.random.default_rng(self.seed)
        self.small = rng.random() < 0.2
        least, most = (100, 2_000) if self.small else (2_000, 3_000_000)
        self.members = int(_share(rng, least, most))
        if self.small:
            self.churn = rng.uniform(0.2, 2.0) / self.members
        else:
            self.churn = float(np.exp(rng.uniform(np.log(5e-4), np.log(0.06))))
        self.growth = float(rng.uniform(-0.3, 1.0)) / DAYS
        self.noise = float(rng.uniform(0.05, 0.4))
        self.week = np.ones(7)
        season = rng.random()
        if season < 0.5:
            self.week[5:] = rng.uniform(0.2, 0.7)
        elif season < 0.65:  # a batch on one day of the week
            self.week[:] = 0.2
            self.week[rng.integers(7)] = 5.6
        self.updates = float(np.exp(rng.uniform(np.log(1e-3), np.log(0.5)))) * (0.02 if self.small else 1)
        self.scoring = not self.small and rng.random() < 0.1
        self.nulls = [float(x) for x in rng.choice([0.0, 0.02, 0.15, 0.4], 3)]
        self.drops = float(rng.choice([0.0, 0.0, 0.002, 0.01]))
        self.activity = self._activity()
        self.arrivals, self.leavers = self._campaigns()

    def _activity(self) -> np.ndarray:
        """Give each day's factor on all that happens: holidays, a season's peak, and bursts of noise."""
        rng, factor = self.rng, np.ones(DAYS)
        for at in rng.choice(np.arange(DAYS), 8, replace=False):
            factor[at] *= rng.uniform(0.1, 0.5)
        factor[357:] *= rng.uniform(0.3, 1.0)
        peak = int(rng.integers(300, 340))
        factor[peak : peak + 4] *= rng.uniform(1.5, 3.0)
        burst = 0
        for at in range(DAYS):
            if burst == 0 and rng.random() < 0.02:
                burst = int(rng.integers(1, 5))
            factor[at] *= np.exp(rng.normal(0, self.noise * (2.5 if burst else 1)))
            burst = max(0, burst - 1)
        return factor

    def _campaigns(self) -> tuple[np.ndarray, np.ndarray]:
        """Give each day's share of members that a campaign brings, and that it loses again."""
        rng, come, go = self.rng, np.zeros(DAYS), np.zeros(DAYS)
        size = rng.uniform(0.02, 0.15)
        for start in sorted(rng.integers(0, DAYS, 0 if self.small else rng.poisson(4))):
            share, days = size * rng.uniform(0.6, 1.4), int(rng.integers(1, 4))
            come[start : start + days] += share / days
            left, spread = start + int(rng.integers(14, 45)), int(rng.integers(3, 15))
            go[left : left + spread] += share * rng.uniform(0.3, 0.9) / spread
        return come, go

    def days(self) -> Iterator[Day]:
        """Give day by day what a diff finds where nothing breaks."""
        rng = self.rng
        for at in range(DAYS):
            before, factor = self.members, self.activity[at] * self.week[at % 7]
            # Both are of one day's activity, and each has noise of its own.
            come, go = (min(self.churn * factor * np.exp(rng.normal(0, self.noise / 2)), 0.4) for _ in "io")
            entered = int(rng.poisson(before * (come + max(self.growth, 0) + self.arrivals[at])))
            exited = min(int(rng.poisson(before * (go + max(-self.growth, 0) + self.leavers[at]))), before // 2)
            updated = int(rng.poisson(before * min(self.updates * factor, 0.9)))
            if self.scoring and at % 30 == 29:
                updated = int(before * rng.uniform(0.5, 0.95))
            self.members = max(before + entered - exited, 50)
            entered = self.members - before + exited
            self.nulls = [min(max(n + rng.normal(0, 0.001), 0), 1) if n else 0.0 for n in self.nulls]
            dropped = int(rng.poisson(self.members * self.drops))
            rows = self.members + dropped
            yield Day(
                before=before,
                entered=entered,
                exited=exited,
                updated=min(updated, max(before - exited, 0)),
                dropped=dropped,
                nulls=tuple(int(rng.binomial(rows, n)) for n in self.nulls),
            )


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A day as it is read while something is broken.

    :param share: of the audience, or of a column, that the accident changes.
    """

    day: Day
    share: float


Break = Callable[[Day, np.random.Generator], Broken]


def _share(rng: np.random.Generator, least: float, most: float) -> float:
    """Draw a share: small ones are as frequent as large ones, on a scale of factors."""
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


def _lose(day: Day, share: float) -> Day:
    lost = int((day.before - day.exited) * share)
    nulls = tuple(int(n * (1 - share)) for n in day.nulls)
    return replace(day, exited=day.exited + lost, updated=int(day.updated * (1 - share)), nulls=nulls)


def _gain(day: Day, share: float) -> Day:
    return replace(day, entered=day.entered + int(day.before * share))


def _gain_alike(day: Day, share: float) -> Day:
    """Gain members whose columns are as empty as those of the others."""
    more = 1 + int(day.before * share) / max(day.rows, 1)
    return replace(_gain(day, share), nulls=tuple(int(n * more) for n in day.nulls))


def _rename(day: Day, share: float) -> Day:
    """Let members exit and enter as others; what their columns hold is the same."""
    return replace(_gain(_lose(day, share), share), nulls=day.nulls)


def _update(day: Day, share: float) -> Day:
    stay = day.before - day.exited
    return replace(day, updated=min(stay, day.updated + int((stay - day.updated) * share)))


def _column(day: Day, number: int, nulls: int) -> Day:
    return replace(day, nulls=(*day.nulls[:number], nulls, *day.nulls[number + 1 :]))


def _losing(least: float, most: float) -> Break:
    def happen(day: Day, rng: np.random.Generator) -> Broken:
        share = _share(rng, least, most)
        return Broken(day=_lose(day, share), share=share)

    return happen


def _gaining(least: float, most: float, gain: Callable[[Day, float], Day]) -> Break:
    def happen(day: Day, rng: np.random.Generator) -> Broken:
        share = _share(rng, least, most)
        return Broken(day=gain(day, share), share=share)

    return happen


def _renaming(least: float, most: float) -> Break:
    """Some user ids are written in another way: they exit, and enter as others."""

    def happen(day: Day, rng: np.random.Generator) -> Broken:
        share = _share(rng, least, most)
        return Broken(day=_rename(day, share), share=share)

    return happen


def _updating(least: float, most: float) -> Break:
    def happen(day: Day, rng: np.random.Generator) -> Broken:
        share = _share(rng, least, most)
        return Broken(day=_update(day, share), share=share)

    return happen


def _nulling(least: float, most: float) -> Break:
    """Values of a column are missing: whoever had one is updated."""

    def happen(day: Day, rng: np.random.Generator) -> Broken:
        number, share = int(rng.integers(3)), _share(rng, least, most)
        lost = int((day.rows - day.nulls[number]) * share)
        broken = _update(_column(day, number, day.nulls[number] + lost), lost / max(day.rows, 1))
        return Broken(day=broken, share=lost / max(day.rows, 1))

    return happen


def _filling(day: Day, rng: np.random.Generator) -> Broken:
    """Where there was nothing there is a default: whoever had nothing is updated."""
    number = int(np.argmax(day.nulls))
    share = day.nulls[number] / max(day.rows, 1)
    return Broken(day=_update(_column(day, number, 0), share), share=share)


def _repeating(least: float, most: float) -> Break:
    """Rows are there twice; the task drops them."""

    def happen(day: Day, rng: np.random.Generator) -> Broken:
        share = _share(rng, least, most)
        more = int(day.members * share)
        nulls = tuple(int(n * (1 + share)) for n in day.nulls)
        return Broken(day=replace(day, dropped=day.dropped + more, nulls=nulls), share=share)

    return happen


def _invalid(day: Day, rng: np.random.Generator) -> Broken:
    """Identities are not what their rule allows: rows are dropped, and members stay as they were."""
    share = _share(rng, 0.02, 1.0)
    wrong, entered = int(day.members * share), int(day.entered * (1 - share))
    kept = replace(day, entered=entered, updated=int(day.updated * (1 - share)))
    rows = day.rows
    return Broken(day=replace(kept, dropped=max(rows - kept.members, 0) + wrong), share=share)


def _stale(day: Day, _: np.random.Generator) -> Broken:
    """The source has the rows of the run before."""
    return Broken(day=replace(day, entered=0, exited=0, updated=0, is_quiet=True), share=0.0)


def _older(day: Day, rng: np.random.Generator) -> Broken:
    """Another day's partition is read: what came and went since is reversed."""
    share = min(_share(rng, 2, 30) * (day.entered + day.exited) / 2 / max(day.before, 1), 0.4)
    reversed_day = replace(day, entered=0, exited=0)
    return Broken(day=_update(_rename(reversed_day, share), min(share, 0.9)), share=share)


ACCIDENTS: dict[str, Break] = {
    "nothing is loaded": _losing(1.0, 1.0),
    "half a load": _losing(0.3, 0.7),
    "a partition is missing": _losing(0.02, 0.3),
    "a filter is too strict": _losing(0.05, 0.9),
    "a table that is joined is late": _losing(0.03, 0.6),
    "an older partition is read": _older,
    "a window is shifted by hours": _renaming(0.02, 0.15),
    "the source is stale": _stale,
    "a filter is lost": _gaining(0.1, 5.0, _gain_alike),
    "test accounts are loaded": _gaining(0.02, 0.4, _gain),
    "all user ids are cast": _renaming(1.0, 1.0),
    "leading zeros are lost": _renaming(0.03, 0.5),
    "two audiences are mixed up": _renaming(0.5, 1.0),
    "a join repeats all rows": _repeating(1.0, 3.0),
    "a join repeats some rows": _repeating(0.02, 0.5),
    "a property is cast": _updating(0.5, 1.0),
    "a column is NULL": _nulling(1.0, 1.0),
    "a join loses values": _nulling(0.03, 0.8),
    "a default fills a column": _filling,
    "identities are not valid": _invalid,
}
"""Twenty kinds, by what goes wrong upstream."""
