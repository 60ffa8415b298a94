"""What a kill does to a task of this package: it ends where it is.

Airflow calls ``on_kill`` within the signal's handler, in the main thread, and goes on with the task; by what is
raised there the task ends. What is at work in the warehouse is cancelled by ``hooks/signals.py``, and by whatever
breaks off.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import TaskEnded

if TYPE_CHECKING:
    from collections.abc import Iterator

_may_be_ended = threading.Event()
"""Set as long as a task of this process is at work, and was not ended."""


@contextlib.contextmanager
def under_way() -> Iterator[None]:
    """Let the task be ended as long as this is entered."""
    _may_be_ended.set()
    try:
        yield
    finally:
        _may_be_ended.clear()


def end_task() -> None:
    """End the task of this process, once: what it does thereafter is to write down how far it got.

    After a timeout, when the task has ended already, it does nothing.

    :raises TaskEnded: if one is at work.
    """
    if threading.current_thread() is threading.main_thread() and _may_be_ended.is_set():
        _may_be_ended.clear()
        raise TaskEnded
