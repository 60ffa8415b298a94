"""Debian's Chromium, without a window, that looks at a running Airflow as a person does.

Only addresses of this machine are ever asked: whatever else a page wants fails, as it does without a network.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, sync_playwright

if TYPE_CHECKING:
    from tests.integration.running_airflow import RunningAirflow

HOW_TO_INSTALL = "there is no Chromium here: apt-get install chromium"
WAIT_MILLISECONDS = 60_000
WINDOW = {"width": 1400, "height": 900}
_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]


def find_chromium() -> str | None:
    """Return where Chromium is, if it is anywhere."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """Start it, and end it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def visitor(browser: Browser, airflow: RunningAirflow, *, scheme: str = "light") -> Iterator[Page]:
    """Give a tab of somebody who is not logged in.

    :param scheme: ``light`` or ``dark``, as the visitor's system is set.
    """
    context: BrowserContext = browser.new_context(
        base_url=str(airflow.api.base_url), viewport=WINDOW, color_scheme=scheme
    )
    context.set_default_timeout(WAIT_MILLISECONDS)
    try:
        yield context.new_page()
    finally:
        context.close()


def log_in(page: Page, user: str, password: str) -> None:
    """Log in by Airflow's own form."""
    page.goto("/")
    page.get_by_label("Username").or_(page.locator("input[name=username]")).first.fill(user)
    page.locator("input[type=password]").fill(password)
    page.locator("button[type=submit], input[type=submit]").first.click()
    page.get_by_role("link", name="Dags").first.wait_for()


def audiences(page: Page) -> FrameLocator:
    """Return the page of the audiences, in its frame."""
    return page.frame_locator("iframe")
