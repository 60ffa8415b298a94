"""The demo's warehouse: real purchases in DuckDB, and who has lapsed by them.

The purchases are the CDNOW transaction log, a published research data set: Peter S. Fader and Bruce G. S. Hardie,
"Forecasting Repeat Sales at CDNOW: A Case Study" (2001). It holds every purchase, until 1998-06-30, of the 23,570
people who first bought at a music shop in the first quarter of 1997. It has no identities: the e-mail addresses
here are made of the customer number on a reserved domain. A customer number is text, its leading zeros included.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

FILE = "cdnow_master.txt.xz"
FIRST_LAPSE = date(1997, 4, 2)
"""The first day as of which somebody has lapsed: no audience is there to be seen before."""
LAST_DAY = date(1998, 7, 1)
"""The last day as of which all purchases before it are known."""
LAPSED_AFTER = timedelta(days=90)

_LAPSED = """
WITH lapsed AS (
    SELECT customer_id FROM marts.purchases WHERE purchased_on < $until
    EXCEPT
    SELECT customer_id FROM marts.purchases WHERE purchased_on >= $since AND purchased_on < $until
)
SELECT customer_id, CAST(sum(dollar_value) AS varchar), date_diff('day', max(purchased_on), $until) // 30
FROM lapsed JOIN marts.purchases USING (customer_id)
WHERE purchased_on < $until
GROUP BY customer_id
"""


class Purchase(NamedTuple):
    """One customer's purchase on one day; ``dollar_value`` is exact and can be zero."""

    customer_id: str
    purchased_on: date
    number_of_cds: int
    dollar_value: Decimal


def read_purchases() -> list[Purchase]:
    """Read all purchases, in the order of the file: by customer, then by day."""
    packed = resources.files("airflow_kinesis_audience.demo").joinpath(FILE).read_bytes()
    _, *lines = lzma.decompress(packed).decode("ascii").splitlines()
    return [_purchase(line) for line in lines]


def email_of(customer_id: str) -> str:
    """Make a customer's e-mail address, always the same, on a domain that nobody can own."""
    return f"customer-{customer_id}@example.com"


def write_warehouse(path: Path, purchases: Sequence[Purchase]) -> None:
    """Write ``marts.purchases`` and ``marts.customers`` to a new DuckDB file."""
    import duckdb
    import pyarrow as pa

    customers = sorted({p.customer_id for p in purchases})
    columns = dict(zip(Purchase._fields, zip(*purchases, strict=True), strict=True))
    tables = {
        "purchases": pa.table(columns),
        "customers": pa.table({"customer_id": customers, "email": [email_of(c) for c in customers]}),
    }
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA marts")
        for name, rows in tables.items():
            connection.register("given", rows)
            connection.execute(f"CREATE TABLE marts.{name} AS SELECT * FROM given")  # noqa: S608


def read_lapsed(path: Path, day: date) -> dict[str, dict[str, Any]]:
    """Ask the warehouse who has bought before a day, but nothing in the 90 days before it.

    Said in other words than the example DAG's query, so that each can show a mistake of the other.

    :returns: customer id to properties, as a message carries them.
    """
    import duckdb

    with duckdb.connect(str(path)) as connection:
        found = connection.execute(_LAPSED, {"since": day - LAPSED_AFTER, "until": day}).fetchall()
    return {customer_id: {"spent": spent, "months_away": months} for customer_id, spent, months in found}


def _purchase(line: str) -> Purchase:
    customer_id, day, number_of_cds, dollar_value = line.split()
    purchased_on = date(int(day[:4]), int(day[4:6]), int(day[6:]))
    return Purchase(customer_id, purchased_on, int(number_of_cds), Decimal(dollar_value))
