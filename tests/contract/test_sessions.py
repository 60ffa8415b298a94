"""Whatever a login, a database, a server or a connection is set to, a sync finds and sends the same bytes.

Settings are drawn anew in each run of the tests; the seed stands in the output of a test that fails, and
AUDIENCE_SEED draws the same ones again.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg
import psycopg2
import pytest

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import WarehouseRefused
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from airflow_kinesis_audience.hooks.warehouses.postgres import PostgresWarehouse
from tests.warehouses import (
    LET_ALL_THROUGH,
    Stream,
    day,
    open_outbox,
    read_changes,
    read_membership,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

pytestmark = pytest.mark.usefixtures("no_epoch")

SEED = int(os.environ.get("AUDIENCE_SEED") or random.randrange(2**32))
DRAWS = 2
SYNC_ID = "dag.it's \\'; DROP TABLE people; -- \" \\"
"""Would end a text, and drop the table, where a backslash or a quote means something else than it should."""

POSTGRES: Mapping[str, Sequence[str]] = {
    "DateStyle": ("German", "SQL, DMY", "Postgres, YMD"),
    "IntervalStyle": ("sql_standard", "postgres_verbose", "iso_8601"),
    "TimeZone": ("America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"),
    "extra_float_digits": ("-15", "0", "3"),
    "bytea_output": ("escape",),
    "standard_conforming_strings": ("off",),
    "client_encoding": ("LATIN1", "WIN1252", "SQL_ASCII"),
    "default_transaction_isolation": ("serializable", "repeatable read"),
    "transform_null_equals": ("on",),
    "quote_all_identifiers": ("on",),
    "xmlbinary": ("hex",),
    "array_nulls": ("off",),
    "backslash_quote": ("on",),
}

PEOPLE = """
CREATE TABLE people (
    uid bytea, took interval, at timestamptz, born date, id uuid, cash money, day text, share real,
    score double precision, price numeric(20, 4), small smallint, flag boolean, word text, fixed char(5)
);
INSERT INTO people SELECT
    decode(md5(n::text), 'hex'), n * interval '1 month 2 days 03:04:05.678',
    timestamptz '2026-01-01 23:30:00.123456+00' + n * interval '7 hours', date '2026-02-03' + n,
    md5(n::text)::uuid, (n * 1234.5)::numeric::money, '2026-02-03', 0.1 * n, n / 3.0::double precision, n / 7.0, n,
    n % 2 = 0, 'Jörg "ß" \\' || n, 'a'
