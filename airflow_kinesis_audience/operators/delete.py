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
    """Delete the audiences of a sync: exits for all members if asked, then a message that they are deleted.

    The sync is closed first, so that no run computes anything any more; what the destination has not had yet goes
    out before the end. With several destinations each needs a task of its own; when the last one has got the
    message, the state's tables are dropped. The ledger stays: a sync or an audience of a deleted id is refused,
    unless its diff task has ``reuse_deleted=True``. Returns what a publishing task does, ``as_of`` and the number
    of ``audiences``.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the sync to end.
    :param state_schema: where the state is kept, and ``state_path``, as its diff task was given them.
    :param send_exits: send an exit of every member; if not, the last message alone announces the end, which needs
        no table of the state.
    :param as_of: the instant of the end, by default the run's; later than the newest change set's.
    :param stream_name: the data stream, or ``delivery_stream_name`` the delivery stream, and with it all that its
        publishing task was given: ``message_format``, ``format_options``, ``aws_conn_id``, ``region_name``,
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
