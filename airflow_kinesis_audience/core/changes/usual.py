"""What is usual for an audience, learnt from what its own earlier runs counted, and what of a run is not.

Pure: counts in, breaches out. A count is compared as a share of the members, so that growth changes nothing, with
what runs of the same weekday or hour had on days as busy as this one. What lies further from it than noise, than
anything that happened twice before, and than a share which matters, is not usual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from airflow_kinesis_audience.core.changes.counts import total_counts
from airflow_kinesis_audience.core.changes.guards import Breach
from airflow_kinesis_audience.core.changes.levels import (
    SEASON_RUNS,
    Flows,
    Past,
    Tolerance,
    find_season,
    name_season,
)
from airflow_kinesis_audience.core.changes.pace import EARLY, RunPace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.counts import AudienceCounts
    from airflow_kinesis_audience.core.changes.levels import Band
    from airflow_kinesis_audience.core.state.recorded import CountedRun
    from airflow_kinesis_audience.core.state.sync_details import Counts

MIN_RUNS = 20
"""With fewer runs nothing is learnt."""

TOLERANCES = {
    "exited": Tolerance(spreads=6.0),
    "entered": Tolerance(spreads=6.0, above=2.5),
    "updated": Tolerance(spreads=10.0, gaps=1, again=20),
}
"""How much is believed: of growth more; of updates that come regularly less."""

OF_MEMBERS, OF_SHARES, OF_ENTRIES = (
    Tolerance(spreads=5.0, above=2.5),
    Tolerance(spreads=6.0),
    Tolerance(spreads=3.5),
)
"""The same of the number of members, of shares of the rows, and of shares of the rows where many enter."""

CHANCES, ODD_CHANCES = 6.0, 3.5
"""So many deviations of what chance alone does to a number; fewer of one that is looked at where many enter."""

LEAST_SHARE, LEAST_ROWS = 0.045, 10
"""A deviation of fewer members, or of fewer rows of a column, stops nothing."""

ODD_ENTRIES = 0.3
"""Entries are odd if so many of those of them that would have nothing in a column have something, or more have."""

LEVEL_RUNS = 7
"""A level, such as the share of NULL, is compared with the median of so many runs before."""

MANY_CHANGES = 10
"""An interval without a change is believed once if one had fewer changes than these before."""

_MOVES = {"exited": "would exit", "entered": "would enter"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Usual:
    """What is known of earlier runs, when a run for an instant is looked at.

    :param runs: ascending; none before a first run, which is not looked at.
    :param same_mapping: its columns are those of the run before; otherwise updates say nothing.
    """

    runs: Sequence[CountedRun]
    as_of: datetime
    same_mapping: bool = True

    def find_breaches(self, audiences: Sequence[AudienceCounts], *, most: int) -> list[Breach]:
        """Find what is not usual: a breach per count and audience; more than ``most`` audiences are one."""
        if len(audiences) > most:
            totals = [_OneRun(r, r.total, r.released) for r in self.runs if r.total is not None]
            return [
                Breach(None, f"all audiences together: {sentence}")
                for sentence in self._find(totals, total_counts(audiences))
            ]
        return [
            Breach(a.audience_id, f"audience {a.audience_id!r}: {sentence}")
            for a in audiences
            if a.source_rows
            for sentence in self._find(self._runs_of(str(a.audience_id)), a.recorded(learns=True))
        ]

    def _runs_of(self, audience_id: str) -> list[_OneRun]:
        named = [r for r in self.runs if audience_id in r.audiences]
        return [_OneRun(r, r.audiences[audience_id], r.has_released(audience_id)) for r in named]

    def _find(self, runs: Sequence[_OneRun], now: Counts) -> Iterator[str]:
        if len(runs) < MIN_RUNS:
            return iter(())
        return _History(runs, now, self.as_of).find_unusual(updates=self.same_mapping)


class _OneRun(NamedTuple):
    """What is known of an earlier run of one audience, or of all of them together."""

    run: CountedRun
    counts: Counts
    released: bool


class _History:
    """The counts of a run beside those of the runs before it."""

    def __init__(self, runs: Sequence[_OneRun], now: Counts, as_of: datetime) -> None:
        self.now = now
        self.counts = [r.counts for r in runs]
        self.released = [r.released for r in runs]
        self.at = [*(r.run.as_of for r in runs), as_of]
        self.pace = RunPace(runs[0].run.since, self.at, [*map(_changes, self.counts), _changes(now)])

    def find_unusual(self, *, updates: bool) -> Iterator[str]:
        """Say what of the run is not usual.

        :param updates: whether the number of updates says anything.
        """
        if stale := self._find_stale():
            yield stale
        moved = [s for name, would in _MOVES.items() for s in self._find_flow(name, would)]
        yield from moved or self._find_members()
        if updates:
            yield from self._find_flow("updated", "would be updated")
        if self.now.source_rows:
            yield from self._find_share("would be dropped", lambda c: c.dropped)
            for label in sorted(self.now.nulls):
                yield from self._find_share(f"have no {label}", partial(_nulls, label))
            yield from () if moved else self._find_odd_entries()

    def _find_stale(self) -> str | None:
        """Say that no row has changed for longer than ever before, and for as long as usually is between runs."""
        runs = len(self.counts) - self.pace.quiet_runs  # what is quiet now is no proof that this is usual
        if _changes(self.now) or not runs or any(self.released[runs:]):
            return None
        *before, quiet = self.pace.quiet
        known = [*zip(before[:runs], map(_changes, self.counts), strict=False)]
        longest = max((time for time, changes in known if not changes), default=0.0)
        least = min((changes for time, changes in known if time + EARLY >= 1), default=0)
        if quiet + EARLY < (1 if least >= MANY_CHANGES else 2 * (longest + 1)):
            return None
        return (
            f"no row has changed in {self.pace.quiet_runs + 1:,} runs, for {quiet:,.1f} times the usual "
            f"{self.pace.usually:,.1f} hours; in the {runs:,} runs before, that was so for {longest:,.1f} times "
            f"at most ({_USUAL})"
        )

    def _find_flow(self, name: str, would: str) -> Iterator[str]:
        """Say that more members change than usual; fewer do no harm."""
        before, found = _before(self.now), getattr(self.now, name)
        least = max(LEAST_SHARE * before, LEAST_ROWS)
        if found <= least:
            return
        band, size = self._flows.find_band(name, TOLERANCES[name]), self.pace.longer[-1] * before
        middle = band.expected * size
        most = middle + max(band.above * size, CHANCES * math.sqrt(middle + 1), least)
        if found > most:
            yield (
                f"{found:,} of {before:,} members {would}; the last {self._like_this} had "
                f"{band.middle * size:,.0f} ± {band.spread * size:,.0f} ({_USUAL}, up to {most:,.0f})"
            )

    def _find_members(self) -> Iterator[str]:
        """Say that there are far fewer or more members than before: entries and exits may vary by as much."""
        before, found = max(_before(self.now), 1), self.now.members - _before(self.now)
        least = max(LEAST_SHARE * before, LEAST_ROWS)
        if abs(found) <= least:
            return
        band, more = self._flows.find_steady_band("entered", "exited", OF_MEMBERS), found > 0
        middle = band.expected * (size := self.pace.longer[-1] * before)
        most = max((band.above if more else band.below) * size, CHANCES * math.sqrt(_changes(self.now)), least)
        if abs(found - middle) > most:
            yield (
                f"{abs(found):,} members {'more' if more else 'fewer'} than the {before:,} before would remain; "
                f"the last {self._like_this} had {middle:+,.0f} ± {band.spread * size:,.0f} ({_USUAL}, "
                f"{'up' if more else 'down'} to {middle + (most if more else -most):+,.0f})"
            )

    def _find_odd_entries(self) -> Iterator[str]:
        """Say that more enter than usual, not too many, and have nothing in other columns than others."""
        before, rows = _before(self.now), self.now.source_rows
        least = max(LEAST_SHARE * before, LEAST_ROWS)
        if self.now.entered <= least:
            return
        usual = self._flows.find_band("entered", TOLERANCES["entered"]).expected * self.pace.longer[-1] * before
        more = self.now.entered - usual
        for label, found in sorted(self.now.nulls.items() if more > least else ()):
            if (known := self._shares_of(partial(_nulls, label), OF_ENTRIES)) is None:
                continue
            level, band = known
            noise = ODD_CHANCES * math.sqrt(level * (1 - level) / rows)
            odd = max(ODD_ENTRIES * level * more, LEAST_ROWS) / rows
            if abs(found / rows - level) > max(band.above if found / rows > level else band.below, noise, odd):
                yield (
                    f"{self.now.entered:,} of {before:,} members would enter, and {found:,} of {rows:,} rows have "
                    f"no {label}, {found / rows:.1%}; the {LEVEL_RUNS} runs before had {level:.1%} ± "
                    f"{band.spread:.1%} ({_USUAL})"
                )

    def _find_share(self, what: str, count: Callable[[Counts], int | None]) -> Iterator[str]:
        """Say that another share of the rows than in the runs before has something."""
        rows, found = self.now.source_rows, count(self.now) or 0
        least = max(LEAST_SHARE, LEAST_ROWS / rows)
        recent = [n / c.source_rows for c in self.counts[-LEVEL_RUNS:] if _has(n := count(c), c)]
        if not recent or abs(found / rows - median(recent)) <= least:
            return
        if (known := self._shares_of(count, OF_SHARES)) is None:
            return
        level, band = known
        more, noise = found / rows > level, math.sqrt(level * (1 - level) / rows)
        most = max(band.above if more else band.below, CHANCES * noise, least)
        if abs(found / rows - level) > most:
            yield (
                f"{found:,} of {rows:,} rows {what}, {found / rows:.1%}; the {LEVEL_RUNS} runs before had "
                f"{level:.1%} ± {band.spread:.1%} ({_USUAL}, {'up' if more else 'down'} to "
                f"{level + (most if more else -most):.1%})"
            )

    def _shares_of(self, count: Callable[[Counts], int | None], tolerance: Tolerance) -> tuple[float, Band] | None:
        """Find the share of the rows in the runs before, and the band of what it differs from one run to another.

        It does not grow with the time since the run before. None is known where few runs have counted it.
        """
        of = [(n, found / c.source_rows) for n, c in enumerate(self.counts) if _has(found := count(c), c)]
        if len(of) < MIN_RUNS:
            return None
        shares = [share for _, share in of]
        steps = [shares[n] - _level(shares, n) for n in range(LEVEL_RUNS, len(shares))]
        band = self._past.of([n for n, _ in of[LEVEL_RUNS:]]).find_band(steps, tolerance)
        return _level(shares, len(shares)), band

    @cached_property
    def _past(self) -> Past:
        return Past(
            at=self.at,
            members=[_before(c) for c in (*self.counts, self.now)],
            seasons=[find_season(t, self.pace.usually, len(self.counts)) for t in self.at],
            released=self.released,
        )

    @cached_property
    def _flows(self) -> Flows:
        counts = (*self.counts, self.now)
        # A run that begins with nobody does not teach how large a share of the members enters.
        every = [(c, _before(c) * longer) for c, longer in zip(counts, self.pace.longer, strict=True)]
        shares = {n: [getattr(c, n) / of if of else 0.0 for c, of in every] for n in TOLERANCES}
        return Flows(self._past, shares)

    @property
    def _like_this(self) -> str:
        """Name the runs that this one is compared with."""
        season, seasons = self._past.seasons[-1], self._past.seasons[:-1]
        like = seasons.count(season) if season else 0
        return f"{like:,} {name_season(season)}" if like >= SEASON_RUNS else f"{len(seasons):,} runs"


_USUAL = "usual is on"


def _changes(counts: Counts) -> int:
    return counts.entered + counts.exited + counts.updated


def _before(counts: Counts) -> int:
    return counts.members - counts.entered + counts.exited


def _nulls(label: str, counts: Counts) -> int | None:
    return counts.nulls.get(label)


def _has(found: int | None, counts: Counts) -> TypeGuard[int]:
    return found is not None and counts.source_rows > 0


def _level(values: Sequence[float], end: int) -> float:
    return median(values[end - LEVEL_RUNS : end])
