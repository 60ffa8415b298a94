"""The calls that put records: what the SDK is handed, what goes out, and what comes back, as data.

Nothing here puts. Of each service the call for many records is made by hand, because the SDK takes long for it.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.producer.records import Record

_BEGIN, _NEXT = b'{"Data":"', b'},{"Data":"'
_BETWEEN = b'"' + _NEXT


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """How one service is put records.

    :param method: of the SDK's client.
    :param results: the key under which a response has one result per record; empty where it is itself the result
        of one.
    :param acknowledgement: the key under which a result has the number of an acknowledged record.
    :param shard: the key under which a result names the shard; empty where there are none.
    :param entry: makes what the SDK takes for a record.
    :param parameters: makes what the SDK takes of entries, besides the address.
    :param stand_in: makes what the SDK is handed in the place of that: no record.
    :param render: makes many records as JSON, without the list's brackets, in pieces to be joined: whole copies of
        large ones would cost time. None where the SDK makes them.
    """

    method: str
    results: str
    acknowledgement: str
    shard: str
    entry: Callable[[Record], dict[str, Any]]
    parameters: Callable[[list[dict[str, Any]]], dict[str, Any]]
    stand_in: Callable[[], dict[str, Any]]
    render: Callable[[Sequence[Record]], list[bytes] | None]

    @property
    def operation(self) -> str:
        """The same as AWS calls it."""
        return self.method.title().replace("_", "")


def _keyed_entry(record: Record) -> dict[str, Any]:
    return {"Data": record.data, "PartitionKey": record.partition_key, "ExplicitHashKey": str(record.hash_key)}


def _render_keyed(batch: Sequence[Record]) -> list[bytes]:
    pieces = [_BEGIN]
    add = pieces.append
    for record in batch:
        add(b2a_base64(record.data, newline=False))
        add(_render_keys(record.partition_key, record.hash_key))
    pieces[-1] = pieces[-1].removesuffix(_NEXT) + b"}"
    return pieces


@lru_cache(maxsize=8_192)
def _render_keys(partition_key: str, hash_key: int) -> bytes:
    # Thousands of records share a few keys. What the SDK does not take for a key raises here.
    if not partition_key:
        raise ValueError("the partition key is empty")
    return (
        b'","PartitionKey":%b,"ExplicitHashKey":"%d"' % (orjson.dumps(str.__str__(partition_key)), hash_key)
        + _NEXT
    )


def _render_nothing(_: Sequence[Record]) -> None:
    """Leave it to the SDK."""


def _bare_entry(record: Record) -> dict[str, Any]:
    return {"Data": record.data}


def _render_bare(batch: Sequence[Record]) -> list[bytes]:
    pieces = [_BEGIN]
    for record in batch:
        pieces += (b2a_base64(record.data, newline=False), _BETWEEN)
    pieces[-1] = b'"}'
    return pieces


def _none_listed() -> dict[str, Any]:
    return {"Records": []}


def _listed(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Records": entries}


PUT_RECORDS = Call(
    method="put_records",
    results="Records",
    acknowledgement="SequenceNumber",
    shard="ShardId",
    entry=_keyed_entry,
    parameters=_listed,
    stand_in=_none_listed,
    render=_render_keyed,
)
PUT_RECORD_BATCH = Call(
    method="put_record_batch",
    results="RequestResponses",
    acknowledgement="RecordId",
    shard="",
    entry=_bare_entry,
    parameters=_listed,
    stand_in=_none_listed,
    render=_render_bare,
)
PUT_RECORD = Call(
    method="put_record",
    results="",
    acknowledgement="SequenceNumber",
    shard="ShardId",
    entry=_keyed_entry,
    parameters=lambda entries: entries[0],
    stand_in=dict,
    render=_render_nothing,
)
PUT_RECORD_OF_FIREHOSE = Call(
    method="put_record",
    results="",
    acknowledgement="RecordId",
    shard="",
    entry=_bare_entry,
    parameters=lambda entries: {"Record": entries[0]},
    stand_in=dict,
    render=_render_nothing,
)
"""For a login that may not put many at once."""
