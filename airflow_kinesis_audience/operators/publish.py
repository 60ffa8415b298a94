"""The tasks that deliver change sets. What is sent can't be unsent, so they record everything before they send.

To a data stream and to a delivery stream alike: the two operators take different arguments and do the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.operators.delivery_operator import SHARED_FIELDS, DeliveryOperator
from airflow_kinesis_audience.operators.run_context import parse_bool, read_change_set

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.outbox.beginning import OnFirstRun, OnOtherSync
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.core.outbox.outbox import OnRejected, Outbox

PUBLISH_FIELDS = ("on_first_run", "on_other_sync", "resend", "on_rejected", "part")
"""Template fields of a task that delivers change sets, to whichever destination."""


class PublishOperator(DeliveryOperator):
    """What the two publishing tasks share: they deliver every change set that the destination has not had.

    :param change_set: what an :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator` returned.
    :param on_first_run: for a new destination: ``enter_all`` sends every member as entered, ``baseline`` sends
        nothing because its consumers already have all members, ``fail`` fails.
    :param on_other_sync: for a new destination to which another sync of the same state already delivers one of
        the audiences, in the same format. ``fail``: it can be this sync before its DAG was renamed, and members
        that left since would stay members. ``ignore``: both syncs are intended.
    :param resend: send this run's change set again, also if it is delivered; ids and bytes are the same.
    :param on_rejected: if a member is too large for a record. Everything else is delivered, such members are kept
        in a dead-letter table, and every later run retries them. ``fail`` the task while there are any, or
        ``skip`` them and count them in ``still_rejected``.
    :param keep_dead_letters: limit of how long a dead letter is kept, counted from when it was recorded. It is
        then tried once more, and given up: its former values are deleted, it is counted in ``given_up``, and the
        task fails once, unless ``on_rejected`` is ``skip``. ``None`` keeps dead letters until they are delivered.
    :param parts: how many tasks share the delivery, a power of two up to 16 and up to ``partitions``; and
    :param part: the number of this task, from 0: ``.partial(parts=4, ...).expand(part=[0, 1, 2, 3])``. Each task
        sends the changes of its own users, with the bytes and ids that a single task would send.
    """

    template_fields_renderers = {"change_set": "json", "format_options": "json"}  # noqa: RUF012

    def __init__(
        self,
        *,
        change_set: Any,
        on_first_run: OnFirstRun = "enter_all",
        on_other_sync: OnOtherSync = "fail",
        resend: bool | str = False,
        on_rejected: OnRejected = "fail",
        keep_dead_letters: timedelta | None = timedelta(days=400),
        parts: int = 1,
        part: int | str = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.change_set = change_set
        self.on_first_run = on_first_run
        self.on_other_sync = on_other_sync
        self.resend = resend
        self.on_rejected = on_rejected
        self.keep_dead_letters = keep_dead_letters
        self.part = part
        self.parts = parts

    def _may_wait(self) -> bool:
        # What is sent again begins from the start each time.
        return super()._may_wait() and not parse_bool(self.resend, "resend")

    def _begin(self, context: Context) -> dict[str, Any]:
        if self.on_first_run not in ("enter_all", "baseline", "fail"):
            raise ValueError(f"on_first_run is {self.on_first_run!r}; expected enter_all, baseline or fail")
        if self.on_other_sync not in ("fail", "ignore"):
            raise ValueError(f"on_other_sync is {self.on_other_sync!r}; expected fail or ignore")
        if self.on_rejected not in ("fail", "skip"):
            raise ValueError(f"on_rejected is {self.on_rejected!r}; expected fail or skip")
        kept = self.keep_dead_letters
        if kept is not None and not (isinstance(kept, timedelta) and kept >= timedelta()):
            raise ValueError(
                f"keep_dead_letters is {kept!r}; expected a timedelta of zero or more, or None to keep them"
            )
        return read_change_set(self.change_set)

    def _deliver_as(self, delivery: Delivery, context: Context) -> Delivery:
        from airflow_kinesis_audience.core.readers.partitions import Part

        try:
            part = Part(int(str(self.part)), int(str(self.parts)))
        except ValueError:
            raise ValueError(f"part is {self.part!r} and parts {self.parts!r}; expected whole numbers") from None
        return replace(delivery, part=part)

    def _send(self, outbox: Outbox, delivery: Delivery, summary: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_kinesis_audience.operators.remembering import DeliveredVariable

        delivered = DeliveredVariable(summary, outbox.log)
        try:
            outbox.drain(
                instant(summary["as_of"]),
                on_first_run=self.on_first_run,
                on_other_sync=self.on_other_sync,
                resend=parse_bool(self.resend, "resend"),
                on_rejected=self.on_rejected,
                keep_dead_letters=self.keep_dead_letters,
                remembered=delivered.recall(),
            )
        finally:
            delivered.keep()
        return {}


class AudienceToKinesisOperator(PublishOperator):
    """Deliver to a Kinesis data stream all change sets that it has not received, up to this run's.

    Returns the change set's summary and, of this attempt: ``messages``, ``records``, ``bytes``, ``delivered``,
    ``rejected`` (changes that failed or are too large), ``omitted`` (changes that the format cannot express),
    ``excluded`` (profiles that have not consented), ``filtered`` (changes that the transform leaves out),
    ``retried``, ``seconds``, ``destination``, ``change_sets``, ``redelivered`` (members that were rejected
    earlier and are delivered now), ``still_rejected`` and
    ``rejected_users`` (digests), ``given_up`` and ``given_up_users`` (the same of dead letters that were kept for
    ``keep_dead_letters``). XCom has the same under ``delivery``, also if the task fails. If the task
    succeeds, every change was acknowledged or skipped as configured.

    :param change_set: what an :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator` returned.
    :param stream_name: the stream's name, or its ARN.
    :param message_format: name of a wire format, or the dotted path of your own format.
    :param format_options: the format's options.
    :param aws_conn_id: Airflow connection to AWS.
    :param region_name: by default the connection's.
    :param partitions: partition keys per audience, a power of two. A multiple of the number of shards distributes
        evenly.
    :param aggregate: put several messages into one record, in the format of the Kinesis Producer Library.
    :param large_records: use records up to the stream's maximum record size, up to 10 MiB.
    :param transform: dotted path of your function, which gets a pandas frame of members and returns the same
        members with other values.
    """

    template_fields: Sequence[str] = (
        *("change_set", "stream_name", *SHARED_FIELDS, "aggregate", "large_records"),
        *PUBLISH_FIELDS,
    )

    def __init__(self, *, stream_name: str, **kwargs: Any) -> None:
        super().__init__(stream_name=stream_name, **kwargs)


class AudienceToFirehoseOperator(PublishOperator):
    """Deliver to a Firehose delivery stream all change sets that it has not received, up to this run's.

    Each message becomes a line of JSON. Firehose does not keep the order and can deliver a record twice: a reader
    orders messages by their time and drops ids that it has seen. Returns the same as an
    ``AudienceToKinesisOperator``.

    :param change_set: what an :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator` returned.
    :param delivery_stream_name: the delivery stream's name, or its ARN; its source is Direct PUT.
    :param message_format: name of a wire format, or the dotted path of your own format.
    :param format_options: the format's options.
    :param aws_conn_id: Airflow connection to AWS.
    :param region_name: by default the connection's.
    """

    template_fields: Sequence[str] = ("change_set", "delivery_stream_name", *SHARED_FIELDS, *PUBLISH_FIELDS)

    def __init__(self, *, delivery_stream_name: str, **kwargs: Any) -> None:
        super().__init__(delivery_stream_name=delivery_stream_name, **kwargs)
