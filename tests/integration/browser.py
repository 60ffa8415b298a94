"""Debian's Chromium, without a window, that looks at a running Airflow as a person does.

Only addresses of this machine are ever asked: whatever else a page wants fails, as it does without a network.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from playwright.sync_api import Browser, Frame, FrameLocator, Page, expect, sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import StorageState

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
# Of each pixel, how far its strongest colour is from its weakest: text, lines and grounds are nearly grey.
_COUNT_COLOURED = """async ([image, least]) => {
    const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${image}`)).blob());
    const drawing = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    drawing.drawImage(bitmap, 0, 0);
    const pixels = drawing.getImageData(0, 0, bitmap.width, bitmap.height).data;
    let found = 0;
    for (let n = 0; n < pixels.length; n += 4) {
        const [red, green, blue] = pixels.slice(n, n + 3);
        if (Math.max(red, green, blue) - Math.min(red, green, blue) >= least) found += 1;
    }
    return found;
}"""
_LEAST = 64
_SHARE_CONTRASTING = """async (image) => {
    const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${image}`)).blob());
    const drawing = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    drawing.drawImage(bitmap, 0, 0);
    const pixels = drawing.getImageData(0, 0, bitmap.width, bitmap.height).data;
    const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
    const weights = [0.2126, 0.7152, 0.0722];
    const light = (n) => weights.reduce((all, weight, part) => all + weight * linear(pixels[n + part]), 0);
    let found = 0;
    for (let n = 0; n < pixels.length; n += 4) {
        const [dark, bright] = [light(0), light(n)].sort((a, b) => a - b);
        if ((bright + 0.05) / (dark + 0.05) >= 3) found += 1;
    }
    return found / (pixels.length / 4);
}"""


def find_chromium() -> str | None:
    """Return where Chromium is, if it is anywhere."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """Start it, and end it."""
    expect.set_options(timeout=WAIT_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def visitor(
    browser: Browser,
    airflow: RunningAirflow,
    *,
    scheme: Literal["light", "dark"] = "light",
    session: StorageState | None = None,
) -> Iterator[Page]:
    """Give a tab of a visitor.

    :param scheme: as the visitor's system is set.
    :param session: of one who has logged in before; else nobody is.
    """
    where = {"base_url": str(airflow.api.base_url), "viewport": WINDOW, "color_scheme": scheme}
    context = browser.new_context(**where, storage_state=session)
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


def frame_of(page: Page) -> Frame:
    """Return the same as what can be asked for what is no element; it must be there."""
    [found] = page.main_frame.child_frames
    return found


def share_contrasting(browser: Browser, image: bytes) -> float:
    """Return the share of a PNG's pixels with a contrast of at least 3:1 to its first one, by WCAG's formula."""
    page = browser.new_page()
    try:
        return float(page.evaluate(_SHARE_CONTRASTING, base64.b64encode(image).decode()))
    finally:
        page.close()


def count_coloured(browser: Browser, image: bytes) -> int:
    """Return how many pixels of a PNG have a colour that is not nearly grey."""
    page = browser.new_page()
    try:
        return int(page.evaluate(_COUNT_COLOURED, [base64.b64encode(image).decode(), _LEAST]))
    finally:
        page.close()
