"""How many requests may be in flight, in a time that the test makes go by."""

from __future__ import annotations

import time

import pytest

from airflow_kinesis_audience.core.producer.concurrency import Concurrency


class Clock:
    """Time, and what this process computed of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._seconds = self._computed = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self._seconds)
        monkeypatch.setattr(time, "process_time", lambda: self._computed)

    def pass_by(self, seconds: float, *, busy: float) -> None:
        """Let time go by, of which the process computes for a share."""
        self._seconds += seconds
        self._computed += busy * seconds


def far_away(most: int) -> Concurrency:
    """Requests to an endpoint that answers after 100 times of what a put computes."""
    concurrency = Concurrency(most)
    for _ in range(2):
        concurrency.on_own_put(0.0202, 0.0002)
    return concurrency


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_while_answers_come_at_once_the_thread_that_decides_puts(clock: Clock) -> None:
    concurrency = Concurrency(8)
    for _ in range(1_000):
        concurrency.on_own_put(0.0004, 0.0003)
    assert (concurrency.has_threads, concurrency.requests) == (False, 1)


def test_one_slow_answer_among_quick_ones_changes_nothing(clock: Clock) -> None:
    concurrency = Concurrency(8)
    for _ in range(20):
        concurrency.on_own_put(0.5, 0.0003)
        concurrency.on_own_put(0.0004, 0.0003)
    assert (concurrency.has_threads, concurrency.requests) == (False, 1)


@pytest.mark.parametrize(("computed", "requests"), [(0.0001, 8), (0.005, 5), (0.009, 3)])
def test_far_away_as_many_are_in_flight_as_the_process_has_time_for(
    clock: Clock, computed: float, requests: int
) -> None:
    concurrency = Concurrency(8)
    for _ in range(2):
        concurrency.on_own_put(0.02 + computed, computed)
    assert (concurrency.has_threads, concurrency.requests) == (True, requests)


def test_where_one_may_be_in_flight_there_are_no_threads(clock: Clock) -> None:
    assert (far_away(1).has_threads, far_away(1).requests) == (False, 1)


def test_an_idle_process_gets_one_more_at_each_look_up_to_the_bound(clock: Clock) -> None:
    concurrency = Concurrency(6)
    for _ in range(2):
        concurrency.on_own_put(0.031, 0.01)
    seen = [concurrency.requests]
    for _ in range(5):
        clock.pass_by(0.02, busy=0.5)
        concurrency.consider(may_grow=True)
        seen.append(concurrency.requests)
    assert seen == [3, 4, 5, 6, 6, 6]


def test_while_records_are_retried_none_is_added(clock: Clock) -> None:
    concurrency = Concurrency(6)
    for _ in range(2):
        concurrency.on_own_put(0.031, 0.01)
    clock.pass_by(0.02, busy=0.5)
    concurrency.consider(may_grow=False)
    assert concurrency.requests == 3


def test_a_process_that_has_much_to_do_gets_one_less_and_at_last_no_threads(clock: Clock) -> None:
    concurrency = far_away(4)
    seen = [concurrency.requests]
    for _ in range(3):
        clock.pass_by(0.02, busy=1.0)
        concurrency.consider(may_grow=True)
        seen.append(concurrency.requests)
    assert seen == [4, 3, 2, 1]
    assert not concurrency.has_threads


def test_between_busy_and_idle_nothing_changes(clock: Clock) -> None:
    concurrency = far_away(4)
    clock.pass_by(0.02, busy=0.9)
    concurrency.consider(may_grow=True)
    assert concurrency.requests == 4


def test_a_look_too_soon_after_the_last_one_says_nothing(clock: Clock) -> None:
    concurrency = far_away(4)
    clock.pass_by(0.004, busy=1.0)
    concurrency.consider(may_grow=True)
    assert concurrency.requests == 4
    clock.pass_by(0.004, busy=1.0)
    concurrency.consider(may_grow=True)
    assert concurrency.requests == 3
