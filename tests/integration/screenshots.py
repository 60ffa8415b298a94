"""Takes the pictures of the page that the docs show, of the same Airflow that the tests look at.

    python -m tests.integration.screenshots

It takes some minutes, needs PostgreSQL and Chromium, and writes docs/images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.integration.browser import audiences, log_in, running_browser, visitor
from tests.integration.page_airflow import CDNOW, fill, watched_airflow
from tests.integration.running_airflow import ROOT, USER
from tests.postgres import find_programs, running_server

IMAGES = ROOT / "docs" / "images"
DAYS = 30
VIEWS = {
    "audiences-light": "",
    "audience-dark": f"?sync={CDNOW}.diff&audience=lapsed_90_days",
}


def main() -> None:
    """Have everything run, and take each view in its theme."""
    programs = find_programs()
    if programs is None:
        raise SystemExit("there is no PostgreSQL here: apt-get install postgresql")
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(programs) as server,
        watched_airflow(server, Path(folder)) as airflow,
        running_browser() as browser,
    ):
        fill(airflow, days=DAYS)
        for name, query in VIEWS.items():
            with visitor(browser, airflow, scheme=name.rpartition("-")[2]) as page:
                log_in(page, USER, airflow.password)
                page.goto(f"/plugin/audiences{query}")
                audiences(page).locator("main[aria-busy=false]").wait_for()
                page.wait_for_timeout(3_000)  # charts are drawn
                page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
