"""How many requests are in flight at a time: what the endpoint's latency asks for, and this process has time for.

While answers come at once there is one, put by the thread that also decides: threads would only take turns. If
answers take their time, other threads put, and their number follows from how busy the process is.
"""

from __future__ import annotations

import time

_AT_ONCE, _SLOW_PUTS, _SLOW_SECONDS = 1.0, 2, 0.03
"""Answers come at once while a put waits for less than this times what it computes. So many in a row that wait for
longer, and for so many seconds together, show that they do not: one alone may have opened its connection."""

_LOOK_SECONDS = 0.005
"""How busy the process is shows in so many seconds."""

_BUSY_SHARE, _FULL_SHARE = 0.8, 0.95
"""A process that computes for less than the one share of the time can have one more request in flight; one that
computes for more than the other has one too many."""


class Concurrency:
    """How many requests may be in flight.

    :param most: the bound of it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads = 0
        self._slow_puts, self._waited, self._computed = 0, 0.0, 0.0
        self._looked_at = time.perf_counter(), time.process_time()

    @property
    def has_threads(self) -> bool:
        """Whether threads put, and not the one that decides."""
        return self._threads > 0

    @property
    def requests(self) -> int:
        """How many requests may be in flight."""
        return max(1, min(self._most, self._threads))

    def on_own_put(self, seconds: float, computed: float) -> None:
        """Learn from a put of the thread that decides.

        :param seconds: that it took; ``computed`` those in which the thread computed.
        """
        waited = seconds - computed
        if waited <= _AT_ONCE * computed:
            self._slow_puts, self._waited, self._computed = 0, 0.0, 0.0
            return
        self._slow_puts += 1
        self._waited += waited
        self._computed += computed
        if self._slow_puts >= _SLOW_PUTS and self._waited >= _SLOW_SECONDS and self._most > 1:
            # As many as keep the process busy while one of them waits.
            self._threads = min(self._most, 1 + int(self._waited / max(self._computed, self._waited / self._most)))
            self._slow_puts, self._waited, self._computed = 0, 0.0, 0.0

    def consider(self, *, may_grow: bool) -> None:
        """Allow one more, or one less, by how busy the process was since the last time; called while it waits."""
        (began, cpu_began), now = self._looked_at, (time.perf_counter(), time.process_time())
        seconds, busy = now[0] - began, now[1] - cpu_began
        if seconds < _LOOK_SECONDS:
            return
        self._looked_at = now
        if busy > _FULL_SHARE * seconds:
            # One thread that puts beside the one that decides is no better than none.
            self._threads -= 1 if self._threads > 2 else self._threads
        elif busy < _BUSY_SHARE * seconds and may_grow:
            self._threads = min(self._threads + 1, self._most)
