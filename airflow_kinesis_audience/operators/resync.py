"""The task that sends a destination everything again.

It sends what was published before and never computes a change set. A retry of a run goes on with the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.operators.delivery_operator import DeliveryOperator
from airflow_kinesis_audience.operators.run_context import name_task
from airflow_kinesis_audience.operators.state_arguments import STATE_FIELDS, StateArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.outbox import Outbox


class AudienceResyncOperator(StateArguments, DeliveryOperator):
    """Send the full membership to a destination again: every member as entered, every known exit as exited.

    It is as of the instant up to which the destination has everything, so it never overtakes a change, and it can
    run beside the sync's own DAG. Before and after the members of each audience, it puts a message with the
    number of entries and exits, so that consumers can check them. A retry continues where the last attempt
    stopped; another run is another resync, with other message ids. Returns the summary of a publish task, and
    ``as_of``.

    If the ledger was restored from a backup and is behind the destination, the resync is as of the newest change
    set, and first voids what was sent until then.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the sync whose members are sent.
    :param state_schema: schema of the state; set it and ``state_path`` as on the diff task.
    :param stream_name: the data stream, or ``delivery_stream_name`` the delivery stream. Set the same values as
        on its publish task for ``message_format``, ``format_options``, ``aws_conn_id``, ``region_name``,
        ``partitions``, ``aggregate``.
    """

    template_fields: Sequence[str] = (*STATE_FIELDS, *DeliveryOperator.template_fields)

    def __init__(self, *, sync_id: str, **kwargs: Any) -> None:
        super().__init__(sync_id=sync_id, **kwargs)

    def _begin(self, context: Context) -> dict[str, Any]:
        return {"sync_id": self.sync_id, **self.state_location()}

    def _deliver_as(self, delivery: Delivery, context: Context) -> Delivery:
        return replace(delivery, resync=name_task(context))

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_kinesis_audience.core.outbox.delivery_log import DeliveryLog
        from airflow_kinesis_audience.core.outbox.resync import resync
        from airflow_kinesis_audience.operators.remembering import DeliveredVariable

        delivered = DeliveredVariable(summary, DeliveryLog(outbox.ledger, delivery))
        as_of = resync(outbox, delivery, remembered=delivered.recall())
        delivered.keep()
        return {"as_of": instant_text(as_of)}
