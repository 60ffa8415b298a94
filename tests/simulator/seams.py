"""What stands between the engine and the world: clocks, chance and threads are the scheduler's.

Patched are the functions of the standard library by which anything is another one each time, and the pools of
threads that put and that read ahead; no logic of the engine is.
"""

from __future__ import annotations

import contextlib
import datetime as datetime_module
import functools
import inspect
import random
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

from airflow_kinesis_audience.core.outbox import burying
from airflow_kinesis_audience.core.producer import producer as producer_module
from airflow_kinesis_audience.core.readers import read_ahead as read_ahead_module
from airflow_kinesis_audience.core.state import rows as rows_module
from tests.warehouses import START

if TYPE_CHECKING:
    from tests.simulator.scheduler import Actor, Scheduler

SLICE_ROWS = 3
_REAL = datetime_module.datetime


class Pool:
    """A pool whose threads are actors of the process that made it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._actors: list[Actor] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Wait until all that was begun is done."""
        self._scheduler.wait(lambda: all(a.done for a in self._actors))

    def submit(self, act: Callable[..., Any], *given: Any) -> Future[Any]:
        """Begin an actor, whose result is the future's."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                result = act(*given)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        current = self._scheduler.current
        assert current is not None
        self._actors.append(self._scheduler.spawn(f"{current.name}'s request", run, current.process))
        return future


@functools.cache
def _modules_that_ask_for_the_time() -> list[ModuleType]:
    """Find them by their text: whoever has a struct needs the real type."""
    ours = [m for n, m in sys.modules.items() if n.startswith("airflow_kinesis_audience.core.")]
    return [m for m in ours if "datetime.now(" in inspect.getsource(m)]


@contextlib.contextmanager
def under(scheduler: Scheduler) -> Iterator[None]:
    """Let the scheduler decide on all that is another one each time."""

    def wait(futures: Collection[Future[Any]], timeout: float | None = None, return_when: str = "") -> None:
        some = any if return_when == FIRST_COMPLETED else all
        scheduler.wait(lambda: some(f.done() for f in futures), timeout)

    def wall() -> float:
        current = scheduler.current
        return START.timestamp() + scheduler.now + (current.process.skew if current else 0.0)

    class Wall(type):
        def __instancecheck__(cls, found: object) -> bool:
            return isinstance(found, _REAL)

    class VirtualDatetime(_REAL, metaclass=Wall):
        def __new__(cls, *given: Any, **named: Any) -> Any:
            return _REAL(*given, **named)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return _REAL.fromtimestamp(wall(), tz)

    def monotonic() -> float:
        return scheduler.now

    ids = random.Random(scheduler.seed + 1)
    clock = producer_module.Clock(now=monotonic, sleep=scheduler.sleep, jitter=ids.random)
    with contextlib.ExitStack() as patched:

        def patch(where: Any, name: str, what: Any) -> None:
            patched.enter_context(mock.patch.object(where, name, what))

        for name in ("monotonic", "perf_counter", "process_time"):
            patch(time, name, monotonic)
        patch(time, "thread_time", lambda: 0.0)
        patch(time, "time", wall)
        patch(time, "sleep", scheduler.sleep)
        patch(uuid, "uuid4", lambda: uuid.UUID(int=ids.getrandbits(128)))
        patch(random, "random", ids.random)
        patch(burying, "draw_salt", lambda: ids.randbytes(32).hex())
        for module in _modules_that_ask_for_the_time():
            patch(module, "datetime", VirtualDatetime)
        patch(producer_module, "Clock", lambda: clock)
        patch(producer_module, "ThreadPoolExecutor", lambda *_, **__: Pool(scheduler))
        patch(producer_module, "wait", wait)
        patch(producer_module, "run_aside", lambda work, _end: work())
        patch(read_ahead_module, "ThreadPoolExecutor", lambda *_, **__: Pool(scheduler))
        patch(read_ahead_module, "wait", wait)
        patch(rows_module, "SLICE_ROWS", SLICE_ROWS)
        yield
