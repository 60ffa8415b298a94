"""The door that all tasks share which put records on a Kinesis data stream or a Firehose delivery stream.

Arguments are only assigned on construction and checked when the task runs. The stream is looked at before anything
is opened. What happened is pushed to XCom before any error is raised.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.feeds import WHOLE
from airflow_kinesis_audience.formats import Renderer, load_renderer
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_audience.hooks.state import State, open_ledger
from airflow_kinesis_audience.operators.assets import add_alias, tell_delivery
from airflow_kinesis_audience.operators.lineage import delivery_lineage
from airflow_kinesis_audience.operators.links import AudienceLink, StreamLink
from airflow_kinesis_audience.operators.metrics import count_delivery, gauge_lag
from airflow_kinesis_audience.operators.outcome import airflow_outcome
from airflow_kinesis_audience.operators.run import truth
from airflow_kinesis_audience.outbox import Outbox
from airflow_kinesis_audience.terms import Delivery
from airflow_kinesis_audience.transforming import Transforming, load_transform

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_kinesis_audience.hooks.streams import StreamHook
    from airflow_kinesis_audience.sending import Progress

PROGRESS_SECONDS = 5.0
"""A line of the task's log, and an XCom, tell how far a delivery has come, this often."""

PROGRESS_KEY = "progress"
"""XCom key of how far a delivery has come, for the page."""

SUMMARY_KEY = "delivery"
"""XCom key of the summary, there even where the task failed."""


SHARED_FIELDS = ("message_format", "format_options", "aws_conn_id", "region_name")
"""Template fields of a task that delivers, to whichever destination."""


