"""The terms of a delivery: where to, in which format, under which bounds, and in which part.

They decide the bytes and ids of everything that is sent, and in whose log is written how far it got. Frozen, and
nothing is read or put here.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.aggregation import aggregate, check_installed
from airflow_kinesis_audience.audience import instant_text
from airflow_kinesis_audience.exceptions import DeliveryChanged
from airflow_kinesis_audience.feeds import WHOLE, Part, count_feeds
from airflow_kinesis_audience.formats import exits_kept_by
from airflow_kinesis_audience.messages import Envelope, Limits, Record, message_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from airflow_kinesis_audience.formats import Renderer
    from airflow_kinesis_audience.messages import Message
    from airflow_kinesis_audience.transforming import Transform

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
    :param part: which part of the delivery is sent, where several tasks share it.
    """

    destination: str
    connection: str
    message_format: str
    options: Mapping[str, Any]
    renderer: Renderer
    limits: Limits
    record_end: bytes = b""
    partitions: int = 16
    aggregate: bool = False
    resync: str = ""
    part: Part = WHOLE

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= 4096 or self.partitions & (self.partitions - 1):
            raise ValueError(f"partitions is {self.partitions}; expected a power of two from 1 to 4,096")
        feeds = count_feeds(self.partitions)
        if self.part.of not in (2**n for n in range(feeds.bit_length())):
            raise ValueError(f"parts is {self.part.of}; expected a power of two from 1 to {feeds}")
        if not 0 <= self.part.number < self.part.of:
            raise ValueError(f"part is {self.part.number}; expected a number from 0 to {self.part.of - 1}")
        if self.part != WHOLE and exits_kept_by(self.renderer) is not None:
            raise ValueError(
                f"{self.message_format} tells of profiles, which are sent by one task; leave parts out"
            )
        if self.aggregate and self.record_end:
            raise ValueError(f"{self.destination} does not undo an aggregated record; leave aggregate out")
        if self.aggregate:
            check_installed()
        if self.record_end and getattr(self.renderer, "ordered_by_stream", False):
            raise ValueError(
                f"{self.destination} keeps no order, and {self.message_format} tells nothing to restore it by "
                "unless asked to: add message_ids to format_options, or send it to a Kinesis data stream"
            )

    @property
    def log(self) -> str:
        """The delivery's id: it never holds what may change without being another delivery."""
        named = [self.destination, self.connection, self.message_format]
        return uuid.uuid5(_DELIVERIES, json.dumps(named + [self.resync] * bool(self.resync))).hex

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
    def message_bytes(self) -> int:
        """Most bytes of a message."""
        return self.limits.record_bytes - _KEY_BYTES

    @property
    def rendering(self) -> str:
        """Everything that decides the bytes of a change set's records, as one text."""
        more: dict[str, Any] = {"resync": self.resync} if self.resync else {}
        more |= {"aggregate": "kpl"} if self.aggregate else {}
        transform: Transform | None = getattr(self.renderer, "transform", None)
        more |= {"transform": [transform.path, transform.code]} if transform else {}
        return json.dumps(
            {
                "format": self.message_format,
                "version": getattr(self.renderer, "version", None),
                "options": self.options,
                "partitions": self.partitions,
                "message_bytes": self.message_bytes,
                "record_end": self.record_end.decode(),
                **more,
            },
            sort_keys=True,
            default=repr,
        )

    def check_begun(self, progress: Mapping[str, Any], as_of: datetime) -> None:
        """Check that what is half sent would go on with the bytes that it was begun with.

        :param progress: detail of the last row that tells how far the change set got.
        :raises DeliveryChanged: if not.
        """
        if "feeds" not in progress:
            raise DeliveryChanged(
                f"the change set as of {instant_text(as_of)} is half sent to {self.destination} by an older "
                "version of this package, which numbered records in another way; let that version finish it"
            )
        if progress["rendering"] != self.rendering:
            raise DeliveryChanged(
                f"the change set as of {instant_text(as_of)} is half sent to {self.destination}, and format, "
                "options, limits or partitions are not what it was begun with, so the rest would have other bytes "
                f"and ids. Put them back until it is delivered; it was begun with {progress['rendering']}"
            )

    def records(self, messages: Iterable[Message], ordinal: int) -> Iterator[Record]:
        """Make records of messages, numbered from ``ordinal``."""
        counted: Iterable[tuple[Message, int]] = ((m, 1) for m in messages)
        if self.aggregate:
            counted = aggregate(messages, message_bytes=self.message_bytes)
        end = self.record_end
        for number, (message, count) in enumerate(counted, start=ordinal):
            document, partition, hash_key, changes, lane = message
            yield Record(number, document + end, partition, hash_key, changes, lane, count)

    def envelope(self, sync_id: str, edge: tuple[str, str]) -> Envelope:
        """Make what a format needs to render what leads from one instant to another, both as text."""
        before, after = edge
        return Envelope(
            job=message_job(
                sync_id=sync_id,
                previous_as_of=before,
                as_of=after,
                destination=self.destination,
                rendering=self.rendering,
            ),
            partitions=self.partitions,
            message_bytes=self.message_bytes,
        )
