"""Takes the pictures of the page that the docs show: a shop's audiences, in Airflow's own UI.

    python -m tests.integration.screenshots [FOLDER]

Airflow runs, and nothing runs in it: what the page asks of it, the shop answers. It takes a minute or two, needs
PostgreSQL and Chromium, and writes docs/images. With a folder it writes each view there, at each width and in both
themes, to be looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.integration.browser import audiences, log_in, running_browser, visitor
from tests.integration.running_airflow import ROOT, USER, running_airflow
from tests.integration.scripted_airflow import scripted_airflow
from tests.integration.shops import believable_shop
from tests.postgres import find_programs, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

    from tests.integration.running_airflow import RunningAirflow

IMAGES = ROOT / "docs" / "images"
VIEWS = {
    "audiences": "?all",
    "audience": "?sync=lifecycle.diff&audience=win_back",
    "held": "?sync=vip_customers.diff&audience=vip",
}
WIDTHS = {1280: 860, 400: 860}
"""Widths of the window, and their heights."""
THEMES = ("light", "dark")
ALL = [f"{view}-{theme}-{width}" for view in VIEWS for theme in THEMES for width in WIDTHS]
KEPT = {f"{view}-{theme}-1280": f"{view}-{theme}" for view in ("audiences", "audience") for theme in THEMES}
KEPT["audiences-light-400"] = "audiences-narrow"
"""Which pictures the docs show, and under which names."""


def answer_by(shop: str, route: Route) -> None:
    """Have the shop answer what the page asks, which is in a frame, and Airflow what its own UI asks."""
    asked = route.request
    if asked.frame.parent_frame is None:
        route.continue_()
    else:
        answer = httpx.get(shop + asked.url[asked.url.index("/api/v2/") :], trust_env=False)
        route.fulfill(status=answer.status_code, body=answer.content, content_type="application/json")


def take(browser: Browser, airflow: RunningAirflow, shop: str, wanted: Container[str]) -> dict[str, bytes]:
    """Take the views that are wanted, at a width and in a theme, by a name of the three."""
    found = {}
    for theme in THEMES:
        how: dict[str, Any] = {"scheme": theme}
        with visitor(browser, airflow, **how) as page:
            log_in(page, USER, airflow.password)
            page.route("**/api/v2/**", lambda route: answer_by(shop, route))
            for width, height in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": height})
                for view, query in VIEWS.items():
                    if (name := f"{view}-{theme}-{width}") not in wanted:
                        continue
                    page.goto(f"/plugin/audiences{query}")
                    audiences(page).locator("main[aria-busy=false]").wait_for()
                    page.wait_for_timeout(4_000)  # charts are drawn
                    found[name] = page.screenshot()
    return found


def main() -> None:
    """Start everything, and take the pictures."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else None
    programs = find_programs()
    if programs is None:
        raise SystemExit("there is no PostgreSQL here: apt-get install postgresql")
    (folder or IMAGES).mkdir(exist_ok=True)
    with running_server(programs) as server, scripted_airflow(believable_shop()) as shop:
        server.execute("CREATE DATABASE pictured_airflow")
        with (
            running_airflow(server.dsn("pictured_airflow"), dags={}, connections={}, auth="simple") as airflow,
            running_browser() as browser,
        ):
            kept = {name: name for name in ALL} if folder else KEPT
            for name, image in take(browser, airflow, shop, kept).items():
                ((folder or IMAGES) / f"{kept[name]}.png").write_bytes(image)


if __name__ == "__main__":
    main()
