"""What is usual: which days stop nothing although much happens on them, and which stop although little does."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from msgspec import structs

from airflow_kinesis_audience.core.changes.counts import AudienceCounts
from airflow_kinesis_audience.core.changes.usual import Usual
from airflow_kinesis_audience.core.state.recorded import CountedRun

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
MEMBERS = 100_000


@dataclass(frozen=True)
class Day:
    """What a run finds of an audience whose size stays as it is."""

    entered: int = 1_000
    exited: int = 1_000
    updated: int = 2_000
    cityless: int = 20_000
    more: int = 0

    def counts(self) -> AudienceCounts:
        return AudienceCounts(
            audience_id="a",
            source_rows=MEMBERS - self.exited + self.entered + self.more,
            invalid_rows=0,
            duplicate_rows=0,
            previous_members=MEMBERS,
            members=MEMBERS - self.exited + self.entered + self.more,
            entered=self.entered + self.more,
            exited=self.exited,
            updated=self.updated,
            nulls={"property city": self.cityless},
        )


@dataclass
class Year:
    """Days that a rule makes of their number and of chance.

    :param make: a day of its number, and how busy it is.
    """

    make: Callable[[int, float], Day] = lambda _, busy: _busy(Day(), busy)
    days: int = 120
    noise: float = 0.2
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    def runs(self) -> Sequence[CountedRun]:
        return [self._run(n, self.make(n, self.rng.lognormvariate(0, self.noise))) for n in range(self.days)]

    def _run(self, number: int, day: Day) -> CountedRun:
        at, counts = MONDAY + timedelta(days=number), day.counts().recorded(learns=True)
        since = at - timedelta(days=1)
        return CountedRun(as_of=at, since=since, total=counts, audiences={"a": counts})

    def stops(self, day: Day) -> list[str]:
        """Say what stops a day after all others."""
        at = MONDAY + timedelta(days=self.days)
        usual = Usual(runs=self.runs(), as_of=at)
        return [str(b) for b in usual.find_breaches([day.counts()], most=100)]


def _busy(day: Day, times: float) -> Day:
    found = {n: round(getattr(day, n) * times) for n in ("entered", "exited", "updated")}
    return replace(day, **found)


def test_a_busy_day_stops_nothing_and_the_same_number_of_exits_on_an_ordinary_day_does():
    year = Year(make=lambda n, busy: _busy(Day(), busy * (6 if n in (40, 80) else 1)))
    busy = _busy(Day(), 7)
    assert year.stops(busy) == []
    [said] = year.stops(replace(Day(), exited=busy.exited))
    assert "7,000 of 100,000 members would exit; the last 17 Tuesdays had" in said


def test_as_many_entries_as_exits_do_not_explain_each_other():
    year = Year(make=lambda n, busy: _busy(Day(), busy * (6 if n in (40, 80) else 1)))
    assert [s.split(";")[0] for s in year.stops(replace(Day(), entered=7_000, exited=7_000))] == [
        "audience 'a': 7,000 of 100,000 members would exit",
        "audience 'a': 7,000 of 100,000 members would enter",
    ]


def test_a_large_weekly_run_does_not_widen_what_is_usual_of_the_other_days():
    # The run that is looked at is a Tuesday's.
    year = Year(make=lambda n, busy: _busy(Day(), busy * (15 if n % 7 == 4 else 1)), noise=0.3)
    assert "6,000 of 100,000 members would exit" in year.stops(replace(Day(), exited=6_000))[0]
    assert replace(year, days=123).stops(_busy(Day(), 15)) == [], "a Friday's"


def test_updates_that_come_every_month_are_believed_when_they_are_due():
    for days, is_due in ((120, True), (105, False)):
        year = Year(
            make=lambda n, busy: (
                replace(_busy(Day(), busy), updated=80_000) if n % 30 == 0 else _busy(Day(), busy)
            ),
            days=days,
        )
        stopped = year.stops(replace(Day(), updated=80_000))
        assert bool(stopped) is not is_due, (days, stopped)


def test_updates_that_somebody_let_through_once_are_believed_only_some_weeks_after():
    runs = Year(days=60).runs()
    scored = Year(days=61)._run(60, replace(Day(), updated=80_000))
    for days, is_believed in ((18, False), (30, True)):
        later = [
            *runs,
            replace(scored, released=True),
            *(_triggered(scored, Day(), days=n) for n in range(1, days)),
        ]
        assert (_stops(later, 24, replace(Day(), updated=80_000)) == []) is is_believed, days


def test_an_audience_that_was_emptied_and_filled_again_twice_teaches_no_share_of_entries():
    runs = Year().runs()
    for n in (40, 80):
        runs[n] = _counted(runs[n], members=0, entered=0, exited=MEMBERS)
        runs[n + 1] = _counted(runs[n + 1], members=MEMBERS, entered=MEMBERS, exited=0)
    for day in (replace(Day(), entered=60_000), replace(Day(), entered=MEMBERS, exited=MEMBERS)):
        assert _stops(runs, 24, day), day


def _counted(run: CountedRun, **numbers: int) -> CountedRun:
    counts = structs.replace(run.total, updated=0, **numbers)
    return replace(run, total=counts, audiences={"a": counts})


def test_entries_that_happened_before_are_believed_unless_their_columns_are_others():
    campaign = replace(Day(), more=12_000, cityless=22_400)
    year = Year(make=lambda n, busy: _busy(campaign if n in (40, 80) else Day(), busy))
    assert year.stops(campaign) == []
    [said] = year.stops(replace(campaign, cityless=20_000))
    assert "13,000 of 100,000 members would enter, and 20,000 of 112,000 rows have no property city, 17.9%" in said


def _stops(runs: Sequence[CountedRun], hours: float, day: Day) -> list[str]:
    """Say what stops a day some hours after the last of some runs."""
    usual = Usual(runs=runs, as_of=runs[-1].as_of + timedelta(hours=hours))
    return [str(b) for b in usual.find_breaches([day.counts()], most=100)]


def _triggered(run: CountedRun, day: Day, **after: float) -> CountedRun:
    """Give a run that somebody triggered some time after another one."""
    counts = day.counts().recorded(learns=True)
    return CountedRun(as_of=run.as_of + timedelta(**after), since=run.as_of, total=counts, audiences={"a": counts})


QUIET = Day(entered=0, exited=0, updated=0)


def test_an_audience_that_was_held_for_days_may_have_the_changes_of_so_many_days():
    runs = Year().runs()
    others = [_triggered(runs[-1], Day(), days=n) for n in range(1, 7)]
    held = [*runs, *(replace(r, audiences={"b": r.audiences["a"]}, total=None) for r in others)]
    assert _stops(held, 24, _busy(Day(), 7)) == []
    assert "20,000 of 100,000 members would exit" in _stops(held, 24, replace(_busy(Day(), 7), exited=20_000))[0]
    assert "7,000 of 100,000 members would exit" in _stops(runs, 24, replace(Day(), exited=7_000))[0]


def test_approvals_and_triggered_runs_make_the_usual_time_no_shorter():
    runs = Year().runs()
    approved = [*runs[:-6], *(replace(r, since=r.as_of - timedelta(seconds=1)) for r in runs[-6:])]
    triggered = [*runs[:-5], *(t for r in runs[-5:] for t in (r, _triggered(r, QUIET, minutes=10)))]
    many = [*runs, *(_triggered(runs[-1], QUIET, minutes=10 * n) for n in range(1, 6))]
    for name, last in {"approved": approved, "triggered": triggered, "many at once": many}.items():
        assert "7,000 of 100,000 members would exit" in _stops(last, 23, replace(Day(), exited=7_000))[0], name
        assert _stops(last, 24, _busy(Day(), 1)) == [], name


def test_a_run_that_is_triggered_between_two_others_is_not_stale_and_hides_no_stale_source():
    runs = Year().runs()
    assert _stops(runs, 1 / 12, QUIET) == []
    assert (
        "for 1.0 times the usual 24.0 hours; in the 120 runs before, that was so for 0.0"
        in _stops(runs, 24, QUIET)[0]
    )
    extra = [*runs, *(_triggered(runs[-1], QUIET, minutes=10 * n) for n in range(1, 4))]
    assert _stops(extra, 1, QUIET) == []
    assert "no row has changed in 4 runs, for 1.0 times" in _stops(extra, 23.5, QUIET)[0]
    days = [t for r in runs for t in (r, _triggered(r, QUIET, minutes=10))]
    assert "no row has changed in 2 runs, for 1.0 times" in _stops(days, 24 - 1 / 6, QUIET)[0]


def test_an_audience_that_is_quiet_for_days_is_stale_after_twice_as_many():
    quiet = Year(make=lambda n, _: Day() if n % 4 == 0 else QUIET, days=121).runs()
    for hours, is_stale in ((24, False), (24 * 6, False), (24 * 7, False)):
        assert bool(_stops(quiet, hours, QUIET)) is is_stale, hours
    still = [*quiet, *(_triggered(quiet[-1], QUIET, days=n) for n in range(1, 7))]
    assert _stops(still, 12, QUIET) == []
    assert "no row has changed in 8 runs" in _stops([*still, _triggered(still[-1], QUIET, days=1)], 24, QUIET)[0]
    never = Year(make=lambda *_: QUIET).runs()
    assert _stops(never, 24, QUIET) == [], "one that never changed"


def test_letting_one_audience_through_says_nothing_of_another():
    runs = Year().runs()
    quiet = [*runs, _triggered(runs[-1], QUIET, days=1)]
    for passed, is_stopped in ((("b",), True), (("a", "b"), False), ((), False)):
        found = [*runs, replace(quiet[-1], released=True, passed=passed)]
        assert bool(_stops(found, 24, QUIET)) is is_stopped, passed
    exits = replace(Day(), exited=9_000)
    large = replace(_triggered(runs[-1], exits, days=1), released=True, passed=("b",))
    assert "would exit" in _stops([*runs, large], 24, exits)[0]
    assert _stops([*runs, replace(large, passed=("a",))], 24, exits) == []
