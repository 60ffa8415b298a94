"""A consumer behind a URL: messages are posted to it, and its members are asked for.

Records are posted as Firehose does to an HTTP endpoint, so that an endpoint for Firehose can be checked as it is.
Format: https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from typing import Any

_MOST_RECORDS = 100
_ATTEMPTS = 3
_AUDIENCE = "{audience_id}"


class HttpConsumer:
    """Post messages to a consumer, and get its members.

    :param url: gets ``POST`` requests with up to 100 records, as Firehose sends them: an object with
        ``requestId``, ``timestamp`` and ``records``, each with ``data`` in base64. Its status is below 300 when it
        has applied them; otherwise it gets them again, three times in all.
    :param members_url: has ``{audience_id}`` in it, and answers ``GET`` with a JSON list of user ids; or with an
        object: by user id ``properties`` and ``identities``, or one of them. 404 is an audience without members.
    :param wait_seconds: pause between the last request and the first question, for a consumer that applies later.
    :param headers: of every request.
    :param timeout_seconds: limit of a request.
    :raises ValueError: if a URL is invalid.

    A call raises ``ConnectionError`` if the consumer cannot be reached.
    """

    def __init__(
        self,
        url: str,
        members_url: str,
        *,
        wait_seconds: float = 0,
        headers: dict[str, str] | None = None,
        timeout_seconds: float = 60,
    ) -> None:
        for given in (url, members_url):
            if urllib.parse.urlsplit(given).scheme not in ("http", "https"):
                raise ValueError(f"the URL is {given!r}; expected one that starts with http:// or https://")
        if _AUDIENCE not in members_url:
            raise ValueError(f"members_url is {members_url!r}; expected a URL with {_AUDIENCE} in it")
        self._url, self._members_url = url, members_url
        self._wait_seconds, self._timeout_seconds = wait_seconds, timeout_seconds
        self._headers = headers or {}

    def __call__(self, messages: Sequence[bytes]) -> _Audiences:
        """Post messages in their order; the members are asked for by audience, when they are looked up."""
        for start in range(0, len(messages), _MOST_RECORDS):
            self._post(messages[start : start + _MOST_RECORDS])
        time.sleep(self._wait_seconds)
        return _Audiences(self)

    def read_members(self, audience_id: str) -> Any:
        """Ask for the members of an audience.

        :raises KeyError: if the consumer does not know the audience.
        """
        url = self._members_url.replace(_AUDIENCE, urllib.parse.quote(audience_id, safe=""))
        try:
            return json.loads(self._send(urllib.request.Request(url)))  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise KeyError(audience_id) from None
            raise

    def _post(self, messages: Sequence[bytes]) -> None:
        request_id = str(uuid.uuid4())
        records = [{"data": base64.b64encode(message).decode()} for message in messages]
        body = {"requestId": request_id, "timestamp": int(time.time() * 1000), "records": records}
        headers = {
            "Content-Type": "application/json",
            "X-Amz-Firehose-Protocol-Version": "1.0",
            "X-Amz-Firehose-Request-Id": request_id,
        }
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._send(urllib.request.Request(self._url, json.dumps(body).encode(), headers))  # noqa: S310
                return
            except urllib.error.HTTPError:
                if attempt == _ATTEMPTS:
                    raise

    def _send(self, request: urllib.request.Request) -> bytes:
        for name, value in self._headers.items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_seconds) as answer:  # noqa: S310
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, TimeoutError) as error:
            raise ConnectionError(
                f"the consumer at {request.host} cannot be reached ({type(error).__name__}); start it, or "
                "correct the URL"
            ) from None


class _Audiences(dict[str, Any]):
    """Members by audience, asked for when they are looked up."""

    def __init__(self, consumer: HttpConsumer) -> None:
        super().__init__()
        self._consumer = consumer

    def __missing__(self, audience_id: str) -> Any:
        if not isinstance(audience_id, str):
            raise KeyError(audience_id)
        members = self._consumer.read_members(audience_id)
        self[audience_id] = members
        return members
