"""Short cuts inside one client of the SDK: a put's body is joined here, and its response is read here.

All else stays the SDK's: endpoint, credentials, signature, checksums, proxies, TLS, time-outs and errors. What
goes out is made of the records alone, whatever the SDK is handed: a tracer that patches the SDK to write its
context into records (ddtrace does) is handed none of them, a body that was changed before it is signed is put
back, and one that was changed afterwards is not sent.
Relied on (botocore 1.44; ``tests/contract/test_wire.py`` fails where it changes): ``client._serializer``, whose
``serialize_to_request(parameters, operation_model)`` gives a dict with ``body`` and ``headers``, and the events
``before-sign``, ``before-send`` (both with ``request``) and ``before-parse`` (with ``response_dict`` and
``customized_response_dict``). Without the serializer a put is the plain one, and its body is compared.
"""

from __future__ import annotations

import inspect
import logging
import threading
from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from airflow_kinesis_audience.core.producer.records import Record

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.streams.calls import Call

_RESULTS = "ResultsReadFromTheWire"
"""Under which key of the SDK's response the results stand; no service has such a one."""
_HEADERS = {"X-Amz-Target", "Content-Type"}
"""What the SDK sets of a body before it is final; one more header might be made of the body that is replaced."""
_SAMPLE, _SAMPLE_ENCODED = Record(0, b"a", "key", 1, 1), "YQ=="
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)

log = logging.getLogger(__name__)


class BodyChanged(Exception):
    """What would have gone out was not made of the records alone; nothing was sent."""


class _Put:
    """One put of one thread: what it puts where, and the body that has to go out.

    :param pieces: of the body; none where the SDK is to make them, or to say what is wrong with the records.
    """

    __slots__ = ("address", "body", "pieces", "records")

    def __init__(self, records: Sequence[Record], address: Mapping[str, str], pieces: list[bytes] | None) -> None:
        self.records, self.address, self.pieces = records, address, pieces
        self.body: bytes | None = None


