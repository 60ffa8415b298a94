"""The demo's purchases: complete, exact, and asked in two ways with one answer.

The numbers of rows and customers are those of the published data set; everything else is compared with the file
itself, read here by other means.
"""

from __future__ import annotations

import lzma
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_audience.demo import cdnow

if TYPE_CHECKING:
    from collections.abc import Sequence

duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")

PUBLISHED_ROWS = 69_659
PUBLISHED_CUSTOMERS = 23_570


@pytest.fixture(scope="module")
def purchases() -> Sequence[cdnow.Purchase]:
    return cdnow.read_purchases()


@pytest.fixture(scope="module")
def warehouse(purchases: Sequence[cdnow.Purchase], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cdnow") / "warehouse.duckdb"
    cdnow.write_warehouse(path, purchases)
    return path


def last_purchases(purchases: Sequence[cdnow.Purchase], day: date) -> dict[str, date]:
    last: dict[str, date] = {}
    for p in purchases:
        if p.purchased_on < day:
            last[p.customer_id] = max(p.purchased_on, last.get(p.customer_id, p.purchased_on))
    return last


def test_every_row_and_customer_of_the_published_data_set_is_there(purchases: Sequence[cdnow.Purchase]) -> None:
    assert len(purchases) == PUBLISHED_ROWS
    assert len({p.customer_id for p in purchases}) == PUBLISHED_CUSTOMERS


def test_customer_ids_are_texts_that_keep_their_leading_zeros(purchases: Sequence[cdnow.Purchase]) -> None:
    ids = {p.customer_id for p in purchases}
    assert ids == {f"{number:05}" for number in range(1, PUBLISHED_CUSTOMERS + 1)}


def test_values_are_those_of_the_file_to_the_cent(purchases: Sequence[cdnow.Purchase]) -> None:
    packed = Path(cdnow.__file__).with_name(cdnow.FILE)
    with lzma.open(packed, "rt") as lines:
        written = Counter(tuple(line.split()) for line in lines if line.split()[0].isdigit())
    assert written == Counter(
        (p.customer_id, f"{p.purchased_on:%Y%m%d}", str(p.number_of_cds), str(p.dollar_value)) for p in purchases
    )


def test_the_first_lapse_and_the_last_day_are_those_of_the_purchases(purchases: Sequence[cdnow.Purchase]) -> None:
    days = [p.purchased_on for p in purchases]
    assert min(days) + cdnow.LAPSED_AFTER + timedelta(days=1) == cdnow.FIRST_LAPSE
    assert max(days) + timedelta(days=1) == cdnow.LAST_DAY


def test_the_warehouse_holds_the_purchases_with_exact_types(
    warehouse: Path, purchases: Sequence[cdnow.Purchase]
) -> None:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = connection.execute("SELECT * FROM marts.purchases").fetchall()
    assert Counter(rows) == Counter(map(tuple, purchases))
    assert {tuple(map(type, row)) for row in rows} == {(str, date, int, Decimal)}


def test_every_customer_has_one_address_on_a_reserved_domain(
    warehouse: Path, purchases: Sequence[cdnow.Purchase]
) -> None:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = connection.execute("SELECT customer_id, email FROM marts.customers").fetchall()
    assert {row[0] for row in rows} == {p.customer_id for p in purchases}
    addresses = [row[1] for row in rows]
    assert len(set(addresses)) == len(addresses) == PUBLISHED_CUSTOMERS
    assert all(address.endswith("@example.com") for address in addresses)


@pytest.mark.parametrize("day", ["1997-04-01", "1997-04-02", "1997-06-30", "1997-09-01", "1998-07-01"])
def test_who_has_lapsed_is_the_same_in_sql_and_in_python(
    day: str, warehouse: Path, purchases: Sequence[cdnow.Purchase]
) -> None:
    as_of = datetime.fromisoformat(day).date()
    lapsed = {c: d for c, d in last_purchases(purchases, as_of).items() if d < as_of - timedelta(days=90)}
    spent = dict.fromkeys(lapsed, Decimal("0.00"))
    for p in purchases:
        if p.customer_id in lapsed and p.purchased_on < as_of:
            spent[p.customer_id] += p.dollar_value
    assert cdnow.read_lapsed(warehouse, as_of) == {
        c: {"spent": str(spent[c]), "months_away": (as_of - d).days // 30} for c, d in lapsed.items()
    }


def test_a_purchase_90_days_before_still_counts_and_one_of_91_days_does_not(tmp_path: Path) -> None:
    as_of = date(1997, 9, 1)
    ages = {"recent": 90, "lapsed": 91, "same day": 0}
    given = [cdnow.Purchase(name, as_of - timedelta(days=age), 1, Decimal("1.00")) for name, age in ages.items()]
    cdnow.write_warehouse(tmp_path / "warehouse.duckdb", given)
    assert set(cdnow.read_lapsed(tmp_path / "warehouse.duckdb", as_of)) == {"lapsed"}
