"""Puts that are signed and sent without the machinery of the SDK's calls, made like one that went through it.

Endpoint, headers, region and service are those of that one request; credentials and their renewal, the signature,
proxies, TLS, time-outs, the parser of responses and the errors are the SDK's own; ``open_connections.py`` sends. A
request that has anything which might depend on its body, or which is not known here, gives no template.
Relied on (botocore 1.43; ``tests/contract/test_wire.py`` fails where it changes): ``client._request_signer``,
whose ``get_auth_instance`` gives a ``SigV4Auth`` with the present credentials, ``client._endpoint.http_session``,
``convert_to_response_dict``, and what ``client._make_api_call`` makes of a parsed response.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore import awsrequest, endpoint, parsers

from airflow_kinesis_audience.hooks.streams.open_connections import OpenConnections

_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<signed>[^,]+), Signature=[0-9a-f]+"
)
_KEPT_SIGNED, _KEPT = {"content-type", "x-amz-target"}, {"amz-sdk-request", "user-agent"}
_MADE_BY_SIGNING = {"authorization", "x-amz-date", "x-amz-security-token"}
_MADE_OF_BODY, _MADE_ONCE = "content-length", "amz-sdk-invocation-id"
_KNOWN = {*_KEPT_SIGNED, *_KEPT, *_MADE_BY_SIGNING, _MADE_OF_BODY, _MADE_ONCE}


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestTemplate:
    """What all requests of one call to one address share.

    :param region: for which it is signed, and ``service`` likewise.
    :param signed: headers that the signature covers; ``unsigned`` are added to it afterwards.
    """

    url: str
    region: str
    service: str
    signed: Mapping[str, str]
    unsigned: Mapping[str, str]

    @classmethod
    def of(cls, request: Any) -> RequestTemplate | None:
        """Make it of a request that the SDK has signed and is about to send; none of one that is not known."""
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        found = _SIGNATURE.fullmatch(headers.get("authorization", ""))
        if request.method != "POST" or found is None or not headers.keys() <= _KNOWN:
            return None
        if set(found["signed"].split(";")) - _MADE_BY_SIGNING != {*_KEPT_SIGNED, "host"}:
            return None
        signed, unsigned = ({n: headers[n] for n in names if n in headers} for names in (_KEPT_SIGNED, _KEPT))
        return cls(
            url=request.url, region=found["region"], service=found["service"], signed=signed, unsigned=unsigned
        )


class SignedRequests:
    """Signs and sends requests of one operation, by parts of one client; safe to use from several threads.

    :param client: of the SDK.
    :param template: of a request of this operation that AWS has accepted.
    :raises Exception: AttributeError or TypeError, if this version of the SDK has not what is relied on.
    """

    def __init__(self, client: Any, operation: str, template: RequestTemplate) -> None:
        service_model = client.meta.service_model
        self._template, self._operation, self._exceptions = template, operation, client.exceptions
        self._new_auth = client._request_signer.get_auth_instance
        self._send = OpenConnections(client._endpoint.http_session, template.url).send
        self._events = client.meta.events
        self._event = f"before-send.{service_model.service_id.hyphenize()}.{operation}"
        self._model = service_model.operation_model(operation)
        self._new_request, self._describe = awsrequest.AWSRequest, endpoint.convert_to_response_dict
        self._parser = parsers.create_parser(service_model.resolved_protocol)

    def sign(self, body: bytes) -> Any:
        """Make a request with a body; its signature is of the client's present credentials.

        :raises Exception: what the SDK raises where it has no credentials.
        """
        template = self._template
        request = self._new_request("POST", template.url, headers=template.signed, data=body)
        self._new_auth(template.service, template.region, "v4").add_auth(request)
        for name, value in template.unsigned.items():
            request.headers[name] = value
        request.headers[_MADE_ONCE] = str(uuid.uuid4())
        return request.prepare()

    def send(self, request: Any) -> Any:
        """Send a signed request.

        Handlers of the event ``before-send`` see it, and may give a response in its place, as do those that
        simulate AWS in a test.

        :raises Exception: what the SDK raises if there is no response.
        """
        given = (response for _, response in self._events.emit(self._event, request=request))
        own = next((response for response in given if response is not None), None)
        return self._send(request) if own is None else own

    def parse(self, response: Any) -> Mapping[str, Any]:
        """Read a response as the client does.

        :raises botocore.exceptions.ClientError: if it is an error.
        """
        parsed: Mapping[str, Any] = self._parser.parse(
            self._describe(response, self._model), self._model.output_shape
        )
        if response.status_code >= 300:
            raise self._exceptions.from_code(parsed.get("Error", {}).get("Code"))(parsed, self._operation)
        return parsed
