"""A consumer behind a URL is checked over HTTP, by the package and by the command."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from airflow_kinesis_audience.cli.commands import main
from airflow_kinesis_audience.conformance import HttpConsumer, check_consumer
from airflow_kinesis_audience.consumer import AudienceConsumer

MEMBERS = "/audiences/{audience_id}/members"


class Endpoint(ThreadingHTTPServer):
    """A consumer behind HTTP.

    :ivar refusals: how many of the next posts are refused, after their records were applied.
    :ivar lost: every record with this position in a post is dropped.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.consumer = AudienceConsumer()
        self.refusals, self.posts, self.lost = 0, 0, -1
        self.headers: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["X-Amz-Firehose-Request-Id"] == body["requestId"]
        assert len(body["records"]) <= 100
        for n, record in enumerate(body["records"]):
            if n != self.server.lost:
                self.server.consumer.apply(base64.b64decode(record["data"]))
        self.server.posts += 1
        self.server.headers.append(self.headers)
        refused = self.server.refusals > 0
        self.server.refusals -= refused
        self._answer(503 if refused else 200, {"requestId": body["requestId"], "timestamp": 0})

    def do_GET(self) -> None:
        audience_id = unquote(self.path.split("/")[2])
        consumer = self.server.consumer
        if audience_id not in consumer.audiences():
            self._answer(404, {})
            return
        values = {
            u: {"properties": dict(consumer.properties(audience_id, u))} for u in consumer.members(audience_id)
        }
        self._answer(200, values)

    def _answer(self, status: int, found: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_consumer_behind_a_url_passes_and_gets_refused_records_again(endpoint: Endpoint) -> None:
    endpoint.refusals = 2
    consumer = HttpConsumer(endpoint.url, endpoint.url + MEMBERS, headers={"X-Key": "k"})
    report = check_consumer(consumer, "amplitude_cohort", histories=20)
    assert report.passed, report
    assert endpoint.posts >= 20 + 2
    assert {headers["X-Key"] for headers in endpoint.headers} == {"k"}


def test_a_consumer_behind_a_url_that_loses_records_fails(endpoint: Endpoint) -> None:
    endpoint.lost = 1
    report = check_consumer(
        HttpConsumer(endpoint.url, endpoint.url + MEMBERS), "amplitude_cohort", histories=20, seed=1
    )
    assert report.failure is not None
    assert len(report.failure.messages) == 2


def test_a_consumer_that_refuses_three_times_fails(endpoint: Endpoint) -> None:
    endpoint.refusals = 10**6
    report = check_consumer(HttpConsumer(endpoint.url, endpoint.url + MEMBERS), "adobe_profile", histories=1)
    assert report.failure is not None
    assert report.failure.differences == ["the consumer raised HTTPError: HTTP Error 503: Service Unavailable"]


def test_a_url_that_cannot_be_reached_is_an_error_and_no_report() -> None:
    consumer = HttpConsumer("http://127.0.0.1:9", "http://127.0.0.1:9" + MEMBERS)
    with pytest.raises(ConnectionError, match=r"127.0.0.1:9 cannot be reached .*start it, or correct the URL"):
        check_consumer(consumer, "adobe_profile")


@pytest.mark.parametrize(
    ("url", "members_url", "says"),
    [
        ("ftp://x", "http://x/{audience_id}", "'ftp://x'; expected one that starts with http"),
        ("http://x", "file:///etc/{audience_id}", "expected one that starts with http"),
        ("http://x", "http://x/members", "expected a URL with {audience_id} in it"),
    ],
)
def test_a_url_that_is_none_is_an_error(url: str, members_url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        HttpConsumer(url, members_url)


# The command.


@pytest.mark.parametrize("message_format", ["amplitude_cohort", "mparticle_audience"])
def test_the_command_checks_a_url(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str], message_format: str
) -> None:
    arguments = ["--url", endpoint.url, "--members", endpoint.url + MEMBERS, "--histories", "10"]
    assert main(["conformance", message_format, *arguments]) == 0
    assert f"{message_format}: passed 10 histories" in capsys.readouterr().out


def test_the_command_fails_a_wrong_function_with_its_messages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "wrong_consumer.py").write_text("def consume(messages):\n    return {}\n")
    monkeypatch.syspath_prepend(tmp_path)
    given = ["conformance", "adobe_profile", "--consumer", "wrong_consumer:consume", "--seed", "7"]
    assert main(given) == 3
    printed = capsys.readouterr().out
    assert "adobe_profile: failed" in printed
    assert "seed 7" in printed
    assert "it must have one, because message 1 is an entry" in printed
    assert '  1. {"plan":' in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either --consumer, or --url and --members"),
        (["--url", "http://x"], "give either"),
        (["--consumer", "no.such:thing"], "cannot be imported"),
        (["--consumer", "json"], "cannot be imported"),
        (["--url", "http://127.0.0.1:9", "--members", "http://127.0.0.1:9/{audience_id}"], "cannot be reached"),
    ],
)
def test_a_wrong_argument_of_the_command_is_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["conformance", "amplitude_cohort", *arguments]) == 1
    assert says in capsys.readouterr().err
