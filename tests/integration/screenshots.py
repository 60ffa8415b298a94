"""Takes the pictures of the page that the docs show: the Airflow that the tests look at, with a shop's audiences.

    python -m tests.integration.screenshots

It takes some minutes, needs PostgreSQL and Chromium, and writes docs/images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.integration.browser import audiences, log_in, running_browser, visitor
from tests.integration.page_airflow import CDNOW, HELD, THOUSAND, fill, watched_airflow
from tests.integration.running_airflow import ROOT, USER
from tests.postgres import find_programs, running_server

IMAGES = ROOT / "docs" / "images"
DAYS = 30
VIEWS = {
    "audiences-light": "",
    "audience-dark": f"?sync={CDNOW}.diff&audience=lapsed_90_days",
}

_SYNC = """
from airflow.sdk import DAG
from airflow_kinesis_audience.operators import audience_sync

with DAG("{dag}"):
    audience_sync(
        group_id="{group}",
        warehouse_conn_id="postgres",
        sql='''{sql}''',
        {audiences},
        stream_name="audience-changes",
        message_format="amplitude_cohort",
    )
"""
_VIP = "SELECT n AS user_id FROM generate_series(1, {{ 1840 if ds == '2026-01-01' else 212 }}) AS n"
_AUDIENCES = """
    SELECT id, name, u AS user_id
    FROM (VALUES
        ('cart_3d', 'Abandoned cart, 3 days', 4210, 390), ('first_order', 'First order this week', 980, 610),
        ('gold', 'Gold members', 3120, 25), ('lapsed_180', 'Lapsed 180 days', 7460, 48),
        ('newsletter', 'Newsletter readers', 9340, 130), ('no_email', 'No e-mail in 30 days', 5230, 260),
        ('price_drop', 'Watched a price drop', 1670, 540), ('returns', 'Returned an order', 410, 37),
        ('win_back', 'Win back: 60 to 90 days', 2890, 175)
    ) AS shop (id, name, members, moved),
    generate_series(1 + moved * {{ logical_date.day }}, members + (moved + 11) * {{ logical_date.day }}) AS u
"""
SHOP = {
    HELD: _SYNC.format(
        dag=HELD, group="vip", sql=_VIP, audiences='audience_id="vip", audience_name="VIP customers"'
    ),
    THOUSAND: _SYNC.format(
        dag=THOUSAND,
        group="shop",
        sql=_AUDIENCES,
        audiences='audience_id_column="id", audience_name_column="name"',
    ),
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
        watched_airflow(server, Path(folder), dags=SHOP) as airflow,
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
