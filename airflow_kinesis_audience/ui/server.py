"""Serves the page's files, and nothing else, to those who are logged in to Airflow.

What the page shows it asks Airflow's REST API for, in the browser and with the user's own rights: there is no
answer here that differs between two users.
"""

from __future__ import annotations

from pathlib import Path

# At the module's level: FastAPI reads annotations from here.
from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException
from starlette.responses import FileResponse

STATIC = Path(__file__).parent / "static"
"""What the build of ``page/`` leaves, and a wheel brings along."""

_MEDIA = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
_HEADERS = {
    # A new version of the package is a new page; the browser asks, and mostly hears that nothing changed.
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def make_server() -> FastAPI:
    """Make the server of the page's files, which a wheel brings along and a clone must build."""
    files = {path.name: path for path in STATIC.glob("*") if path.suffix in _MEDIA}
    server = FastAPI(
        title="Audiences", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(get_user)]
    )

    @server.get("/{name}")
    def give_file(name: str) -> FileResponse:
        if not files:
            raise HTTPException(503, "The page is not built. In a clone of the repository: python3 run.py page")
        path = files.get(name)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, media_type=_MEDIA[path.suffix], headers=_HEADERS)

    @server.get("/")
    def give_page() -> FileResponse:
        return give_file("index.html")

    return server
