"""Many histories, one after the other, within a time; and which rare states all of them have reached."""

from __future__ import annotations

import gc
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulator.history import Ended, live
from tests.simulator.plan import Plan
from tests.simulator.scheduler import Fault

MUST_BE_REACHED = (
    *(fault.name for fault in Fault),
    "a backup is restored",
    "a backup is restored once more",
    "a change set is held",
    "a derived table is lost",
    "an audience is held alone",
    "an attempt begins while one that was given up is alive",
    "approve done",
    "beside another sync: delete",
    "beside another sync: detach",
    "beside another sync: resync",
    "detach done",
    "diff GuardTripped",
    "diff Killed",
    "diff LedgerConflict",
    "diff RunSuperseded",
    "ledger: inserted",
    "publish Killed",
    "publish LedgerBehind",
    "publish LedgerConflict",
    "release done",
    "resync done",
    "somebody is forgotten",
)
"""States that are rare, and that many histories have to reach: else they are about something else."""


@dataclass
class Lived:
    """What came of many histories."""

    first: int
    histories: int = 0
    seconds: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)
    broken: list[Ended] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        return [state for state in MUST_BE_REACHED if not self.reached[state]]

    def describe(self) -> str:
        each = self.seconds / max(self.histories, 1)
        lines = [
            f"{self.histories:,} histories from seed {self.first} in {self.seconds:.0f} s of CPU, "
            f"{60 / max(each, 1e-9):,.0f} a minute"
        ]
        lines += [f"{count:8,} × {what}" for what, count in sorted(self.reached.items())]
        lines += [f"never reached: {state}" for state in self.missed]
        lines += [f"BROKEN, --seed {e.seed}: {e.broken}" for e in self.broken]
        return "\n".join(lines)


def live_many(
    inner: Any,
    *,
    first: int | None = None,
    histories: int,
    seconds: float,
    stop: bool = False,
    of: Callable[[Plan], bool] = lambda _: True,
) -> Lived:
    """Live so many histories, as far as the time is enough.

    :param seconds: of CPU, and four times as many of time where the machine has other work.
    :param stop: at the first one that breaks a promise.
    :param of: leave out those of other plans, which count all the same.
    """
    lived = Lived(secrets.randbelow(2**31) if first is None else first)
    thresholds = gc.get_threshold()
    gc.set_threshold(20_000, 20, 50)
    began, until = time.process_time(), time.monotonic() + 4 * seconds
    try:
        while lived.histories < histories and lived.seconds < seconds and time.monotonic() < until:
            if stop and lived.broken:
                break
            seed = lived.first + lived.histories
            lived.histories += 1
            if not of(Plan.of(seed)):
                continue
            ended = live(seed, inner)
            lived.reached += ended.reached
            if ended.broken:
                lived.broken.append(ended)
            lived.seconds = time.process_time() - began
    finally:
        gc.set_threshold(*thresholds)
    return lived
