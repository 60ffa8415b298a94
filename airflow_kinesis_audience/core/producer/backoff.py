"""Exponential backoff with full jitter: how often, and after which delays, a failed record is put again.

The delay belongs to an ordering key and not to a record: after a key was throttled, its next records start with a
delay, too. Nothing here waits, reads a clock or draws a random number: the caller does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How long to keep trying.

    :param attempts: failed puts of one record until it is given up. A throttled put counts only if no other record
        was acknowledged since the record's last put: a slow stream is no reason to give up, a stuck one is.
    :param stall_seconds: give up when nothing was acknowledged for that long.
    :param first_delay_seconds: upper bound of a key's random delay after its first failure; each further
        failure doubles it.
    :param longest_delay_seconds: most that the bound grows to.
    """

    attempts: int = 10
    stall_seconds: float = 300.0
    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.stall_seconds <= 0:
            raise ValueError(f"attempts={self.attempts}, stall_seconds={self.stall_seconds}; both must be above 0")

    def delay_bound(self, failures: int) -> float:
        """Return the upper bound in seconds of a key's delay after that many failures."""
        return min(self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** min(failures - 1, 64))


class KeyRetryState:
    """The failures of one ordering key since it last had no record."""

    __slots__ = ("attempts", "failures", "seen")

    def __init__(self) -> None:
        self.attempts = 0  # of its first record: those that count against ``RetryPolicy.attempts``
        self.failures = 0  # outlives a record, so that the next record of the key is delayed, too
        self.seen = 0  # acknowledged records of all keys when the key last failed
