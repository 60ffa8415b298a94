"""Has what is at work in a warehouse end with its task, when a signal ends that.

Python runs a signal's handler in the main thread alone, and not while a driver waits there for the server, maybe
for hours. So a thread that the signal itself wakes cancels the statement; the driver comes back, and the handler
runs. What a signal means is for its handler to say: nothing is raised here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

_ENDING = frozenset(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGALRM") if hasattr(signal, name))
"""Sent by Airflow, by a terminal, and for an ``execution_timeout``. One without a handler ends the process."""


@contextlib.contextmanager
def ending_with_task(warehouse: SqlWarehouse) -> Iterator[None]:
    """Cancel what is at work in a warehouse when a signal ends the task, as long as this is entered.

    Signals are for the main thread: in any other one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wakes, woken = socket.socketpair()
    wakes.setblocking(False)
    before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    watching = threading.Thread(target=_watch, args=(woken, warehouse, before), name="ending", daemon=True)
    watching.start()
    # In a task's process it has no handler, so that nothing could be cancelled.
    is_bare = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    if is_bare:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if is_bare:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        wakes.close()
        watching.join()
        woken.close()


def _watch(woken: socket.socket, warehouse: SqlWarehouse, others: int) -> None:
    """Wait for signals, which come as bytes of their numbers.

    :param others: the descriptor that somebody else is woken by, or a negative number.
    """
    while signals := woken.recv(64):
        if others >= 0:
            with contextlib.suppress(OSError):
                os.write(others, signals)
        if not _ENDING.isdisjoint(signals):
            warehouse.cancel()
