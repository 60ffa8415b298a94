"""The terms of a delivery: where to, in which format, under which bounds, and in which part.

They decide the bytes and ids of everything that is sent, and in whose log is written how far it got. Frozen, and
nothing is read or put here.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_kinesis_audience.core.exceptions import DeliveryChanged
from airflow_kinesis_audience.core.model.canonical import canonical_json
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.core.model.messages import Envelope, derive_batch_id
from airflow_kinesis_audience.core.model.partitioning import read_partitions
from airflow_kinesis_audience.core.producer.aggregation import aggregate, check_installed
from airflow_kinesis_audience.core.producer.records import Limits, Record
from airflow_kinesis_audience.core.readers.partitions import WHOLE, Part, count_partition_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from airflow_kinesis_audience.core.model.messages import Message
    from airflow_kinesis_audience.core.model.renderer import Renderer
    from airflow_kinesis_audience.core.state.delivery_details import AttemptDetail

OnNewStream = Literal["fail", "enter_all", "continue"]

_FILTERS = "filters"
"""Stands with a transform that may leave members out."""

_DELIVERIES = uuid.UUID("0b5ac0a3-6f5c-5b0e-8e0f-1a7a3b8a9d52")
_KEY_BYTES = 64
"""Room left in a record for the partition key and what ends the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """The sending of a sync's change sets to one destination in one format.

    :param destination: for example ``kinesis://eu-west-1/audience-changes``.
    :param connection: id of the connection by which the destination is reached: the same name in two accounts
        is two destinations.
    :param message_format: the format's name, and ``options`` its options.
    :param limits: of the destination.
    :param record_end: what ends a record there.
    :param partitions: partitions per audience, a power of two up to 4,096.
    :param aggregate: put several messages into one record, in the format of the Kinesis Producer Library.
    :param resync: name of the resync that this is, if it is one: a delivery of its own, that comes to an end.
    :param replay: name of the replay that this is, if it is one: a delivery of its own, too, whose bytes and ids
        are those of a publisher.
    :param part: which part of the delivery is sent, where several tasks share it.
    :param owner: the task that sends, the same on each of its tries: while it is at work no other one sends. It
        decides no bytes. Of two tasks without a name the one that comes later goes on.
    :param stream: which stream is reached, by ARN and creation; empty where nobody may look.
    :param on_new_stream: what becomes of a stream that was created anew under the name of the one before:
        ``fail``, ``enter_all`` members into it, or ``continue`` with the changes.
    :param on_unknown_audience: what it means if the options name an audience that the sync never had: ``fail``, or
        ``wait`` for it. It decides no bytes.
    """

    destination: str
    connection: str | None
    message_format: str
    options: Mapping[str, Any]
    renderer: Renderer
    limits: Limits
    record_end: bytes = b""
    partitions: int = 16
    aggregate: bool = False
    resync: str = ""
    replay: str = ""
    part: Part = WHOLE
    owner: str = ""
    stream: str = ""
    on_new_stream: OnNewStream = "fail"
    on_unknown_audience: str = "fail"

    def __post_init__(self) -> None:
        self._check_options()
        groups = count_partition_groups(read_partitions(self.partitions))
        if self.part.of not in (2**n for n in range(groups.bit_length())):
            raise ValueError(f"parts is {self.part.of}; expected a power of two from 1 to {groups}")
        if not 0 <= self.part.number < self.part.of:
            raise ValueError(f"part is {self.part.number}; expected a number from 0 to {self.part.of - 1}")
        if self.part != WHOLE and self.renderer.traits.exits_kept is not None:
            raise ValueError(f"{self.message_format} sends profiles, which one task delivers; remove parts")
        if self.aggregate and self.record_end:
            raise ValueError(f"{self.destination} does not split an aggregated record; remove aggregate")
        if self.aggregate:
            check_installed()
        if self.record_end and self.renderer.traits.ordered_by_stream:
            raise ValueError(
                f"{self.destination} does not keep the order, and consumers of {self.message_format} cannot "
                "restore it: add message_ids to format_options, or use a Kinesis data stream"
            )

    def _check_options(self) -> None:
        if self.on_new_stream not in ("fail", "enter_all", "continue"):
            raise ValueError(f"on_new_stream is {self.on_new_stream!r}; expected fail, enter_all or continue")
        if self.on_unknown_audience not in ("fail", "wait"):
            raise ValueError(f"on_unknown_audience is {self.on_unknown_audience!r}; expected fail or wait")
        for name, value in self.options.items():
            try:
                canonical_json(value)
            except ValueError as error:
                raise ValueError(f"{name} in format_options {error}") from None

    @property
    def log(self) -> str:
        """The delivery's id: it never holds what may change without being another delivery."""
        named = [self.destination, self.connection, self.message_format]
        named += [self.resync] * bool(self.resync) + ["replay", self.replay] * bool(self.replay)
        return uuid.uuid5(_DELIVERIES, json.dumps(named)).hex

    @property
    def part_logs(self) -> list[str]:
        """The logs of all parts."""
        return [replace(self, part=Part(n, self.part.of)).part_log for n in range(self.part.of)]

    @property
    def part_log(self) -> str:
        """The log of how far this part has come: the delivery's own, unless there are several parts."""
        if self.part.of == 1:
            return self.log
        return uuid.uuid5(_DELIVERIES, json.dumps([self.log, *self.part])).hex

    @property
    def holder(self) -> str:
        """Who is at work while this task is: parts are sent side by side."""
        return self.owner if self.part == WHOLE else f"{self.owner}#{self.part.number}"

    @property
    def message_bytes(self) -> int:
        """Most bytes of a message."""
        return self.limits.record_bytes - _KEY_BYTES

    @property
    def render_config(self) -> str:
        """Everything that decides the bytes of a change set's records, as one text."""
        more: dict[str, Any] = {"resync": self.resync} if self.resync else {}
        more |= {"aggregate": "kpl"} if self.aggregate else {}
        more |= {"transform": self._transform} if self._transform else {}
        return canonical_json(
            {
                "format": self.message_format,
                "version": self.renderer.traits.version,
                "options": self.options,
                "partitions": self.partitions,
                "message_bytes": self.message_bytes,
                "record_end": self.record_end.decode(),
                **more,
            }
        )

    def check_resumable(self, checkpoint: AttemptDetail, as_of: datetime) -> None:
        """Check that what is half sent would go on with the bytes that it was begun with.

        :param checkpoint: the last row of how far the change set got.
        :raises DeliveryChanged: if not.
        """
        if checkpoint.partition_groups is None:
            raise DeliveryChanged(
                f"the change set as of {instant_text(as_of)} is partly delivered to {self.destination} by an "
                "older version of this package, which numbered records differently; finish it with that version"
            )
        if checkpoint.render_config != self.render_config:
            raise DeliveryChanged(
                f"the change set as of {instant_text(as_of)} is partly delivered to {self.destination}, and "
                "format, options, limits or partitions have changed since, so the rest would have other bytes and "
                f"ids. Restore them until it is delivered; the delivery started with {checkpoint.render_config}"
            )

    @property
    def _transform(self) -> list[str]:
        traits = self.renderer.traits
        return [*(traits.transform or ()), *([_FILTERS] if traits.filters else [])]

    def check_filter(self, rendered_as: str) -> None:
        """Check that a function which may leave members out is the one by which all before was sent.

        :param rendered_as: the render config of what was delivered last; empty of nothing.
        :raises DeliveryChanged: if not: a member that only the other one lets through would never exit, or enter.
        """
        before, now = json.loads(rendered_as or "{}").get("transform", []), self._transform
        if not rendered_as or before == now or _FILTERS not in {*before, *now}:
            return
        raise DeliveryChanged(
            f"transform {(now or before)[0]} may leave members out, and {self.destination} has received members "
            f"{'by another text of it' if before and now else 'without it' if now else 'by it'}: some would stay "
            "there for ever, or never enter. Restore what was there before, or put the condition into the sql of "
            "the diff task, where changing it makes exits and entries. To begin again with the present task, "
            "detach the destination. Nothing was sent"
        )

    def records(self, messages: Iterable[Message], ordinal: int) -> Iterator[Record]:
        """Make records of messages, numbered from ``ordinal``."""
        counted: Iterable[tuple[Message, int]] = ((m, 1) for m in messages)
        if self.aggregate:
            counted = aggregate(messages, message_bytes=self.message_bytes)
        end = self.record_end
        for number, (message, count) in enumerate(counted, start=ordinal):
            document, partition, hash_key, changes, ordering_key = message
            yield Record(number, document + end, partition, hash_key, changes, ordering_key, count)

    def envelope(self, sync_id: str, instants: tuple[str, str]) -> Envelope:
        """Make what a format needs to render what leads from one instant to another, both as text."""
        before, after = instants
        return Envelope(
            batch_id=derive_batch_id(
                sync_id=sync_id,
                previous_as_of=before,
                as_of=after,
                destination=self.destination,
                render_config=self.render_config,
            ),
            partitions=self.partitions,
            message_bytes=self.message_bytes,
        )
