"""The calls that put records: what the SDK is handed, what goes out, and what comes back, as data.

Nothing here puts. A request's body is made here for many records at once, because the SDK takes long for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.json import Encoder

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.producer.records import Record

_encode = Encoder().encode
_data, _partition_key, _hash_key = map(attrgetter, ("data", "partition_key", "hash_key"))


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
    :param render: makes a request's whole body of its records and the address, as the SDK would; raises TypeError
        or ValueError where the SDK is to say what is wrong with the records.
    """

    method: str
    results: str
    acknowledgement: str
    shard: str
    entry: Callable[[Record], dict[str, Any]]
    parameters: Callable[[list[dict[str, Any]]], dict[str, Any]]
    stand_in: Callable[[], dict[str, Any]]
    render: Callable[[Sequence[Record], Mapping[str, str]], bytes]

    @property
    def operation(self) -> str:
        """The same as AWS calls it."""
        return self.method.title().replace("_", "")


class _Keyed(Struct, gc=False):
    """A record of a data stream as JSON has it."""

    Data: bytes
    PartitionKey: str
    ExplicitHashKey: str


class _Bare(Struct, gc=False):
    """A record of a delivery stream as JSON has it."""

    Data: bytes


_as_text = lru_cache(maxsize=8_192, typed=True)(str)
"""Thousands of records share a few hash keys."""


def _keyed_entry(record: Record) -> dict[str, Any]:
    return {"Data": record.data, "PartitionKey": record.partition_key, "ExplicitHashKey": str(record.hash_key)}


def _bare_entry(record: Record) -> dict[str, Any]:
    return {"Data": record.data}


def _keyed(batch: Sequence[Record]) -> Iterable[_Keyed]:
    keys = list(map(_partition_key, batch))
    if set(map(type, keys)) != {str} or "" in keys:
        raise TypeError("a partition key is empty, or no text")
    return map(_Keyed, _bytes_of(batch), keys, map(_as_text, map(_hash_key, batch)))


def _bytes_of(batch: Sequence[Record]) -> list[bytes]:
    # Anything else would be written as it is, not as Base64.
    found = list(map(_data, batch))
    if set(map(type, found)) != {bytes}:
        raise TypeError("the data of a record are no bytes")
    return found


def _render_keyed(batch: Sequence[Record], address: Mapping[str, str]) -> bytes:
    return _encode({"Records": list(_keyed(batch)), **address})


def _render_bare(batch: Sequence[Record], address: Mapping[str, str]) -> bytes:
    return _encode({"Records": list(map(_Bare, _bytes_of(batch))), **address})


def _render_one_keyed(batch: Sequence[Record], address: Mapping[str, str]) -> bytes:
    [entry] = _keyed(batch)
    return _encode({name: getattr(entry, name) for name in entry.__struct_fields__} | dict(address))


def _render_one_bare(batch: Sequence[Record], address: Mapping[str, str]) -> bytes:
    [data] = _bytes_of(batch)
    return _encode({"Record": _Bare(data), **address})


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
    render=_render_one_keyed,
)
PUT_RECORD_OF_FIREHOSE = Call(
    method="put_record",
    results="",
    acknowledgement="RecordId",
    shard="",
    entry=_bare_entry,
    parameters=lambda entries: {"Record": entries[0]},
    stand_in=dict,
    render=_render_one_bare,
)
"""For a login that may not put many at once."""
