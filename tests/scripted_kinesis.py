"""A Kinesis and a Firehose endpoint on this machine that fail as they are told to.

It speaks the JSON protocol of putting records and describing a stream, of either service, over real HTTP and asks
a script, per request and per record, what to do. What it takes it keeps in order. Emulators never take one part of
a request and refuse another, and this is the one thing that a delivery must be tested against.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Whole(Enum):
    """What becomes of one whole request; without one, records are decided one by one."""

    SERVER_ERROR = "HTTP 500, nothing taken"
    UNAVAILABLE = "HTTP 503 with a page that is no JSON, nothing taken"
    THROTTLED = "HTTP 400, throttled, nothing taken"
    DENIED = "HTTP 400, access denied"
    MISSING = "HTTP 400, no such stream"
    RESET = "the connection is reset, nothing taken"
    TAKEN_AND_RESET = "everything taken, then the connection is reset"
    TAKEN_AND_SILENT = "everything taken, and no answer comes"
    TAKEN_AND_GARBLED = "everything taken, and the answer cannot be read"
    TAKEN_AND_SHORT = "everything taken, and the answer is one record short"


@dataclass(frozen=True)
class Raw:
    """Exactly this answer, with nothing taken."""

    status: int
    body: bytes


TAKE = ""
THROTTLE = "ProvisionedThroughputExceededException"
"""Of a data stream; a delivery stream says the same as :data:`UNAVAILABLE`."""
UNAVAILABLE = "ServiceUnavailableException"
FAIL = "InternalFailure"


@dataclass(frozen=True)
class Arrived:
    """One record as it came in one request; one of Firehose has no keys."""

    request: int
    partition_key: str
    data: bytes
    hash_key: int


def error(code: str, message: str = "as the script says", *, status: int = 400) -> Raw:
    """Make the answer to a request that fails whole."""
    return Raw(status, json.dumps({"__type": code, "message": message}).encode())


_ANSWERS = {
    Whole.SERVER_ERROR: error(FAIL, status=500),
    Whole.UNAVAILABLE: Raw(503, b"<html>busy</html>"),
    Whole.THROTTLED: error(THROTTLE),
    Whole.DENIED: error(
        "AccessDeniedException", "User: arn:aws:iam::1:user/x is not authorized to perform: kinesis:PutRecords"
    ),
    Whole.MISSING: error("ResourceNotFoundException"),
    Whole.TAKEN_AND_GARBLED: Raw(200, b'{"Records": [{"Sequ'),
}

_UNAVAILABLE = error(UNAVAILABLE, status=503)

Decision = Whole | Raw | str | Sequence[str]
Script = Callable[[int, Sequence[Arrived]], Decision]
"""From a request's number and records to what becomes of them: an error code, one per record, or an answer."""


def take_everything(_request: int, _records: Sequence[Arrived]) -> Decision:
    """Be a Kinesis without faults."""
    return TAKE


