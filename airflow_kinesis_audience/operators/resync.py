"""The task that tells a destination everything again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.operators.destination import DeliveryOperator
from airflow_kinesis_audience.resync import resync

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.outbox import Outbox
    from airflow_kinesis_audience.terms import Delivery


class AudienceResyncOperator(DeliveryOperator):
    """Tell a destination the whole truth again: all members enter, and all exit who are known to have left.

    It speaks for the instant up to which the destination has everything, so it never overtakes a change; it can
    run beside the sync's own DAG. Before and after the members of each audience comes a message that says how many
    entries and exits the resync has, for consumers to check. A retry goes on where the last attempt broke off;
    another run is another resync, with other message ids. Returns what a publishing task does, and ``as_of``.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the sync whose members are told.
    :param state_schema: where the state is kept, and ``state_path``, as its diff task was given them.
    :param stream_name: the data stream, or ``delivery_stream_name`` the delivery stream, and with it all that its
        publishing task was given: ``message_format``, ``format_options``, ``aws_conn_id``, ``region_name``,
        ``partitions``, ``aggregate``.
    """

    template_fields: Sequence[str] = (
        "warehouse_conn_id",
        "sync_id",
        "state_schema",
        "state_path",
        *DeliveryOperator.template_fields,
    )

    def __init__(
        self,
        *,
        warehouse_conn_id: str,
        sync_id: str,
        state_schema: str = "airflow_audience",
        state_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.warehouse_conn_id = warehouse_conn_id
        self.sync_id = sync_id
        self.state_schema = state_schema
        self.state_path = state_path

    def _begin(self, context: Context) -> dict[str, Any]:
        return {n: getattr(self, n) for n in ("warehouse_conn_id", "sync_id", "state_schema", "state_path")}

    def _deliver_as(self, delivery: Delivery, context: Context) -> Delivery:
        ti = context["ti"]
        return replace(delivery, resync=f"{ti.dag_id}/{ti.task_id}/{ti.map_index}/{ti.run_id}")

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        return {"as_of": instant_text(resync(outbox, delivery))}
