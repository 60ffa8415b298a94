"""BigQuery's jobs on this machine, over its REST interface: they begin, are at work, and end as a script says.

It runs no SQL itself: a statement that is not held ends at once, or an emulator runs it then. The id of a job
counts once, as with BigQuery. Only what Google's own client asks for is here. What it takes is no proof that
BigQuery takes it.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import requests

_JOBS = re.compile(r"/bigquery/v2/projects/([^/]+)/jobs(?:/([^/]+))?(/cancel)?")
LOCATION = "europe-west3"
"""Where every job runs, whatever the client asks for; its jobs are not found elsewhere."""


@dataclass
class ScriptedBigQuery:
    """A context manager; serves while it is open.

    :param emulator: the port of an emulator that runs statements, if one is to.
    :ivar held: part of the text of statements that stay at work.
    :ivar failure: the reason with which a statement that ends fails.
    :ivar bytes_processed: what a statement that has ended has read.
    :ivar loses_answers: how many answers to new jobs are lost on their way.
    :ivar may_list: whether the account may list jobs.
    """

    emulator: int | None = None
    held: str | None = None
    failure: str = ""
    bytes_processed: int = 0
    loses_answers: int = 0
    may_list: bool = True
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._lock = threading.RLock()
        server = type("Server", (ThreadingHTTPServer,), {"daemon_threads": True, "bigquery": self})
        self._server = server(("127.0.0.1", 0), _Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]] | None:
        """Answer a request; nothing if the answer is lost."""
        where = urlsplit(path)
        asked = {name: given[-1] for name, given in parse_qs(where.query).items()}
        found = _JOBS.fullmatch(where.path)
        with self._lock:
            self.requests.append(f"{method} {where.path} {asked.get('location', '')}".strip())
            if found is None:
                return self._forward(method, path, body)
            project, name, cancel = found.groups()
            if method == "POST" and name is None:
                return self._insert(project, json.loads(body))
            if name is None and not self.may_list:
                return _error(403, "accessDenied", "Access Denied: no bigquery.jobs.list")
            if name is None:
                state = asked.get("stateFilter", "").upper()
                return 200, {"jobs": [j for j in self.jobs.values() if state in ("", j["status"]["state"])]}
            job = self.jobs.get(name)
            if job is None or asked.get("location") != LOCATION:
                return _error(404, "notFound", f"Not found: Job {project}:{name}")
            if cancel:
                self._cancel(job)
                return 200, {"job": job}
            return 200, self._seen(job)

    def _insert(self, project: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        name = given["jobReference"]["jobId"]
        if given["configuration"].get("dryRun"):
            return self._forward("POST", f"/bigquery/v2/projects/{project}/jobs", json.dumps(given).encode())
        if name in self.jobs:
            return _error(409, "duplicate", f"Already Exists: Job {project}:{name}")
        reference = {"projectId": project, "jobId": name, "location": LOCATION}
        job = {**given, "id": f"{project}:{LOCATION}.{name}", "jobReference": reference}
        self.jobs[name] = job | {"status": {"state": "PENDING"}, "statistics": {"creationTime": "1"}}
        if self.loses_answers:
            self.loses_answers -= 1
            return None
        return 200, self._seen(self.jobs[name])

    def _seen(self, job: dict[str, Any]) -> dict[str, Any]:
        """Give a job as it is by now; who looks at one that is not held sees its end."""
        state = job["status"]["state"]
        if state == "DONE":
            return job
        if self.held is not None and self.held in job["configuration"]["query"]["query"]:
            job["status"]["state"] = "RUNNING"
            return job
        self._end(job, self.failure)
        if self.emulator is not None and not self.failure:
            given = {n: job[n] for n in ("configuration", "jobReference")}
            _, ended = self._forward("POST", "/bigquery/v2/projects/test/jobs", json.dumps(given).encode())
            job.update({n: ended[n] for n in ("status", "statistics", "configuration") if n in ended})
        job["statistics"]["query"] = job["statistics"].get("query", {}) | {
            "totalBytesProcessed": str(self.bytes_processed)
        }
        return job

    def _cancel(self, job: dict[str, Any]) -> None:
        if job["status"]["state"] != "DONE":
            self._end(job, "stopped")

    def _end(self, job: dict[str, Any], failure: str) -> None:
        job["status"] = {"state": "DONE"}
        if failure:
            error = {"reason": failure, "message": "as the script says, of 'ann@example.com'"}
            job["status"] |= {"errorResult": error, "errors": [error]}

    def _forward(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if self.emulator is None:
            empty = {"jobComplete": True, "rows": [], "totalRows": "0", "schema": {"fields": []}}
            return 200, {"jobReference": {}, **empty}
        address = f"http://127.0.0.1:{self.emulator}{path}"
        headers = {"Content-Type": "application/json"}
        answered = requests.request(method, address, data=body or None, headers=headers, timeout=60)
        return answered.status_code, answered.json() if answered.content else {}


def _error(status: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": status, "message": message, "errors": [{"reason": reason}]}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answered = self.server.bigquery.answer(self.command, self.path, body)  # type: ignore[attr-defined]
        if answered is None:
            self.close_connection = True
            return
        status, document = answered
        sent = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        """Write nothing."""
