"""Waits, in the triggerer, for the end of a statement that a task has left to the warehouse.

It holds nothing but the id: a triggerer that takes over from a lost one asks for the same statement. How the
statement ended is for the task to find out, so whatever cannot be found here ends the wait, too.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_kinesis_audience.core.exceptions import AudienceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

T = TypeVar("T")

_MOST_FAILURES = 5
"""So often in a row the warehouse may not answer."""


class StatementTrigger(BaseTrigger):
    """Fires when a statement of a warehouse has ended.

    :param warehouse_conn_id: Airflow connection of the warehouse.
    :param statement: id, digest and table of it; the warehouse has it under ``statement_id``.
    :param until: instant at which it is cancelled if it has not ended.
    :param poll_seconds: how often it is looked at.
    """

    def __init__(
        self, *, warehouse_conn_id: str, statement: Mapping[str, str], until: str, poll_seconds: float = 15.0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.warehouse_conn_id = warehouse_conn_id
        self.statement = dict(statement)
        self.until = until
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer makes it of."""
        given = {n: getattr(self, n) for n in ("warehouse_conn_id", "statement", "until", "poll_seconds")}
        return f"{__name__}.{type(self).__name__}", given

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the statement until it has ended."""
        failures, until = 0, datetime.fromisoformat(self.until)
        while failures < _MOST_FAILURES:
            try:
                if await _aside(self._has_ended)():
                    break
                failures = 0
                if datetime.now(UTC) > until:
                    await _aside(self._cancel)()
                    break
            except (AudienceError, ValueError):
                failures += 1
            await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent(self.statement)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the statement: a person has ended the task. Airflow calls it from version 3.3 on."""
        await _aside(self._cancel)()

    def _has_ended(self) -> bool:
        from airflow_kinesis_audience.hooks.warehouse import open_warehouse

        with open_warehouse(self.warehouse_conn_id) as warehouse:
            try:
                return warehouse.has_ended(self.statement["statement_id"])
            except AudienceError as error:
                if error.retry_helps:
                    raise
                return True

    def _cancel(self) -> None:
        from airflow_kinesis_audience.hooks.warehouse import open_warehouse

        with open_warehouse(self.warehouse_conn_id) as warehouse:
            warehouse.cancel_statement(self.statement["statement_id"])


def _aside(work: Callable[[], T]) -> Callable[[], Awaitable[T]]:
    """Have a thread do what would stop the triggerer's loop.

    In a thread that is not asgiref's, Airflow 3.1 asks for a connection on a loop of its own, which ends the
    triggerer.
    """
    return sync_to_async(work, thread_sensitive=False)
