"""The tasks that deliver change sets. They can't be unsent, so they write down everything before they send.

To a data stream and to a delivery stream alike: the two operators differ in what they are asked for, and in
nothing that they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant
from airflow_kinesis_audience.feeds import Part
from airflow_kinesis_audience.operators.destination import SHARED_FIELDS, DeliveryOperator
from airflow_kinesis_audience.operators.run import read_change_set, truth

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.outbox import OnFirstRun, OnRejected, Outbox
    from airflow_kinesis_audience.terms import Delivery

_OWN_FIELDS = ("on_first_run", "resend", "on_rejected", "part")
_RENDERERS = {"change_set": "json", "format_options": "json"}


class AudienceToKinesisOperator(DeliveryOperator):
    """Deliver to a Kinesis data stream every change set that it has not had, up to this run's.

    Returns the change set's summary and, of this attempt: ``messages``, ``records``, ``bytes``, ``delivered``,
    ``rejected`` (changes that were given up, or are too large), ``omitted`` (changes that the format has no words
    for), ``excluded`` (profiles that have not consented), ``retried``, ``seconds``, ``destination``,
    ``change_sets``, ``retold`` (members rejected earlier, and told of now), ``still_rejected``, and
    ``rejected_users``, named by digests. The same is in XCom under ``delivery`` even where the task fails. A green
    task means that every change was acknowledged, but for those that were to be skipped.

    :param change_set: what an :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator` returned.
    :param stream_name: the stream's name, or its ARN.
    :param message_format: a wire format's name, or a dotted path to a callable of that shape.
    :param format_options: the format's options.
    :param aws_conn_id: Airflow connection to AWS.
    :param region_name: by default the connection's.
    :param on_first_run: what a destination that was never sent to is told: ``enter_all`` members, nothing
        because it has the ``baseline`` already, or ``fail``.
    :param resend: send this run's change set again although it is delivered; ids and bytes are the same.
    :param on_rejected: what becomes of the task where a member is too large for a record. All else is delivered
        in either case, the members are kept in a table of the state's schema, and every later run tries them
        again: ``fail`` as long as there are any, or ``skip`` them, counted in ``still_rejected``.
    :param partitions: partition keys per audience, a power of two; a multiple of the stream's shards spreads
        evenly.
    :param aggregate: put several messages into one record, in the format of the Kinesis Producer Library.
    :param transform: dotted path to a function of yours, from a pandas frame of members to the same members with
        other values.
    :param parts: how many tasks share the delivery, a power of two up to 16 and up to ``partitions``; and
    :param part: which of them this is, from 0: ``.partial(parts=4, ...).expand(part=[0, 1, 2, 3])``. Each sends
        the changes of its own users, with the bytes and ids that one task would send.
    """

    template_fields: Sequence[str] = ("change_set", "stream_name", *SHARED_FIELDS, "aggregate", *_OWN_FIELDS)
    template_fields_renderers = _RENDERERS

    def __init__(
        self,
        *,
        change_set: Any,
        stream_name: str,
        on_first_run: OnFirstRun = "enter_all",
        resend: bool | str = False,
        on_rejected: OnRejected = "fail",
        part: int | str = 0,
        parts: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(stream_name=stream_name, **kwargs)
        self.change_set = change_set
        self.on_first_run = on_first_run
        self.resend = resend
        self.on_rejected = on_rejected
        self.part = part
        self.parts = parts

    def _begin(self, context: Context) -> dict[str, Any]:
        return _begin(self)

    def _deliver_as(self, delivery: Delivery, context: Context) -> Delivery:
        return _part_of(self, delivery)

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        return _drain(self, outbox, summary)


class AudienceToFirehoseOperator(DeliveryOperator):
    """Deliver to a Firehose delivery stream every change set that it has not had, up to this run's.

    What lands is a line of JSON per message. Firehose keeps no order and may deliver a record twice: who reads it
    goes by the time that each message carries, and drops what it has seen. Returns what
    :class:`AudienceToKinesisOperator` does.

    :param change_set: what an :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator` returned.
    :param delivery_stream_name: the delivery stream's name, or its ARN; its source is Direct PUT.
    :param message_format: a wire format's name, or a dotted path to a callable of that shape.
    :param format_options: the format's options.
    :param aws_conn_id: Airflow connection to AWS.
    :param region_name: by default the connection's.
    :param on_first_run: as for a data stream.
    :param resend: as for a data stream, and ``on_rejected``.
    :param parts: as for a data stream, and ``part``.
    """

    template_fields: Sequence[str] = ("change_set", "delivery_stream_name", *SHARED_FIELDS, *_OWN_FIELDS)
    template_fields_renderers = _RENDERERS

    def __init__(
        self,
        *,
        change_set: Any,
        delivery_stream_name: str,
        on_first_run: OnFirstRun = "enter_all",
        resend: bool | str = False,
        on_rejected: OnRejected = "fail",
        part: int | str = 0,
        parts: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(delivery_stream_name=delivery_stream_name, **kwargs)
        self.change_set = change_set
        self.on_first_run = on_first_run
        self.resend = resend
        self.on_rejected = on_rejected
        self.part = part
        self.parts = parts

    def _begin(self, context: Context) -> dict[str, Any]:
        return _begin(self)

    def _deliver_as(self, delivery: Delivery, context: Context) -> Delivery:
        return _part_of(self, delivery)

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        return _drain(self, outbox, summary)


def _begin(task: AudienceToKinesisOperator | AudienceToFirehoseOperator) -> dict[str, Any]:
    if task.on_first_run not in ("enter_all", "baseline", "fail"):
        raise ValueError(f"on_first_run is {task.on_first_run!r}; expected enter_all, baseline or fail")
    if task.on_rejected not in ("fail", "skip"):
        raise ValueError(f"on_rejected is {task.on_rejected!r}; expected fail or skip")
    return read_change_set(task.change_set)


def _part_of(task: AudienceToKinesisOperator | AudienceToFirehoseOperator, delivery: Delivery) -> Delivery:
    try:
        part = Part(int(task.part), int(task.parts))
    except ValueError:
        raise ValueError(f"part is {task.part!r} and parts {task.parts!r}; expected whole numbers") from None
    return replace(delivery, part=part)


def _drain(
    task: AudienceToKinesisOperator | AudienceToFirehoseOperator, outbox: Outbox, summary: Mapping[str, Any]
) -> dict[str, Any]:
    outbox.drain(
        instant(summary["as_of"]),
        on_first_run=task.on_first_run,
        resend=truth(task.resend, "resend"),
        on_rejected=task.on_rejected,
    )
    return {}
