"""STS and IAM on this machine, as far as a preflight asks them, that answer as they are told.

No emulator simulates policies with every decision that IAM can come to, and none says that it may not be asked.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

USER = "arn:aws:iam::123456789012:user/loader"


@dataclass
class ScriptedIam:
    """A context manager; serves while it is open.

    :param caller: ARN of who is asking.
    :param decision: of the simulation; or an error's code, after ``!``.
    :param decisions: of single actions, where they differ.
    :param missing: names of conditions that the simulation had no value for.
    :param role: ARN of the role that is asked for; none if the caller may not ask.
    """

    caller: str = USER
    decision: str = "allowed"
    decisions: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    role: str | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.iam = self
        serve = {"poll_interval": 0.02}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, action: str, given: dict[str, str]) -> tuple[int, str]:
        """Answer one request: HTTP status and XML."""
        self.asked.append((action, given))
        if action == "GetCallerIdentity":
            return 200, _result(action, f"<Arn>{escape(self.caller)}</Arn><Account>123456789012</Account>")
        if action == "GetRole":
            if self.role is None:
                return 403, _error("AccessDenied")
            return 200, _result(action, f"<Role><Arn>{escape(self.role)}</Arn></Role>")
        if self.decision.startswith("!"):
            return 403, _error(self.decision[1:])
        asked = given["ActionNames.member.1"]
        missing = "".join(f"<member>{name}</member>" for name in self.missing)
        result = (
            f"<EvalActionName>{asked}</EvalActionName>"
            f"<EvalDecision>{self.decisions.get(asked, self.decision)}</EvalDecision>"
            f"<MissingContextValues>{missing}</MissingContextValues>"
        )
        return 200, _result(action, f"<EvaluationResults><member>{result}</member></EvaluationResults>")


def _result(action: str, inner: str) -> str:
    return f"<{action}Response><{action}Result>{inner}</{action}Result></{action}Response>"


def _error(code: str) -> str:
    return (
        f"<ErrorResponse><Error><Code>{code}</Code><Message>as the script says</Message></Error></ErrorResponse>"
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    iam: ScriptedIam


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        given = {name: values[0] for name, values in form.items()}
        status, text = self.server.iam.answer(given.pop("Action"), given)
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
