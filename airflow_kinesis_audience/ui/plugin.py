"""Registers the page in Airflow's navigation.

Airflow imports this in every process, each task included, so it imports next to nothing: the page's server is made
on the first request for it. The page reads Airflow's own REST API with the rights of the user who looks; nothing
here reads a database, a warehouse or a secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin

MOUNT = "/audience-page"
"""Where the API server serves the page's files, below its base."""

ROUTE = "audiences"
"""The page's place in Airflow's UI, below ``/plugin/``."""


class _Page:
    """The page's server, as an ASGI application that is made when it is first asked."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await _server()(scope, receive, send)


@cache
def _server() -> Callable[[Any, Any, Any], Awaitable[None]]:
    from airflow_kinesis_audience.ui.server import make_server

    return make_server()


class AudiencePlugin(AirflowPlugin):
    """The page of all syncs and audiences."""

    name = "airflow_kinesis_audience"
    fastapi_apps = [{"app": _Page(), "url_prefix": MOUNT, "name": "Audiences"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "Audiences",
            # Relative, because Airflow may be served below a path. Without the slash its files are not found.
            "href": f"{MOUNT.removeprefix('/')}/",
            "destination": "nav",
            "url_route": ROUTE,
            "icon": f"{MOUNT.removeprefix('/')}/icon.svg",
            "icon_dark_mode": f"{MOUNT.removeprefix('/')}/icon-dark.svg",
        }
    ]
