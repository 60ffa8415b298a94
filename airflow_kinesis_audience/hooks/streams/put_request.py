"""Short cuts inside one client of the SDK: a put's body is made here, and most requests are sent from here.

The first request goes through the SDK's call; those after it are made like it (``signed_request.py``), as long as
no package has patched the SDK's calls. A patch, as a tracer is one, is to see each put, so that there all go
through the call. What goes out is made of the records alone, whatever the SDK is handed: a tracer that writes its
context into records (ddtrace does) is handed none of them, a body that was changed before it is signed is put
back, and one that was changed afterwards is not sent.
Relied on (botocore 1.43; ``tests/contract/test_wire.py`` fails where it changes): ``client._serializer``, whose
``serialize_to_request(parameters, operation_model)`` gives a dict with ``body`` and ``headers``, and the events
``before-sign`` and ``before-send`` (both with ``request``). Without the serializer a put is the plain one, and its
body is compared.
"""

from __future__ import annotations

import logging
import threading
from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from airflow_kinesis_audience.core.producer.records import Record
from airflow_kinesis_audience.hooks.streams.patches import find_patch
from airflow_kinesis_audience.hooks.streams.signed_request import RequestTemplate, SignedRequests

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.streams.calls import Call

_HEADERS = {"X-Amz-Target", "Content-Type"}
"""What the SDK sets of a body before it is final; one more header might be made of the body that is replaced."""
_SAMPLE = Record(0, b"a", "key", 1, 1)
_UNMET = (AttributeError, KeyError, TypeError)
"""What a version of the SDK raises that has not what is relied on."""
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)

log = logging.getLogger(__name__)


class BodyChanged(Exception):
    """What would have gone out was not made of the records alone; nothing was sent."""


class _Put:
    """One put of one thread.

    :param rendered: the body made here; none where the SDK is to make it, or to say what is wrong.
    :ivar body: the body that has to go out, once the SDK has got so far.
    :ivar template: of the request that went out.
    """

    __slots__ = ("body", "records", "rendered", "template")

    def __init__(self, records: Sequence[Record], rendered: bytes | None) -> None:
        self.records, self.rendered = records, rendered
        self.body: bytes | None = None
        self.template: RequestTemplate | None = None


