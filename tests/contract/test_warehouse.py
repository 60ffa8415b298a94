"""A warehouse's hook keeps its word on both engines: it commits, bounds batches, and quotes no values."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from datetime import UTC, date, datetime

import psycopg
import psycopg2
import pyarrow as pa
import pytest
from psycopg.rows import dict_row

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses import duckdb as duckdb_hook
from airflow_kinesis_audience.hooks.warehouses.dbapi import as_frame
from airflow_kinesis_audience.hooks.warehouses.postgres import BUILT_IN_TYPES, PostgresWarehouse
from tests.warehouses import insert_rows, open_duckdb, open_postgres

NUMBERS = "SELECT n, CASE WHEN n % 2 = 0 THEN 9007199254740993 END AS big FROM generate_series(1, 25) AS t(n)"
SCHEMA = pa.schema([("n", pa.int64()), ("big", pa.int64())])


def test_every_statement_is_there_for_others_as_soon_as_it_ran(warehouse, reopen):
    other = reopen()
    warehouse.execute("CREATE TABLE t (n BIGINT)")
    other.execute(f"INSERT INTO t VALUES ({other.placeholder})", (1,))
    assert warehouse.read_rows("SELECT n FROM t") == [(1,)]
    with pytest.raises(AudienceError):
        warehouse.execute("INSERT INTO t SELECT CAST('x' || n AS BIGINT) FROM t")
    warehouse.execute("INSERT INTO t VALUES (2)")
    assert other.read_rows("SELECT n FROM t ORDER BY n") == [(1,), (2,)]


def test_a_large_result_comes_in_bounded_batches_of_the_asked_types(warehouse):
    batches = list(warehouse.read_batches(f"{NUMBERS} ORDER BY n", SCHEMA, rows=10))
    assert {batch.schema for batch in batches} == {SCHEMA}
    assert max(batch.num_rows for batch in batches) <= 10
    read = pa.Table.from_batches(batches).to_pydict()
    assert read == {"n": list(range(1, 26)), "big": [None if n % 2 else 2**53 + 1 for n in range(1, 26)]}
    frame = as_frame(batches[0])
    assert frame["big"].tolist()[1] == 2**53 + 1
    assert list(frame.columns) == ["n", "big"]


def test_an_empty_result_has_no_batches(warehouse):
    assert list(warehouse.read_batches(f"SELECT * FROM ({NUMBERS}) AS none_of WHERE n < 0", SCHEMA, rows=10)) == []


@pytest.fixture(params=["duckdb", "psycopg 3", "psycopg 2"])
def driver(request, tmp_path):
    """An empty warehouse, through each driver that rows come out of; older Airflow gives psycopg 2."""
    if request.param == "duckdb":
        warehouse = open_duckdb(tmp_path / "warehouse.duckdb")
    else:
        dsn = request.getfixturevalue("postgres_database")
        connect = {"psycopg 2": psycopg2.connect, "psycopg 3": psycopg.connect}[request.param]
        warehouse = PostgresWarehouse(lambda: connect(dsn), DIALECTS["postgres"])
    with warehouse:
        yield warehouse


both_psycopgs = pytest.mark.parametrize("driver", ["psycopg 3", "psycopg 2"], indirect=True)


def test_every_value_is_read_as_it_is_in_the_table(driver):
    words = [
        "",
        None,
        "NULL",
        "\\N",
        "\\.",
        'a "quoted", word',
        "two\nlines",
        "two\r\nmore",
        " ",
        "\t",
        "é\U0001f600",
        "t",
    ]
    types = {"share": "DOUBLE PRECISION", "seen": "TIMESTAMP WITH TIME ZONE"}
    names = {"n": "BIGINT", "word": "TEXT", "flag": "BOOLEAN", "day": "DATE", **types}
    driver.execute(f"CREATE TABLE t ({', '.join(f'{name} {kind}' for name, kind in names.items())})")
    rows = [(n, word, None, None, None, None) for n, word in enumerate(words)]
    insert_rows(driver, "t", rows)
    at = "TIMESTAMP WITH TIME ZONE"
    for values in (
        f"100, 'x', TRUE, DATE '1583-02-28', 0.1, {at} '2026-01-01 01:00:00.000001+05:30'",
        f"101, 'x', FALSE, DATE '9999-12-31', -1e-300, {at} '1969-12-31 23:59:59.5+00'",
        "102, 'x', NULL, NULL, 'NaN', NULL",
        "103, 'x', NULL, NULL, '-Infinity', NULL",
    ):
        driver.execute(f"INSERT INTO t VALUES ({values})")
    fields = [("n", pa.int64()), ("word", pa.string()), ("flag", pa.bool_()), ("day", pa.date32())]
    schema = pa.schema([*fields, ("share", pa.float64()), ("seen", pa.timestamp("us", tz="UTC"))])
    read = pa.Table.from_batches(driver.read_batches("SELECT * FROM t ORDER BY n", schema, rows=5)).to_pydict()
    assert read["word"] == [*words, "x", "x", "x", "x"]
    assert read["flag"][-4:] == [True, False, None, None]
    assert read["share"][-4:-2] == [0.1, -1e-300]
    assert math.isnan(read["share"][-2])
    assert read["share"][-1] == -math.inf
    assert read["day"][-4:] == [date(1583, 2, 28), date(9999, 12, 31), None, None]
    early = [
        datetime(2025, 12, 31, 19, 30, 0, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC),
    ]
    assert read["seen"][-4:] == [*early, None, None]


def test_long_values_come_whole_and_in_their_order(driver):
    line = "CASE WHEN n % 7 > 0 THEN n || REPEAT(',\"' || CHR(10), 2000) END"
    query = f"SELECT n, {line} AS line FROM generate_series(1, 1000) AS t(n) ORDER BY n"
    schema = pa.schema([("n", pa.int64()), ("line", pa.string())])
    batches = list(driver.read_batches(query, schema, rows=400))
    assert max(batch.num_rows for batch in batches) <= 400
    read = pa.Table.from_batches(batches).to_pydict()
    assert read["n"] == list(range(1, 1001))
    assert read["line"] == [f"{n}" + ',"\n' * 2000 if n % 7 else None for n in range(1, 1001)]


def test_what_is_read_does_not_stand_in_the_way_of_another_statement(driver):
    first = driver.read_batches(NUMBERS, SCHEMA, rows=1)
    next(first)
    second = driver.read_batches(NUMBERS, SCHEMA, rows=10)
    assert next(second).num_rows == 10
    assert driver.read_rows("SELECT 1") == [(1,)]
    first.close()
    assert sum(batch.num_rows for batch in second) == 15
    assert sum(batch.num_rows for batch in driver.read_batches(NUMBERS, SCHEMA, rows=10)) == 25


@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
@pytest.mark.parametrize("value", ["DATE 'infinity'", "DATE '0044-03-15 BC'"])
def test_a_value_that_no_type_can_hold_is_refused_without_showing_it(warehouse, value):
    with pytest.raises(WarehouseRefused, match="outside the range of its type") as refused:
        list(warehouse.read_batches(f"SELECT {value}", pa.schema([("day", pa.date32())]), rows=10))
    assert "44" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
def test_an_error_in_the_middle_of_a_large_result_is_raised_as_any_other(warehouse, reopen):
    failing = "SELECT n, 1 / (20000 - n) FROM generate_series(1, 30000) AS t(n)"
    with pytest.raises(WarehouseRefused, match="DivisionByZero"):
        list(warehouse.read_batches(failing, SCHEMA, rows=10))
    with pytest.raises(WarehouseRefused, match="UndefinedTable"):
        list(warehouse.read_batches("SELECT n, m FROM nowhere", SCHEMA, rows=10))
    slow = "SELECT n, CASE WHEN pg_sleep(0.0001) IS NOT NULL THEN n END FROM generate_series(1, 1000000) AS t(n)"
    ended = warehouse.read_batches(slow, SCHEMA, rows=1)
    next(ended)
    reopen().read_rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(WarehouseUnavailable):
        list(ended)
    warehouse = reopen()
    assert sum(b.num_rows for b in warehouse.read_batches(NUMBERS, SCHEMA, rows=10)) == 25


def test_types_are_read_without_running_the_query(warehouse):
    warehouse.execute("CREATE TABLE t (word TEXT)")
    warehouse.execute("INSERT INTO t VALUES ('no number')")
    query = 'SELECT CAST(word AS BIGINT) AS "Odd ""name", word FROM t -- not a single row of it'
    found = warehouse.read_types(query)
    assert list(found) == ['Odd "name', "word"]
    assert found['Odd "name'].lower() == "bigint"
    with pytest.raises(AudienceError):
        warehouse.read_rows(query)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT CAST(word AS BIGINT) FROM t",
        "SELECT CAST(word AS DATE) FROM t",
        "INSERT INTO t SELECT word FROM t",
        "CREATE TABLE other AS SELECT CAST(word AS DOUBLE PRECISION) AS n FROM t",
    ],
)
def test_an_error_never_quotes_a_value_of_a_row(warehouse, statement):
    warehouse.execute("CREATE TABLE t (word TEXT PRIMARY KEY)")
    insert_rows(warehouse, "t", [("secret@example.com",)])
    with pytest.raises(WarehouseRefused, match="run the query in the warehouse") as refused:
        warehouse.execute(statement)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__, "a traceback would print the driver's words"


def test_a_wrong_query_is_refused_in_the_engines_words(warehouse):
    for statement, sentence in (
        ("SELECT 1 FROM nowhere", "nowhere"),
        ("SELEC 1", "syntax"),
        ("SELECT nothing", "nothing"),
    ):
        with pytest.raises(WarehouseRefused, match=sentence):
            warehouse.read_types(statement)
        with pytest.raises(
            WarehouseRefused, match="its message is not shown here; run the query in the warehouse"
        ):
            warehouse.read_rows(statement)
    assert warehouse.read_rows("SELECT 1") == [(1,)]


@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
def test_a_missing_grant_is_refused_with_what_to_grant(warehouse):
    warehouse.execute("CREATE TABLE t (n BIGINT)")
    warehouse.execute("CREATE ROLE nobody_at_all")
    warehouse.execute("SET ROLE nobody_at_all")
    try:
        with pytest.raises(WarehouseRefused, match=r"permission denied.*needs SELECT on the source"):
            warehouse.read_types("SELECT n FROM t")
        with pytest.raises(
            WarehouseRefused, match=r"denies access \(42501\). The login needs SELECT on the source"
        ):
            warehouse.read_rows("SELECT n FROM t")
    finally:
        warehouse.execute("RESET ROLE")
        warehouse.execute("DROP ROLE nobody_at_all")


@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
def test_a_connection_that_breaks_is_worth_a_retry(warehouse, reopen):
    [(process,)] = warehouse.read_rows("SELECT pg_backend_pid()")
    reopen().execute(f"SELECT pg_terminate_backend({process})")
    for _ in range(2):  # at first the server says so, and then the driver
        with pytest.raises(WarehouseUnavailable):
            warehouse.read_rows("SELECT 1")


def test_a_server_that_cannot_be_reached_is_worth_a_retry(postgres_database):
    addresses = iter([postgres_database])
    refusing = "postgresql://postgres@127.0.0.1:1/x"
    with PostgresWarehouse(lambda: psycopg.connect(next(addresses, refusing)), DIALECTS["postgres"]) as warehouse:
        assert warehouse.read_rows("SELECT 1") == [(1,)]
        with pytest.raises(WarehouseUnavailable):  # a large result has a connection of its own
            list(warehouse.read_batches(NUMBERS, SCHEMA, rows=10))
    with open_postgres(refusing) as warehouse, pytest.raises(WarehouseUnavailable):
        warehouse.read_rows("SELECT 1")


def test_rows_are_read_by_position_whatever_the_connection_asks_for(postgres_database):
    connect = lambda: psycopg.connect(postgres_database, row_factory=dict_row)  # noqa: E731
    with PostgresWarehouse(connect, DIALECTS["postgres"]) as warehouse:
        assert warehouse.read_rows("SELECT 1 AS a, 2 AS a") == [(1, 2)]
        assert warehouse.read_types("SELECT 1 AS a") == {"a": "integer"}
        [batch] = warehouse.read_batches(NUMBERS, SCHEMA, rows=100)
        assert batch.num_rows == 25


class Counted(psycopg.Cursor):
    """Keeps each statement that is sent to the server."""

    def execute(self, query, *given, **named):
        self.connection.sent.append(query)
        return super().execute(query, *given, **named)


@pytest.fixture
def counted(postgres_database):
    """A warehouse whose driver counts, and what it has sent; its connection asks for prepared statements."""
    sent = []

    def connect() -> psycopg.Connection:
        connection = psycopg.connect(postgres_database, cursor_factory=Counted, prepare_threshold=0)
        connection.sent = sent
        return connection

    with PostgresWarehouse(connect, DIALECTS["postgres"]) as warehouse:
        yield warehouse, sent


def test_postgres_describes_and_explains_a_query_in_one_round_trip(counted):
    warehouse, sent = counted
    typed = "uid TEXT, city VARCHAR(9), at TIMESTAMPTZ, price NUMERIC(9, 2), tags TEXT[]"
    warehouse.execute(f"CREATE TABLE t ({typed})")
    warehouse.execute("INSERT INTO t SELECT 'u' FROM generate_series(1, 1000)")
    sent.clear()
    assert warehouse.read_types("SELECT * FROM t") == {
        **{"uid": "text", "city": "character varying", "at": "timestamp with time zone", "price": "numeric"},
        "tags": "text[]",
    }
    assert warehouse.is_cheap_to_reread("SELECT * FROM t")
    assert len(sent) == 1


def test_postgres_writes_a_table_with_its_indexes_in_one_round_trip(counted):
    warehouse, sent = counted
    columns = "n AS position, '0a1' AS bucket, 'a' AS audience_id, 'audience' AS action"
    rows = f"SELECT {columns} FROM generate_series(1, 100) AS t(n) -- ;"
    for number in range(10):
        warehouse.write_table(f'"t{number}"', rows, sliced_by="position", has_audience_rows=True)
    assert len(sent) == 10
    defined = "SELECT indexdef FROM pg_indexes WHERE tablename = 't9' ORDER BY 1"
    indexes = [row[0].partition(" USING ")[2] for row in warehouse.read_rows(defined)]
    by_slice = 'btree (SUBSTRING(bucket FROM 1 FOR 1), "position")'
    assert sorted(indexes) == [by_slice, "btree (audience_id) WHERE (action = 'audience'::text)"]
    assert warehouse.read_rows("SELECT reltuples::int FROM pg_class WHERE relname = 't9'") == [(100,)]
    assert warehouse.read_rows("SELECT COUNT(*) FROM pg_stats WHERE tablename = 't9'") == [(4,)]


@both_psycopgs
def test_a_statement_that_takes_too_long_is_not_said_to_be_the_connection_s_fault(driver):
    driver.execute("SET statement_timeout = 200")
    with pytest.raises(WarehouseUnavailable, match=r"ended the statement \(57014\).*statement_timeout"):
        driver.read_rows("SELECT pg_sleep(20)")


@both_psycopgs
def test_a_table_that_cannot_be_indexed_is_not_there_at_all(driver):
    driver.write_table('"whole"', "SELECT 1 AS position, '0a1' AS bucket", sliced_by="position")
    with pytest.raises(WarehouseRefused, match="UndefinedColumn"):
        driver.write_table('"half"', "SELECT 1 AS n", sliced_by="position")
    with pytest.raises(WarehouseRefused, match="run the query in the warehouse") as refused:
        driver.write_table('"half"', "SELECT CAST(word AS INT) AS position FROM (VALUES ('secret')) AS v(word)")
    assert "secret" not in str(refused.value)
    assert driver.read_rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("whole",)]


@both_psycopgs
def test_who_may_not_create_a_table_is_refused_with_what_to_grant(driver):
    driver.execute("CREATE SCHEMA closed")
    driver.execute("CREATE ROLE nobody_at_all")
    driver.execute("SET ROLE nobody_at_all")
    try:
        with pytest.raises(WarehouseRefused, match=r"denies access \(42501\).*USAGE and CREATE on"):
            driver.write_table('"closed"."t"', "SELECT 1 AS position", sliced_by="position")
    finally:
        driver.execute("RESET ROLE")
        driver.execute("DROP ROLE nobody_at_all")


_LISTS = (
    "SELECT typarray::bigint, CASE typtype WHEN 'c' THEN 'record' ELSE format_type(typbasetype, NULL) END || '[]' "
    "FROM pg_type WHERE"
)


@both_psycopgs
def test_postgres_types_are_named_as_the_server_names_them(driver):
    driver.execute("CREATE SCHEMA other")
    driver.execute("CREATE TYPE other.mood AS ENUM ('sad')")
    driver.execute("CREATE DOMAIN other.code AS VARCHAR(3)")
    # All that a column of a result can be of; one of a domain is as of the type under it, and rows have no name.
    types = "SELECT oid::bigint, format_type(oid, NULL) FROM pg_type WHERE"
    names = dict(driver.read_rows(f"{types} typtype NOT IN ('d', 'p', 'c')"))
    rows = dict(driver.read_rows(f"{types} typtype = 'c'"))
    assert {"other.mood", "other.mood[]", "other.code[]", "timestamp with time zone"} <= {*names.values()}
    assert {oid: names[oid] for oid in BUILT_IN_TYPES} == BUILT_IN_TYPES
    columns = ", ".join(f'CAST(NULL AS {name}) AS "{oid}"' for oid, name in {**names, **rows}.items())
    found = driver.read_types(f"SELECT {columns}, CAST(NULL AS other.code) AS code")
    assert found.pop("code") == "character varying"
    # A list of rows has no name either, and one of a domain is as of the type under it.
    lists = dict(driver.read_rows(f"{_LISTS} typtype = 'c' AND typarray <> 0"))
    assert {*lists.values()} == {"record[]"}
    lists |= dict(driver.read_rows(f"{_LISTS} typtype = 'd' AND typarray <> 0"))
    assert "character varying[]" in lists.values()
    assert {int(oid): name for oid, name in found.items()} == {**names, **lists, **dict.fromkeys(rows, "record")}


HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.readline()"


@pytest.fixture
def held_file(tmp_path):
    """A DuckDB file that another process has open for writing, and that process."""
    path = tmp_path / "held.duckdb"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        yield path, holder
        if not holder.stdin.closed:
            holder.stdin.close()


def test_a_file_that_another_process_holds_is_waited_for(held_file):
    path, holder = held_file
    with open_duckdb(path) as warehouse:
        patience = iter([1.0])
        pause = time.sleep

        def let_go(seconds: float) -> None:
            if next(patience, None):
                holder.stdin.close()
            pause(seconds)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(duckdb_hook.time, "sleep", let_go)
            assert warehouse.read_rows("SELECT 1") == [(1,)]
    assert next(patience, None) is None, "it was held at first"


def test_a_file_that_is_held_for_too_long_is_worth_a_retry_and_says_why(held_file, monkeypatch):
    monkeypatch.setattr(duckdb_hook, "LOCK_WAIT_SECONDS", 0.3)
    path, _ = held_file
    with open_duckdb(path) as warehouse, pytest.raises(WarehouseUnavailable, match=r"another process.*one slot"):
        warehouse.read_rows("SELECT 1")


def test_a_file_that_cannot_be_opened_says_what_to_check(tmp_path):
    missing = tmp_path / "missing" / "x.duckdb"
    with open_duckdb(missing) as warehouse, pytest.raises(WarehouseUnavailable, match="worker can write to"):
        warehouse.read_rows("SELECT 1")
