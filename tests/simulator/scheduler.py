"""Who goes on next, what goes wrong there, and what time it is: all drawn from one seed.

An actor is a greenlet, so one runs at a time and gives way only at a step: before a statement, a put or a sleep,
and between what it did and its answer. A process is what dies together: once it is dead, each of its steps ends
with :class:`Killed`, so nothing is written afterwards. Time goes on by steps and jumps where all sleep.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")

MOST_STEPS = 20_000
"""More steps than any history needs: one that takes as many goes round in a circle."""


class Killed(BaseException):
    """The process ended here."""


class Stuck(AssertionError):
    """Actors wait for what never comes."""


class Fault(Enum):
    """What goes wrong at one step."""

    KILLED_BEFORE = "killed before it was done"
    KILLED_AFTER = "killed after it was done"
    FAILED = "not done, an error"
    ANSWER_LOST = "done, and an error all the same"
    PAUSED = "paused, and woken later"


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How a history's steps go.

    :param stays: how likely the same actor goes on.
    :param rate: how likely a step goes wrong.
    :param faults: how many do at most.
    :param pauses: seconds that a paused process stands still for.
    """

    stays: float
    rate: float
    faults: int
    pauses: tuple[float, ...] = (2.0, 40.0, 1_200.0, 4_000.0)


CALM = Weather(stays=0.7, rate=0.0, faults=0)


def draw_weather(chance: random.Random) -> Weather:
    """Draw one: from nothing but other orders to a fault at every tenth step."""
    stays = chance.choice((0.0, 0.5, 0.8, 0.95))
    rate = chance.choice((0.0, 0.01, 0.03, 0.1))
    return Weather(stays=stays, rate=rate, faults=chance.choice((1, 2, 4, 8)))


@dataclass(eq=False)
class Process:
    """What dies together.

    :param skew: seconds by which its clock on the wall is wrong.
    """

    name: str
    dead: bool = False
    skew: float = 0.0


@dataclass(eq=False)
class Actor:
    """One thread of a process.

    :param ready: what it waits for, if for anything; ``wake_at``, when it goes on in any case.
    """

    name: str
    process: Process
    body: greenlet
    ready: Callable[[], bool] | None = None
    wake_at: float | None = None
    done: bool = False
    result: Any = None
    error: BaseException | None = None

    def may_go_on(self, now: float) -> bool:
        if self.process.dead:
            return True  # to its end
        if self.wake_at is not None and self.wake_at <= now:
            return True
        return self.ready() if self.ready is not None else self.wake_at is None


@dataclass(eq=False)
class Scheduler:
    """Runs actors until all have ended."""

    seed: int
    weather: Weather = CALM
    now: float = 1_000.0
    steps: int = 0
    trace: list[str] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    actors: list[Actor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._hub = getcurrent()
        self._current: Actor | None = None
        self._faults_left = self.weather.faults

    def change_weather(self, weather: Weather) -> None:
        self.weather, self._faults_left = weather, weather.faults

    @property
    def current(self) -> Actor | None:
        """Whose turn it is; none outside of all actors."""
        return self._current

    def spawn(self, name: str, act: Callable[[], Any], process: Process | None = None) -> Actor:
        """Begin an actor, of a process of its own unless one is given."""

        def body() -> None:
            try:
                actor.result = act()
            except (Exception, Killed) as error:
                actor.error = error
            actor.done = True

        actor = Actor(name, process or Process(name), greenlet(body, self._hub))
        self.actors.append(actor)
        return actor

    def run(self) -> None:
        """Let actors go on until all have ended."""
        while True:
            self.actors = [a for a in self.actors if not a.done]
            if not self.actors:
                return
            ready = [a for a in self.actors if a.may_go_on(self.now)]
            if ready:
                self._let_go_on(self._choose(ready))
                continue
            times = [a.wake_at for a in self.actors if a.wake_at is not None]
            if not times:
                raise Stuck(f"nothing will ever wake {', '.join(a.name for a in self.actors)}")
            self.now = min(times)

    def _choose(self, ready: list[Actor]) -> Actor:
        last = self._current
        if last in ready and self.chance.random() < self.weather.stays:
            return last  # type: ignore[return-value]
        return self.chance.choice(ready)

    def _let_go_on(self, actor: Actor) -> None:
        self._current, actor.ready, actor.wake_at = actor, None, None
        actor.body.switch()

    def _give_way(self) -> None:
        """Let others go on first; whose process has died meanwhile goes no further."""
        actor = self._current
        assert actor is not None
        if not actor.process.dead:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Stuck(f"no end after {MOST_STEPS:,} steps; the last one was of {actor.name}")
            self._hub.switch()
        if actor.process.dead:
            raise Killed

    def _in(self, seconds: float) -> float:
        """Give a time from now, a later one if it is to be: a clock goes on, however short a while is."""
        return max(self.now + seconds, math.nextafter(self.now, math.inf)) if seconds > 0 else self.now

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        if self._current is not None:
            self._current.wake_at = self._in(seconds)
            self._give_way()

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until something is so, or for so long; gives whether it is."""
        actor = self._current
        assert actor is not None
        if not ready() or actor.process.dead:
            actor.ready, actor.wake_at = ready, None if timeout is None else self._in(timeout)
            self._give_way()
        return ready()

    def kill(self) -> None:
        """End the process of the current actor."""
        assert self._current is not None
        self._current.process.dead = True
        raise Killed

    def step(self, what: str, act: Callable[[], T], fail: Callable[[], Exception]) -> T:
        """Do one thing that others see, unless something goes wrong.

        :param fail: makes the error of what was not done, or of whose answer was lost.
        """
        actor = self._current
        if actor is None:
            return act()
        self.now += self.chance.choice((0.001, 0.02, 0.3))
        self._give_way()
        fault = self._draw_fault(what)
        if fault is Fault.KILLED_BEFORE:
            self.kill()
        if fault is Fault.FAILED:
            raise fail()
        if fault is Fault.PAUSED:
            self.sleep(self.chance.choice(self.weather.pauses))
        self.trace.append(f"{self.now:9.3f} {actor.name}: {what}")
        done = act()
        self._give_way()
        if fault is Fault.KILLED_AFTER:
            self.kill()
        if fault is Fault.ANSWER_LOST:
            raise fail()
        return done

    def _draw_fault(self, what: str) -> Fault | None:
        assert self._current is not None
        if not self._faults_left or self.chance.random() >= self.weather.rate:
            return None
        self._faults_left -= 1
        fault = self.chance.choice(tuple(Fault))
        self.struck[fault.name] += 1
        self.trace.append(f"{self.now:9.3f} {self._current.name}: {fault.value}: {what}")
        return fault


Calls = Mapping[str, Callable[..., Any]]
