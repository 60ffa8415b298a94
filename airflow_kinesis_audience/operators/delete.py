"""The task that ends a sync: its audiences are deleted, and a destination is told so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant, instant_text
from airflow_kinesis_audience.deletion import close, say_goodbye
from airflow_kinesis_audience.operators.destination import DeliveryOperator
from airflow_kinesis_audience.operators.run import as_of_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.outbox import Outbox
    from airflow_kinesis_audience.terms import Delivery


class AudienceDeleteOperator(DeliveryOperator):
    """Delete the audiences of a sync: exits for all members if asked, then a message that they are no more.

    The sync is closed first, so that no run computes anything any more; what the destination has not had yet goes
    out before the end. With several destinations each needs a task of its own; when the last one has been told,
    the state's tables are dropped. The ledger stays: a sync or an audience of a deleted id is refused, unless its
    diff task says ``reuse_deleted=True``. Returns what a publishing task does, ``as_of`` and the number of
    ``audiences``.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the sync to end.
    :param state_schema: where the state is kept, and ``state_path``, as its diff task was given them.
    :param send_exits: tell of every member as exiting; if not, the last message alone tells the end.
    :param as_of: the instant of the end, by default the run's; later than the newest change set's.
    :param stream_name: the data stream, or ``delivery_stream_name`` the delivery stream, and with it all that its
        publishing task was given: ``message_format``, ``format_options``, ``aws_conn_id``, ``region_name``,
        ``partitions``, ``aggregate``.
    """

    template_fields: Sequence[str] = (
        "warehouse_conn_id",
        "sync_id",
        "state_schema",
        "state_path",
        "as_of",
        *DeliveryOperator.template_fields,
    )

    def __init__(
        self,
        *,
        warehouse_conn_id: str,
        sync_id: str,
        state_schema: str = "airflow_audience",
        state_path: str | None = None,
        send_exits: bool = True,
        as_of: str | datetime | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.warehouse_conn_id = warehouse_conn_id
        self.sync_id = sync_id
        self.state_schema = state_schema
        self.state_path = state_path
        self.send_exits = send_exits
        self.as_of = as_of

    def _begin(self, context: Context) -> dict[str, Any]:
        where = {n: getattr(self, n) for n in ("warehouse_conn_id", "sync_id", "state_schema", "state_path")}
        return {**where, "as_of": instant_text(as_of_run(context, self.as_of))}

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        closed = close(outbox.ledger, instant(summary["as_of"]), exits=self.send_exits)
        say_goodbye(outbox)
        return {"as_of": closed["as_of"], "audiences": len(closed["audiences"])}
