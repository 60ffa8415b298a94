"""One request and its response on a connection that the SDK's session has opened, without the session's machinery.

The session opens every connection, for which it resolves names, verifies certificates and sets time-outs. A
connection is only written to and read here, for which the session takes several times as long. Through a proxy, if
no connection is open, or if a package has patched the session, the session sends. Nothing is sent twice here: a
failure is an error, after which the connection is closed.
Relied on (botocore 1.43, urllib3 2; ``tests/contract/test_wire.py`` fails where it changes): the session's
``_proxy_config.proxy_url_for`` and ``_manager.connection_from_url``, whose pool has ``_get_conn`` and
``_put_conn``, and a connection's ``sock``.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as sdk
from botocore.awsrequest import AWSResponse

from airflow_kinesis_audience.hooks.streams.patches import find_patch

_READ_BYTES = 65_536
_JOINED_BYTES = 262_144
"""A body up to this size is copied behind the head, which takes less time than another write."""
_END_OF_HEAD = b"\r\n\r\n"
_NO_BODY = ("204", "304")


class OpenConnections:
    """The open connections of a session to one address; safe to use from several threads.

    :param session: of the SDK's client.
    :param url: of all requests.
    :raises Exception: AttributeError or TypeError, if this version of the SDK has not what is relied on.
    """

    def __init__(self, session: Any, url: str) -> None:
        self._session = session
        is_proxied = session._proxy_config.proxy_url_for(url) is not None
        self._pool = pool = None if is_proxied else session._manager.connection_from_url(url)
        if pool is not None:
            self._take, self._give_back = pool._get_conn, pool._put_conn
        where = urlsplit(url)
        host = f"[{where.hostname}]" if ":" in (where.hostname or "") else where.hostname
        if where.port not in (None, {"http": 80, "https": 443}.get(where.scheme)):
            host = f"{host}:{where.port}"
        target = f"{where.path or '/'}{'?' if where.query else ''}{where.query}"
        # As the session's connections begin a request.
        self._start = f"POST {target} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\n".encode("ascii")

    def send(self, request: Any) -> Any:
        """Send a prepared request, and give the response, in the SDK's classes.

        :raises botocore.exceptions.BotoCoreError: if there is no response.
        """
        head = self._render_head(request.headers)
        pool = self._pool
        if head is None or pool is None or find_patch(self._session, "send") or find_patch(pool, "urlopen"):
            return self._session.send(request)
        connection = self._take()
        is_kept = False
        try:
            # Another class is what a package has put in the place of a connection.
            if isinstance(connection.sock, socket.socket):
                response, is_kept = _exchange(connection.sock, head, request)
                return response
        except TimeoutError as error:
            raise sdk.ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except ssl.SSLError as error:
            raise sdk.SSLError(endpoint_url=request.url, error=error) from error
        except (OSError, HTTPException) as error:
            raise sdk.ConnectionClosedError(endpoint_url=request.url, error=error) from error
        finally:
            if not is_kept:
                connection.close()
            self._give_back(connection)
        return self._session.send(request)

    def _render_head(self, headers: Mapping[str, Any]) -> bytes | None:
        """Make a request's first lines; none if the session is to say what is wrong with them."""
        lines = [
            b"%b: %b\r\n" % (name.encode("ascii"), value if isinstance(value, bytes) else value.encode("latin-1"))
            for name, value in headers.items()
        ]
        head = b"".join((self._start, *lines, b"\r\n"))
        ends = self._start.count(b"\n") + len(lines) + 1
        return head if head.count(b"\n") == head.count(b"\r") == ends else None


def _exchange(connection: socket.socket, head: bytes, request: Any) -> tuple[Any, bool]:
    """Send a request and read its response; also says whether the connection can be used again."""
    # A server may refuse before it has read all, and then close: its response can be read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if len(request.body) <= _JOINED_BYTES:
            connection.sendall(head + request.body)
        else:
            connection.sendall(head)
            connection.sendall(request.body)
    begun = connection.recv(_READ_BYTES)
    headers: Any
    if (found := _read_plain_head(begun)) is not None:
        status, headers, size = found
        begun = begun[begun.find(_END_OF_HEAD) + len(_END_OF_HEAD) :]
        body = _read_body(connection, begun, size)
        # TLS may have decrypted more than was asked for, of which a look at the socket shows nothing.
        is_kept = len(begun) <= size and not getattr(connection, "pending", int)()
    else:
        response = HTTPResponse(_Received(begun, connection), method="POST")  # type: ignore[arg-type]
        response.begin()
        status, headers, is_kept = response.status, response.headers, not response.will_close
        body = response.read()
    return AWSResponse(request.url, status, headers, _Read(body)), is_kept


def _read_plain_head(begun: bytes) -> tuple[int, dict[str, str], int] | None:
    """Read the usual head: status, headers and the body's size; none if it is another, or not there yet."""
    first, *lines = begun.partition(_END_OF_HEAD)[0].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name[0] in " \t":
            return None
        headers[name.lower()] = value.strip()
    size, kept = headers.get("content-length", ""), headers.get("connection", "keep-alive").lower()
    is_usual = version == "HTTP/1.1" and rest[:1] in ("2", "4", "5") and rest[:3] not in _NO_BODY
    if _END_OF_HEAD not in begun or not is_usual or not size.isdecimal() or kept != "keep-alive":
        return None
    if len(headers) != len(lines) or "transfer-encoding" in headers or not rest[:3].isdecimal():
        return None
    return int(rest[:3]), headers, int(size)


def _read_body(connection: socket.socket, begun: bytes, size: int) -> bytes:
    if len(begun) >= size:
        return begun[:size]
    parts, missing = [begun], size - len(begun)
    while missing:
        part = connection.recv(min(missing, _READ_BYTES))
        if not part:
            raise ConnectionError(f"the response ended {missing} bytes early")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


class _Read:
    """A body as the SDK's response asks for it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> list[bytes]:
        """Give its parts."""
        return [self._body]


class _Received(io.RawIOBase):
    """What a connection receives, of which a part was read before."""

    def __init__(self, begun: bytes, connection: socket.socket) -> None:
        self._begun, self._connection = begun, connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Give it as ``http.client`` asks for it."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, memory: Any) -> int:
        if not self._begun:
            return self._connection.recv_into(memory)
        part = self._begun[: len(memory)]
        self._begun = self._begun[len(part) :]
        memory[: len(part)] = part
        return len(part)