class PutRequest:
    """The short cuts of one client, for one call; safe to use from several threads.

    :param client: of the SDK; only this one is changed.
    """

    def __init__(self, client: Any, call: Call) -> None:
        self._call, self._put = call, getattr(client, call.method)
        self._threads = threading.local()
        self._reads_responses = False
        self._frames: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
        self._patch = find_patch(client)
        if self._patch:
            _say_once(self._patch)
        service = client.meta.service_model.service_id.hyphenize()
        self._operation = client.meta.method_to_api_mapping[call.method]
        events = client.meta.events
        events.register(f"before-parse.{service}.{self._operation}", self._read_response)
        events.register_last(f"before-sign.{service}.{self._operation}", self._put_back)
        events.register_last(f"before-send.{service}.{self._operation}", self._check)
        if hasattr(client, "_serializer"):
            client._serializer = _Serializer(client._serializer, self._serialize)

    def put(self, batch: Sequence[Record], address: Mapping[str, str]) -> Any:
        """Put records in one request, and give the response's results as they came, whatever they are.

        :param address: the arguments that say where to.
        :raises BodyChanged: if a patch of the SDK has changed the body after it was signed; nothing was sent.
        :raises Exception: what the SDK raises; nothing of a record is in it.
        """
        try:
            pieces = self._call.render(batch)
        except _UNREADABLE:
            pieces = None  # The SDK's error names what is wrong with such records.
        put = self._threads.put = _Put(batch, address, pieces)
        try:
            return self._results_of(self._put(**address, **self._call.stand_in()))
        except Exception:
            if put.body is not None:
                raise
            # A patch that cannot do without records, or an SDK that was handed none: nothing was made, or sent.
            return self._results_of(self._put(**self._parameters_of(put)))
        finally:
            self._threads.put = None

    def _parameters_of(self, put: _Put) -> dict[str, Any]:
        """Make what the SDK takes for a put."""
        return {**put.address, **self._call.parameters(list(map(self._call.entry, put.records)))}

    def _results_of(self, response: Mapping[str, Any]) -> Any:
        if not self._call.results:
            return [response]
        if _RESULTS not in response:
            return response.get(self._call.results)
        # From here on the SDK need not read them as well: they have come through.
        self._reads_responses = True
        return response[_RESULTS]

    def _read_response(self, **event: Any) -> None:
        """Be the handler of a response; whatever is not plainly a list of results is the SDK's to judge."""
        try:
            response, customized = event["response_dict"], event["customized_response_dict"]
            is_ok = response["status_code"] == 200
            results = orjson.loads(response["body"])[self._call.results] if is_ok else None
        except _UNREADABLE:
            return
        if type(results) is list and set(map(type, results)) == {dict}:
            customized[_RESULTS] = results
            if self._reads_responses:
                response["body"] = b"{}"

    def _put_back(self, request: Any, **_: Any) -> None:
        """Be the handler of a request that is about to be signed."""
        put = getattr(self._threads, "put", None)
        if put is None or put.body is None or request.data is put.body:
            return
        if request.data != put.body:
            _say_once(self._patch or "a handler of the SDK's events")
            del request.headers["Content-Length"]
        request.data = put.body

    def _check(self, request: Any, **_: Any) -> None:
        """Be the handler of a request that is about to be sent."""
        put = getattr(self._threads, "put", None)
        if put is None or request.body is put.body:
            return
        if put.body is None:
            is_own = _read_json(request.body) == _as_json(self._parameters_of(put))
        else:
            is_own = request.body == put.body
        if not is_own:
            raise BodyChanged(self._patch or "a handler of the SDK's events")

    def _serialize(self, own: Any, parameters: Mapping[str, Any], operation_model: Any) -> Any:
        """Make a request of the thread's records, whatever the parameters have become on the way."""
        put = getattr(self._threads, "put", None)
        if put is None or operation_model.name != self._operation:
            return own.serialize_to_request(parameters, operation_model)
        if put.pieces is None or (request := self._join(own, put, operation_model)) is None:
            request = own.serialize_to_request(self._parameters_of(put), operation_model)
        put.body = request["body"]
        return request

    def _join(self, own: Any, put: _Put, operation_model: Any) -> dict[str, Any] | None:
        """Join a request; none if the SDK's own for one record does not look as expected."""
        address = tuple(put.address.items())
        frame = self._frames.get(address)
        if frame is None:
            try:
                frame = self._frames[address] = self._make_frame(own, address, operation_model)
            except _UNREADABLE:
                return None
        # The SDK goes on to write into a request, and into the parts of it.
        request = {name: dict(part) if isinstance(part, dict) else part for name, part in frame.items()}
        request["body"] = b"".join((b'{"Records":[', *(put.pieces or ()), frame["body"]))
        return request

    def _make_frame(self, own: Any, address: tuple[tuple[str, str], ...], operation_model: Any) -> dict[str, Any]:
        """Make a request whose body is but what comes after the records, once for each address."""
        sample = self._call.entry(_SAMPLE)
        request = own.serialize_to_request({**dict(address), "Records": [sample]}, operation_model)
        document = orjson.loads(request["body"])
        if document != {**dict(address), "Records": [{**sample, "Data": _SAMPLE_ENCODED}]}:
            raise ValueError("the SDK's body is another")
        if set(request["headers"]) != _HEADERS:
            raise ValueError("the SDK's headers are others")
        del document["Records"]
        return {**request, "body": b"]," + orjson.dumps(document)[1:]}


class _Serializer:
    """The client's own serializer, before which one call's requests are made elsewhere."""

    def __init__(self, own: Any, serialize: Callable[[Any, Mapping[str, Any], Any], Any]) -> None:
        self._own, self._serialize = own, serialize

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def serialize_to_request(self, parameters: Mapping[str, Any], operation_model: Any) -> Any:
        """Make a request."""
        return self._serialize(self._own, parameters, operation_model)


def find_patch(client: Any) -> str:
    """Name the package that has patched the calls of the SDK, as tracers do; empty if none is seen."""
    call = inspect.getattr_static(type(client), "_make_api_call", None)
    wrapper = getattr(call, "_self_wrapper", call)  # of the package wrapt, by which most tracers patch
    home = getattr(wrapper, "__globals__", {}).get("__name__") or getattr(wrapper, "__module__", "")
    found = str(home or "").partition(".")[0]
    return "" if found == "botocore" else found


@lru_cache(maxsize=64)
def _say_once(patch: str) -> None:
    log.info(
        "The AWS SDK is patched in this process (%s), as tracers do to add their context to records. This package "
        "puts its own bytes, so the patch has no effect on the records",
        patch,
    )


def _as_json(value: Any) -> Any:
    """Give what is read again of a body that the SDK makes of parameters."""
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode()
    if isinstance(value, list):
        return [_as_json(part) for part in value]
    return {name: _as_json(part) for name, part in value.items()} if isinstance(value, dict) else value


def _read_json(body: Any) -> Any:
    try:
        return orjson.loads(body)
    except _UNREADABLE:
        return None
