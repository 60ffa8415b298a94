"""The page of all audiences in a real Airflow, through a real browser, for users with different rights.

What it should show is read outside Airflow: from the purchases in the warehouse, in other words than the DAG's
query, and from the ledger. The users are FAB's, because the simple auth manager lets everybody see everything.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import duckdb
import httpx
import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from airflow_kinesis_audience.demo.cdnow import read_lapsed
from airflow_kinesis_audience.ui.server import STATIC
from tests.integration.browser import (
    HOW_TO_INSTALL,
    audiences,
    count_coloured,
    find_chromium,
    frame_of,
    log_in,
    running_browser,
    share_contrasting,
    visitor,
)
from tests.integration.page_airflow import (
    CDNOW,
    FIRST,
    HELD,
    OUTSIDER,
    READER,
    SLOW,
    THEN,
    THOUSAND,
    SlowKinesis,
    fill,
    start,
    watched_airflow,
)
from tests.integration.running_airflow import USER, RunningAirflow

if TYPE_CHECKING:
    from playwright.sync_api import StorageState

    from tests.postgres import Server

# as long as it may take on a machine with other work
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

PAGE = "/plugin/audiences"
FILES = "/audience-page/"
SYNC, AUDIENCE, NAME = f"{CDNOW}.diff", "lapsed_90_days", "Lapsed 90 days"
RUNS = 12
MOST_TABS = 100
PATIENCE_SECONDS = 10
"""How long a thousand audiences may take to be there, beside other work; on a quiet machine it is one or two."""
READ = "can_read"
OF_RUNS = ("Assets", "DAG Runs", "Task Instances", "XComs")
LEGEND_PIXELS = {"chart-size": 500, "chart-changes": 1_000, "chart-lag": 300}
"""By chart, more than it has in colour where nothing is drawn but its axes and its legend (110, 430, none)."""
LEAST_CONTRASTING = 0.1
"""The share of an icon's pixels that must be seen against what is behind it."""
COUNTS = ("members", "entered", "exited")

Counts = tuple[int, int, int]
"""Members, entered, exited."""
Visit = Callable[..., AbstractContextManager[Page]]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """An Airflow that has run everything.

    :ivar warehouse: of CDNOW; nobody else has it open.
    :ivar held: id of the run that a guard holds.
    :ivar slow: where a delivery takes its time.
    """

    airflow: RunningAirflow
    warehouse: Path
    held: str
    slow: SlowKinesis


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip(HOW_TO_INSTALL)
    if not (STATIC / "index.html").is_file():
        pytest.fail("the page is not built: python3 run.py page")
    with running_browser() as found:
        yield found


