"""Base class of the operators that deliver to a Kinesis data stream or a Firehose delivery stream.

Arguments are only assigned on construction and checked when the task runs. The stream is checked before the state
is opened. The summary is pushed to XCom before any error is raised. The engine is imported when the task runs, so
that a DAG file is parsed without it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.hooks.settings import choose_partitions, is_deferrable_by_default
from airflow_kinesis_audience.operators.deferring import SLOW_SECONDS, DeferringIfThrottled, Waits
from airflow_kinesis_audience.operators.errors import airflow_outcome
from airflow_kinesis_audience.operators.killing import end_task
from airflow_kinesis_audience.operators.links import AudienceLink, StreamLink
from airflow_kinesis_audience.operators.reporting.assets import add_alias, emit_delivery
from airflow_kinesis_audience.operators.reporting.lineage import delivery_lineage
from airflow_kinesis_audience.operators.reporting.log_lines import log_delivery
from airflow_kinesis_audience.operators.reporting.metrics import count_delivery, gauge_lag
from airflow_kinesis_audience.operators.reporting.progress import watch_progress
from airflow_kinesis_audience.operators.reporting.sample import render_sample
from airflow_kinesis_audience.operators.run_context import (
    count_statements,
    name_task,
    parse_bool,
    permission_of,
    statement_tag,
)
from airflow_kinesis_audience.operators.templates import RendersTemplates

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.model.renderer import Renderer
    from airflow_kinesis_audience.core.outbox.delivery import Delivery, OnNewStream
    from airflow_kinesis_audience.core.outbox.outbox import Outbox
    from airflow_kinesis_audience.hooks.streams.stream_hook import StreamHook

SUMMARY_KEY = "delivery"
"""XCom key of the summary, there even where the task failed."""


SHARED_FIELDS = ("message_format", "format_options", "aws_conn_id", "region_name", "on_new_stream")
"""Template fields of a task that delivers, to whichever destination."""


class DeliveryOperator(RendersTemplates):
    """What the tasks that deliver have in common: each delivers to a data stream or to a delivery stream.

    :param stream_name: name or ARN of a Kinesis data stream.
    :param delivery_stream_name: name or ARN of a Firehose delivery stream. It has no keys and no order: consumers
        order messages by their time.
    :param message_format: name of a wire format, or the dotted path of your own format.
    :param format_options: the format's options.
    :param aws_conn_id: Airflow connection to AWS.
    :param region_name: by default the connection's.
    :param partitions: partition keys per audience, a power of two; default: 16, or what ``[kinesis_audience]
        partitions`` of Airflow's configuration sets. A multiple of the number of shards distributes evenly.
    :param aggregate: put several messages into one record of a data stream, in the format of the Kinesis Producer
        Library. Consumers with the KCL split it automatically. This pays for small messages and needs the extra
        ``kpl``.
    :param large_records: use records up to the maximum record size of the data stream, which AWS lets you set to
        up to 10 MiB, and not up to 1 MB. The login must be allowed to describe the stream, and all consumers must
        accept such records.
    :param transform: dotted path of your function, which gets a pandas frame of members and returns the same
        members with other values: enriched, renamed or removed. A change of its source text counts as a change of
        the options.
    :param transform_filters: the function may leave members out, and its source text then stays the same.
    :param naive_times: if the function returns times without a time zone: ``fail``, or ``utc`` if they are UTC.
    :param on_new_stream: if the stream was deleted and created again under its name, which the task can detect if
        the login can describe the stream: ``fail``, ``enter_all`` to send all members, or ``continue`` with the
        changes only. A resync fills the stream in any case.
    :param on_unknown_audience: if ``format_options`` names an audience that the sync never had: ``fail`` before
        anything is sent, or ``wait`` until the audience is added.
    :param deferrable: while the stream throttles and accepts nothing, wait without a worker slot. This needs a
        triggerer. By default, what ``[operators] default_deferrable`` of Airflow's configuration sets.
    :param longest_wait: how long the task waits so in all, before it fails as a task that is not deferrable.
    """

    template_fields: Sequence[str] = (
        "stream_name",
        "delivery_stream_name",
        *SHARED_FIELDS,
        "aggregate",
        "large_records",
    )
    template_fields_renderers = {"format_options": "json"}  # noqa: RUF012
    operator_extra_links = (AudienceLink(), StreamLink())
    reads_source = False
    """Whether the author's tables are read, too, and not the state alone."""
    ui_color = "#f6e7d2"

    def __init__(
        self,
        *,
        message_format: str,
        stream_name: str | None = None,
        delivery_stream_name: str | None = None,
        format_options: Mapping[str, Any] | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        partitions: int | None = None,
        aggregate: bool | str = False,
        large_records: bool | str = False,
        transform: str | None = None,
        transform_filters: bool = False,
        naive_times: str = "fail",
        on_new_stream: OnNewStream = "fail",
        on_unknown_audience: str = "fail",
        deferrable: bool | None = None,
        longest_wait: timedelta = timedelta(hours=2),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alias = add_alias(self)
        self.known_facts: dict[str, Any] = {}
        self.stream_name = stream_name
        self.delivery_stream_name = delivery_stream_name
        self.message_format = message_format
        self.format_options = format_options
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.partitions = partitions
        self.aggregate = aggregate
        self.large_records = large_records
        self.transform = transform
        self.transform_filters = transform_filters
        self.naive_times = naive_times
        self.on_new_stream = on_new_stream
        self.on_unknown_audience = on_unknown_audience
        self.deferrable = is_deferrable_by_default() if deferrable is None else deferrable
        self.longest_wait = longest_wait

    def execute(self, context: Context) -> dict[str, Any]:
        """Deliver, and return a summary of the outcome."""
        return self._deliver(context, Waits())

    def resume(
        self, context: Context, event: Any = None, waits: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Continue after a pause; Airflow calls it.

        :param event: of the trigger, which says nothing but that the pause is over.
        :param waits: what was known when it began. ``dag.test()`` does not give it: there a task waits once.
        """
        return self._deliver(context, Waits() if waits is None else Waits(**waits), may_wait=waits is not None)

    def _deliver(self, context: Context, waits: Waits, *, may_wait: bool = True) -> dict[str, Any]:
        known = self.known_facts = {}
        with (
            airflow_outcome(context, known),
            DeferringIfThrottled(self, waits, may_wait=may_wait and self._may_wait()) as deferring,
        ):
            from airflow_kinesis_audience.core.outbox.outbox import Outbox
            from airflow_kinesis_audience.core.producer.backoff import RetryPolicy
            from airflow_kinesis_audience.hooks.state import State, open_ledger

            policy = RetryPolicy(slow_seconds=SLOW_SECONDS) if deferring.may_wait else RetryPolicy()
            summary = self._begin(context)
            known |= summary
            stream = self.build_stream()
            known |= {"destination": stream.destination, "console_url": stream.console_url, **waits.counts}
            delivery = self.build_delivery(stream)
            stream.check()
            limits = stream.find_large_limits() if self._are_large(delivery) else delivery.limits
            delivery = replace(delivery, stream=stream.identity, owner=name_task(context), limits=limits)
            tag = statement_tag(context, summary["sync_id"])
            with open_ledger(
                State.from_summary(summary), summary["sync_id"], reads_source=self.reads_source, tag=tag
            ) as ledger:
                own = self._deliver_as(delivery, context)
                permission, watch = permission_of(context), watch_progress(context)
                outbox = Outbox(ledger, own, stream.put, policy=policy, permission=permission, watch=watch)
                outbox.notices.kept = waits.notices
                try:
                    summary |= self._send(outbox, delivery, summary)
                finally:
                    counts = {**self._count(outbox), **count_statements(ledger)}
                    lasting = {**counts, **outbox.lasting_counts()}
                    pauses = deferring.pauses(sys.exception(), counts=lasting, notices=outbox.notices.kept)
                    summary |= {"destination": delivery.destination, **waits.add_to(counts)}
                    count_delivery(summary, lasting if pauses else counts, pauses=pauses)
                    summary |= self._describe_part(own, summary.pop("concluded"))
                    context["ti"].xcom_push(key=SUMMARY_KEY, value=summary)
                    known |= summary
        gauge_lag(summary, outbox.log.whole.cursor)
        emit_delivery(context, self.alias, summary, self.message_format, render_sample(ledger, own))
        log_delivery(summary, self.message_format)
        return summary

    def on_kill(self) -> None:
        """End the task where it is."""
        end_task()

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Report to OpenLineage what was read, and how much was put on which stream."""
        return delivery_lineage(self._source_query(), self.known_facts)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Report the same for an attempt that failed: a part may have been put."""
        return self.get_openlineage_facets_on_complete(task_instance)

    def _may_wait(self) -> bool:
        """Return whether a throttled attempt may be continued, rather than fail for a retry."""
        return self.deferrable

    def _source_query(self) -> str | None:
        """Return the query that is read, where the task does not read the change sets of a sync."""
        return None

    def _count(self, outbox: Outbox) -> dict[str, Any]:
        """Count what was done until now, for the summary; of a failed attempt, with the ledger's dead letters.

        Where the ledger was not read, and in a resync or replay that failed, whose log is not the destination's,
        ``still_rejected`` is left out.
        """
        if sys.exception() is None:
            return asdict(outbox.report)
        outbox.describe_rejected(outbox.log.whole.dead_letters)
        own = outbox.delivery
        is_known = outbox.log.whole.attached is not None and not own.resync and not own.replay
        return {n: v for n, v in asdict(outbox.report).items() if is_known or n != "still_rejected"}

    @staticmethod
    def _describe_part(delivery: Delivery, concluded: int) -> dict[str, int]:
        from airflow_kinesis_audience.core.readers.partitions import WHOLE

        part = delivery.part
        return {} if part == WHOLE else {"part": part.number, "parts": part.of, "concluded": concluded}

    def _begin(self, context: Context) -> dict[str, Any]:
        """Check the arguments; returns at least ``sync_id`` and where the state is, as ``State`` reads it."""
        raise NotImplementedError

    def _deliver_as(self, delivery: Delivery, context: Context) -> Delivery:
        """Return the delivery under which this task keeps its progress."""
        return delivery

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Send; returns what the summary holds besides."""
        raise NotImplementedError

    def build_stream(self) -> StreamHook:
        """Build the hook of the stream, once templates are rendered."""
        from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
        from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook

        names = [name for name in (self.stream_name, self.delivery_stream_name) if name is not None]
        if len(names) != 1 or not names[0].strip():
            raise ValueError(
                f"stream_name is {self.stream_name!r} and delivery_stream_name {self.delivery_stream_name!r}; "
                "expected one of them: the name of a Kinesis data stream, or of a Firehose delivery stream"
            )
        where = {"aws_conn_id": self.aws_conn_id, "region_name": self.region_name}
        if self.stream_name is not None:
            return KinesisStreamHook(self.stream_name, **where)
        return FirehoseStreamHook(names[0], **where)

    def build_delivery(self, stream: StreamHook) -> Delivery:
        """Build the value that says what goes where and how, once templates are rendered."""
        from airflow_kinesis_audience.core.outbox.delivery import Delivery

        options = dict(self.format_options or {})
        return Delivery(
            destination=stream.destination,
            connection=self.aws_conn_id,
            message_format=self.message_format,
            options=options,
            renderer=self._renderer(options),
            limits=stream.limits,
            record_end=stream.record_end,
            partitions=choose_partitions(self.partitions),
            aggregate=parse_bool(self.aggregate, "aggregate"),
            on_new_stream=self.on_new_stream,
            on_unknown_audience=self.on_unknown_audience,
        )

    def _are_large(self, delivery: Delivery) -> bool:
        """Return whether records may be larger than usual."""
        asked = parse_bool(self.large_records, "large_records")
        if asked and delivery.aggregate:
            raise ValueError("large_records and aggregate are both set; choose one: aggregated records stay small")
        return asked

    def _renderer(self, options: Mapping[str, Any]) -> Renderer:
        from airflow_kinesis_audience.formats import load_renderer
        from airflow_kinesis_audience.formats.transformed import with_transform

        how: dict[str, Any] = {"filters": self.transform_filters, "naive_times": self.naive_times}
        return with_transform(load_renderer(self.message_format, options), self.transform, **how)
