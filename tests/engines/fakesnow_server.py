"""Starts fakesnow's server on a port of this machine; run by the Python that has its packages.

It repairs what would make a test see what Snowflake never gives: fakesnow 0.12.1 gives an instant that is NULL as
the first second of 1970, makes of "no collation" one that DuckDB does not know, and forgets which characters RTRIM
is to take. It runs no statement asynchronously; here one does, with Snowflake's own answers, and waits as long as
the file is there that ``FAKESNOW_HOLDS`` names. Those that wait are in the user's history with the tag of their
session, and can be cancelled.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import re
import sys
import uuid
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import uvicorn
from fakesnow import arrow, transforms
from fakesnow.server import app
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from starlette.responses import JSONResponse

_HISTORY = re.compile(r"TABLE\(INFORMATION_SCHEMA\.QUERY_HISTORY_BY_USER\(RESULT_LIMIT => 10000\)\)")
_CANCEL = re.compile(r"SYSTEM\$CANCEL_QUERY\('([\w-]+)'\)")
_CANCELLED = {"code": "000604", "message": "SQL execution canceled"}


def with_nulls(convert: Any) -> Any:
    def converted(instants: Any) -> Any:
        given = instants.combine_chunks() if isinstance(instants, pa.ChunkedArray) else instants
        made = convert(given)
        return pa.StructArray.from_arrays(made.flatten(), fields=list(made.type), mask=pc.is_null(given))

    return converted


class LeftStatements:
    """Statements that nobody waits for, by their ids.

    :param run: fakesnow's own way of running one.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._tags: dict[str, str] = {}
        """Of a session, by its token, and of a statement, by its id."""

    async def query(self, request: Any) -> Any:
        """Run a statement, or answer before it is run."""
        body = await request.body()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        asked, session = json.loads(body), request.headers.get("Authorization")
        if found := re.search(r"QUERY_TAG = '([^']*)'", asked["sqlText"]):
            self._tags[session] = found[1]
        if not asked.get("asyncExec"):
            known = _HISTORY.sub(lambda _: self._history(), _CANCEL.sub(self._cancel, asked["sqlText"]))
            if known != asked["sqlText"]:
                request._body = gzip.compress(json.dumps({**asked, "sqlText": known}).encode())
            return await self._run(request)
        statement_id = str(uuid.uuid4())
        self._tags[statement_id] = self._tags.get(session, "")
        self._tasks[statement_id] = asyncio.create_task(self._run_later(request))
        data = {"queryId": statement_id, "getResultUrl": f"/queries/{statement_id}/result"}
        return JSONResponse({"data": data, "code": "333334", "message": "in progress", "success": True})

    def _history(self) -> str:
        """Write what the user's history has: the statements that nobody waits for."""
        rows = "".join(
            f" UNION ALL SELECT '{of}', '{self._tags[of]}', '{'SUCCESS' if task.done() else 'RUNNING'}'"
            for of, task in self._tasks.items()
        )
        return f"(SELECT '' AS query_id, '' AS query_tag, '' AS execution_status{rows})"

    def _cancel(self, found: re.Match[str]) -> str:
        self._tasks[found[1]].cancel()
        return f"'query [{found[1]}] terminated.'"

    async def _run_later(self, request: Any) -> dict[str, Any]:
        held = Path(os.environ.get("FAKESNOW_HOLDS", "/nowhere"))
        while held.exists():
            await asyncio.sleep(0.1)
        return dict(json.loads((await self._run(request)).body))

    async def status(self, request: Any) -> Any:
        """Say how a statement is."""
        statement_id = request.path_params["sfqid"]
        task, queries = self._tasks.get(statement_id), []
        if task is not None:
            ended = None
            if task.done():
                ended = {"success": False, **_CANCELLED} if task.cancelled() else task.result()
            status = "RUNNING" if ended is None else ("SUCCESS" if ended["success"] else "FAILED_WITH_ERROR")
            found = ended or {}
            error = {"errorCode": found.get("code"), "errorMessage": found.get("message")}
            queries = [{"id": statement_id, "status": status, "state": status, **error}]
        return JSONResponse({"data": {"queries": queries}, "success": True, "code": None, "message": None})


def serve_left_statements() -> None:
    by_path = {route.path: route for route in app.router.routes}
    left = LeftStatements(by_path["/queries/v1/query-request"].endpoint)
    for path, endpoint, method in (
        ("/queries/v1/query-request", left.query, "POST"),
        ("/monitoring/queries/{sfqid}", left.status, "GET"),
    ):
        app.router.routes.remove(by_path[path])
        app.add_route(path, endpoint, methods=[method])


if __name__ == "__main__":
    serve_left_statements()
    logging.disable()
    warnings.simplefilter("ignore")
    DuckDB.Generator.TRANSFORMS[exp.Collate] = lambda generator, collated: generator.sql(collated, "this")
    arrow.timestamp_to_sf_struct = with_nulls(arrow.timestamp_to_sf_struct)
    transforms.trim_cast_varchar = lambda expression: expression
    port, *tls = sys.argv[1:]
    secured = dict(zip(("ssl_certfile", "ssl_keyfile"), tls, strict=False))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error", **secured)
