"""Which messages about whole audiences an attempt has put: the part of it after a pause puts only the rest.

The ledger has nothing of it, so a retry puts all of them again, with the same ids. What is remembered here goes by
the bytes of the records: where any of them differs, all are put.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

import msgspec

from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals, AcknowledgedRanges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_kinesis_audience.core.producer.records import Record


class NoticeLog:
    """What is acknowledged of the notices of an attempt.

    :ivar kept: digest of records that were put together to the JSON of which of them are acknowledged. It can be
        kept while the attempt pauses, and set again when it continues.
    """

    def __init__(self) -> None:
        self.kept: Mapping[str, str] = {}

    @contextlib.contextmanager
    def acknowledged(self, records: Sequence[Record]) -> Iterator[AcknowledgedOrdinals]:
        """Give which of some records are acknowledged, and keep which are in the end, also after an error."""
        digest = hashlib.blake2b(digest_size=16)
        for record in records:
            for part in (record.partition_key.encode(), record.data):
                digest.update(b"%d:" % len(part) + part)
        known = self.kept.get(digest.hexdigest())
        found = AcknowledgedOrdinals()
        if known is not None:
            found = AcknowledgedOrdinals.of(msgspec.json.decode(known, type=AcknowledgedRanges))
        try:
            yield found
        finally:
            self.kept = {**self.kept, digest.hexdigest(): msgspec.json.encode(found.ranges).decode()}