# The browser first: without one, nothing needs to run.
@pytest.fixture(scope="module")
def watched(
    browser: Browser, postgres_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("page")
    with SlowKinesis() as slow, watched_airflow(postgres_server, folder, slow) as airflow:
        held = fill(airflow, days=RUNS)
        yield Watched(airflow=airflow, warehouse=folder / "warehouse.duckdb", held=held, slow=slow)


@pytest.fixture(scope="module")
def sessions() -> dict[str, StorageState]:
    """Who has logged in already, because the form takes seconds."""
    return {}


@pytest.fixture
def visit(browser: Browser, watched: Watched, sessions: dict[str, StorageState]) -> Visit:
    """Give a tab of a user who is logged in."""

    @contextlib.contextmanager
    def visiting(user: str = USER, **how: Any) -> Iterator[Page]:
        with visitor(browser, watched.airflow, session=sessions.get(user), **how) as page:
            if user not in sessions:
                log_in(page, user, watched.airflow.password)
                sessions[user] = page.context.storage_state()
            yield page

    return visiting


def overview(page: Page) -> FrameLocator:
    """Open the page, and wait until it shows all that it will."""
    page.goto(PAGE)
    return settled(audiences(page))


def detail(page: Page, sync_id: str = SYNC, audience_id: str = AUDIENCE) -> FrameLocator:
    """Open an audience's own view by its address."""
    page.goto(f"{PAGE}?{urlencode({'sync': sync_id, 'audience': audience_id})}")
    return settled(audiences(page))


def settled(frame: FrameLocator) -> FrameLocator:
    frame.locator("main[aria-busy=false]").wait_for()
    return frame


def row_of(frame: FrameLocator, sync_id: str, audience_id: str) -> Any:
    return frame.locator(f"[data-testid=row][data-sync='{sync_id}'][data-audience='{audience_id}']")


def line_of(frame: FrameLocator, sync_id: str) -> Any:
    """Return the line of a sync, above those of its audiences."""
    return frame.locator(f"[data-testid=sync][data-sync='{sync_id}']")


def number(text: str) -> int:
    return int(text.replace(",", ""))


def totals(frame: FrameLocator) -> dict[str, int]:
    """Return the strip of totals, by the last word of each name."""
    names = frame.get_by_test_id("totals").locator("dt").all_inner_texts()
    values = frame.get_by_test_id("totals").locator("dd").all_inner_texts()
    return {name.split()[-1]: number(value) for name, value in zip(names, values, strict=True)}


def instants() -> list[date]:
    """Return the days as of which there was a run: a daily run speaks for the instant at which it is due."""
    return [FIRST.date() + timedelta(days=n) for n in range(RUNS)]


def true_counts(warehouse: Path) -> dict[str, Counts]:
    """Work out the counts of every run from the purchases, by day."""
    found, before = {}, set[str]()
    for day in instants():
        members = set(read_lapsed(warehouse, day))
        found[f"{day}"] = (len(members), len(members - before), len(before - members))
        before = members
    return found


def recorded_counts(warehouse: Path) -> dict[str, Counts]:
    """Read the counts of every run from the ledger, by day."""
    query = """SELECT as_of, detail FROM airflow_audience.ledger
        WHERE sync_id = ? AND event IN ('first', 'change_set') ORDER BY sequence"""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = connection.execute(query, [SYNC]).fetchall()
    recorded = {as_of[:10]: json.loads(row)["audiences"][AUDIENCE] for as_of, row in rows}
    return {day: tuple(counts[what] for what in COUNTS) for day, counts in recorded.items()}


def test_who_is_logged_in_opens_the_page_from_the_navigation_and_nothing_in_it_breaks(visit: Visit) -> None:
    broken = []
    with visit() as page:
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("console", lambda m: broken.append(m.text) if m.type == "error" else None)
        page.goto("/")
        page.get_by_role("link", name="Audiences").click()
        page.wait_for_url(f"**{PAGE}**")
        frame = settled(audiences(page))
        expect(frame.get_by_role("heading", level=1)).to_have_text("Audiences")
        expect(row_of(frame, SYNC, AUDIENCE)).to_be_visible()
        row_of(frame, SYNC, AUDIENCE).get_by_role("link").first.click()
        frame.get_by_test_id("runs-table").wait_for()
        assert broken == []


def test_the_numbers_of_every_run_are_those_of_the_warehouse_and_of_the_ledger(
    visit: Visit, watched: Watched
) -> None:
    truth = true_counts(watched.warehouse)
    assert recorded_counts(watched.warehouse) == truth
    assert len(truth) == RUNS
    assert sum(exited for _, _, exited in truth.values()) > 5
    with visit() as page:
        frame = detail(page)
        expect(frame.get_by_test_id("run-row")).to_have_count(RUNS)
        shown = {}
        for row in frame.get_by_test_id("run-row").all():
            numbers = [number(text) for text in row.locator("td.number").all_inner_texts()]
            shown[row.get_attribute("data-as-of")[:10]] = tuple(numbers[: len(COUNTS)])
        assert shown == truth

        row = row_of(overview(page), SYNC, AUDIENCE)
        members, entered, exited = truth[f"{instants()[-1]}"]
        for cell, expected in (
            ("members", members),
            ("entered", entered),
            ("exited", exited),
            # a day has one run
            ("entered-24h", entered),
            ("exited-24h", exited),
        ):
            assert number(row.get_by_test_id(f"cell-{cell}").inner_text()) == expected, cell
        volatility = float(row.get_by_test_id("cell-volatility").inner_text().rstrip("%"))
        assert volatility == pytest.approx(100 * (entered + exited) / members, abs=0.1)
        assert "ok" in row.get_by_test_id("cell-state").inner_text()
        assert "up to date" in line_of(overview(page), SYNC).get_by_test_id("sync-lag").inner_text()


def test_an_audience_has_its_last_runs_its_mapping_a_masked_message_and_the_cost_of_each_run(
    visit: Visit, watched: Watched
) -> None:
    truth = list(true_counts(watched.warehouse).values())
    run_id = watched.airflow.runs(CDNOW)[-1]["dag_run_id"]
    costs = [watched.airflow.xcom(CDNOW, run_id, task)["statements"] for task in ("diff", "publish")]
    with visit() as page:
        spark = row_of(overview(page), SYNC, AUDIENCE).get_by_test_id("spark-members")
        label = f"Members over {RUNS} runs: {truth[0][0]:,} to {truth[-1][0]:,}"
        expect(spark).to_have_attribute("aria-label", label)
        frame = detail(page)
        expect(frame.get_by_test_id("run-row").first.get_by_test_id("cost")).to_contain_text(
            f"{sum(costs)} statements, "
        )
        expect(frame.get_by_test_id("mapping").get_by_role("row").nth(1)).to_contain_text("user id")
        sample = frame.get_by_test_id("sample")
        sample.get_by_text("with masked values").click()
        expect(sample).to_contain_text("users[].user_id text")
        expect(sample.locator("pre")).to_contain_text('"user_id": "•••"')


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_chart_is_drawn_in_colours_and_said_in_words(visit: Visit, browser: Browser, scheme: str) -> None:
    with visit(scheme=scheme) as page:
        frame = detail(page)
        frame.get_by_test_id("run-row").first.wait_for()
        for name, legend in LEGEND_PIXELS.items():
            chart = frame.get_by_test_id(name)
            expect(chart).to_have_attribute("aria-label", re.compile(r"[a-z]+ .*[0-9]"))
            chart.scroll_into_view_if_needed()
            page.wait_for_timeout(1_500)  # they grow as they appear
            assert count_coloured(browser, chart.screenshot()) > legend


def test_a_held_run_says_why_and_leads_to_the_approval(visit: Visit, watched: Watched) -> None:
    with visit() as page:
        frame = overview(page)
        row = row_of(frame, f"{HELD}.vip.diff", "vip")
        expect(row.get_by_test_id("cell-state")).to_contain_text("held")
        alarm = frame.get_by_test_id("alarm")
        expect(alarm).to_have_count(1)
        expect(alarm).to_contain_text("180 of 200 members would exit, 90%")
        assert row.get_by_test_id("cell-members").inner_text() == "200"
        assert totals(frame)["guard"] == 1
        alarm.get_by_test_id("held-link").click()
        page.wait_for_url(f"**/dags/{HELD}/runs/{quote(watched.held, safe='')}/tasks/vip.approve/required_actions")
        page.get_by_role("button", name="Approve").wait_for()


def test_a_name_is_shown_as_text_whatever_it_says(visit: Visit) -> None:
    with visit() as page:
        frame = overview(page)
        expect(row_of(frame, f"{HELD}.vip.diff", "vip")).to_contain_text("VIP <b>customers</b>")
        assert frame.locator("main b").count() == 0


def test_a_run_leads_to_airflows_pages_of_it(visit: Visit, watched: Watched) -> None:
    run_id = watched.airflow.runs(CDNOW)[-1]["dag_run_id"]
    with visit() as page:
        newest = detail(page).get_by_test_id("run-row").first
        newest.get_by_test_id("run-link").click()
        page.wait_for_url(f"**/dags/{CDNOW}/runs/{quote(run_id, safe='')}")
        newest = detail(page).get_by_test_id("run-row").first
        newest.get_by_test_id("task-link").click()
        page.wait_for_url(f"**/dags/{CDNOW}/runs/{quote(run_id, safe='')}/tasks/diff")
        page.get_by_text("Rendered Templates").first.wait_for()


def test_the_page_follows_airflows_theme_also_while_it_is_open(visit: Visit) -> None:
    with visit(scheme="dark") as page:
        frame = overview(page)
        assert brightness(page) < 60
        page.get_by_role("button", name="User").click()
        page.get_by_role("menuitem", name="Appearance").click()
        page.get_by_role("menuitemradio", name="Light Mode").click()
        expect(frame.locator("html")).to_have_attribute("data-theme", "light")
        assert brightness(page) > 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_icon_is_seen_beside_another_page_and_where_it_is_the_active_one(
    visit: Visit, browser: Browser, scheme: str
) -> None:
    with visit(scheme=scheme) as page:
        shares = []
        for path in ("/dags", PAGE):
            page.goto(path)
            link = page.get_by_role("link", name="Audiences")
            link.locator("img").wait_for()
            page.wait_for_timeout(1_000)  # the ground fades in
            shares.append(share_contrasting(browser, link.locator("img").screenshot()))
        assert link.get_attribute("aria-current") == "page"
        assert min(shares) > LEAST_CONTRASTING


def brightness(page: Page) -> float:
    """Return the mean of the three colours of the page's ground, 0 to 255."""
    ground = frame_of(page).evaluate("getComputedStyle(document.body).backgroundColor")
    colours = [float(part) for part in ground.partition("(")[2].rstrip(")").split(",")[:3]]
    return sum(colours) / 3


def milliseconds_until(page: Page, mark: str) -> float:
    """Return when the page made a mark, by its own clock, which begins with the loading of its frame."""
    made = f"performance.getEntriesByName('audiences-{mark}')"
    frame_of(page).wait_for_function(f"{made}.length > 0")
    return float(frame_of(page).evaluate(f"{made}[0].startTime"))


def test_a_thousand_audiences_are_there_soon_and_can_be_searched_sorted_and_leafed_through(visit: Visit) -> None:
    shown, known = [], []
    with visit() as page:
        for _ in range(3):
            frame = overview(page)
            shown.append(milliseconds_until(page, "shown"))
            known.append(milliseconds_until(page, "settled"))
        print("ms until shown, settled:", shown, known)
        assert min(shown) < PATIENCE_SECONDS * 1_000
        assert min(known) < PATIENCE_SECONDS * 1_000
        assert totals(frame)["audiences"] == 1_002

        # In the second of its runs, audience a has 1 + (a + 2) % 5 members: a fifth of them have one, 1 to 5.
        frame.get_by_role("searchbox").fill(f"{THOUSAND}.diff")
        members = frame.get_by_role("button", name="Members")
        members.click()
        assert number(frame.get_by_test_id("cell-members").first.inner_text()) == 5
        members.click()
        assert number(frame.get_by_test_id("cell-members").first.inner_text()) == 1
        while (following := frame.get_by_role("button", name="Next")).is_enabled():
            following.click()
        assert number(frame.get_by_test_id("cell-members").last.inner_text()) == 5
        frame.get_by_role("searchbox").fill("Audience 777")
        expect(frame.get_by_test_id("row")).to_have_count(1)
        assert number(frame.get_by_test_id("cell-members").inner_text()) == 1 + (777 + 2) % 5


def test_with_the_keyboard_alone_an_audience_is_reached_and_opened(visit: Visit) -> None:
    with visit() as page:
        frame = overview(page)
        inside = frame_of(page)
        for _ in range(MOST_TABS):
            page.keyboard.press("Tab")
            if inside.evaluate("document.activeElement.textContent") == NAME:
                break
        else:
            pytest.fail(f"{MOST_TABS} tabs did not lead to {NAME}")
        assert inside.evaluate("document.activeElement.matches(':focus-visible')")
        page.keyboard.press("Enter")
        expect(frame.get_by_role("heading", name=NAME)).to_be_visible()
        expect(page).to_have_url(re.compile(f"sync={SYNC}&audience={AUDIENCE}"))
        page.go_back()
        frame.get_by_test_id("overview-table").wait_for()


def test_an_address_leads_to_an_audience_also_after_a_reload_and_back(visit: Visit) -> None:
    with visit() as page:
        frame = detail(page)
        expect(frame.get_by_role("heading", level=2)).to_have_text(NAME)
        page.wait_for_load_state("networkidle")
        page.reload()
        expect(settled(frame).get_by_role("heading", level=2)).to_have_text(NAME)
        frame.get_by_role("link", name="All audiences").click()
        frame.get_by_test_id("overview-table").wait_for()
        page.go_back()
        expect(frame.get_by_role("heading", level=2)).to_have_text(NAME)


def test_no_answer_that_the_page_gets_names_a_member(visit: Visit) -> None:
    answers = []

    def listen(response: Any) -> None:
        if "/api/v2/" in response.url and response.ok:
            answers.append(response.text())

    with visit() as page:
        page.on("response", listen)
        overview(page)
        detail(page).get_by_test_id("run-row").first.wait_for()
        page.wait_for_load_state("networkidle")
    assert any(AUDIENCE in answer for answer in answers)
    assert not [answer for answer in answers if "customer-" in answer]


def test_without_a_login_there_is_nothing_but_the_way_to_it(browser: Browser, watched: Watched) -> None:
    address = watched.airflow.api.base_url
    paths = [FILES, *(f"{FILES}{path.name}" for path in STATIC.iterdir()), "/api/v2/assets/events"]
    assert len(paths) > 4
    with httpx.Client(base_url=address, trust_env=False) as nobody:
        answers = {path: nobody.get(path).status_code for path in paths}
    assert answers == dict.fromkeys(paths, 401)
    with visitor(browser, watched.airflow) as page:
        page.goto(PAGE)
        page.wait_for_url("**/auth/login/**")
        assert not page.main_frame.child_frames


def test_who_may_read_no_dag_and_no_asset_sees_why_and_sees_no_number(visit: Visit) -> None:
    with visit(OUTSIDER) as page:
        page.goto(PAGE)
        frame = audiences(page)
        expect(frame.get_by_test_id("alert")).to_contain_text("permission")
        assert frame.get_by_test_id("row").count() == 0
        assert frame.get_by_test_id("totals").count() == 0
        assert NAME not in frame.locator("body").inner_text()


def test_who_may_read_one_dag_sees_its_audiences_alone(visit: Visit) -> None:
    with visit(READER) as page:
        frame = overview(page)
        syncs = {row.get_attribute("data-sync") for row in frame.get_by_test_id("row").all()}
        assert syncs == {f"{THOUSAND}.diff"}
        assert (totals(frame)["audiences"], totals(frame)["syncs"]) == (1_000, 1)
        for hidden in (AUDIENCE, "vip"):
            frame.get_by_role("searchbox").fill(hidden)
            expect(frame.get_by_test_id("row")).to_have_count(0)
        frame = detail(page)
        frame.get_by_test_id("runs-table").wait_for()
        page.wait_for_load_state("networkidle")
        assert frame.get_by_test_id("run-row").count() == 0


def test_which_of_fabs_permissions_opens_which_answer(watched: Watched) -> None:
    airflow = watched.airflow
    airflow.add_user("without_assets", [(READ, what) for what in (*OF_RUNS[1:], "DAGs")])
    airflow.add_user("without_xcoms", [(READ, what) for what in (*OF_RUNS[:-1], "DAGs")])
    run_id = quote(airflow.runs(CDNOW)[-1]["dag_run_id"], safe="")
    paths = (
        "plugins",
        "assets/events?limit=100",
        "dags/~/dagRuns/~/taskInstances?limit=100",
        "dags",
        f"dags/{CDNOW}/dagRuns/{run_id}/taskInstances/diff/xcomEntries/return_value",
    )
    statuses, dags = {}, {}
    for name in (USER, READER, OUTSIDER, "without_assets", "without_xcoms"):
        with contextlib.closing(airflow.log_in(name)) as api:
            answers = [api.get(f"/api/v2/{path}") for path in paths]
        statuses[name] = [answer.status_code for answer in answers]
        found = [
            *(event["source_dag_id"] for event in answers[1].json().get("asset_events", ())),
            *(task["dag_id"] for task in answers[2].json().get("task_instances", ())),
            *(dag["dag_id"] for dag in answers[3].json().get("dags", ())),
        ]
        dags[name] = set(found)
    assert statuses == {
        USER: [200, 200, 200, 200, 200],
        # Lists are filtered by DAG, silently; what belongs to one DAG is refused.
        READER: [200, 200, 200, 200, 403],
        OUTSIDER: [200, 403, 403, 403, 403],
        # No navigation without "Plugins", which of FAB's own roles only Op and Admin may read.
        "without_assets": [403, 403, 200, 200, 200],
        "without_xcoms": [403, 200, 200, 200, 403],
    }
    assert dags[USER] == {CDNOW, HELD, SLOW, THOUSAND}
    assert dags[READER] == {THOUSAND}
    assert dags[OUTSIDER] == set()


def test_who_may_not_read_plugins_has_the_page_at_its_own_address(visit: Visit, watched: Watched) -> None:
    watched.airflow.add_user("viewer", [(READ, what) for what in ("Website", *OF_RUNS, "DAGs")])
    with visit("viewer") as page:
        page.goto("/")
        page.get_by_role("link", name="Dags").first.wait_for()
        page.wait_for_load_state("networkidle")
        assert page.get_by_role("link", name="Audiences").count() == 0
        page.goto(FILES)
        page.locator("main[aria-busy=false]").wait_for()
        assert page.get_by_test_id("row").count() > 0
        page.get_by_role("link", name=NAME).click()
        expect(page.get_by_test_id("run-row")).to_have_count(RUNS)


# The last two change what there is: this one answers, the next one adds an audience.
def test_who_approved_what_stands_at_the_run(visit: Visit, watched: Watched) -> None:
    airflow = watched.airflow
    path = f"dags/{HELD}/dagRuns/{quote(watched.held, safe='')}/taskInstances/vip.approve/-1/hitlDetails"
    airflow.ask("PATCH", path, json={"chosen_options": ["Reject"], "params_input": {}})
    airflow.finished(HELD, watched.held)
    with visit() as page:
        frame = detail(page, f"{HELD}.vip.diff", "vip")
        held = frame.get_by_test_id("run-row").first
        expect(held).to_contain_text("held")
        expect(held).to_contain_text("180 of 200 members would exit, 90%")
        expect(held.get_by_test_id("approval")).to_contain_text(f"answered Reject by {USER}")
    with visit(READER) as page:
        frame = detail(page, f"{HELD}.vip.diff", "vip")
        frame.get_by_test_id("runs-table").wait_for(state="attached")
        assert USER not in frame.locator("main").inner_text()


def test_a_delivery_that_runs_shows_how_far_it_has_come_until_it_is_through(
    visit: Visit, watched: Watched
) -> None:
    airflow = watched.airflow
    run_id = start(airflow, SLOW, THEN)
    progress = f"dags/{SLOW}/dagRuns/{run_id}/taskInstances/publish/xcomEntries/progress"
    airflow.wait_for("progress of the delivery", lambda: airflow.api.get(f"/api/v2/{progress}").is_success)
    with visit() as page:
        frame = overview(page)
        row = line_of(frame, f"{SLOW}.diff")
        expect(row.get_by_test_id("sync-state")).to_contain_text("delivering")
        expect(row.get_by_test_id("progress")).to_contain_text(
            re.compile(r"[1-9][\d,]* of 30,000, [1-9]\d*/s, \d+ s to go")
        )
        bar = row.get_by_role("progressbar")
        assert bar.get_attribute("max") == "30000"
        done = int(bar.get_attribute("value"))
        assert 0 < done < 30_000
        expect(bar).not_to_have_attribute("value", f"{done}")
        assert int(bar.get_attribute("value")) > done
        watched.slow.hurry.set()
        airflow.expect("success", SLOW, run_id)
        frame.get_by_role("button", name="Refresh").click()
        expect(row.get_by_test_id("sync-state")).to_contain_text("ok")
        expect(row.get_by_role("progressbar")).to_have_count(0)
