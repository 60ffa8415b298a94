"""How often and after which delays a record that failed is put again.

The delay belongs to a lane and not to a record: what follows in a lane that was throttled goes on gently. No clock
is here, and chance is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How long to keep trying.

    :param attempts: failed puts of one record until it is given up. A throttled one counts only if nothing else
        got through since the record's last put: a slow stream is no reason to give up, a stuck one is.
    :param stall_seconds: give up when nothing was acknowledged for so long.
    :param first_delay_seconds: bound of a key's random delay after its first failure; each one doubles it.
    :param longest_delay_seconds: what the bound grows to at most.
    """

    attempts: int = 10
    stall_seconds: float = 300.0
    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.stall_seconds <= 0:
            raise ValueError(f"attempts={self.attempts}, stall_seconds={self.stall_seconds}; both must be above 0")

    def delay_bound(self, failures: int) -> float:
        """Return the upper bound of a key's delay in seconds after that many failures."""
        return min(self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** min(failures - 1, 64))


class Trouble:
    """What a lane has been through since it was last empty."""

    __slots__ = ("attempts", "failures", "seen")

    def __init__(self) -> None:
        self.attempts = 0  # of its first record, those that count towards its being given up
        self.failures = 0  # outlives a record, so that a lane that was throttled goes on gently
        self.seen = 0  # acknowledged records of the whole delivery when it last failed