FROM generate_series(1, 9) AS n
"""
CHANGED = """
DELETE FROM people WHERE small = 1;
UPDATE people SET score = score + 1e-15, word = 'a\\b' WHERE small IN (2, 3)
"""
EVERYTHING = Source(
    query="SELECT * FROM people WHERE word <> 'it''s \\' AND at >= '2026-01-01'",
    user_id="uid",
    identities={"took": "Other", "id": "Other2", "day": "Other3", "word": "Email"},
    identity_rules={"word": IdentityRule(normalize="email", hash="sha256")},
    properties={n: n for n in ("at", "born", "share", "score", "price", "small", "flag", "fixed")},
    audience_id="vips",
    audience_name="Gäste \\ é",
)


def publish(change: Callable[[str], None], connect: Callable[[], SqlWarehouse], source: Source) -> list[Any]:
    """Run and publish two days of a source; gives what was found, and what was sent."""
    stream, found = Stream(), []
    for number, statements in enumerate((PEOPLE, CHANGED)):
        change(statements)
        with connect() as warehouse:
            ledger = Ledger(warehouse, "state", SYNC_ID)
            Sync(ledger, source, guards=LET_ALL_THROUGH).run(day(number))
            found += [repr(changes) for changes in read_changes(ledger, day(number))] if number else []
            open_outbox(ledger, stream, small_delivery(options={})).drain(day(number))
    return [*found, *stream.messages]


@pytest.mark.parametrize("driver", ["psycopg 3", "psycopg 2"])
def test_whatever_a_login_of_postgres_is_set_to_the_same_bytes_are_sent(postgres_server, driver):
    draw = random.Random(SEED)
    connect = {"psycopg 2": psycopg2.connect, "psycopg 3": psycopg.connect}[driver]
    told = []
    for number in range(DRAWS + 1):
        database = f"sessions_{number}"
        drawn = {n: draw.choice(v) for n, v in POSTGRES.items() if draw.random() < 0.7} if number else {}
        options = []
        postgres_server.execute(f"CREATE DATABASE {database}")
        try:
            dsn = postgres_server.dsn(database)
            for name, value in drawn.items():
                level = draw.choice(["ALTER ROLE postgres IN DATABASE {}", "ALTER DATABASE {}", ""])
                if level:
                    postgres_server.execute(f"{level.format(database)} SET {name} TO '{value}'")
                else:
                    options.append(f"-c {name}={value.replace(' ', chr(92) + ' ')}")
            settings = {"options": " ".join(options)}

            def change(statements: str, dsn: str = dsn) -> None:
                # As its owner sees it, with nothing set.
                with psycopg.connect(dsn, autocommit=True) as owner:
                    owner.execute("SET client_encoding TO 'UTF8'; SET standard_conforming_strings TO on")
                    owner.execute("SET timezone TO 'UTC'; SET datestyle TO 'ISO, MDY'")
                    owner.execute(statements.encode())

            def opened(dsn: str = dsn, settings: Mapping[str, str] = settings) -> SqlWarehouse:
                return PostgresWarehouse(lambda: connect(dsn, **settings), DIALECTS["postgres"])

            told.append((drawn, publish(change, opened, EVERYTHING)))
        finally:
            postgres_server.execute(f"DROP DATABASE {database} WITH (FORCE)")
    (_, expected), *others = told
    assert len(expected) > 2
    for drawn, found in others:
        assert found == expected, f"AUDIENCE_SEED={SEED}: {drawn}"


DUCKDB: Mapping[str, Sequence[str]] = {
    "TimeZone": ("America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"),
    "Calendar": ("japanese", "buddhist"),
    "default_collation": ("nocase", "noaccent"),
    "default_null_order": ("NULLS_FIRST",),
    "default_order": ("DESCENDING",),
    "integer_division": ("true",),
    "ieee_floating_point_ops": ("false",),
    "scalar_subquery_error_on_multiple_rows": ("false",),
}
DUCKDB_PEOPLE = """
CREATE TABLE people AS SELECT
    ('u' || n)::VARCHAR AS uid, n::INTEGER AS small, (0.1 * n)::REAL AS share,
    n / 3.0::DOUBLE AS score, n / 7 AS quotient,
    n::DECIMAL(20, 4) AS price, n % 2 = 0 AS flag, DATE '2026-02-03' + n::INTEGER AS born,
    TIMESTAMPTZ '2026-01-01 23:30:00.123456+00' + n * INTERVAL '7 hours' AS seen, 'Jörg "ß" \\ ' || n AS word,
    CASE WHEN n > 3 THEN 'Bonn' END AS city, n * INTERVAL '1 month 2 days' AS took, md5(n::VARCHAR)::UUID AS id
