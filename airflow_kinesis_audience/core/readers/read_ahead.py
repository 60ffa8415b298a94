"""Reads what is wanted next while something else is done: a statement's seconds are not waited for.

Other threads read, each on a connection of its own, and no more than some spans and some bytes lie ready. An error
of theirs is raised where the span is wanted. Who ends waits for what is being read, so that nothing is left.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import WarehouseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from airflow_kinesis_audience.core.readers.spans import ReadSpan

AHEAD, MOST_AHEAD = 2, 8
"""Spans that are read ahead, and as many by all tasks of a delivery where a statement takes long; 0 reads none."""

_AHEAD_BYTES = 64_000_000
"""Most bytes that lie ready, as far as the largest span so far tells."""

_PATIENCE_SECONDS = 0.25
"""Who waits longer for a span has the next ones read earlier."""


class ReadAhead:
    """Reads spans, each once.

    :param read: reads one span.
    :param spans: in the order in which they are likely to be wanted.
    :param beside_others: entered by a thread that reads while others use the warehouse, too.
    :param tasks: how many tasks do so at the same time: each thread of theirs has a connection.
    """

    def __init__(
        self,
        read: Callable[[ReadSpan], pa.Table],
        spans: Sequence[ReadSpan],
        beside_others: Callable[[], AbstractContextManager[None]],
        *,
        tasks: int = 1,
    ) -> None:
        self._read, self._beside_others = read, beside_others
        self._unread = dict.fromkeys(spans)
        self._reading: dict[ReadSpan, Future[pa.Table]] = {}
        self._ahead, self._most_ahead = AHEAD, max(AHEAD, MOST_AHEAD // tasks)
        self._pool: ThreadPoolExecutor | None = None
        if AHEAD and len(spans) > 1:  # a single one is read where it is wanted
            self._pool = ThreadPoolExecutor(self._most_ahead + 1, thread_name_prefix="read")
        self._largest_bytes = 0

    def take(self, span: ReadSpan) -> pa.Table:
        """Give a span's rows, once; waits while it is being read."""
        if self._pool is None:
            return self._read(span)
        if span not in self._reading:
            self._begin(self._pool, span)
        self._read_on(self._pool, span)
        wanted = self._reading[span]
        while self._ahead < self._most_ahead and not wanted.done():
            wait([wanted], timeout=_PATIENCE_SECONDS)
            if not wanted.done():
                self._ahead *= 2
                self._read_on(self._pool, span)
        wait([wanted])
        try:
            rows = wanted.result()
        except WarehouseUnavailable:
            # As where the server has no more connections: the one that is open reads on alone.
            self._ahead = self._most_ahead = 0
            rows = self._read(span)
        del self._reading[span]
        self._largest_bytes = max(self._largest_bytes, rows.nbytes)
        return rows

    def close(self) -> None:
        """Wait for what is being read, and read no more."""
        if self._pool is not None:
            self._unread.clear()
            # On futures: after a signal's handler has broken off a thread's join, a second one returns at once.
            wait(self._reading.values())
            self._pool.shutdown()

    def _read_on(self, pool: ThreadPoolExecutor, wanted: ReadSpan) -> None:
        ahead = len(self._reading.keys() - {wanted})
        while self._unread and ahead < self._ahead and (ahead + 1) * self._largest_bytes <= _AHEAD_BYTES:
            self._begin(pool, next(iter(self._unread)))
            ahead += 1

    def _begin(self, pool: ThreadPoolExecutor, span: ReadSpan) -> None:
        del self._unread[span]
        self._reading[span] = pool.submit(self._read_beside_others, span)

    def _read_beside_others(self, span: ReadSpan) -> pa.Table:
        with self._beside_others():
            return self._read(span)
