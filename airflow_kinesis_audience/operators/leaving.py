"""A diff whose statement is left to the warehouse: the task is deferred meanwhile, and then continues after it.

The table that the statement writes was announced before. The part that continues computes the same statement
again, finds by the digest that it is the same, and counts the table. If another run has announced a table since,
it begins from the start, as a retry does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.hooks.settings import is_deferrable_by_default
from airflow_kinesis_audience.hooks.warehouses.left_statements import LeftStatement, StatementLeft
from airflow_kinesis_audience.operators.deferring import add_counts
from airflow_kinesis_audience.operators.run_context import count_statements
from airflow_kinesis_audience.operators.state_arguments import StateArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.changes.sync import Sync

LONGEST_STATEMENT = timedelta(hours=23)
"""Thereafter it is cancelled: other runs drop what a statement leaves behind for a day."""


class LeavesStatement(StateArguments):
    """The part of a diff task that ends before its statement does.

    :param deferrable: on Snowflake and BigQuery, wait without a worker slot for a statement that takes more than a
        minute. This needs a triggerer. By default, what ``[operators] default_deferrable`` of Airflow's
        configuration sets.
    """

    def __init__(self, *, deferrable: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deferrable = is_deferrable_by_default() if deferrable is None else deferrable
        self._left: LeftStatement | None = None
        self._sent_before: Mapping[str, Any] = {}
        self._count_sent: Callable[[], dict[str, Any]] = dict

    def execute(self, context: Context) -> dict[str, Any]:
        """Compute the change set of this run, check it against the guards, and record it."""
        return self._compute_or_leave(context, None, {})

    def resume(
        self,
        context: Context,
        event: Any = None,
        statement: Mapping[str, str] | None = None,
        counts: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Continue after a statement; Airflow calls it.

        :param event: of the trigger; how the statement has ended is asked for here.
        :param statement: which one; the event has it, too, because ``dag.test()`` gives nothing else.
        :param counts: of the statements until then.
        """
        return self._compute_or_leave(context, LeftStatement(**(statement or event)), counts or {})

    def _compute_or_leave(
        self, context: Context, left: LeftStatement | None, counts: Mapping[str, Any]
    ) -> dict[str, Any]:
        from airflow_kinesis_audience.operators.statement_trigger import StatementTrigger

        self._left, self._sent_before = left, counts
        try:
            return self._compute(context)
        except StatementLeft as found:
            left = found.statement
        self.log.info("The statement %s runs in the warehouse; the task waits for its end", left.statement_id)
        self.defer(
            trigger=StatementTrigger(
                warehouse_conn_id=self.warehouse_conn_id,
                statement=asdict(left),
                until=(datetime.now(UTC) + LONGEST_STATEMENT).isoformat(),
            ),
            method_name="resume",
            kwargs={"statement": asdict(left), "counts": self._count_sent()},
            # Without a triggerer nothing would end the wait.
            timeout=LONGEST_STATEMENT + timedelta(minutes=30),
        )

    def _compute(self, context: Context) -> dict[str, Any]:
        """Compute, after the statement that was left if there is one."""
        raise NotImplementedError

    def _continue(self, sync: Sync) -> None:
        """Have a sync leave its statement, and continue after the one that was left."""
        warehouse: Any = sync.warehouse
        self._count_sent = lambda: add_counts(self._sent_before, count_statements(sync.ledger))
        # Who was deferred continues after its statement, whatever was set meanwhile.
        may_leave = self.deferrable or self._left is not None
        warehouse.may_leave = sync.committer.leaves = may_leave and warehouse.can_leave
        if self._left is not None:
            warehouse.left, sync.committer.left = self._left, self._left.table