FROM range(1, 10) AS t(n)
"""
DUCKDB_CHANGED = """
DELETE FROM people WHERE small = 1;
UPDATE people SET score = score + 1e-15, city = 'bonn' WHERE small IN (2, 3, 5);
UPDATE people SET city = NULL WHERE small = 6
"""


def test_whatever_a_connection_of_duckdb_is_set_to_the_same_bytes_are_sent(tmp_path):
    draw = random.Random(SEED)
    source = Source(
        query="SELECT * FROM people WHERE CAST(seen AS DATE) BETWEEN '2026-01-01' AND '2026-01-03'",
        user_id="uid",
        identities={"took": "Other", "id": "Other2", "word": "Email", "born": "Other3"},
        properties={n: n for n in ("seen", "share", "score", "price", "small", "flag", "city", "quotient")},
        audience_id="vips",
    )
    told = []
    for number in range(DRAWS + 1):
        path = str(tmp_path / f"{number}.duckdb")
        drawn = {n: draw.choice(v) for n, v in DUCKDB.items() if draw.random() < 0.7} if number else {}

        def change(statements: str, path: str = path) -> None:
            with duckdb.connect(path) as owner:
                owner.execute("SET TimeZone = 'UTC'")
                owner.execute(DUCKDB_PEOPLE if statements is PEOPLE else DUCKDB_CHANGED)

        def opened(path: str = path, drawn: Mapping[str, str] = drawn) -> SqlWarehouse:
            def connect() -> Any:
                connection = duckdb.connect(path)
                for name, value in drawn.items():
                    connection.execute(f"SET {name} = '{value}'")
                return connection

            return DuckDbWarehouse(connect, DIALECTS["duckdb"])

        told.append((drawn, publish(change, opened, source)))
    (_, expected), *others = told
    assert len(expected) > 2
    for drawn, found in others:
        assert found == expected, f"AUDIENCE_SEED={SEED}: {drawn}"


def test_a_setting_of_duckdb_that_is_locked_is_refused_in_a_sentence(tmp_path):
    config = {"default_null_order": "nulls_first", "lock_configuration": "true"}
    connect = lambda: duckdb.connect(str(tmp_path / "locked.duckdb"), config=config)  # noqa: E731
    with (
        DuckDbWarehouse(connect, DIALECTS["duckdb"]) as warehouse,
        pytest.raises(WarehouseRefused, match="cannot be changed; expected"),
    ):
        warehouse.read_rows("SELECT 1")


MYSQL: Mapping[str, Sequence[str]] = {
    "time_zone": ("'+05:30'", "'-11:00'"),
    "collation_connection": ("utf8mb4_general_ci", "latin1_german2_ci"),
    "character_set_results": ("latin1", "NULL"),
    "group_concat_max_len": ("4",),
    "sql_select_limit": ("3",),
    "max_sort_length": ("64",),
    "div_precision_increment": ("0", "9"),
    "sql_mode": ("''", "'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'", "'NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'"),
    "tx_isolation": ("'SERIALIZABLE'", "'READ-UNCOMMITTED'"),
    "autocommit": ("0",),
    "system_versioning_asof": ("'2020-01-01 00:00:00'",),
    "lc_time_names": ("de_DE",),
}
MYSQL_PEOPLE = (
    "CREATE TABLE people (uid VARCHAR(180), small INT, share FLOAT, score DOUBLE, price DECIMAL(20, 4), "
    "flag BOOLEAN, born DATE, at TIMESTAMP(6) NULL, word VARCHAR(40) CHARACTER SET utf8mb4, "
    "latin VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_german2_ci, fixed CHAR(9)) WITH SYSTEM VERSIONING",
    "INSERT INTO people SELECT CONCAT(REPEAT('ü', 150), seq), seq, seq / 10, seq / 3, seq / 7, seq % 2, "
    "DATE '2026-02-03' + INTERVAL seq DAY, TIMESTAMP '2026-01-01 23:30:00.123456' + INTERVAL seq * 7 HOUR, "
    "CONCAT('Jörg \U0001f600 ', seq), CONCAT('Jörg ÿ ', seq), 'a ' FROM seq_1_to_9",
)
MYSQL_CHANGED = (
    "DELETE FROM people WHERE small = 1",
    "UPDATE people SET score = score + 1e-15, latin = 'JÖRG' WHERE small IN (2, 3)",
)


def test_whatever_a_login_of_mysql_is_set_to_the_same_bytes_are_sent(mysql_server):
    draw = random.Random(SEED)
    source = Source(
        query="SELECT *, price / 3 AS quotient FROM people WHERE DATE(at) < '2026-01-04'",
        user_id="uid",
        identities={"latin": "Email", "word": "Other", "born": "Other2"},
        identity_rules={"latin": IdentityRule(normalize="email", hash="sha256")},
        properties={n: n for n in ("at", "share", "score", "price", "small", "flag", "fixed", "quotient")},
        audience_id="vips",
    )
    told = []
    for number in range(DRAWS + 1):
        database = f"sessions_{number}"
        drawn = {n: draw.choice(v) for n, v in MYSQL.items() if draw.random() < 0.7} if number else {}
        settings = {"init_command": "SET " + ", ".join(f"{n} = {v}" for n, v in drawn.items())} if drawn else {}
        settings |= {"charset": draw.choice(["latin1", "utf8mb4", "cp1250"])} if number else {}
        mysql_server.execute(f"CREATE DATABASE {database} CHARACTER SET latin1")

        def change(statements: str, database: str = database) -> None:
            owner = mysql_server.connect(database, charset="utf8mb4", init_command="SET time_zone = '+00:00'")
            for statement in MYSQL_PEOPLE if statements is PEOPLE else MYSQL_CHANGED:
                owner.query(statement)
            owner.commit()
            owner.close()

        def opened(database: str = database, settings: Mapping[str, Any] = settings) -> SqlWarehouse:
            return mysql_server.open(database, **settings)

        try:
            told.append((drawn, publish(change, opened, source)))
        finally:
            mysql_server.execute(f"DROP DATABASE {database}", "DROP DATABASE IF EXISTS state")
    (_, expected), *others = told
    assert len(expected) > 2
    for drawn, found in others:
        assert found == expected, f"AUDIENCE_SEED={SEED}: {drawn}"


@pytest.fixture
def encoded(postgres_server, request):
    """A database of another encoding."""
    database = f"encoded_{request.param}".lower()
    postgres_server.execute(
        f"CREATE DATABASE {database} ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    yield postgres_server.dsn(database)
    postgres_server.execute(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.mark.parametrize("driver", ["psycopg 3", "psycopg 2"])
@pytest.mark.parametrize("encoded", ["LATIN1", "WIN1252", "LATIN9", "KOI8R", "EUC_JP"], indirect=True)
def test_a_database_in_another_encoding_works_with_every_rule(encoded, driver):
    encoding = encoded.partition("encoded_")[2]
    word = {"koi8r": "Юля", "euc_jp": "日本"}.get(encoding, "Jörg ÿ")
    connect = {"psycopg 2": psycopg2.connect, "psycopg 3": psycopg.connect}[driver]
    source = Source(
        query="SELECT * FROM people",
        user_id="uid",
        identities={"email": "Email", "phone": "MobileNumber"},
        identity_rules={
            "email": IdentityRule(normalize="email", hash="sha256"),
            "phone": IdentityRule(normalize="phone"),
        },
        properties={"city": "city"},
        audience_id="vips",
    )
    with PostgresWarehouse(lambda: connect(encoded), DIALECTS["postgres"]) as warehouse:
        warehouse.execute("CREATE TABLE people (uid text, email text, phone text, city text)")
        warehouse.execute(
            f"INSERT INTO people VALUES ('{word}', ' X@example.com ', '+49 (170) 123-4567', '{word}')"
        )
        ledger, stream = Ledger(warehouse, "state", "dag.diff"), Stream()
        Sync(ledger, source, guards=Guards(max_exit_ratio=None)).run(day(0))
        open_outbox(ledger, stream).drain(day(0))
        digest = hashlib.sha256(b"x@example.com").hexdigest()
        [values] = read_membership(ledger, day(0)).values()
        assert [word] == [user for _, user in read_membership(ledger, day(0))]
        assert set(values[1:]) == {digest, "+491701234567", word}
    assert word in stream.messages[0].decode()


@pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
def test_a_database_that_does_not_say_what_its_bytes_mean_is_refused_in_a_sentence(encoded):
    with (
        PostgresWarehouse(lambda: psycopg.connect(encoded), DIALECTS["postgres"]) as warehouse,
        pytest.raises(WarehouseRefused, match=r"SQL_ASCII.*expected UTF8"),
    ):
        warehouse.read_rows("SELECT 1")


@pytest.mark.parametrize("encoded", ["LATIN1"], indirect=True)
def test_a_character_that_the_database_does_not_have_is_refused_with_what_to_do(encoded):
    source = Source(
        query="SELECT 'u' AS uid", user_id="uid", identities={}, properties={}, audience_id="a", audience_name="五"
    )
    with (
        PostgresWarehouse(lambda: psycopg.connect(encoded), DIALECTS["postgres"]) as warehouse,
        pytest.raises(WarehouseRefused, match=r"encoding \(iso8859-1\) lacks a character.*audience"),
    ):
        Sync(Ledger(warehouse, "state", "dag.diff"), source).run(day(0))


def test_a_login_that_may_only_read_is_refused_with_what_to_do(postgres_database):
    connect = lambda: psycopg.connect(postgres_database, options="-c default_transaction_read_only=on")  # noqa: E731
    with (
        PostgresWarehouse(connect, DIALECTS["postgres"]) as warehouse,
        pytest.raises(WarehouseRefused, match="state_path"),
    ):
        warehouse.execute("CREATE SCHEMA state")
