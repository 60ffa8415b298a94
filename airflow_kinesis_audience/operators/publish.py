"""The task that delivers change sets. It can't be unsent, so it writes down everything before it sends.

Arguments are only assigned on construction and checked when the task runs. The stream is looked at before a
change set is opened. What happened is pushed to XCom before any error is raised.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_kinesis_audience.audience import instant
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_audience.hooks.warehouse import open_warehouse
from airflow_kinesis_audience.ledger import Ledger
from airflow_kinesis_audience.operators.outcome import airflow_outcome
from airflow_kinesis_audience.outbox import OnFirstRun, Outbox
from airflow_kinesis_audience.sending import Delivery, Progress

if TYPE_CHECKING:
    from airflow.sdk import Context

PROGRESS_SECONDS = 5.0
"""A line of the task's log tells how far a delivery has come, this often."""

SUMMARY_KEY = "delivery"
"""XCom key of the summary, there even where the task failed."""


class AudienceToKinesisOperator(BaseOperator):
    """Deliver to a Kinesis data stream every change set that it has not had, up to this run's.

    Returns the change set's summary and, of this attempt: ``messages``, ``records``, ``bytes``, ``delivered``,
    ``rejected``, ``omitted`` (changes that the format has no words for), ``retried``, ``seconds``,
    ``destination``, ``change_sets``. The same is in XCom under ``delivery`` even where the task fails. A green
    task means that every change was acknowledged.

    :param change_set: what an :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator` returned.
    :param stream_name: the stream's name, or its ARN.
    :param message_format: a wire format's name, or a dotted path to a callable of that shape.
    :param format_options: the format's options.
    :param aws_conn_id: Airflow connection to AWS.
    :param region_name: by default the connection's.
    :param on_first_run: what a destination that was never sent to is told: ``enter_all`` members, nothing
        because it has the ``baseline`` already, or ``fail``.
    :param resend: send this run's change set again although it is delivered; ids and bytes are the same.
    :param partitions: partition keys per audience, a power of two; a multiple of the stream's shards spreads
        evenly.
    """

    template_fields: Sequence[str] = (
        "change_set",
        "stream_name",
        "message_format",
        "format_options",
        "aws_conn_id",
        "region_name",
        "on_first_run",
        "resend",
    )
    template_fields_renderers = {"change_set": "json", "format_options": "json"}  # noqa: RUF012
    ui_color = "#f6e7d2"

    def __init__(
        self,
        *,
        change_set: Any,
        stream_name: str,
        message_format: str,
        format_options: Mapping[str, Any] | None = None,
        aws_conn_id: str = "aws_default",
        region_name: str | None = None,
        on_first_run: OnFirstRun = "enter_all",
        resend: bool | str = False,
        partitions: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.change_set = change_set
        self.stream_name = stream_name
        self.message_format = message_format
        self.format_options = format_options
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.on_first_run = on_first_run
        self.resend = resend
        self.partitions = partitions

    def execute(self, context: Context) -> dict[str, Any]:
        """Send what the stream has not had yet."""
        with airflow_outcome():
            summary = _summary(self.change_set)
            if self.on_first_run not in ("enter_all", "baseline", "fail"):
                raise ValueError(f"on_first_run is {self.on_first_run!r}; expected enter_all, baseline or fail")
            options = dict(self.format_options or {})
            renderer = load_renderer(self.message_format, options)
            stream = KinesisStreamHook(
                stream_name=self.stream_name, aws_conn_id=self.aws_conn_id, region_name=self.region_name
            )
            delivery = Delivery(
                destination=stream.destination,
                connection=self.aws_conn_id,
                message_format=self.message_format,
                options=options,
                renderer=renderer,
                limits=stream.limits,
                partitions=self.partitions,
            )
            stream.check()
            with open_warehouse(summary["warehouse_conn_id"]) as warehouse:
                ledger = Ledger(warehouse, summary["state_schema"], summary["sync_id"])
                outbox = Outbox(ledger, delivery, stream.put, watch=self._watch())
                try:
                    outbox.drain(
                        instant(summary["as_of"]),
                        on_first_run=self.on_first_run,
                        resend=str(self.resend).lower() == "true",
                    )
                finally:
                    summary |= {**asdict(outbox.report), "destination": delivery.destination}
                    context["ti"].xcom_push(key=SUMMARY_KEY, value=summary)
        self.log.info(
            "%s: %s change sets, %s changes in %s records (%s bytes) delivered, %s put again, in %s s",
            delivery.destination,
            len(outbox.report.change_sets),
            *(summary[n] for n in ("delivered", "records", "bytes", "retried", "seconds")),
        )
        return summary

    def _watch(self) -> Any:
        """Make the log's progress line: one every few seconds, however many answers come in."""
        told = time.monotonic()

        def watch(progress: Progress) -> None:
            nonlocal told
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                self.log.info(
                    "%s of %s changes as of %s, %.0f a second, %s records put again",
                    f"{progress.done:,}",
                    f"{progress.total:,}",
                    progress.as_of.isoformat(),
                    progress.tally.changes_delivered / max(progress.tally.seconds, 0.001),
                    progress.tally.retried,
                )

        return watch


def _summary(change_set: Any) -> dict[str, Any]:
    """Read what the diff task returned, as a dict or as its JSON."""
    if isinstance(change_set, str):
        try:
            change_set = json.loads(change_set)
        except ValueError:
            raise ValueError("change_set is a text that is no JSON; pass the diff task's .output") from None
    needed = ("sync_id", "as_of", "warehouse_conn_id", "state_schema")
    if not isinstance(change_set, Mapping) or any(n not in change_set for n in needed):
        raise ValueError(
            "change_set is not what an AudienceDiffOperator returns; pass the diff task's .output, and check that "
            "the task ran in this DAG run"
        )
    return dict(change_set)
