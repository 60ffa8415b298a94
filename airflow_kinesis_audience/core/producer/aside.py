"""Runs something in another thread while the calling one only waits.

Python hands signals to the main thread, so that what they raise there breaks off whatever it does. It does nothing
here: the work is asked to end, and ends in order before what was raised goes on.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context

_WAKE_SECONDS = 0.2
"""Python sees a signal that came just before it blocks only when it wakes."""


def run_aside(work: Callable[[], None], end: Callable[[], None]) -> None:
    """Run something in another thread, and wait until it has ended, or was not begun.

    :param end: asks it to end soon, after something was raised in this thread; called from this one.
    :raises BaseException: what was raised in this thread meanwhile, else the error of the work.
    """
    done = threading.Lock()  # A wait by a condition can be broken off where the condition's own lock is not held.
    done.acquire()
    answer = Future[None]()
    answer.add_done_callback(lambda _: done.release())
    thread = threading.Thread(target=copy_context().run, args=(_run, work, answer), name="put")
    try:
        thread.start()
        _wait(done)
    except BaseException:
        end()
        while not answer.cancel() and not answer.done():
            with contextlib.suppress(BaseException):  # a second signal ends nothing sooner
                _wait(done)
        raise
    answer.result()


def _run(work: Callable[[], None], answer: Future[None]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        work()
    except BaseException as error:
        answer.set_exception(error)
    else:
        answer.set_result(None)


def _wait(done: threading.Lock) -> None:
    while not done.acquire(timeout=_WAKE_SECONDS):
        pass
