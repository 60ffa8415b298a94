"""Short cuts inside one client of the SDK: a put's body is joined here, and its answer is read here.

All else stays the SDK's: endpoint, credentials, signature, checksums, proxies, TLS, time-outs and errors. What it
would not send is never sent: instead of records it is handed a stand-in that no serializer can take, so where a
short cut is not met the call fails before anything is sent, and is made again the plain way.
Relied on (botocore 1.44; ``tests/contract/test_wire.py`` fails where it changes): ``client._serializer``, whose
``serialize_to_request(parameters, operation_model)`` gives a dict with ``body`` and ``headers``, and the event
``before-parse.SERVICE.OPERATION`` with ``response_dict`` and ``customized_response_dict``.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from airflow_kinesis_audience.messages import Record

_RESULTS = "ResultsReadFromTheWire"
"""Under which key of the SDK's answer the results stand; no service has such a one."""
_HEADERS = {"X-Amz-Target", "Content-Type"}
"""What the SDK says of a body before it is final; one more header might be made of the body that is replaced."""
_SAMPLE, _SAMPLE_ENCODED = Record(0, b"a", "key", 1, 1), "YQ=="
_BEGIN, _NEXT = b'{"Data":"', b'},{"Data":"'
_BETWEEN = b'"' + _NEXT
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)


class _StandIn(list[Any]):
    """What the SDK is handed instead of records: its only element is nothing that can be serialized."""

    def __init__(self, entries: list[bytes]) -> None:
        super().__init__([object()])
        self.entries = entries
        self.is_joined = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """How one service is put records.

    :param method: of the SDK's client.
    :param results: the key under which an answer has one result per record.
    :param acknowledgement: the key under which a result has the number of an acknowledged record.
    :param shard: the key under which a result names the shard; empty where there are none.
    :param entry: makes what the SDK takes for a record.
    :param render: makes the same of many records as JSON, without the list's brackets, in pieces to be joined:
        whole copies of large ones would cost time.
    """

    method: str
    results: str
    acknowledgement: str
    shard: str
    entry: Callable[[Record], dict[str, Any]]
    render: Callable[[Sequence[Record]], list[bytes]]


class Wire:
    """The short cuts of one client, for one call; safe to use from several threads.

    :param client: of the SDK; only this one is changed.
    """

    def __init__(self, client: Any, call: Call) -> None:
        self._call, self._put = call, getattr(client, call.method)
        self._reads_answers = False
        service = client.meta.service_model.service_id.hyphenize()
        operation = client.meta.method_to_api_mapping[call.method]
        client.meta.events.register(f"before-parse.{service}.{operation}", self._read_answer)
        if hasattr(client, "_serializer"):
            client._serializer = _Serializer(client._serializer, call.entry)

    def put(self, batch: Sequence[Record], address: Mapping[str, str]) -> Any:
        """Put records in one request, and give the answer's results as they came, whatever they are.

        :param address: the arguments that say where to.
        :raises Exception: what the SDK raises; nothing of a record is in it.
        """
        try:
            stand_in = _StandIn(self._call.render(batch))
        except _UNREADABLE:
            # The SDK says what is wrong with such records.
            return self._put_plainly(batch, address)
        try:
            answer = self._put(Records=stand_in, **address)
        except Exception:
            if stand_in.is_joined:
                raise
            return self._put_plainly(batch, address)
        return self._results_of(answer)

    def _put_plainly(self, batch: Sequence[Record], address: Mapping[str, str]) -> Any:
        return self._results_of(self._put(Records=list(map(self._call.entry, batch)), **address))

    def _results_of(self, answer: Mapping[str, Any]) -> Any:
        if _RESULTS not in answer:
            return answer.get(self._call.results)
        # From here on the SDK need not read them as well: they have come through.
        self._reads_answers = True
        return answer[_RESULTS]

    def _read_answer(self, **event: Any) -> None:
        """Be the handler of an answer; whatever is not plainly a list of results is the SDK's to judge."""
        try:
            told, customized = event["response_dict"], event["customized_response_dict"]
            results = orjson.loads(told["body"])[self._call.results] if told["status_code"] == 200 else None
        except _UNREADABLE:
            return
        if type(results) is list and set(map(type, results)) == {dict}:
            customized[_RESULTS] = results
            if self._reads_answers:
                told["body"] = b"{}"


class _Serializer:
    """The client's own serializer, which is given one record in the place of many, once for each address."""

    def __init__(self, own: Any, entry: Callable[[Record], dict[str, Any]]) -> None:
        self._own, self._entry = own, entry
        self._frames: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def serialize_to_request(self, parameters: Mapping[str, Any], operation_model: Any) -> Any:
        """Make a request; of a stand-in, only if the SDK's own for one record looks as expected."""
        stand_in = parameters.get("Records")
        if not isinstance(stand_in, _StandIn):
            return self._own.serialize_to_request(parameters, operation_model)
        address = tuple((name, value) for name, value in parameters.items() if name != "Records")
        frame = self._frames.get(address) or self._make_frame(address, operation_model)
        # The SDK goes on to write into a request, and into the parts of it.
        request = {name: dict(part) if isinstance(part, dict) else part for name, part in frame.items()}
        request["body"] = b"".join((b'{"Records":[', *stand_in.entries, frame["body"]))
        stand_in.is_joined = True
        return request

    def _make_frame(self, address: tuple[tuple[str, Any], ...], operation_model: Any) -> dict[str, Any]:
        """Make a request whose body is but what comes after the records."""
        sample = self._entry(_SAMPLE)
        request = self._own.serialize_to_request({**dict(address), "Records": [sample]}, operation_model)
        document = orjson.loads(request["body"])
        if document != {**dict(address), "Records": [{**sample, "Data": _SAMPLE_ENCODED}]}:
            raise ValueError("the SDK's body is another")
        if set(request["headers"]) != _HEADERS:
            raise ValueError("the SDK's headers are others")
        del document["Records"]
        self._frames[address] = frame = {**request, "body": b"]," + orjson.dumps(document)[1:]}
        return frame


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


def _bare_entry(record: Record) -> dict[str, Any]:
    return {"Data": record.data}


def _render_bare(batch: Sequence[Record]) -> list[bytes]:
    pieces = [_BEGIN]
    for record in batch:
        pieces += (b2a_base64(record.data, newline=False), _BETWEEN)
    pieces[-1] = b'"}'
    return pieces


PUT_RECORDS = Call(
    method="put_records",
    results="Records",
    acknowledgement="SequenceNumber",
    shard="ShardId",
    entry=_keyed_entry,
    render=_render_keyed,
)
PUT_RECORD_BATCH = Call(
    method="put_record_batch",
    results="RequestResponses",
    acknowledgement="RecordId",
    shard="",
    entry=_bare_entry,
    render=_render_bare,
)
