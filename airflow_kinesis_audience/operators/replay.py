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

    Every message has the ``computed_time`` of its change set, and the id that a publish task would derive there.
    The replay can run beside the sync's own DAG: a task that publishes to the same destination waits for the end
    of the replay and then continues after it. A retry continues where the last attempt stopped. If you clear a
    finished replay, it sends nothing; another run is another replay, with the same message ids. Returns the
    summary of a publish task, ``since``, and ``as_of``, the instant of the last change set. If ``keep_history``
    has dropped a part of the history, the task fails before anything is sent, and the error names the first
    possible instant.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the sync whose history is sent.
    :param since: the instant of the membership that is sent first; without a change set of this instant, the
        newest one before it.
    :param until: the instant of the last change set, by the same rule; by default the newest one.
    :param on_rejected: if a member is too large for a record: ``fail`` or ``skip``, after everything else is
        delivered. Later publish tasks of the destination retry such members.
    :param state_schema: schema of the state; set it and ``state_path`` as on the diff task.
    :param stream_name: the data stream, or ``delivery_stream_name`` the delivery stream. Set the same values as
        on its publish task for ``message_format``, ``format_options``, ``aws_conn_id``, ``region_name``,
        ``partitions``, ``aggregate``.
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
