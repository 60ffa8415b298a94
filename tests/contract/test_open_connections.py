"""A response that is read on an open connection is the one that the SDK's session would have read; or an error.

The server here answers with bytes that a test has written, in the pieces that it says, and counts connections.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

from airflow_kinesis_audience.hooks.streams.open_connections import OpenConnections

BODY = b'{"Records": []}'
USUAL = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 15\r\n\r\n" + BODY
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"Rec\r\na\r\nords": []}\r\n0\r\n\r\n'
ANSWERS: dict[str, Sequence[bytes]] = {
    "usual": [USUAL],
    "a piece of the body comes later": [USUAL[:-4], USUAL[-4:]],
    "a piece of the head comes later": [USUAL[:20], USUAL[20:]],
    "in chunks": [CHUNKED],
    "in chunks, in two pieces": [CHUNKED[:-12], CHUNKED[-12:]],
    "after 100 Continue": [b"HTTP/1.1 100 Continue\r\n\r\n" + USUAL],
    "of HTTP/1.0": [USUAL.replace(b"HTTP/1.1", b"HTTP/1.0")],
    "to be closed": [USUAL.replace(b"Date: today", b"Connection: close")],
    "a header twice": [USUAL.replace(b"Date: today", b"X: 1\r\nX: 2")],
    "the length twice": [USUAL.replace(b"Date: today", b"Content-Length: 15")],
    "a header in two lines": [USUAL.replace(b"Date: today", b"Date: to\r\n day")],
    "without a body": [b"HTTP/1.1 204 No Content\r\nDate: today\r\nContent-Length: 15\r\n\r\n"],
    "an error": [USUAL.replace(b"200 OK", b"503 Unavailable")],
    "more than its length": [USUAL + b"HTTP/1.1 200 OK\r\n\r\n"],
}
CLOSED = {"of HTTP/1.0", "to be closed", "more than its length"}


class Server:
    """Answers each request of each connection with the pieces that are set; with none it closes."""

    def __init__(self) -> None:
        self.pieces: Sequence[bytes] = [USUAL]
        self.silent = False
        self.requests: list[bytes] = []
        self.connections = 0
        self._may_go_on = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while request := connection.recv(100_000):
                while not request.endswith(b"body"):
                    request += connection.recv(100_000)
                self.requests.append(request)
                if self.silent:
                    self._may_go_on.wait(30)
                if not self.pieces:
                    return
                for number, piece in enumerate(self.pieces):
                    if number:
                        threading.Event().wait(0.05)  # so that it is not read together with the one before
                    connection.sendall(piece)

    def close(self) -> None:
        self._may_go_on.set()
        self._server.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def session() -> URLLib3Session:
    return URLLib3Session(timeout=(5, 0.5))


def request_to(server: Server, **more: Any) -> AWSPreparedRequest:
    headers = {"Content-Type": "application/x-amz-json-1.1", "Content-Length": "4", "User-Agent": "me", **more}
    return AWSPreparedRequest("POST", server.url, HeadersDict(headers), b"body", False)


def open_one(session: URLLib3Session, server: Server) -> OpenConnections:
    """Let the session open a connection, and forget its request."""
    session.send(request_to(server))
    server.requests.clear()
    return OpenConnections(session, server.url)


def said(response: AWSResponse) -> tuple[int, dict[str, str], bytes]:
    return response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content


@pytest.mark.parametrize("name", ANSWERS)
def test_a_response_is_the_one_that_the_session_reads(name: str, server: Server, session: URLLib3Session) -> None:
    connections = open_one(session, server)
    server.pieces = ANSWERS[name]
    ours = said(connections.send(request_to(server)))
    assert server.connections == 1
    other = URLLib3Session(timeout=(5, 0.5))
    status, headers, body = said(other.send(request_to(server)))
    assert (ours[0], ours[2]) == (status, body)
    assert ours[1].keys() == headers.keys()
    assert ours[1].get("date", "").split() == headers.get("date", "").split()
    assert server.requests[0] == server.requests[1]
    server.pieces, before = [USUAL], server.connections
    assert said(connections.send(request_to(server)))[2] == BODY
    assert server.connections - before == (name in CLOSED)


@pytest.mark.parametrize(
    "pieces",
    [[], [USUAL[:-3]], [USUAL[:30]], [b"nonsense"], [CHUNKED[:-12]]],
    ids=["none", "a part", "a part of the head", "nonsense", "a part of the chunks"],
)
def test_a_response_that_ends_early_is_an_error_and_its_connection_is_not_used_again(
    pieces: list[bytes], server: Server, session: URLLib3Session
) -> None:
    connections = open_one(session, server)
    server.pieces = pieces
    with pytest.raises(HTTPClientError):
        # what is missing never comes: either the end of the stream, or of the patience
        connections.send(request_to(server))
    assert len(server.requests) == 1
    server.pieces = [USUAL]
    assert said(connections.send(request_to(server)))[2] == BODY
    assert server.connections == 2


def test_a_response_that_does_not_come_ends_after_the_time_out_of_the_session(
    server: Server, session: URLLib3Session
) -> None:
    connections = open_one(session, server)
    server.silent = True
    with pytest.raises(ReadTimeoutError):
        connections.send(request_to(server))
    assert len(server.requests) == 1


def test_a_connection_that_the_server_has_closed_meanwhile_is_opened_again(
    server: Server, session: URLLib3Session
) -> None:
    connections = open_one(session, server)
    server.pieces = []
    with pytest.raises(ConnectionClosedError):
        connections.send(request_to(server))
    server.pieces = [USUAL]
    assert said(connections.send(request_to(server)))[0] == 200
    assert said(connections.send(request_to(server)))[0] == 200
    assert server.connections == 2


def wrapped(own: Callable[..., Any], seen: list[str]) -> Callable[..., Any]:
    def send(*arguments: Any, **keywords: Any) -> Any:
        seen.append("sent")
        return own(*arguments, **keywords)

    return send


@pytest.mark.parametrize("what", ["send", "urlopen"])
def test_a_patch_of_what_sends_sees_each_request(
    what: str, server: Server, session: URLLib3Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = open_one(session, server)
    seen: list[str] = []
    owner = URLLib3Session if what == "send" else type(connections._pool)
    monkeypatch.setattr(owner, what, wrapped(getattr(owner, what), seen))
    assert said(connections.send(request_to(server)))[2] == BODY
    assert seen == ["sent"]


def test_a_header_with_the_end_of_a_line_in_it_is_not_sent(server: Server, session: URLLib3Session) -> None:
    connections = open_one(session, server)
    with pytest.raises(HTTPClientError, match="Invalid header value"):
        connections.send(request_to(server, **{"X-Amz-Security-Token": "a\r\nX-More: b"}))
    assert server.requests == []


def test_a_proxy_is_left_to_the_session(server: Server) -> None:
    session = URLLib3Session(proxies={"http": server.url})
    connections = OpenConnections(session, "http://kinesis.invalid/")
    request = request_to(server)
    request.url = "http://kinesis.invalid/"
    for _ in range(2):
        assert said(connections.send(request))[2] == BODY
    assert {r.split(b"\r\n")[0] for r in server.requests} == {b"POST http://kinesis.invalid/ HTTP/1.1"}
