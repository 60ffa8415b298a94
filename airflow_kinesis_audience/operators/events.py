"""The task that forwards events: the rows of a table that arrived in the run's interval, each once.

Arguments are only assigned on construction and checked when the task runs, after templating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import identity_rules, instant, instant_text
from airflow_kinesis_audience.events import EventSource
from airflow_kinesis_audience.forwarding import forward
from airflow_kinesis_audience.operators.destination import SHARED_FIELDS, DeliveryOperator
from airflow_kinesis_audience.operators.run import as_of_run, select_all, truth

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.dialects import Dialect
    from airflow_kinesis_audience.outbox import Outbox
    from airflow_kinesis_audience.terms import Delivery


class EventsToKinesisOperator(DeliveryOperator):
    """Forward to a Kinesis data stream the events that arrived in the interval of the run, each once.

    The interval is the data interval; where a run has none, as with a cron trigger, it begins where the last one
    ended. What failed half-way is finished first, by whichever run comes next. Returns ``sync_id``, ``as_of``,
    ``start``, ``events``, ``intervals``, ``not_forwarded`` (gaps that a backfill can fill), ``dropped_rows`` where
    there are any, and of the delivery ``messages``, ``records``, ``bytes``, ``delivered``, ``omitted``,
    ``retried``, ``seconds``, ``destination``. The same is in XCom under ``delivery`` even where the task fails.

    :param warehouse_conn_id: any Airflow connection whose hook is a ``DbApiHook``: DuckDB or PostgreSQL.
    :param sql: a SELECT with one row per event, or a ``.sql`` file; not limited to an interval. Or
    :param table: a table or view with one row per event, ``schema.table``.
    :param stream_name: the stream's name, or its ARN.
    :param event_id_column: the event's id, unique for ever: ids in messages are made of it.
    :param arrived_at_column: when the row came into the table, a timestamp with time zone or a date. Not when the
        event happened: rows that come late would be lost.
    :param occurred_at_column: when the event happened; by default when it arrived.
    :param user_id_column: the user's id; or none.
    :param device_id_column: the id of the device, for events of nobody known.
    :param identities: source column to identity type; the following three as for an
        :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator`.
    :param fields: source column to its dotted place in the message: ``event_type``, ``data.event_name``,
        ``data.custom_attributes.colour``, ``user_attributes.plan``, ``device_info.platform``. Numbers make a list:
        ``data.product_action.products.0.id``.
    :param message_format: ``mparticle_events``, or a dotted path to a callable of that shape.
    :param format_options: the format's options.
    :param sync_id: the name under which is kept what was forwarded, by default ``dag_id.task_id``.
    :param start: where the interval begins, by default where the data interval does.
    :param end: where it ends, by default where the data interval does.
    :param on_invalid_rows: a row without an event id, a user or a device, that repeats an event id, or has an
        identity that is not what its rule promises: ``fail``, or ``drop`` it and count it.
    :param resend: forward the interval again, read anew, although it was forwarded; ids are the same.
    :param state_schema: where the state is kept in the warehouse.
    :param state_path: for a login that may only read: where it is kept instead, as Parquet files.
    """

    template_fields: Sequence[str] = (
        "warehouse_conn_id",
        "sql",
        "table",
        "stream_name",
        *SHARED_FIELDS,
        "aggregate",
        "sync_id",
        "start",
        "end",
        "on_invalid_rows",
        "resend",
        "state_schema",
        "state_path",
    )
    reads_source = True
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "format_options": "json"}  # noqa: RUF012

    def __init__(
        self,
        *,
        warehouse_conn_id: str,
        stream_name: str,
        sql: str | None = None,
        table: str | None = None,
        event_id_column: str = "event_id",
        arrived_at_column: str = "arrived_at",
        occurred_at_column: str | None = None,
        user_id_column: str | None = "user_id",
        device_id_column: str | None = None,
        identities: Mapping[str, str] | None = None,
        normalize_identities: Mapping[str, str] | None = None,
        hash_identities: Mapping[str, str] | None = None,
        hashed_identities: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        message_format: str = "mparticle_events",
        sync_id: str | None = None,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        on_invalid_rows: str = "fail",
        resend: bool | str = False,
        state_schema: str = "airflow_audience",
        state_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(stream_name=stream_name, message_format=message_format, **kwargs)
        self.warehouse_conn_id = warehouse_conn_id
        self.sql = sql
        self.table = table
        self.event_id_column = event_id_column
        self.arrived_at_column = arrived_at_column
        self.occurred_at_column = occurred_at_column
        self.user_id_column = user_id_column
        self.device_id_column = device_id_column
        self.identities = identities
        self.normalize_identities = normalize_identities
        self.hash_identities = hash_identities
        self.hashed_identities = hashed_identities
        self.fields = fields
        self.sync_id = sync_id
        self.start = start
        self.end = end
        self.on_invalid_rows = on_invalid_rows
        self.resend = resend
        self.state_schema = state_schema
        self.state_path = state_path

    def _begin(self, context: Context) -> dict[str, Any]:
        end = as_of_run(context, self.end)
        given = self.start or context.get("data_interval_start")
        start = instant(given, name="start") if given else None
        return {
            "sync_id": self.sync_id or f"{self.dag_id}.{self.task_id}",
            "as_of": instant_text(end),
            # A cron trigger's interval is a moment, and says nothing.
            "start": instant_text(start) if start is not None and (self.start or start < end) else None,
            "warehouse_conn_id": self.warehouse_conn_id,
            "state_schema": self.state_schema,
            "state_path": self.state_path,
        }

    def _delivery(self, stream: Any) -> Delivery:
        delivery = super()._delivery(stream)
        if not getattr(delivery.renderer, "tells_events", False):
            raise ValueError(
                f"message_format {self.message_format!r} has no words for events; try mparticle_events"
            )
        return delivery

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        found = forward(
            outbox,
            self._source(outbox.warehouse.origin.dialect),
            instant(summary["start"]) if summary["start"] else None,
            instant(summary["as_of"]),
            on_invalid_rows=self.on_invalid_rows,
            resend=truth(self.resend, "resend"),
        )
        for gap in found["not_forwarded"]:
            self.log.warning("events that arrived in %s were never forwarded; backfill that interval", gap)
        return found

    def _source_query(self) -> str | None:
        return select_all(self.sql, self.table, "the events are")

    def _source(self, dialect: Dialect) -> EventSource:
        identities = dict(self.identities or {})
        return EventSource(
            query=select_all(self.sql, self.table, "the events are", dialect),
            event_id=self.event_id_column,
            arrived_at=self.arrived_at_column,
            occurred_at=self.occurred_at_column,
            user_id=self.user_id_column,
            device_id=self.device_id_column,
            identities=identities,
            identity_rules=identity_rules(
                identities,
                normalize=self.normalize_identities or {},
                hash_with=self.hash_identities or {},
                hashed_with=self.hashed_identities or {},
            ),
            fields=dict(self.fields or {}),
        )
