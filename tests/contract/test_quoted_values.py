"""What a warehouse says of a value that one of its functions did not like is seen nowhere, on any engine.

Every column holds a word that is found nowhere else, and each function below is known to have it quoted: of every
one the driver's own error is looked at, too, so that a list of functions that quote nothing would fail.
"""

from __future__ import annotations

import itertools
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pyarrow as pa
import pytest

from airflow_kinesis_audience.core.changes.plan import make_plan
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import AudienceError
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.postgres import PostgresWarehouse
from tests.engines import ENGINES, Place, place_of
from tests.warehouses import LET_ALL_THROUGH, day, fresh_schema, insert_rows

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

WORD = "nightingale"
COLUMNS = ("uid", "email", "city")
MEMBERS = [(f"{WORD} u{n} (", f"{WORD} e{n} (", f"{WORD} c{n} (") for n in range(3)]

POSTGRES = """
CAST({v} AS INT); CAST({v} AS DATE); CAST({v} AS JSONB); CAST({v} AS INET); CAST({v} AS UUID)
CAST({v} AS INTERVAL); to_tsquery({v}); to_tsquery('english', {v}); CAST({v} AS regtype)
CAST(SPLIT_PART({v}, ' ', 1) AS regclass); nextval(SPLIT_PART({v}, ' ', 1)); currval(SPLIT_PART({v}, ' ', 1))
pg_get_serial_sequence(SPLIT_PART({v}, ' ', 1), 'a'); current_setting({v})
set_config({v}, '1', TRUE); set_config(SPLIT_PART({v}, ' ', 1), '1', TRUE)
has_table_privilege(SPLIT_PART({v}, ' ', 1), 'SELECT'); has_schema_privilege({v}, 'USAGE')
pg_has_role({v}, 'MEMBER'); has_database_privilege({v}, 'CONNECT'); has_language_privilege({v}, 'USAGE')
query_to_xml({v}, TRUE, TRUE, ''); encode('x', {v}); convert_to('x', {v}); date_trunc({v}, NOW())
pg_size_bytes({v}); says_it_is_syntax({v}); says_it_is_denied({v}); says_it_is_missing({v})
calls_what_is_not_there({v})
"""
DUCKDB = """
CAST({v} AS INT); CAST({v} AS DATE); CAST({v} AS UUID); CAST({v} AS TIMESTAMPTZ); CAST({v} AS DECIMAL(9, 2))
json_extract({v}, '$.a'); strptime({v}, '%d'); error({v})
timezone({v}, now()); date_part({v}, now()); date_trunc({v}, now())
"""
MYSQL = """
GET_LOCK(CONCAT({v}, REPEAT('x', 300)), 0); RELEASE_LOCK(CONCAT({v}, REPEAT('x', 300)))
IS_FREE_LOCK(CONCAT({v}, REPEAT('x', 300))); CAST({v} AS UUID); CAST({v} AS INET6)
DATE_FORMAT({v}, '%d'); SLEEP({v}); CHAR({v} USING utf8mb4)
"""
SPARK = """
CAST({v} AS INT); CAST({v} AS DATE); CAST({v} AS TIMESTAMP); CAST({v} AS DECIMAL(9, 2)); raise_error({v})
date_trunc('DAY', CAST({v} AS DATE)); to_number({v}, '999')
"""
SNOWFLAKE = "CAST({v} AS INT); CAST({v} AS DATE); CAST({v} AS DECIMAL(9, 2)); TO_DATE({v})"
CLICKHOUSE = (
    "toInt64({v}); toDate({v}); toUUID({v}); toDateTime64({v}, 3); toTypeName(CAST({v} AS Enum8('a' = 1)))"
)

RAISING = """
CREATE FUNCTION {name}(v TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$ BEGIN
RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'no such ' || v; END $$
"""
MADE: Mapping[str, Sequence[str]] = {
    "postgres": [
        RAISING.format(name="says_it_is_syntax", state="42601"),
        RAISING.format(name="says_it_is_denied", state="42501"),
        RAISING.format(name="says_it_is_missing", state="3F000"),
        "CREATE FUNCTION calls_what_is_not_there(v TEXT) RETURNS TEXT LANGUAGE plpgsql AS "
        "$$ DECLARE found TEXT; BEGIN RAISE NOTICE 'saw %', v; RAISE WARNING 'saw %', v; "
        "EXECUTE 'SELECT ' || quote_ident(v) INTO found; RETURN found; END $$",
    ],
}
LISTS: Mapping[str, str] = {
    **{"duckdb": DUCKDB, "postgres": POSTGRES, "mysql": MYSQL, "spark": SPARK, "databricks": SPARK},
    **{"redshift": POSTGRES, "snowflake": SNOWFLAKE, "clickhouse": CLICKHOUSE},
}


def functions(listed: str) -> list[str]:
    """Split a list into its functions of ``{v}``."""
    return [found.strip() for line in listed.splitlines() for found in line.split(";") if found.strip()]