class PutRequest:
    """The short cuts of one client, for one call; safe to use from several threads.

    :param client: of the SDK; only this one is changed.
    :param address: the arguments that say where to.
    """

    def __init__(self, client: Any, call: Call, address: Mapping[str, str]) -> None:
        self._client, self._call, self._address = client, call, address
        self._threads = threading.local()
        self._own: SignedRequests | None = None
        self._may_send = True
        self._patch = find_patch(client, "_make_api_call")
        if self._patch:
            _say_once(self._patch)
        service = client.meta.service_model.service_id.hyphenize()
        self._operation = client.meta.method_to_api_mapping[call.method]
        events = client.meta.events
        events.register_last(f"before-sign.{service}.{self._operation}", self._put_back)
        events.register_last(f"before-send.{service}.{self._operation}", self._check)
        if hasattr(client, "_serializer"):
            client._serializer = _Serializer(client._serializer, self._serialize)

    def put(self, batch: Sequence[Record]) -> Any:
        """Put records in one request, and give the response's results as they came, whatever they are.

        :raises BodyChanged: if a patch of the SDK has changed the body after it was signed; nothing was sent.
        :raises Exception: what the SDK raises; nothing of a record is in it.
        """
        try:
            rendered = self._call.render(batch, self._address)
        except _UNREADABLE:
            rendered = None  # The SDK's error names what is wrong with such records.
        put = self._threads.put = _Put(batch, rendered)
        try:
            own = self._own
            if own and rendered is not None and (request := self._sign(own, rendered)) is not None:
                put.body = rendered
                return self._send(own, request)
            results = self._results_of(self._call_sdk(put))
            if self._own is None and put.template is not None:
                self._begin_to_send(put.template)
            return results
        finally:
            self._threads.put = None

    def _begin_to_send(self, template: RequestTemplate) -> None:
        try:
            self._own = SignedRequests(self._client, self._operation, template)
        except _UNMET:
            self._may_send = False

    def _sign(self, own: SignedRequests, body: bytes) -> Any:
        """Make a request that is sent from here; none if it is to go through the SDK's call."""
        if find_patch(self._client, "_make_api_call"):
            return None
        try:
            return own.sign(body)
        except _UNMET:
            self._own, self._may_send = None, False
            return None

    def _send(self, own: SignedRequests, request: Any) -> Any:
        response = own.send(request)
        if response.status_code == 200 and (results := self._read_results(response.content)):
            return results
        # Whatever is not plainly a list of results is the SDK's to judge.
        return self._results_of(own.parse(response))

    def _read_results(self, body: bytes) -> list[dict[str, Any]] | None:
        name = self._call.results
        try:
            results = orjson.loads(body)[name] if name else [orjson.loads(body)]
        except _UNREADABLE:
            return None
        return results if type(results) is list and set(map(type, results)) == {dict} else None

    def _call_sdk(self, put: _Put) -> Mapping[str, Any]:
        method = getattr(self._client, self._call.method)
        try:
            found: Mapping[str, Any] = method(**self._address, **self._call.stand_in())
        except Exception:
            if put.body is not None:
                raise
            # A patch that cannot do without records, or an SDK that was handed none: nothing was made, or sent.
            found = method(**self._parameters_of(put))
        return found

    def _parameters_of(self, put: _Put) -> dict[str, Any]:
        """Make what the SDK takes for a put."""
        return {**self._address, **self._call.parameters(list(map(self._call.entry, put.records)))}

    def _results_of(self, response: Mapping[str, Any]) -> Any:
        return response.get(self._call.results) if self._call.results else [response]

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
        if put is None:
            return
        if put.body is None:
            is_own = _read_json(request.body) == _as_json(self._parameters_of(put))
        else:
            is_own = request.body is put.body or request.body == put.body
        if not is_own:
            raise BodyChanged(self._patch or "a handler of the SDK's events")
        if self._may_send and self._own is None and put.body is put.rendered:
            put.template = RequestTemplate.of(request)

    def _serialize(self, own: Any, parameters: Mapping[str, Any], operation_model: Any) -> Any:
        """Make a request of the thread's records, whatever the parameters have become on the way."""
        put = getattr(self._threads, "put", None)
        if put is None or operation_model.name != self._operation:
            return own.serialize_to_request(parameters, operation_model)
        request = self._serialize_rendered(own, put, operation_model)
        if request is None:
            request = own.serialize_to_request(self._parameters_of(put), operation_model)
        put.body = request["body"]
        return request

    def _serialize_rendered(self, own: Any, put: _Put, operation_model: Any) -> Any:
        """Make a request with the body made here; none if the SDK's own for one record is another."""
        if put.rendered is None:
            return None
        sample = {**self._address, **self._call.parameters([self._call.entry(_SAMPLE)])}
        try:
            request = own.serialize_to_request(sample, operation_model)
            rendered = self._call.render([_SAMPLE], self._address)
            if orjson.loads(request["body"]) != orjson.loads(rendered) or set(request["headers"]) != _HEADERS:
                return None
        except _UNREADABLE:
            return None
        return {**request, "body": put.rendered}


class _Serializer:
    """The client's own serializer, before which one call's requests are made elsewhere."""

    def __init__(self, own: Any, serialize: Callable[[Any, Mapping[str, Any], Any], Any]) -> None:
        self._own, self._serialize = own, serialize

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def serialize_to_request(self, parameters: Mapping[str, Any], operation_model: Any) -> Any:
        """Make a request."""
        return self._serialize(self._own, parameters, operation_model)


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