class DeliveryOperator(BaseOperator):
    """What is common to the tasks that deliver: to a data stream or to a delivery stream, one of the two.

    :param stream_name: name or ARN of a Kinesis data stream.
    :param delivery_stream_name: name or ARN of a Firehose delivery stream. It has neither keys nor an order:
        consumers go by the time that each message carries.
    :param message_format: a wire format's name, or a dotted path to a callable of that shape.
    :param format_options: the format's options.
    :param aws_conn_id: Airflow connection to AWS.
    :param region_name: by default the connection's.
    :param partitions: partition keys per audience, a power of two; a multiple of the data stream's shards spreads
        evenly.
    :param aggregate: put several messages into one record of a data stream, in the format of the Kinesis Producer
        Library, which KCL consumers undo by themselves. It pays where messages are small; it needs the extra
        ``kpl``.
    :param transform: dotted path to a function of yours, from a pandas frame of members to the same members with
        other values: enriched, renamed, left out. A change of its text counts as a change of the options.
    """

    template_fields: Sequence[str] = ("stream_name", "delivery_stream_name", *SHARED_FIELDS, "aggregate")
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
        aws_conn_id: str = "aws_default",
        region_name: str | None = None,
        partitions: int = 16,
        aggregate: bool | str = False,
        transform: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alias = add_alias(self)
        self.told: dict[str, Any] = {}
        self.stream_name = stream_name
        self.delivery_stream_name = delivery_stream_name
        self.message_format = message_format
        self.format_options = format_options
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.partitions = partitions
        self.aggregate = aggregate
        self.transform = transform

    def execute(self, context: Context) -> dict[str, Any]:
        """Send what this task is for, and sum up what became of it."""
        known = self.told = {}
        with airflow_outcome(context, known):
            summary = self._begin(context)
            known |= summary
            stream = self._stream()
            known |= {"destination": stream.destination, "console_url": stream.console_url}
            delivery = self._delivery(stream)
            stream.check()
            with open_ledger(State.told_by(summary), summary["sync_id"], reads_source=self.reads_source) as ledger:
                own = self._deliver_as(delivery, context)
                outbox = Outbox(ledger, own, stream.put, watch=self._watch(context))
                try:
                    summary |= self._send(outbox, delivery, summary)
                finally:
                    summary |= {**asdict(outbox.report), "destination": delivery.destination}
                    summary |= self._describe_part(own, summary.pop("concluded"))
                    context["ti"].xcom_push(key=SUMMARY_KEY, value=summary)
                    count_delivery(summary)
                    known |= summary
        gauge_lag(summary)
        tell_delivery(context, self.alias, summary, self.message_format)
        self.log.info(
            "%s: %s change sets, %s changes in %s records (%s bytes) delivered, %s put again, in %s s",
            delivery.destination,
            len(outbox.report.change_sets),
            *(summary[n] for n in ("delivered", "records", "bytes", "retried", "seconds")),
        )
        if rejected := summary["still_rejected"]:
            users = ", ".join(f"{user}…" for user in summary["rejected_users"])
            self.log.warning(
                "%s: %s members are too large for a record and were not told of; the SHA-256 of their ids: %s",
                delivery.destination,
                f"{rejected:,}",
                users,
            )
        return summary

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Tell OpenLineage what was read, and how much was put on which stream."""
        return delivery_lineage(self._source_query(), self.told)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Tell the same of an attempt that failed: a part may have been put."""
        return self.get_openlineage_facets_on_complete(task_instance)

    def _source_query(self) -> str | None:
        """Return the query that is read, where it is not the change sets of a sync."""
        return None

    @staticmethod
    def _describe_part(delivery: Delivery, concluded: int) -> dict[str, int]:
        part = delivery.part
        return {} if part == WHOLE else {"part": part.number, "parts": part.of, "concluded": concluded}

    def _begin(self, context: Context) -> dict[str, Any]:
        """Check the arguments; returns at least ``sync_id`` and where the state is, as ``State`` tells it."""
        raise NotImplementedError

    def _deliver_as(self, delivery: Delivery, context: Context) -> Delivery:
        """Return the delivery under which this task keeps its progress."""
        return delivery

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Send; returns what the summary is to say besides."""
        raise NotImplementedError

    def _stream(self) -> StreamHook:
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

    def _delivery(self, stream: StreamHook) -> Delivery:
        options = dict(self.format_options or {})
        return Delivery(
            destination=stream.destination,
            connection=self.aws_conn_id,
            message_format=self.message_format,
            options=options,
            renderer=self._renderer(options),
            limits=stream.limits,
            record_end=stream.record_end,
            partitions=self.partitions,
            aggregate=truth(self.aggregate, "aggregate"),
        )

    def _renderer(self, options: Mapping[str, Any]) -> Renderer:
        renderer = load_renderer(self.message_format, options)
        return Transforming(renderer, load_transform(self.transform)) if self.transform else renderer

    def _watch(self, context: Context) -> Callable[[Progress], None]:
        """Make what tells the progress: once every few seconds, however many answers come in."""
        told = time.monotonic()

        def watch(progress: Progress) -> None:
            nonlocal told
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                found = describe(progress)
                self.log.info(
                    "%s of %s changes as of %s, %.0f a second, %s to go, %s records put again, %s throttled",
                    f"{found['done']:,}",
                    f"{found['total']:,}",
                    found["as_of"],
                    found["rate"],
                    "unknown" if found["eta_seconds"] is None else f"{found['eta_seconds']:,.0f} s",
                    found["retried"],
                    found["throttled"],
                )
                # A page that is not told is no reason to stop a delivery.
                with contextlib.suppress(Exception):
                    context["ti"].xcom_push(key=PROGRESS_KEY, value=found)

        return watch


def describe(progress: Progress) -> dict[str, Any]:
    """Sum up how far a delivery has come: changes, changes a second, and the seconds that the rest will take."""
    tally = progress.tally
    rate = tally.changes_delivered / max(tally.seconds, 0.001)
    return {
        "as_of": instant_text(progress.as_of),
        "done": progress.done,
        "total": progress.total,
        "rate": round(rate, 1),
        "eta_seconds": round((progress.total - progress.done) / rate, 1) if rate else None,
        "throttled": tally.throttles.total(),
        "retried": tally.retried,
        "at": instant_text(datetime.now(UTC)),
    }
