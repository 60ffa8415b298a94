"""What is there before Airflow's parts start: databases, a login, real purchases, and days of audiences.

It can be run again: what is there stays, and days that have a change set find it. The purchases are CDNOW's of
1997, moved so that today is the first of September and ten months of them are still to come: audiences change
every day. The past days are run here and now, as ``airflow dags test`` does; from today on the scheduler does it.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from airflow_kinesis_audience.demo import cdnow

TODAY_IN_1997 = date(1997, 9, 1)
EXAMPLES = {"lapsed_customers": None, "customer_profiles": 3, "lapsed_to_firehose": 3}
"""DAGs that are live, and how many days of the past each has; none: as many as are asked for."""
WAIT_SECONDS = 60


def main() -> None:
    """Seed everything, in this order."""
    home = os.environ["SEED_DATABASE"]
    wait_for_database(home)
    make_warehouse(home, os.environ["WAREHOUSE_PASSWORD"])
    airflow("db", "migrate")
    write_password(os.environ["AIRFLOW_ADMIN_PASSWORD"])
    load_purchases(home)
    today = datetime.now(UTC).date()
    for name, most in EXAMPLES.items():
        wanted = int(os.environ.get("SEED_DAYS", "14"))
        run_days(name, [today - timedelta(days=n) for n in range(min(most or wanted, wanted), 0, -1)])
        airflow("dags", "unpause", "--yes", name)


def airflow(*arguments: str) -> None:
    """Run an ``airflow`` command; ends the program if it fails."""
    subprocess.run([sys.executable, "-m", "airflow", *arguments], check=True)  # noqa: S603


def wait_for_database(dsn: str) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def make_warehouse(dsn: str, password: str) -> None:
    """Make the database of the warehouse, and a login that owns the state's schema and reads the marts."""
    with psycopg.connect(dsn, autocommit=True) as server:
        secret = sql.Literal(password)
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            server.execute(sql.SQL("CREATE ROLE audience LOGIN PASSWORD {}").format(secret))
        with contextlib.suppress(psycopg.errors.DuplicateDatabase):
            server.execute("CREATE DATABASE warehouse")
    with psycopg.connect(dsn, dbname="warehouse", autocommit=True) as warehouse:
        warehouse.execute("CREATE SCHEMA IF NOT EXISTS marts")
        warehouse.execute("CREATE SCHEMA IF NOT EXISTS airflow_audience AUTHORIZATION audience")
        warehouse.execute("GRANT USAGE ON SCHEMA marts TO audience")
        warehouse.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA marts GRANT SELECT ON TABLES TO audience")


def load_purchases(dsn: str) -> None:
    """Load the purchases, moved to today, and an e-mail address for each customer."""
    with psycopg.connect(dsn, dbname="warehouse") as warehouse:
        if warehouse.execute("SELECT to_regclass('marts.purchases')").fetchone() != (None,):
            return
        warehouse.execute(
            "CREATE TABLE marts.purchases (customer_id text, purchased_on date, number_of_cds int, "
            "dollar_value numeric(10, 2))"
        )
        warehouse.execute("CREATE TABLE marts.customers (customer_id text PRIMARY KEY, email text)")
        moved = datetime.now(UTC).date() - TODAY_IN_1997
        purchases = cdnow.read_purchases()
        with warehouse.cursor().copy("COPY marts.purchases FROM STDIN") as rows:
            for p in purchases:
                rows.write_row(p._replace(purchased_on=p.purchased_on + moved))
        with warehouse.cursor().copy("COPY marts.customers FROM STDIN") as rows:
            for customer in sorted({p.customer_id for p in purchases}):
                rows.write_row((customer, cdnow.email_of(customer)))


def write_password(password: str) -> None:
    """Write down the password of ``keeper``, the only user."""
    file = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    file.write_text(json.dumps({"keeper": password}))


def run_days(name: str, days: list[date]) -> None:
    """Run an example as of midnight UTC of each day."""
    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    dag: Any = runpy.run_path(str(folder / f"{name}.py"))["dag"]
    for day in days:
        run = dag.test(logical_date=datetime.combine(day, clock(), UTC))
        if str(run.state) != "success":
            sys.exit(f"{name} as of {day} ended as {run.state}; its log stands above")


if __name__ == "__main__":
    main()
