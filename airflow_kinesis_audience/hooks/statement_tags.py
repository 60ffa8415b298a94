"""Names the task in each of its statements, so that the warehouse's lists of statements have it.

The tag is a comment, or what an engine has in its place. All attempts of a task in a run share a job: by it, the
next attempt finds a statement that a killed one left at work.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

PROGRAM = "airflow_kinesis_audience"
_counting = threading.Lock()
_log = logging.getLogger(__name__)
_LONGEST = 120
_UNSAFE = re.compile(r"[^\w.:+-]", re.ASCII)
"""What could end a comment, or be a placeholder of a driver."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatementTag:
    """The task that sends a statement.

    :param task: names all attempts of a task in a run.
    :param attempt: the number of this one, from 1.
    :param state: where the sync's state is, which another deployment of the same DAG has elsewhere.
    """

    sync_id: str
    run_id: str
    task: str
    attempt: int
    state: str = ""

    @property
    def job(self) -> str:
        """What all attempts have in common, and no other task: it is safe within a pattern of LIKE."""
        named = f"{self.sync_id}\0{self.task}\0{self.state}"
        return "job=" + hashlib.blake2b(named.encode(), digest_size=8).hexdigest()

    @property
    def is_retry(self) -> bool:
        """Whether an earlier attempt may have left something at work."""
        return self.attempt > 1

    def __str__(self) -> str:
        sync, run = (_UNSAFE.sub("_", text)[:_LONGEST] for text in (self.sync_id, self.run_id))
        return f"{PROGRAM} sync={sync} run={run} try={self.attempt} {self.job}"

    def labels(self) -> dict[str, str]:
        """Return it as labels of a job: small letters, digits, - and _, at most 63 of them."""
        sync, run = (re.sub(r"[^a-z0-9_-]", "_", text.lower())[:63] for text in (self.sync_id, self.run_id))
        job = self.job.removeprefix("job=")
        return {"program": PROGRAM, "sync": sync, "run": run, "try": str(self.attempt), "job": job}


class TaggedStatements:
    """The part of a warehouse that tags and counts its statements.

    :ivar tag: of the task; none outside of one.
    :ivar logs_sql: whether each statement is written to the log, without its parameters.
    :ivar statements: how many were sent.
    :ivar statement_seconds: how long they took until their first rows, or their end if they have none.
    :ivar bytes_scanned: how much they read, where the engine says so in its answer; none where it does not.
    """

    tag: StatementTag | None = None
    logs_sql: bool = False
    statements: int = 0
    statement_seconds: float = 0.0
    bytes_scanned: int | None = None

    def end_earlier_attempts(self) -> int:
        """Cancel what earlier attempts of the task left at work, where the engine lists statements.

        :returns: how many statements.
        """
        return 0

    def _run(self, cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        self._log_sql(sql)
        with self._counted():
            self._execute(cursor, self._tagged(sql), parameters)

    def _log_sql(self, sql: str) -> None:
        if self.logs_sql:
            _log.info("Statement: %s", sql)

    @staticmethod
    def _execute(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        # Without parameters a driver must not look for placeholders: a % in the query is a %.
        if parameters:
            cursor.execute(sql, list(parameters))
        else:
            cursor.execute(sql)

    def _tagged(self, sql: str) -> str:
        return sql if self.tag is None else f"/* {self.tag} */ {sql}"

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            with _counting:  # several threads may read
                self.statements += 1
                self.statement_seconds += time.monotonic() - began

    def _count_bytes(self, scanned: int | None) -> None:
        """Count what a statement has read, as far as the engine says it."""
        if scanned is not None:
            with _counting:
                self.bytes_scanned = (self.bytes_scanned or 0) + scanned

    def _counted_until_first(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Count a statement whose rows are read as they come."""
        with self._counted():
            first = next(batches, None)
        if first is not None:
            yield first
            yield from batches
