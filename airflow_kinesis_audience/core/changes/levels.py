"""What earlier runs make usual of a count: a level of the season and of how busy a day is, noise, what happened.

Pure: shares in, bands out. A day on which all counts are higher by one factor is a busy one, and each of them is
compared with what such a day has. Noise is relative to the level, so that a large weekly run does not widen the
bands of the other days; what goes beyond noise, such as a campaign, adds to a level of any size.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

SEASON_RUNS = 8
"""So many runs of one weekday or hour are compared among themselves."""

ENOUGH_ROWS, ENOUGH_RUNS = 20.0, 20
"""Noise is relative where so many rows are usual, in so many runs; then a count says how busy a day is, too."""

BUSY_SPREADS, BUSY_SEEN = 5.0, 1.5
"""So many spreads are noise still of how busy a day is; so many times what was seen is believed of it."""

QUIETEST, BUSIEST = 0.5, 50.0
"""No day is believed to be quieter, or busier, than so many times a usual one."""

DUE, REGULAR = 0.9, 1.3
"""What comes regularly, with gaps that differ by no more, is believed after so much of the shortest of them."""

MATTERS = 0.045
"""What is smaller, as a share, is no event that comes regularly."""

_SPREAD_OF_MAD = 1.4826
_DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")

Season = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """How much of a deviation is believed.

    :param spreads: so many of them are noise.
    :param above: so many times what is beyond noise, and happened twice before, or once and somebody let it
        through; ``below`` the same of what is less than usual.
    :param gaps: from so many gaps on, something comes regularly.
    :param again: what happened once is not believed to happen again in fewer runs.
    """

    spreads: float
    above: float = 1.5
    below: float = 1.5
    gaps: int = 2
    again: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """What is usual of a count, as a share.

    :param middle: of the season, and ``spread`` the noise around it.
    :param expected: the middle of a day that is as busy as this one.
    :param above: how far above that a run may be, and ``below`` how far below.
    """

    middle: float
    spread: float
    expected: float
    above: float
    below: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """Earlier runs, and as the last one of each but of ``released`` the run that is looked at.

    :param members: before a run.
    :param seasons: such as a weekday.
    :param released: a guard stopped the run, and somebody let it through.
    """

    at: Sequence[datetime]
    members: Sequence[int]
    seasons: Sequence[Season]
    released: Sequence[bool]

    def of(self, numbers: Sequence[int]) -> Past:
        """Give some of the runs, and this one."""
        with_this = [*numbers, len(self.at) - 1]
        return Past(
            at=[self.at[n] for n in with_this],
            members=[self.members[n] for n in with_this],
            seasons=[self.seasons[n] for n in with_this],
            released=[self.released[n] for n in numbers],
        )

    def find_levels(self, values: Sequence[float]) -> list[float]:
        """Give the median of each run's season, also of this run's; of a season with few runs that of all."""
        of: defaultdict[tuple[int, ...], list[float]] = defaultdict(list)
        for value, season in zip(values, self.seasons, strict=False):
            of[season].append(value)
        known = {s: median(found) for s, found in of.items() if len(found) >= SEASON_RUNS}
        every = median(values)
        return [known.get(s, every) for s in self.seasons]

    def find_seen(self, values: Sequence[float]) -> float:
        """Give the largest value that happened twice, or that somebody let through."""
        return max(sorted(values)[-2], *(v for v, r in zip(values, self.released, strict=True) if r), 0.0)

    def find_band(
        self,
        values: Sequence[float],
        tolerance: Tolerance,
        *,
        levels: Sequence[float] | None = None,
        expected: Sequence[float] | None = None,
        scales: Sequence[float] | None = None,
    ) -> Band:
        """Find the band of a count.

        :param values: of the earlier runs.
        :param levels: of the seasons, if they are known.
        :param expected: of each run and of this one; by default the level of its season.
        :param scales: what noise is relative to; by default it is the same in all runs.
        """
        levels = self.find_levels(values) if levels is None else levels
        expected = levels if expected is None else expected
        apart = [v - e for v, e in zip(values, expected, strict=False)]
        noise = [find_spread(apart)] * len(self.at)
        if scales is not None:
            known = [s * m >= ENOUGH_ROWS for s, m in zip(scales, self.members, strict=True)]
            relative = [a / s for a, s, k in zip(apart, scales, known, strict=False) if k]
            if len(relative) >= ENOUGH_RUNS:
                share = find_spread(relative)
                noise = [share * s if k else n for s, k, n in zip(scales, known, noise, strict=True)]
        above, below = (
            [max(side * a - tolerance.spreads * n, 0.0) for a, n in zip(apart, noise, strict=False)]
            for side in (1, -1)
        )
        return Band(
            middle=levels[-1],
            spread=noise[-1],
            expected=expected[-1],
            above=tolerance.spreads * noise[-1] + tolerance.above * self._find_believed(above, tolerance),
            below=tolerance.spreads * noise[-1] + tolerance.below * self._find_believed(below, tolerance),
        )

    def _find_believed(self, beyond: Sequence[float], tolerance: Tolerance) -> float:
        """Give what beyond noise is believed: nothing where it comes regularly, or came once, and is not due."""
        seen = self.find_seen(beyond)
        found = [n for n, v in enumerate(beyond) if v > max(seen / 3, MATTERS)]
        if len(found) == 1 and len(beyond) - found[0] < tolerance.again:
            return 0.0
        times = [self.at[n] for n in found]
        gaps = [b - a for a, b in pairwise(times)]
        if len(gaps) < tolerance.gaps or max(gaps) > REGULAR * min(gaps):
            return seen
        return 0.0 if self.at[-1] - times[-1] < DUE * min(gaps) else seen


class Flows:
    """Several counts of the same runs, which show together how busy a day is.

    :param shares: by the name of what was counted, of each run of the past and of this one.
    """

    def __init__(self, past: Past, shares: Mapping[str, Sequence[float]]) -> None:
        self.past, self.shares = past, shares
        self.levels = {name: past.find_levels(of[:-1]) for name, of in shares.items()}
        self._ratios = {name: self._find_ratios(name) for name in shares}

    def _find_ratios(self, name: str) -> list[float]:
        """Give how many times the usual a count was; 0 where too few are usual to say so."""
        return [
            (share * m + 1) / (level * m + 1) if level * m >= ENOUGH_ROWS else 0.0
            for share, level, m in zip(self.shares[name], self.levels[name], self.past.members, strict=True)
        ]

    def _find_busy(self, names: Sequence[str]) -> list[float]:
        """Give how busy days were by the least of some counts; 1 where one of them does not say."""
        return [
            min(max(min(of), QUIETEST), BUSIEST) if min(of) else 1.0
            for of in zip(*(self._ratios[n] for n in names), strict=True)
        ]

    def _find_believed_busy(self, names: Sequence[str]) -> list[float]:
        *before, now = self._find_busy(names)
        return [*before, min(now, self._busiest)]

    @cached_property
    def _busiest(self) -> float:
        *before, _ = self._find_busy([*self.shares])
        noise = BUSY_SPREADS * find_spread([math.log(b) for b in before])
        return max(math.exp(min(noise, math.log(BUSIEST))), BUSY_SEEN * self.past.find_seen(before))

    def find_band(self, name: str, tolerance: Tolerance) -> Band:
        """Find the band of one count, on a day as busy as the others say, if that explains it."""
        expected: Sequence[float] = self.levels[name]
        busy = self._find_believed_busy([n for n in self.shares if n != name])
        known = [(math.log(r), math.log(r / b)) for r, b in zip(self._ratios[name][:-1], busy, strict=False) if r]
        if known:
            usual = median(apart for _, apart in known)
            if find_spread([apart - usual for _, apart in known]) < find_spread([alone for alone, _ in known]):
                expected = [e * b * math.exp(usual) for e, b in zip(expected, busy, strict=True)]
        return self.past.find_band(
            self.shares[name][:-1], tolerance, levels=self.levels[name], expected=expected, scales=expected
        )

    def find_steady_band(self, more: str, less: str, tolerance: Tolerance) -> Band:
        """Find the band of the difference of two counts, whose noise is that of both."""
        busy = self._find_believed_busy([*self.shares])
        both = zip(self.levels[more], self.levels[less], busy, strict=True)
        steps = [a - b for a, b in zip(self.shares[more], self.shares[less], strict=True)]
        return self.past.find_band(steps[:-1], tolerance, scales=[(a + b) * c for a, b, c in both])


def find_spread(apart: Sequence[float]) -> float:
    """Give the standard deviation that the median of deviations stands for."""
    return _SPREAD_OF_MAD * median(map(abs, apart))


def find_season(at: datetime, hours: float, runs: int) -> Season:
    """Find the season of a run: its weekday, its hour where there are several a day, or none.

    :param hours: usual between two runs.
    """
    if hours > 6 * 24:
        return ()
    if hours > 16:
        return (at.weekday(),)
    return (at.weekday(), at.hour) if runs * hours / (7 * 24) > SEASON_RUNS else (-1, at.hour)


def name_season(season: Season) -> str:
    """Name the runs of a season."""
    day, *hour = season
    at = f" at {hour[0]:02}:00" if hour else ""
    return f"{_DAYS[day] if day >= 0 else 'runs'}{at}"
