"""How much a delivery reads: each row once, whatever audiences, parts and partition groups there are.

The rows that statements give are counted on every engine; what the engine itself had to look at for them, where it
says so: ClickHouse's engine by its rows read, PostgreSQL by what its plan removed.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import WarehouseUnavailable
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state import rows as rows_module
from tests.engines import ENGINES, Place
from tests.warehouses import (
    KINESIS_LIMITS,
    LET_ALL_THROUGH,
    Stream,
    day,
    fresh_schema,
    open_outbox,
    small_delivery,
)

SERIES = {
    "duckdb": "range({rows}) AS given(n)",
    "postgres": "generate_series(0, {rows} - 1) AS given(n)",
    "clickhouse": "(SELECT number AS n FROM numbers({rows})) AS given",
    "mysql": "(SELECT seq AS n FROM seq_0_to_{last}) AS given",
}
TEXT = {"clickhouse": "toString({})", "mysql": "CAST({} AS CHAR)"}
MIXTURES = [(1, 1), (1, 4), (1_000, 1), (1_000, 4), (1_000, 16)]
"""Audiences, and parts of the delivery."""

ROWS, SLICE_ROWS = 8_000, 400


class Members:
    """A sync over members that the engine itself makes, evenly in some audiences, after its first run."""

    def __init__(self, place: Place, rows: int, audiences: int) -> None:
        self.place, self.rows, self.schema = place, rows, fresh_schema()
        name = place.warehouse.dialect.name
        series = SERIES.get(name, SERIES["duckdb"]).format(rows=rows, last=rows - 1)
        text = TEXT.get(name, "CAST({} AS VARCHAR)")
        number, audience = text.format("n"), text.format(f"n % {audiences}")
        source = Source(
            query=f"SELECT {audience} AS audience, {number} AS uid, {number} AS city FROM {series}",
            user_id="uid",
            identities={"city": "Email"},
            properties={},
            audience_id_column="audience",
        )
        Sync(self.ledger(), source, guards=LET_ALL_THROUGH).run(day(0))

    def ledger(self) -> Any:
        return self.place.open_ledger(self.schema, "dag.diff")

    def deliver(self, parts: int, watch: Callable[[Any], None] = lambda _: None) -> Stream:
        """Send all members, part by part; ``watch`` gets the warehouse of each."""
        stream = Stream()
        for number in range(parts):
            part = Part(number, parts)
            delivery = small_delivery("all", partitions=16, part=part, limits=KINESIS_LIMITS, owner="one")
            ledger = self.ledger()
            with closing(ledger.warehouse) as warehouse:
                watch(warehouse)
                open_outbox(ledger, stream, delivery).drain(day(0))
        return stream


@pytest.fixture(params=["duckdb", "postgres", "parquet", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Place]:
    with ENGINES[request.param].open_place(request, tmp_path) as place:
        yield place


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "SLICE_ROWS", SLICE_ROWS)


class Reads:
    """Counts the statements that read rows, and the rows that they gave."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.statements: list[str] = []
        self.threads: set[str] = set()
        self.rows, self.before = 0, before

    def watch(self, warehouse: Any) -> None:
        read = warehouse.read_batches

        def counted(sql: str, schema: Any, *, rows: int) -> Iterator[Any]:
            self.statements.append(sql)
            self.threads.add(threading.current_thread().name)
            self.before()
            for batch in read(sql, schema, rows=rows):
                self.rows += batch.num_rows
                yield batch

        warehouse.read_batches = counted


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize(("audiences", "parts"), MIXTURES)
def test_each_row_is_read_once_whatever_audiences_and_parts(place: Place, audiences: int, parts: int) -> None:
    members, reads = Members(place, ROWS, audiences), Reads()
    stream = members.deliver(parts, reads.watch)
    # The users of a first delivery are a message each two at most, so all are there.
    assert sum(record.changes for record in stream.taken) == ROWS
    assert reads.rows == ROWS
    assert len(reads.statements) <= 3 * ROWS // SLICE_ROWS


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize(("audiences", "parts"), MIXTURES)
@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_postgresql_looks_at_no_rows_but_those_that_are_read(place: Place, audiences: int, parts: int) -> None:
    members, reads = Members(place, ROWS, audiences), Reads()
    with pytest.MonkeyPatch.context() as patched:  # so that the table stays
        patched.setattr("airflow_kinesis_audience.core.outbox.outbox.drop_snapshot", lambda log: None)
        members.deliver(parts, reads.watch)
    looked_at = pages = 0
    for sql in reads.statements:
        [(plan,)] = place.warehouse.read_rows(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {sql}")
        root = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        pages += root["Shared Hit Blocks"] + root["Shared Read Blocks"]
        looked_at += sum(_looked_at(root))
    print(f"{audiences} audiences, {parts} parts: {looked_at} rows looked at, {pages} pages")
    assert ROWS <= looked_at <= 1.2 * ROWS


def _looked_at(node: Any) -> Iterator[float]:
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    if "Scan" in node["Node Type"] and "Bitmap Index" not in node["Node Type"]:
        yield (node["Actual Rows"] + removed) * node["Actual Loops"]
    for below in node.get("Plans", ()):
        yield from _looked_at(below)


@pytest.mark.parametrize(("audiences", "parts"), [(1, 1), (1_000, 1), (1_000, 4)])
@pytest.mark.parametrize("place", ["clickhouse"], indirect=True)
def test_clickhouse_reads_no_granules_but_those_of_a_slice(
    place: Place, audiences: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.engines import clickhouse

    engine, read = clickhouse._engine(), 0

    class Counting:
        def query(self, sql: str, form: str) -> Any:
            nonlocal read
            found = engine.query(sql, form)
            if '"user_id", "member_since"' in sql and " ORDER BY " in sql and sql.startswith("SELECT"):
                read += found.storage_rows_read()
            return found

    rows = 400_000
    members = Members(place, rows, audiences)
    monkeypatch.setattr(clickhouse, "_engine", Counting)
    members.deliver(parts)
    print(f"{audiences} audiences, {parts} parts: {read} rows read for {rows}")
    assert rows <= read <= 1.2 * rows


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)
def test_statements_that_take_long_are_read_ahead(place: Place) -> None:
    seconds = 0.25
    members, reads = Members(place, ROWS, 1), Reads(lambda: time.sleep(seconds))
    began = time.monotonic()
    members.deliver(1, reads.watch)
    took = time.monotonic() - began
    assert len(reads.statements) >= ROWS // SLICE_ROWS
    assert took < 0.6 * seconds * len(reads.statements), f"{took:.2f} s for {len(reads.statements)} statements"


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)
def test_one_connection_is_enough_where_the_server_has_no_more(place: Place) -> None:
    members, main = Members(place, ROWS, 1), set[str]()

    def refuse_others() -> None:
        if threading.current_thread().name.startswith("read"):
            raise WarehouseUnavailable("too many connections")
        main.add(threading.current_thread().name)

    taken = members.deliver(1, Reads(refuse_others).watch).taken
    assert sum(record.changes for record in taken) == ROWS
    assert main


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)
def test_an_error_of_a_reading_thread_fails_the_delivery_and_the_next_attempt_finishes_it(place: Place) -> None:
    members, failing = Members(place, ROWS, 1), itertools.count()

    def fail_from_then_on() -> None:
        if next(failing) >= 7:
            raise WarehouseUnavailable("the server went away")

    reads = Reads(fail_from_then_on)
    with pytest.raises(WarehouseUnavailable, match="the server went away"):
        members.deliver(1, reads.watch)
    assert not [t for t in threading.enumerate() if t.name.startswith("read")]
    assert any(name.startswith("read") for name in reads.threads)
    assert sum(record.changes for record in members.deliver(1).taken) <= ROWS
