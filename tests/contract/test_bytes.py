"""Bytes as a key or an identity: two are never taken for one, and none goes out as a question mark.

An engine has a text for any bytes, or says which text to make of them. The state is in the engine itself, or in
files that its rows are brought to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_kinesis_audience.core.exceptions import WarehouseRefused
from airflow_kinesis_audience.core.model.events import EventSource
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from airflow_kinesis_audience.hooks.state import open_files
from tests.contract.test_state_model import Crowd
from tests.engines import ENGINES, Place
from tests.warehouses import Stream, day, fresh_schema, open_outbox, small_delivery

WRITTEN = {
    "duckdb": r"CAST('\xFF\x{}' AS BLOB)",
    "postgres": r"CAST('\xff{}' AS bytea)",
    "mysql": "x'ff{}'",
    "spark": "CAST(X'ff{}' AS STRING)",
}
"""How each engine writes bytes that are not UTF-8 text."""

HAS_A_TEXT = ("duckdb", "postgres")


PLACES = [(engine, way) for engine in WRITTEN for way in ("there", "in files")]


@pytest.fixture(
    params=[pytest.param(p, marks=[pytest.mark.slow_engine] if p[0] == "spark" else []) for p in PLACES],
    ids=[" ".join(p) for p in PLACES],
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An engine, with the state there or in files."""
    engine, way = request.param
    with ENGINES[engine].open_place(request, tmp_path) as place:
        if way == "there":
            yield place
            return
        files = open_files(str(tmp_path / "state"))
        state = DuckDbParquetWarehouse(files, place.source)

        def open_ledger(schema: str, sync_id: str) -> Ledger:
            return Ledger(state, schema, sync_id, FileLedgerTable(files, schema, sync_id))

        yield Place(warehouse=state, source=place.source, open_ledger=open_ledger)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["place"][0])


@pytest.mark.parametrize("role", ["uid", "email"])
def test_bytes_that_are_no_text_are_kept_apart_or_refused_with_what_to_write(
    place: Place, engine: str, role: str
) -> None:
    crowd = Crowd(place)
    one, other = (WRITTEN[engine].format(last) for last in ("fe", "fd"))
    rest = {"uid": "'x' AS email", "email": "{n} AS uid"}[role]
    rows = [f"SELECT {v} AS {role}, {rest.format(n=n)}, 'x' AS city" for n, v in enumerate((one, other))]
    query = f"SELECT * FROM ({' UNION ALL '.join(rows)}) AS given"
    nobody = " WHERE 1 = 0"
    crowd.run(0, source=crowd.source(query=query + nobody))
    if engine not in HAS_A_TEXT:
        with pytest.raises(WarehouseRefused, match=r"not UTF-8 text.*HEX\((column|uid|email)\)"):
            crowd.run(1, source=crowd.source(query=query))
        # What it says is right: the engine takes it.
        crowd = Crowd(place)
        query = query.replace("*", f"HEX({role}) AS {role}, {'email' if role == 'uid' else 'uid'}, city", 1)
        crowd.run(0, source=crowd.source(query=query + nobody))
    assert crowd.run(1, source=crowd.source(query=query))["entered"] == 2
    found = {key[1] if role == "uid" else new["Email"] for key, (_, new, _) in crowd.changes(1).items()}
    assert len(found) == 2
    assert all("fe" in text.lower() or "fd" in text.lower() for text in found)


SPARK = [pytest.param(("spark", way), marks=pytest.mark.slow_engine) for way in ("there", "in files")]


@pytest.mark.parametrize("place", SPARK, indirect=True)
@pytest.mark.parametrize("listed", ["X'fffe'", "X'c3', X'a9'"])
def test_bytes_in_a_list_that_are_no_text_are_refused_with_what_to_write(place: Place, listed: str) -> None:
    crowd = Crowd(place)
    texts = ", ".join(f"CAST({value} AS STRING)" for value in [*listed.split(", "), "'é'"])
    query = f"SELECT ARRAY({texts}) AS email, 'u' AS uid, 'x' AS city"
    crowd.run(0, source=crowd.source(query=query + " WHERE 1 = 0"))
    with pytest.raises(WarehouseRefused, match=r"'email' has values that are not UTF-8 text.*HEX\("):
        crowd.run(1, source=crowd.source(query=query))
    query = query.replace(listed.split(", ")[0], "'a'").replace("X'a9'", "'b'")
    assert crowd.run(1, source=crowd.source(query=query))["entered"] == 1


@pytest.mark.parametrize("place", SPARK, indirect=True)
@pytest.mark.parametrize("role", ["id", "uid", "email"])
def test_bytes_of_an_event_that_are_no_text_are_refused_with_what_to_write(place: Place, role: str) -> None:
    given = {"id": "'e1'", "uid": "'u1'", "email": "'a@x.y'"} | {role: WRITTEN["spark"].format("fe")}
    columns = ", ".join(f"{value} AS {name}" for name, value in given.items())
    source = EventSource(
        query=f"SELECT {columns}, TIMESTAMP '2026-01-01 12:00:00' AS came, 'click' AS name",
        event_id="id",
        arrived_at="came",
        user_id="uid",
        identities={"email": "Email"},
        fields={"name": "data.event_name"},
    )
    stream, schema = Stream(), fresh_schema()
    ledger = place.open_ledger(schema, "events")
    outbox = open_outbox(ledger, stream, small_delivery(message_format="mparticle_events", options={}))
    with pytest.raises(WarehouseRefused, match=rf"'{role}' has values that are not UTF-8 text.*HEX\({role}\)"):
        forward(outbox, source, day(0), day(1))
    assert not stream.messages
    source = replace(source, query=source.query.replace(given[role], f"HEX({given[role]})", 1))
    assert forward(outbox, source, day(0), day(1))["events"] == 1
