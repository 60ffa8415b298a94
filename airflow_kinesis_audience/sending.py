"""One attempt at one change set: where it goes, its records, and how far it got.

A change set's records are the same on every attempt, so that a number per record is all there is to remember.
What an earlier attempt had acknowledged is not put again, and whole slices of it are not even read.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_kinesis_audience.aggregation import aggregate, check_installed
from airflow_kinesis_audience.exceptions import DestinationRefused
from airflow_kinesis_audience.ledger import Event
from airflow_kinesis_audience.messages import Envelope, Limits, Record, message_job
from airflow_kinesis_audience.settled import Settled
from airflow_kinesis_audience.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from airflow_kinesis_audience.event_rows import EventSet
    from airflow_kinesis_audience.formats import Renderer
    from airflow_kinesis_audience.messages import Message
    from airflow_kinesis_audience.profiling import ProfileSet
    from airflow_kinesis_audience.slices import ChangeSet
    from airflow_kinesis_audience.sql import Warehouse

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

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= 4096 or self.partitions & (self.partitions - 1):
            raise ValueError(f"partitions is {self.partitions}; expected a power of two from 1 to 4,096")
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
    def message_bytes(self) -> int:
        """Most bytes of a message."""
        return self.limits.record_bytes - _KEY_BYTES

    @property
    def rendering(self) -> str:
        """Everything that decides the bytes of a change set's records, as one text."""
        more = {"resync": self.resync} if self.resync else {}
        more |= {"aggregate": "kpl"} if self.aggregate else {}
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

    def records(self, messages: Iterable[Message], ordinal: int) -> Iterator[Record]:
        """Make records of messages, numbered from ``ordinal``."""
        counted: Iterable[tuple[Message, int]] = ((m, 1) for m in messages)
        if self.aggregate:
            counted = aggregate(messages, message_bytes=self.message_bytes)
        for number, (message, count) in enumerate(counted, start=ordinal):
            yield Record(
                ordinal=number,
                data=message.document + self.record_end,
                partition_key=message.partition,
                hash_key=message.hash_key,
                changes=message.changes,
                lane=message.lane,
                messages=count,
            )

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


@dataclass(slots=True)
class Report:
    """What draining did, filled while it runs: it can be told before an error is raised."""

    change_sets: list[str] = field(default_factory=list)
    messages: int = 0
    records: int = 0
    bytes: int = 0
    delivered: int = 0
    rejected: int = 0
    omitted: int = 0
    excluded: int = 0
    retried: int = 0
    seconds: float = 0.0

    def add(self, tally: Tally, omitted: int, excluded: int) -> None:
        """Count an attempt at one change set."""
        self.omitted += omitted
        self.excluded += excluded
        self.messages += tally.messages_delivered
        self.records += tally.delivered
        self.bytes += tally.bytes_delivered
        self.delivered += tally.changes_delivered
        self.rejected += tally.changes_rejected
        self.retried += tally.retried
        self.seconds = round(self.seconds + tally.seconds, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the change set that is being sent has come; counts are changes."""

    as_of: datetime
    done: int
    total: int
    tally: Tally


class _Start(NamedTuple):
    """Where a slice begins: its first record's number, and what was left out before it."""

    ordinal: int
    omitted: int
    excluded: int


class Sending:
    """One attempt at one change set.

    :param resumed: detail of the last row of an earlier attempt's, or nothing.
    :param append: appends a row to the delivery's log.
    :param watch: told after every answer.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        delivery: Delivery,
        change_set: ChangeSet | EventSet | ProfileSet,
        resumed: Mapping[str, Any],
        *,
        append: Callable[[Event, Mapping[str, Any]], None],
        watch: Callable[[Progress], None],
    ) -> None:
        self._warehouse = warehouse
        self._delivery = delivery
        self._change_set = change_set
        self._append = append
        self._watch = watch
        self._resumed = bool(resumed)
        self._first = int(resumed.get("slice", 0))
        self._before = int(resumed.get("delivered", 0))
        start = _Start(*(int(resumed.get(name, 0)) for name in _Start._fields))
        self._starts = {self._first: start}
        self.settled = Settled.from_json(resumed["settled"]) if "settled" in resumed else Settled()
        self.omitted, self.excluded = start.omitted, start.excluded
        self.delivered = self._before
        self.tally = Tally()

    @property
    def missing(self) -> int:
        """Changes of the change set that are neither acknowledged nor left out by the format."""
        return self._change_set.rows - self.delivered - self.omitted

    def records(self) -> Iterator[Record]:
        """Render the records, slice by slice, from the first slice that is not done."""
        if self._first >= self._change_set.slices:
            return
        envelope = self._delivery.envelope(self._change_set.sync_id, self._change_set.edge)
        read = self._change_set.reader(self._warehouse)
        renderer = self._delivery.renderer
        count_excluded = getattr(renderer, "count_excluded", lambda _: 0)
        ordinal = self._starts[self._first].ordinal
        for number in range(self._first, self._change_set.slices):
            self._starts[number] = _Start(ordinal, self.omitted, self.excluded)
            changes = read(number)
            told = 0
            for record in self._delivery.records(renderer(changes, envelope), ordinal):
                told += record.changes
                yield record
                ordinal += 1
            self.omitted += changes.change_count - told
            self.excluded += count_excluded(changes)
        self._starts[self._change_set.slices] = _Start(ordinal, self.omitted, self.excluded)

    def checkpoint(self, tally: Tally) -> None:
        """Write down what is acknowledged, before anything more is put."""
        self.tally = tally
        self.delivered = self._before + tally.changes_delivered
        self.write(Event.CHECKPOINT)
        done = self.delivered + self.omitted
        self._watch(Progress(as_of=self._change_set.as_of, done=done, total=self._change_set.rows, tally=tally))

    def take_back(self) -> None:
        """Write down that nothing can have been taken, if so: the next attempt may then have other options."""
        refused = isinstance(self.tally.failure, DestinationRefused) and not self.tally.codes
        untouched = not self.tally.requests or (refused and not self.tally.delivered)
        if untouched and not self._resumed:
            self.write(Event.UNSENT)

    def write(self, event: Event) -> None:
        """Append a row that tells how far the change set got; a resume reads the last one."""
        number = max(n for n, start in self._starts.items() if start.ordinal <= self.settled.below)
        for done in [n for n in self._starts if n < number]:
            del self._starts[done]
        start = self._starts[number]
        self._append(
            event,
            {
                "rendering": self._delivery.rendering,
                "table": self._change_set.table,
                "slice": number,
                **start._asdict(),
                "delivered": self.delivered,
                "settled": self.settled.as_json(),
            },
        )