def psycopg_2(request: pytest.FixtureRequest) -> Any:
    dsn = request.getfixturevalue("postgres_database")
    return place_of(lambda: PostgresWarehouse(lambda: psycopg2.connect(dsn), DIALECTS["postgres"]))


@pytest.fixture(params=[*(name for name in ENGINES if name != "duckdb without keys"), "psycopg 2"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    opened = (
        psycopg_2(request)
        if request.param == "psycopg 2"
        else ENGINES[request.param].open_place(request, tmp_path)
    )
    with opened as place:
        kind = place.source.dialect.name
        for statement in MADE.get("postgres" if kind == "redshift" else kind, ()):
            place.source.execute(statement)
        texts = {"mysql": "VARCHAR(99)", "clickhouse": "String"}
        columns = ", ".join(f"{name} {texts.get(kind, 'VARCHAR(99)')}" for name in COLUMNS)
        place.source.drop_table("members")  # a server of Spark is shared
        place.source.execute(f"CREATE TABLE members ({columns})" + " ENGINE = Memory" * (kind == "clickhouse"))
        insert_rows(place.source, "members", MEMBERS)
        yield place


def source_of(query: str) -> Source:
    labels = {"identities": {"email": "Email"}, "properties": {"city": "city"}}
    return Source(query=query, user_id="uid", audience_id="a", **labels)


def statements(place: Place) -> list[Callable[[str], object]]:
    """Give all by which a warehouse is asked for an author's rows."""
    read, schema = place.source, pa.schema([(name, pa.string()) for name in COLUMNS])
    numbers = itertools.count()
    return [
        read.read_rows,
        lambda query: list(read.read_batches(query, schema, rows=2)),
        lambda query: read.write_table(f"made_{next(numbers)}", query),
    ]


def tasks(place: Place) -> Iterator[Callable[[str], object]]:
    """Give all that a sync does with an author's rows."""
    for before in (None, f"SELECT {', '.join(COLUMNS)} FROM members"):
        ledger = place.open_ledger(fresh_schema(), "dag.diff")
        if before:
            Sync(ledger, source_of(before), guards=LET_ALL_THROUGH).run(day(0))
        yield lambda query, ledger=ledger: Sync(ledger, source_of(query), guards=LET_ALL_THROUGH).run(day(1))
        yield lambda query, ledger=ledger: make_plan(ledger, source_of(query), day(1))


def test_no_function_that_quotes_a_value_has_it_shown(
    place: Place, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    kind = place.source.dialect.name
    quoted, shown, listed = set(), [], functions(LISTS[kind])
    for function, column in zip(listed, itertools.cycle(COLUMNS), strict=False):
        text = f"CAST({function.format(v=column)} AS {'CHAR' if kind == 'mysql' else 'VARCHAR(99)'})"
        asked = [*statements(place), *(tasks(place) if function == listed[-1] else ())]
        for ask in asked:
            try:
                ask(f"SELECT uid, email, {text} AS city FROM members")
            except AudienceError as refused:
                if WORD in str(refused.__context__).lower():
                    quoted.add(function)
                said = "".join(traceback.format_exception(refused)) + str(refused.sentences)
                shown += [f"{function}: {line}" for line in said.splitlines() if WORD in line.lower()]
    assert not shown
    assert [line[:99] for line in caplog.text.splitlines() if WORD in line.lower()] == []
    assert WORD not in "".join(capfd.readouterr())
    assert "; ".join(function for function in listed if function not in quoted) == ""


@pytest.mark.parametrize("by", ["a driver", "arrow"])
def test_no_error_that_leaves_a_task_leads_to_one_that_quotes_a_value(
    by: str, duckdb_in_memory: SqlWarehouse
) -> None:
    from airflow_kinesis_audience.operators.errors import airflow_outcome

    with pytest.raises(Exception, match="not shown here") as left, airflow_outcome():  # noqa: PT012
        if by == "a driver":
            duckdb_in_memory.read_rows(f"SELECT CAST(v AS INT) FROM (VALUES ('{WORD}')) AS t(v)")
        pa.array([WORD]).cast(pa.int64())
    errors: list[BaseException | None] = [left.value]
    while errors[-1] is not None:
        assert WORD not in f"{errors[-1]!r} {errors[-1]}"
        errors.append(errors[-1].__cause__ or errors[-1].__context__)


def test_what_is_wrong_with_the_query_itself_is_said_in_the_engine_s_words(place: Place) -> None:
    for query in ("SELECT nothing_of_it AS uid FROM members", "SELECT uid FROM nowhere_at_all"):
        source = Source(query=query, user_id="uid", identities={}, properties={}, audience_id="vips")
        with pytest.raises(AudienceError, match=r"(?i)nothing_of_it|nowhere_at_all"):
            Sync(place.open_ledger(fresh_schema(), "dag.diff"), source, guards=LET_ALL_THROUGH).run(day(0))
