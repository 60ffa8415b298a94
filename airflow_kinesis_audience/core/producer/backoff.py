"""Exponential backoff with full jitter: how often, and after which delays, a failed record is put again.

The delay belongs to an ordering key and not to a record: after a key was throttled, its next records start with a
delay, too. Nothing here waits, reads a clock or draws a random number: the caller does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_LEAST_SHARE = 0.1
"""A destination accepts next to nothing if it accepts less than this of what is put, however slowly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How long to keep trying.

    :param attempts: failed puts of one record until it is given up. A throttled put counts only if no other record
        was acknowledged since the record's last put: a slow stream is no reason to give up, a stuck one is.
    :param stall_seconds: give up when nothing was acknowledged for that long.
    :param slow_seconds: end the attempt when throttling left next to nothing of the puts for that long; by default
        that is no reason.
    :param first_delay_seconds: upper bound of a key's random delay after its first failure; each further
        failure doubles it.
    :param longest_delay_seconds: most that the bound grows to.
    """

    attempts: int = 10
    stall_seconds: float = 300.0
    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 10.0
    slow_seconds: float = math.inf

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.stall_seconds <= 0:
            raise ValueError(f"attempts={self.attempts}, stall_seconds={self.stall_seconds}; both must be above 0")

    def delay_bound(self, failures: int) -> float:
        """Return the upper bound in seconds of a key's delay after that many failures."""
        return min(self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** min(failures - 1, 64))


class KeyRetryState:
    """The failures of one ordering key since it last had no record."""

    __slots__ = ("attempts", "failures", "is_throttled", "seen")

    def __init__(self) -> None:
        self.attempts = 0  # of its first record: those that count against ``RetryPolicy.attempts``
        self.failures = 0  # outlives a record, so that the next record of the key is delayed, too
        self.is_throttled = False  # by the last failure
        self.seen = 0  # acknowledged records of all keys when the key last failed


class Pace:
    """What share of the puts a destination accepts.

    :param seconds: for how long it must be next to nothing, and the rest throttled, to be too small.
    """

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._since, self._delivered, self._throttled = now, 0, 0
        self.is_too_slow = False

    def consider(self, delivered: int, throttled: int, now: float) -> None:
        """Look at the counts, from the beginning on, of the puts of records."""
        if now - self._since < self._seconds:
            return
        accepted, refused = delivered - self._delivered, throttled - self._throttled
        self.is_too_slow = accepted < _LEAST_SHARE * (accepted + refused)
        self._since, self._delivered, self._throttled = now, delivered, throttled
