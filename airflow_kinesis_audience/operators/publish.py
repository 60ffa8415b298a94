"""The task that delivers change sets. It can't be unsent, so it writes down everything before it sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant
from airflow_kinesis_audience.operators.destination import KinesisDeliveryOperator
from airflow_kinesis_audience.operators.run import read_change_set

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.outbox import OnFirstRun, Outbox
    from airflow_kinesis_audience.sending import Delivery


class AudienceToKinesisOperator(KinesisDeliveryOperator):
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
        *KinesisDeliveryOperator.template_fields,
        "on_first_run",
        "resend",
    )
    template_fields_renderers = {"change_set": "json", "format_options": "json"}  # noqa: RUF012

    def __init__(
        self, *, change_set: Any, on_first_run: OnFirstRun = "enter_all", resend: bool | str = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.change_set = change_set
        self.on_first_run = on_first_run
        self.resend = resend

    def _begin(self, context: Context) -> dict[str, Any]:
        if self.on_first_run not in ("enter_all", "baseline", "fail"):
            raise ValueError(f"on_first_run is {self.on_first_run!r}; expected enter_all, baseline or fail")
        return read_change_set(self.change_set)

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        again = str(self.resend).lower() == "true"
        outbox.drain(instant(summary["as_of"]), on_first_run=self.on_first_run, resend=again)
        return {}
