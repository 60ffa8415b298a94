"""The task that ends a sync: its audiences are deleted, and a destination gets a message about it.

It never deletes rows of the ledger, which keep the ids from being used again by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.operators.delivery_operator import DeliveryOperator
from airflow_kinesis_audience.operators.run_context import run_as_of
from airflow_kinesis_audience.operators.state_arguments import STATE_FIELDS, StateArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.outbox import Outbox


class AudienceDeleteOperator(StateArguments, DeliveryOperator):
    """Delete the audiences of a sync: optional exits for all members, then a message that they are deleted.

    The task first closes the sync, so that no later run computes changes, and delivers all missing change sets
    before the end. Each destination needs its own task; after the last one, the state's tables are dropped. The
    ledger stays: a diff task with the id of a deleted sync or audience fails, unless it has
    ``reuse_deleted=True``. Returns the summary of a publish task, ``as_of`` and the number of ``audiences``.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the sync to end.
    :param state_schema: schema of the state; set it and ``state_path`` as on the diff task.
    :param send_exits: send an exit for every member. If false, only the last message announces the end; this
        needs no table of the state.
    :param as_of: the instant of the deletion, by default the run's; it must be later than the newest change set.
    :param stream_name: the data stream, or ``delivery_stream_name`` the delivery stream. Set the same values as
        on its publish task for ``message_format``, ``format_options``, ``aws_conn_id``, ``region_name``,
        ``partitions``, ``aggregate``.
    """

    template_fields: Sequence[str] = (*STATE_FIELDS, "as_of", *DeliveryOperator.template_fields)

    def __init__(
        self, *, sync_id: str, send_exits: bool = True, as_of: str | datetime | None = None, **kwargs: Any
    ) -> None:
        super().__init__(sync_id=sync_id, **kwargs)
        self.send_exits = send_exits
        self.as_of = as_of

    def _begin(self, context: Context) -> dict[str, Any]:
        as_of = instant_text(run_as_of(context, self.as_of))
        return {"sync_id": self.sync_id, **self.state_location(), "as_of": as_of}

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close

        closed = close(outbox.ledger, instant(summary["as_of"]), exits=self.send_exits, delivery=delivery)
        announce_deletion(outbox)
        return {"as_of": closed["as_of"], "audiences": len(closed["audiences"])}
