"""The page's views in a real browser: accessible in both themes, whole on a narrow screen, usable by keyboard.

The shop is made up, so that everything that the page has a name for happens at once. axe-core is the one that
``page/package-lock.json`` names.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from airflow_kinesis_audience.ui.server import STATIC
from tests.integration.browser import HOW_TO_INSTALL, find_chromium, running_browser
from tests.integration.running_airflow import ROOT
from tests.integration.scripted_airflow import PAGE, scripted_airflow
from tests.integration.shops import SHOP, busy_shop

pytestmark = pytest.mark.slow

AXE = ROOT / "page" / "node_modules" / "axe-core" / "axe.min.js"
VIEWS = {
    "overview": "?all",
    "held and corrected": "?sync=vip.diff&audience=vip",
    "skipped": "?sync=nightly.diff&audience=night",
    "of many": "?sync=lifecycle.diff&audience=gold",
}
NARROW, WIDE = 400, 1280
MOST_TABS = 60
_RUN_AXE = """async () => {
    const found = await axe.run(document, { resultTypes: ["violations"] });
    const shown = (nodes) => nodes.map((node) => node.html.slice(0, 99)).join(" | ");
    return found.violations.map((one) => `${one.id}: ${shown(one.nodes)}`);
}"""
Open = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip(HOW_TO_INSTALL)
    if not (STATIC / "index.html").is_file() or not AXE.is_file():
        pytest.fail("the page is not built: python3 run.py page")
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with scripted_airflow(busy_shop()) as found:
        yield found


@pytest.fixture
def view(browser: Browser, address: str) -> Open:
    """Open a view, and wait until it shows all that it will; nothing may fail in it."""

    @contextlib.contextmanager
    def opened(query: str, *, width: int = WIDE, scheme: Any = "light") -> Iterator[Page]:
        # Without the page's own policy, which lets no script in but its own.
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        )
        broken: list[str] = []
        try:
            page = context.new_page()
            page.on("pageerror", lambda error: broken.append(str(error)))
            page.goto(f"{address}{PAGE}{query}")
            page.locator("main[aria-busy=false]").wait_for()
            page.wait_for_load_state("networkidle")
            yield page
        finally:
            context.close()
        assert broken == []

    return opened


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", VIEWS)
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_screen(
    view: Open, name: str, scheme: str, width: int
) -> None:
    with view(VIEWS[name], width=width, scheme=scheme) as page:
        assert page.locator("html").get_attribute("data-theme") == scheme
        page.add_script_tag(path=AXE)
        assert page.evaluate(_RUN_AXE) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # Not hidden at the edge either: each text is within the screen.
        outside = (
            f"[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > {width})"
        )
        assert page.evaluate(f"{outside}.map((e) => e.outerHTML.slice(0, 120))") == []


def test_axe_finds_what_is_wrong(view: Open) -> None:
    with view("?all") as page:
        page.add_script_tag(path=AXE)
        page.evaluate("document.querySelector('input').removeAttribute('aria-label')")
        page.evaluate("document.querySelector('input').removeAttribute('placeholder')")
        [found] = page.evaluate(_RUN_AXE)
        assert found.startswith("label: ")


def test_what_needs_a_person_is_on_top_once_for_each_sync_with_the_way_to_act(view: Open) -> None:
    with view("?all") as page:
        alarms = page.get_by_test_id("alarm")
        assert [alarm.get_attribute("data-sync") for alarm in alarms.all()] == [
            "lifecycle.diff",
            "vip.diff",
            "churn.diff",
        ]
        expect(page.locator("[data-sync='vip.diff'] >> text=Approve or reject")).to_have_count(1)
        expect(alarms.nth(0)).to_contain_text("1 audience of 7 held")
        expect(alarms.nth(0)).to_contain_text("2,100 of 2,890 members would exit, 73%")
        table = page.get_by_test_id("overview-table")
        assert alarms.last.bounding_box()["y"] < table.bounding_box()["y"]
        # The rows repeat no reason.
        assert "would exit" not in table.inner_text()
        states = {line.get_attribute("data-sync"): line.inner_text() for line in page.get_by_test_id("sync").all()}
        assert list(states) == ["lifecycle.diff", "vip.diff", "churn.diff", "nightly.diff"]
        assert "2 dead letters" in states["vip.diff"]


@pytest.mark.parametrize(
    ("audience", "cost"),
    [
        ("?sync=nightly.diff&audience=night", "14 statements, 2.6 s, 3.41 GB read"),
        ("?sync=churn.diff&audience=churn", "14 statements, 2.6 s"),
    ],
)
def test_a_run_has_its_cost_with_what_was_read_where_the_engine_says_it(
    view: Open, audience: str, cost: str
) -> None:
    with view(audience) as page:
        expect(page.get_by_test_id("cost").filter(has_text="statements").first).to_have_text(cost)


def test_a_row_has_the_way_of_its_last_runs_and_its_delta(view: Open) -> None:
    with view("?all") as page:
        row = page.locator("[data-testid=row][data-audience=night]")
        expect(row.get_by_test_id("spark-members")).to_have_attribute(
            "aria-label", "Members over 14 runs: 306 to 319"
        )
        label = f"Over 14 runs: {14 * 4} entered, {14 * 3} exited"
        expect(row.get_by_test_id("spark-changes")).to_have_attribute("aria-label", label)
        expect(row).to_contain_text("+1")


def test_a_filter_is_in_the_address_and_a_group_is_opened(view: Open) -> None:
    with view("?all") as page:
        expect(page.locator("[data-testid=row][data-sync='lifecycle.diff']")).to_have_count(5)
        page.get_by_role("button", name="Show all 7 audiences of lifecycle.diff").click()
        expect(page.get_by_test_id("row")).to_have_count(len(SHOP))
        expect(page).to_have_url(re.compile(r"\?words=lifecycle\.diff$"))
        page.get_by_role("searchbox").fill("")
        page.get_by_label("Filter by state").select_option("held")
        expect(page.get_by_test_id("row")).to_have_count(2)
        expect(page).to_have_url(re.compile(r"\?state=held$"))
        page.reload()
        expect(page.get_by_test_id("row")).to_have_count(2)


def test_with_the_keyboard_alone_the_approval_and_each_control_are_reached(view: Open) -> None:
    with view("?all", width=NARROW) as page:
        reached = set()
        for _ in range(MOST_TABS):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate(
                    "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
                )
            )
            if not page.evaluate("document.activeElement === document.body"):
                assert page.evaluate("document.activeElement.matches(':focus-visible')")
        wanted = {
            "Refresh",
            "Approve or reject",
            "Search audiences and syncs",
            "Filter by state",
            "Members",
            "VIP customers",
        }
        assert wanted <= reached
