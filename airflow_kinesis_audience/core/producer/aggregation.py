"""Several messages in one record, in the format of the Kinesis Producer Library; KCL consumers undo it themselves.

A shard takes a thousand records a second, however small they are. This module groups messages of one partition
that follow each other, and the library writes the record: same messages, same bytes. A message without a neighbour
stays a record of its own, unchanged; consumers take both.
Format: https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md
"""

from __future__ import annotations

import importlib.util
from itertools import groupby
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import how_to_install
from airflow_kinesis_audience.core.model.messages import Message, pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RECORD_BYTES = 51_200
"""Most bytes of messages in one record: the library's own default. A larger one would cost more to put again."""

_OVERHEAD_BYTES = 12
"""What the format adds to a message, at most: two indexes and two lengths."""

_FRAME_BYTES = 256
"""What it adds to a record, at most: a mark, the partition's two keys and a digest."""


def check_installed() -> None:
    """Check that the library is installed.

    :raises ValueError: if it is not; the message names what to install.
    """
    if importlib.util.find_spec("aws_kinesis_agg") is None:
        raise ValueError(
            f"aggregate needs the package aws-kinesis-agg, which is not installed here; {how_to_install('kpl')}"
        )


def aggregate(messages: Iterable[Message], *, message_bytes: int) -> Iterator[tuple[Message, int]]:
    """Join messages of one partition that follow each other.

    What comes out has no ordering key of its own, because two messages about one user may end up in two records.

    :param message_bytes: most bytes of a record's data.
    :returns: what makes one record each, and how many messages it holds.
    """
    most_bytes = min(RECORD_BYTES, message_bytes - _FRAME_BYTES)
    for _, run in groupby(messages, key=lambda m: (m.partition, m.hash_key)):
        for group in pack(run, size=_size, max_count=most_bytes, max_bytes=most_bytes):
            yield _join(group)._replace(ordering_key=""), len(group)


def _size(message: Message) -> int:
    return len(message.document) + _OVERHEAD_BYTES


def _join(group: Sequence[Message]) -> Message:
    if len(group) == 1:
        return group[0]
    from aws_kinesis_agg.aggregator import AggRecord

    first, record = group[0], AggRecord()
    for m in group:
        record.add_user_record(m.partition, m.document, str(m.hash_key))
    _, _, document = record.get_contents()
    return Message(document, first.partition, first.hash_key, sum(m.changes for m in group))