@dataclass
class ScriptedKinesis:
    """A context manager; serves while it is open.

    :param script: decides; may be replaced while it serves.
    :param describe: the description of the stream, or what becomes of the request for it.
    :param policy: the stream's own, as JSON; without one the login may not ask for it.
    :param denied: operations that the login may not call.
    :param listed: the summaries of the account's streams.
    :param silence_seconds: how long a request without an answer is kept waiting at most.
    """

    script: Script = take_everything
    describe: dict[str, Any] | Whole | Raw = field(default_factory=dict)
    policy: str = ""
    denied: frozenset[str] = frozenset({"ListStreams"})
    listed: Sequence[dict[str, Any]] = ()
    silence_seconds: float = 5.0
    taken: list[Arrived] = field(default_factory=list)
    requests: list[list[Arrived]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.kinesis = self
        serve = {"poll_interval": 0.02}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def decide(self, entries: Sequence[dict[str, str]]) -> Whole | Raw | list[dict[str, str]]:
        """Number a request, keep what the script takes of it, and give the answer's records."""
        with self._lock:
            request = len(self.requests)
            records = [
                Arrived(
                    request,
                    entry.get("PartitionKey", ""),
                    base64.b64decode(entry["Data"]),
                    int(entry.get("ExplicitHashKey", -1)),
                )
                for entry in entries
            ]
            self.requests.append(records)
            decision = self.script(request, records)
            if isinstance(decision, Raw):
                return decision
            if isinstance(decision, Whole):
                if decision.name.startswith("TAKEN"):
                    self.taken.extend(records)
                return decision
            codes = [decision] * len(records) if isinstance(decision, str) else decision
            self.taken.extend(r for r, code in zip(records, codes, strict=True) if code == TAKE)
            return [self.result(number, code) for number, code in enumerate(codes)]

    def result(self, number: int, code: str) -> dict[str, str]:
        """Make one record's part of an answer."""
        if code == TAKE:
            return {"SequenceNumber": f"{len(self.requests)}{number:04}", "ShardId": "shardId-000000000000"}
        if code == THROTTLE:
            where = "shard shardId-000000000001 in stream s under account 123456789012"
            return {"ErrorCode": code, "ErrorMessage": f"Rate exceeded for {where}."}
        return {"ErrorCode": code, "ErrorMessage": "as the script says"}


def _of_firehose(result: dict[str, str]) -> dict[str, str]:
    if "SequenceNumber" in result:
        return {"RecordId": result["SequenceNumber"]}
    code = UNAVAILABLE if result["ErrorCode"] == THROTTLE else result["ErrorCode"]
    return {"ErrorCode": code, "ErrorMessage": "as the script says"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    kinesis: ScriptedKinesis

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that give up are part of the script."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Two small writes would otherwise wait for each other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
        if not operation:
            self._answer(error("InvalidAction", "this is neither STS nor IAM"))
            return
        kinesis = self.server.kinesis
        kinesis.operations.append(operation)
        firehose = service.startswith("Firehose")
        if operation in kinesis.denied:
            self._answer(Whole.DENIED)
            return
        if operation == "ListStreams":
            names = [summary["StreamName"] for summary in kinesis.listed]
            self._answer({"StreamNames": names, "HasMoreStreams": False, "StreamSummaries": list(kinesis.listed)})
            return
        if operation.startswith("Describe"):
            told = kinesis.describe
            key = "DeliveryStreamDescription" if firehose else "StreamDescriptionSummary"
            self._answer(told if isinstance(told, Whole | Raw) else {key: told})
            return
        if operation == "GetResourcePolicy":
            self._answer({"Policy": kinesis.policy} if kinesis.policy else Whole.DENIED)
            return
        given = json.loads(body)
        if operation == "PutRecord":
            self._answer_one(firehose, kinesis.decide([given["Record"] if firehose else given]))
            return
        entries = given["Records"]
        results = kinesis.decide(entries)
        if results is Whole.TAKEN_AND_SHORT:
            results = [kinesis.result(number, TAKE) for number in range(len(entries) - 1)]
        if isinstance(results, Whole | Raw):
            self._answer(_UNAVAILABLE if firehose and results is Whole.THROTTLED else results)
        else:
            failed = sum("ErrorCode" in result for result in results)
            of_firehose = {"FailedPutCount": failed, "RequestResponses": list(map(_of_firehose, results))}
            self._answer(of_firehose if firehose else {"FailedRecordCount": failed, "Records": results})

    def _answer_one(self, firehose: bool, results: Whole | Raw | list[dict[str, str]]) -> None:
        """Answer a request for one record: what fails of it fails the request."""
        if isinstance(results, Whole | Raw):
            self._answer(_UNAVAILABLE if firehose and results is Whole.THROTTLED else results)
            return
        [result] = map(_of_firehose, results) if firehose else results
        if code := result.get("ErrorCode"):
            status = {FAIL: 500, UNAVAILABLE: 503}.get(code, 400)
            self._answer(error(code, result["ErrorMessage"], status=status))
        else:
            self._answer(result)

    def _answer(self, answer: dict[str, Any] | Whole | Raw) -> None:
        match answer:
            case Whole.RESET | Whole.TAKEN_AND_RESET:
                # With this option a close is a reset, not an orderly end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
            case Whole.TAKEN_AND_SILENT:
                self.server.kinesis.closing.wait(self.server.kinesis.silence_seconds)
                self.close_connection = True
            case Whole():
                self._send(_ANSWERS[answer])
            case Raw():
                self._send(answer)
            case dict():
                self._send(Raw(200, json.dumps(answer).encode()))

    def _send(self, answer: Raw) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


class Busy:
    """A script that takes a third of the first request, and then nothing for some seconds."""

    def __init__(self, busy_seconds: float) -> None:
        self._busy_seconds = busy_seconds
        self._free_at: float | None = None

    def __call__(self, _request: int, records: Sequence[Arrived]) -> list[str]:
        if self._free_at is None:
            self._free_at = time.monotonic() + self._busy_seconds
            return [TAKE if number % 3 == 0 else THROTTLE for number in range(len(records))]
        return [TAKE if time.monotonic() > self._free_at else THROTTLE] * len(records)
