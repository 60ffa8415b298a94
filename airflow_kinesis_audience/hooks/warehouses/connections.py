"""The connections of a warehouse: the one that statements are sent on, and those that other threads read from.

A connection carries one statement at a time. So a thread that reads beside the others has one of its own, which
stays open for the next that does; only its own statements are sent on it.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Connections:
    """The part of a warehouse that keeps its connections, by thread."""

    def __init__(self) -> None:
        # Between two threads; who holds it may come upon a reader that is garbage, and want it once more.
        self._lock = threading.RLock()
        self._main: Any = None
        self._lent: dict[int, Any] = {}
        self._idle: list[Any] = []

    @contextlib.contextmanager
    def beside_others(self) -> Iterator[None]:
        """Let this thread read while others use the warehouse, too."""
        thread = threading.get_ident()
        self._lent[thread] = None  # until it sends a statement
        try:
            yield
        finally:
            if (connection := self._lent.pop(thread)) is not None:
                self._give_back(connection)

    @property
    def _opened(self) -> Any:
        """The connection on which this thread sends its statements, if it is open."""
        return self._lent.get(threading.get_ident(), self._main)

    @_opened.setter
    def _opened(self, connection: Any) -> None:
        if (thread := threading.get_ident()) in self._lent:
            self._lent[thread] = connection
        else:
            self._main = connection

    def _take_lent(self) -> Any:
        """Take a connection that is idle, in a thread that reads beside the others."""
        return self._take_idle() if threading.get_ident() in self._lent else None

    def _take_idle(self) -> Any:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Any) -> None:
        with self._lock:
            self._idle.append(connection)

    def _close_idle(self) -> None:
        while (connection := self._take_idle()) is not None:
            with contextlib.suppress(Exception):  # the server may have ended it
                connection.close()
