"""The task that gives a destination the history of a sync: a membership, and the changes since.

It sends what was published before and never computes a change set. A retry of a run goes on with the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.operators.delivery_operator import DeliveryOperator
from airflow_kinesis_audience.operators.run_context import name_task
from airflow_kinesis_audience.operators.state_arguments import STATE_FIELDS, StateArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.outbox import OnRejected, Outbox


class AudienceReplayOperator(StateArguments, DeliveryOperator):
    """Replay the history of a sync to a destination: the membership of an instant, then all change sets after it.

    Every message has the ``computed_time`` of its own change set, and the id that a publishing task would give it
    there. It can run beside the sync's own DAG. A task that publishes to the same destination waits for the end of
    the replay and then goes on right after it, and so does one that begins later. A retry goes on where the last
    attempt broke off, and a finished replay that is cleared sends nothing; another run is another replay, with the
    same message ids. Returns what a publishing task does, ``since`` and ``as_of``, the instant of the last change
    set. It fails before anything is sent where ``keep_history`` has dropped what it needs, and says from which
    instant on it can.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the sync whose history is sent.
    :param since: the instant of the membership that is sent first; if no change set has it, that of the newest one
        before counts.
    :param until: the instant of the last change set, by the same rule; by default that of the newest one.
    :param on_rejected: what becomes of the task where a member is too large for a record: ``fail`` or ``skip``,
        once all else is delivered. Whoever publishes to the destination afterwards tries such members again.
    :param state_schema: where the state is kept, and ``state_path``, as its diff task was given them.
    :param stream_name: the data stream, or ``delivery_stream_name`` the delivery stream, and with it all that its
        publishing task has, or is to have: ``message_format``, ``format_options``, ``aws_conn_id``,
        ``region_name``, ``partitions``, ``aggregate``.
    """

    template_fields: Sequence[str] = (
        *STATE_FIELDS,
        "since",
        "until",
        "on_rejected",
        *DeliveryOperator.template_fields,
    )

    def __init__(
        self,
        *,
        sync_id: str,
        since: str | datetime,
        until: str | datetime | None = None,
        on_rejected: OnRejected = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(sync_id=sync_id, **kwargs)
        self.since = since
        self.until = until
        self.on_rejected = on_rejected

    def _begin(self, context: Context) -> dict[str, Any]:
        if self.on_rejected not in ("fail", "skip"):
            raise ValueError(f"on_rejected is {self.on_rejected!r}; expected fail or skip")
        since = instant_text(instant(self.since))
        return {"sync_id": self.sync_id, **self.state_location(), "since": since}

    def _deliver_as(self, delivery: Delivery, context: Context) -> Delivery:
        return replace(delivery, replay=name_task(context))

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
        from airflow_kinesis_audience.core.outbox.replay import Span, replay
        from airflow_kinesis_audience.operators.remembering import DeliveredVariable

        span = Span(since=instant(summary["since"]), until=instant(self.until) if self.until else None)
        delivered = DeliveredVariable(summary, DeliveryLog(outbox.ledger, delivery))
        as_of = replay(outbox, delivery, span, on_rejected=self.on_rejected, remembered=delivered.recall())
        delivered.keep()
        return {"as_of": instant_text(as_of)}
