"""The task that forwards events: the rows of a table that arrived in the run's interval, each once.

Arguments are only assigned on construction and checked when the task runs, after templating. It never computes a
change set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.operators.delivery_operator import SHARED_FIELDS, DeliveryOperator
from airflow_kinesis_audience.operators.identity import Identity, map_identities
from airflow_kinesis_audience.operators.reporting.log_lines import log_placeholders
from airflow_kinesis_audience.operators.run_context import author_of, parse_bool, run_as_of, select_all
from airflow_kinesis_audience.operators.state_arguments import StateArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.changes.authors import Author
    from airflow_kinesis_audience.core.model.events import EventSource
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.outbox import Outbox
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.operators.deferring import Waits


class EventsToKinesisOperator(StateArguments, DeliveryOperator):
    """Forward the events that arrived in the run's interval to a Kinesis data stream, each event once.

    The interval is the data interval. If a run has none, as with a cron trigger, the interval starts at the end
    of the last one. The next run first finishes an interval that failed half-way. Returns ``sync_id``, ``as_of``,
    ``start``, ``events``, ``intervals``, ``not_forwarded`` (gaps that a backfill can fill),
    ``left_for_next_run``, ``dropped_rows`` and ``placeholders`` (by identity) if there are any, and of the
    delivery ``messages``, ``records``, ``bytes``, ``delivered``, ``omitted``, ``retried``, ``seconds``,
    ``destination``. XCom has the same under ``delivery``, also if the task fails.

    :param warehouse_conn_id: Airflow connection of a supported warehouse, such as DuckDB or PostgreSQL.
    :param sql: a SELECT with one row per event, or a ``.sql`` file, without a limit to an interval. Set this or
        ``table``.
    :param table: a table or view with one row per event, ``schema.table``; quote a part that has a
        dot in it, ``"My.Schema"."order"``. On Snowflake, a part without quotes is in upper case.
    :param stream_name: the stream's name, or its ARN.
    :param event_id_column: the event's permanently unique id: message ids are derived from it.
    :param arrived_at_column: the time at which the row was inserted: a timestamp with time zone, or a date. Do
        not use the time of the event: late rows would be lost.
    :param arrived_at_timezone: for a date: IANA name of its time zone, such as ``America/New_York``. The rows of
        a day are forwarded after the day ends in that time zone.
    :param arrival_margin: how late a row can become visible after its arrival, for example because its
        transaction is open. A run reads up to this long before the warehouse's own time; the next run reads later
        rows.
    :param occurred_at_column: the time of the event; by default the time of arrival.
    :param user_id_column: the user's id, or none.
    :param device_id_column: the id of the device, for events without a known user.
    :param identities: source column to identity type, or to an ``Identity``, which has the rules of that column
        with it. This and the following three are as for an
        :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator`.
    :param fields: source column to its dotted place in the message: ``event_type``, ``data.event_name``,
        ``data.custom_attributes.colour``, ``user_attributes.plan``, ``device_info.platform``. Use numbers for a
        list: ``data.product_action.products.0.id``.
    :param message_format: ``mparticle_events``, or the dotted path of your own format.
    :param format_options: the format's options.
    :param sync_id: the name of the sync and of its state, by default ``dag_id.task_id``; a mapped task needs one.
    :param start: start of the interval, by default the start of the data interval.
    :param end: end of the interval, by default the end of the data interval.
    :param on_invalid_rows: a row has no event id, has neither a user nor a device, repeats an event id, or has an
        identity that breaks its rule: ``fail``, or ``drop`` the row and count it.
    :param resend: read the interval and forward it again, also if it was forwarded; ids are the same.
    :param partitions: partition keys that users and devices share, a power of two. A multiple of the number of
        shards distributes evenly.
    :param on_new_stream: if the stream was deleted and created again under its name, which the task can detect if
        the login can describe the stream: ``fail``, or ``continue`` with the events that were not forwarded yet.
        ``resend`` forwards the events of an interval again.
    :param transform: for audiences only; an error with events.
    :param on_unknown_audience: for audiences only.
    :param state_schema: schema of the state in the warehouse.
    :param state_path: for a login that can only read: URL of the state in Parquet files.
    """

    template_fields: Sequence[str] = (
        "warehouse_conn_id",
        "sql",
        "table",
        "stream_name",
        *SHARED_FIELDS,
        "aggregate",
        "large_records",
        "sync_id",
        "start",
        "end",
        "arrived_at_timezone",
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
        stream_name: str,
        sql: str | None = None,
        table: str | None = None,
        event_id_column: str = "event_id",
        arrived_at_column: str = "arrived_at",
        arrived_at_timezone: str | None = None,
        arrival_margin: timedelta = timedelta(seconds=60),
        occurred_at_column: str | None = None,
        user_id_column: str | None = "user_id",
        device_id_column: str | None = None,
        identities: Mapping[str, str | Identity] | None = None,
        normalize_identities: Mapping[str, str] | None = None,
        hash_identities: Mapping[str, str] | None = None,
        hashed_identities: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        message_format: str = "mparticle_events",
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        on_invalid_rows: str = "fail",
        resend: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(stream_name=stream_name, message_format=message_format, **kwargs)
        self.author: Author | None = None
        self.sql = sql
        self.table = table
        self.event_id_column = event_id_column
        self.arrived_at_column = arrived_at_column
        self.arrived_at_timezone = arrived_at_timezone
        self.arrival_margin = arrival_margin
        self.occurred_at_column = occurred_at_column
        self.user_id_column = user_id_column
        self.device_id_column = device_id_column
        self.identities = identities
        self.normalize_identities = normalize_identities
        self.hash_identities = hash_identities
        self.hashed_identities = hashed_identities
        self.fields = fields
        self.start = start
        self.end = end
        self.on_invalid_rows = on_invalid_rows
        self.resend = resend

    def _may_wait(self) -> bool:
        # What is sent again begins from the start each time.
        return super()._may_wait() and not parse_bool(self.resend, "resend")

    def _begin(self, context: Context) -> dict[str, Any]:
        end = run_as_of(context, self.end)
        given = self.start or context.get("data_interval_start")
        start = instant(given, name="start") if given else None
        sync_id = self.own_sync_id(context)
        self.author = author_of(context, adopts=self.adopt_state_of)
        return {
            "sync_id": sync_id,
            "as_of": instant_text(end),
            # A cron trigger's interval is a moment, and has no beginning of its own.
            "start": instant_text(start) if start is not None and (self.start or start < end) else None,
            **self.state_location(),
        }

    def build_delivery(self, stream: Any) -> Delivery:
        """Build the value that says what goes where and how, once templates are rendered."""
        delivery = super().build_delivery(stream)
        if delivery.on_new_stream == "enter_all":
            raise ValueError(
                "on_new_stream is 'enter_all', and events have no members; expected fail or continue. To fill a "
                "new stream, resend the events' intervals"
            )
        if not delivery.renderer.traits.renders_events:
            raise ValueError(f"message_format {self.message_format!r} cannot express events; use mparticle_events")
        return delivery

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_kinesis_audience.core.outbox.event_forwarding import forward

        found = forward(
            outbox,
            self.build_source(outbox.warehouse.origin.dialect),
            instant(summary["start"]) if summary["start"] else None,
            instant(summary["as_of"]),
            on_invalid_rows=self.on_invalid_rows,
            resend=parse_bool(self.resend, "resend"),
            margin=self.arrival_margin,
            author=self.author,
        )
        for gap in found["not_forwarded"]:
            self.log.warning("Events that arrived in %s were never forwarded; backfill that interval", gap)
        return found

    def _deliver(self, context: Context, waits: Waits, *, may_wait: bool = True) -> dict[str, Any]:
        summary = super()._deliver(context, waits, may_wait=may_wait)
        log_placeholders(summary)
        return summary

    def _count(self, outbox: Outbox) -> dict[str, Any]:
        return {**super()._count(outbox), **outbox.forwarded.summary()}

    def _source_query(self) -> str | None:
        return select_all(self.sql, self.table, "the events are")

    def build_source(self, dialect: Dialect) -> EventSource:
        """Build the value that says what the events are and what is mapped, once templates are rendered."""
        from airflow_kinesis_audience.core.model.events import EventSource

        identities, rules = map_identities(
            self.identities,
            normalize=self.normalize_identities,
            hash_with=self.hash_identities,
            hashed_with=self.hashed_identities,
        )
        return EventSource(
            query=select_all(self.sql, self.table, "the events are", dialect),
            event_id=self.event_id_column,
            arrived_at=self.arrived_at_column,
            arrived_at_timezone=self.arrived_at_timezone,
            occurred_at=self.occurred_at_column,
            user_id=self.user_id_column,
            device_id=self.device_id_column,
            identities=identities,
            identity_rules=rules,
            fields=dict(self.fields or {}),
        )
