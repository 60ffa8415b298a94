"""Time and chance, as the producer sees them. Nothing here decides."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Time and chance, so that a test can have its own.

    :param now: seconds that never go back.
    :param sleep: waits for some seconds; by default it is woken when the attempt is to end.
    :param jitter: returns numbers from 0 to 1; the upper bound of a delay is multiplied by one of them.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] | None = None
    jitter: Callable[[], float] = random.random
