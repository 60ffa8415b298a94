"""MySQL's hook keeps its word on a real MariaDB, however the server and the connection are set up.

What a sync does there is in test_state_model.py; here is what only this engine's hook has to see to.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.warehouses.mysql import MySqlWarehouse
from tests.warehouses import LET_ALL_THROUGH, day, insert_rows, read_changes, read_membership

if TYPE_CHECKING:
    from tests.engines.mysql import Server

NUMBERS = "SELECT seq AS n FROM seq_1_to_25"
SCHEMA = pa.schema([("n", pa.int64())])


@pytest.fixture
def warehouse(mysql_server: Server, mysql_database: str) -> Any:
    with mysql_server.open(mysql_database) as opened:
        yield opened


def sync_of(warehouse: MySqlWarehouse, query: str, **mapping: Any) -> Sync:
    source = Source(**{"query": query, "user_id": "uid", "identities": {}, "audience_id": "a", **mapping})
    return Sync(Ledger(warehouse, "state_of_it", "dag.diff"), source, guards=LET_ALL_THROUGH)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT uid FROM t /*! WHERE uid > 7 */",
        "SELECT uid FROM t WHERE uid > 3 /*M!100100 AND uid < 6 */ -- the end",
        "SELECT uid FROM t /*!50701 WHERE uid IN (2, 3) */;",
        "SELECT uid FROM t /*!990000 WHERE uid = 1 */ # of a newer server",
        "SELECT 5--1 AS uid FROM t WHERE uid = 1",
    ],
)
def test_a_query_means_what_the_server_itself_makes_of_it(warehouse, query):
    warehouse.execute("CREATE TABLE t (uid INT)")
    warehouse.execute("INSERT INTO t SELECT seq FROM seq_1_to_10")
    sync = sync_of(warehouse, query, properties={})
    sync.run(day(0))
    found = {user for _, user in read_membership(sync.ledger, day(0))}
    assert found == {str(uid) for (uid,) in warehouse.read_rows(query)}


def test_types_are_named_as_a_table_defines_them_and_no_row_is_read(warehouse):
    warehouse.execute(
        "CREATE TABLE t (flag BOOLEAN, tiny TINYINT, small SMALLINT UNSIGNED, n INT UNSIGNED, big BIGINT, "
        "huge BIGINT UNSIGNED, price DECIMAL(20, 3), share FLOAT, score DOUBLE, word VARCHAR(9), "
        "long_word LONGTEXT, kind ENUM('a'), bin VARBINARY(9), born DATE, at TIMESTAMP(6) NULL, naive DATETIME, "
        "took TIME, since YEAR, bits BIT(3))"
    )
    warehouse.execute("INSERT INTO t (flag) VALUES (TRUE), (FALSE), (NULL)")
    started = time.monotonic()
    found = warehouse.read_types('SELECT *, SLEEP(3) AS slept, NULL AS "nothing at all" FROM t -- the end')
    assert time.monotonic() - started < 3
    assert found == {
        **{"flag": "BOOLEAN", "tiny": "TINYINT", "small": "BIGINT", "n": "BIGINT", "big": "BIGINT"},
        **{
            "huge": "BIGINT UNSIGNED",
            "price": "DECIMAL(65, 3)",
            "share": "FLOAT",
            "score": "DOUBLE",
            "word": "TEXT",
        },
        **{"long_word": "TEXT", "kind": "TEXT", "bin": "BLOB", "born": "DATE", "at": "TIMESTAMP"},
        **{"naive": "DATETIME", "took": "TIME", "since": "BIGINT ZEROFILL", "bits": "BIT", "slept": "INT"},
        "nothing at all": "NULL",
    }


TYPED: dict[str, tuple[str, list[Any]]] = {
    "flag": ("BOOLEAN", [True, None, False]),
    "tiny": ("TINYINT", [1, None, -128]),
    "big": ("BIGINT", [2**53 + 1, None, -(2**63)]),
    "huge": ("BIGINT UNSIGNED", ["18446744073709551615", None, "0"]),
    "price": ("DECIMAL(65, 9)", ["12345678901234567890123456789.123456789", None, "-0.100000000"]),
    "score": ("DOUBLE", [0.1, None, 1.7976931348623157e308]),
    "word": ("VARCHAR(40)", ["a 'b' \"c\" \\ \n%s \U0001f600", None, ""]),
    "long_word": ("LONGTEXT", ["x" * 70_000, None, "Bob "]),
    "kind": ("ENUM('a', 'b')", ["a", None, "b"]),
    "born": ("DATE", [date(1000, 1, 1), None, date(9999, 12, 31)]),
    "at": (
        "TIMESTAMP(6) NULL",
        [datetime(2026, 10, 25, 0, 30, 0, 123456, tzinfo=UTC), None, datetime(1970, 1, 2, tzinfo=UTC)],
    ),
}


def test_a_value_of_any_type_comes_out_as_it_is_and_only_another_value_is_a_change(warehouse):
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in TYPED.items())
    warehouse.execute(f"CREATE TABLE t (uid BIGINT, {columns})")
    rows = [(n, *values) for n, values in enumerate(zip(*(v for _, v in TYPED.values()), strict=True), 1)]
    insert_rows(
        warehouse, "t", [[v.replace(tzinfo=None) if isinstance(v, datetime) else v for v in r] for r in rows]
    )
    sync = sync_of(warehouse, "SELECT * FROM t", properties={n: n for n in TYPED})
    sync.run(day(0))
    assert sync.run(day(1))["updated"] == 0
    for number, name in enumerate(TYPED, 2):
        warehouse.execute(f"UPDATE t SET {name} = NULL WHERE uid = 1")
        assert (name, sync.run(day(number))["updated"]) == (name, 1)
        [changes] = read_changes(sync.ledger, day(number))
        assert (changes.old_properties[name], changes.new_properties[name]) == ([TYPED[name][1][0]], [None])
        assert type(changes.old_properties[name][0]) is type(TYPED[name][1][0])
    warehouse.execute("DELETE FROM t")
    sync.run(day(50))
    [changes] = read_changes(sync.ledger, day(50))
    last = changes.user_id[:].index("3")
    assert {n: c[last] for n, c in changes.old_properties.items()} == {n: v[2] for n, (_, v) in TYPED.items()}


def test_whatever_the_connection_and_the_server_are_set_to_a_sync_finds_the_same(mysql_server, mysql_database):
    import MySQLdb.cursors

    modes = "NO_BACKSLASH_ESCAPES,HIGH_NOT_PRECEDENCE,PAD_CHAR_TO_FULL_LENGTH,EMPTY_STRING_IS_NULL"
    odd = {
        "charset": "latin1",
        "cursorclass": MySQLdb.cursors.SSDictCursor,
        "sql_mode": modes,
        "autocommit": False,
    }
    odd["init_command"] = "SET time_zone = '+05:30', tx_isolation = 'SERIALIZABLE'"
    with mysql_server.open(mysql_database, **odd) as warehouse:
        warehouse.execute("CREATE TABLE t (uid VARCHAR(20), city VARCHAR(20), at TIMESTAMP NULL)")
        people = [("Bob", "a\\b", "2026-01-01 00:00:00"), ("bob", "", None), ("bob ", None, None)]
        insert_rows(warehouse, "t", people)
        sync = sync_of(warehouse, "SELECT * FROM t", properties={"city": "city", "at": "at"})
        sync.run(day(0))
        warehouse.execute("UPDATE t SET city = NULL WHERE city = ''")
        assert sync.run(day(1))["updated"] == 1
        found = {user: values for (_, user), (_, *values) in read_membership(sync.ledger, day(1)).items()}
    assert found == {"Bob": [datetime(2026, 1, 1), "a\\b"], "bob": [None, None], "bob ": [None, None]}


def test_a_sync_neither_waits_for_who_writes_the_source_nor_sees_half_of_it(
    warehouse, mysql_server, mysql_database
):
    warehouse.execute("CREATE TABLE t (uid INT PRIMARY KEY, city VARCHAR(9))")
    warehouse.execute("INSERT INTO t SELECT seq, 'Bern' FROM seq_1_to_10")
    sync = sync_of(warehouse, "SELECT * FROM t", properties={"city": "city"})
    sync.run(day(0))
    writer = mysql_server.connect(mysql_database)
    writer.query("UPDATE t SET city = 'Rome'")
    writer.query("DELETE FROM t WHERE uid > 5")
    warehouse.execute("SET SESSION innodb_lock_wait_timeout = 1")
    summary = sync.run(day(1))
    assert (summary["updated"], summary["exited"]) == (0, 0)
    writer.commit()
    writer.close()
    summary = sync.run(day(2))
    assert (summary["updated"], summary["exited"]) == (5, 5)


def test_rows_and_their_counts_are_of_one_moment_though_the_source_is_read_twice(
    warehouse, mysql_server, mysql_database
):
    warehouse.execute("CREATE TABLE t (uid INT PRIMARY KEY)")
    warehouse.execute("INSERT INTO t SELECT seq FROM seq_1_to_20")
    ended = threading.Event()

    def write() -> None:
        writer = mysql_server.connect(mysql_database, autocommit=True)
        while not ended.is_set():
            writer.query("INSERT INTO t SELECT seq FROM seq_21_to_40")
            writer.query("DELETE FROM t WHERE uid > 20")
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        # Slow enough that each reading takes longer than the writer's turn; rows that do not add up stop a run.
        sync = sync_of(warehouse, "SELECT uid + SLEEP(0.002) AS uid FROM t", properties={})
        assert {sync.run(day(number))["members"] for number in range(6)} <= {20, 40}
    finally:
        ended.set()
        thread.join()


def test_an_id_that_is_too_long_for_a_key_is_refused_and_never_cut(warehouse):
    warehouse.execute("CREATE TABLE t (uid TEXT)")
    insert_rows(warehouse, "t", [("ü" * 180,), ("\U0001f600" * 180,)])
    sync = sync_of(warehouse, "SELECT uid FROM t", properties={})
    assert sync.run(day(0))["members"] == 2
    insert_rows(warehouse, "t", [("x" * 181,)])
    with pytest.raises(WarehouseRefused, match=r"DataError \(1406\)"):
        sync.run(day(1))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE other AS SELECT CAST(word AS SIGNED) AS n FROM t",
        "CREATE TABLE other (n DATE) AS SELECT word AS n FROM t",
        "INSERT INTO t SELECT word FROM t",
        "INSERT INTO short SELECT word FROM t",
    ],
)
def test_an_error_never_quotes_a_value_of_a_row(warehouse, statement):
    warehouse.execute("CREATE TABLE t (word VARCHAR(40) PRIMARY KEY)")
    warehouse.execute("CREATE TABLE short (word VARCHAR(4))")
    insert_rows(warehouse, "t", [("secret@example.com",)])
    with pytest.raises(WarehouseRefused) as refused:
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
    assert warehouse.read_rows("SELECT 1") == [(1,)]


def test_a_date_that_is_none_is_refused_and_does_not_become_null(warehouse):
    warehouse.execute("SET SESSION sql_mode = ''")
    warehouse.execute("CREATE TABLE t (born DATE)")
    warehouse.execute("INSERT INTO t VALUES ('0000-00-00')")
    with pytest.raises(WarehouseRefused, match="outside the range of its type"):
        list(warehouse.read_batches("SELECT born FROM t", pa.schema([("born", pa.date32())]), rows=10))


def test_what_is_read_does_not_stand_in_the_way_of_another_statement(warehouse):
    first = warehouse.read_batches(NUMBERS, SCHEMA, rows=1)
    next(first)
    second = warehouse.read_batches(NUMBERS, SCHEMA, rows=10)
    assert next(second).num_rows == 10
    assert warehouse.read_rows("SELECT 1") == [(1,)]
    first.close()
    assert sum(batch.num_rows for batch in second) == 15
    assert [b.num_rows for b in warehouse.read_batches(NUMBERS, SCHEMA, rows=10)] == [10, 10, 5]
    assert list(warehouse.read_batches(f"SELECT * FROM ({NUMBERS}) AS x WHERE n < 0", SCHEMA, rows=10)) == []


def test_a_statement_that_takes_too_long_is_not_said_to_be_the_connection_s_fault(warehouse):
    warehouse.execute("SET SESSION max_statement_time = 0.2")
    with pytest.raises(WarehouseUnavailable, match=r"ended the statement \(1969\).*max_statement_time"):
        warehouse.read_rows("SELECT SUM(LENGTH(SHA2(seq, 512))) FROM seq_1_to_100000000")


def test_a_connection_that_breaks_is_worth_a_retry(warehouse, mysql_server, mysql_database):
    [(process,)] = warehouse.read_rows("SELECT CONNECTION_ID()")
    mysql_server.execute(f"KILL {process}")
    with pytest.raises(WarehouseUnavailable):
        warehouse.read_rows("SELECT 1")
    with mysql_server.open(mysql_database) as other:
        batches = other.read_batches("SELECT seq FROM seq_1_to_3000000", SCHEMA, rows=1)
        next(batches)
        [(reader,)] = other.read_rows(
            "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT seq FROM%'"
        )
        mysql_server.execute(f"KILL {reader}")
        with pytest.raises(WarehouseUnavailable):
            list(batches)


def test_a_server_that_cannot_be_reached_is_worth_a_retry(mysql_server):
    import MySQLdb

    refusing = MySqlWarehouse(lambda: MySQLdb.connect(host="127.0.0.1", port=1), DIALECTS["mysql"])
    with refusing, pytest.raises(WarehouseUnavailable):
        refusing.read_rows("SELECT 1")


def test_the_other_client_is_refused_with_what_to_do(mysql_server):
    import mysql.connector

    connect = lambda: mysql.connector.connect(host="127.0.0.1", port=mysql_server.port, user="root")  # noqa: E731
    with (
        MySqlWarehouse(connect, DIALECTS["mysql"]) as warehouse,
        pytest.raises(WarehouseRefused, match="remove client"),
    ):
        warehouse.read_rows("SELECT 1")


def test_the_documented_grants_are_enough_and_a_missing_one_is_told(warehouse, mysql_server, mysql_database):
    warehouse.execute("CREATE TABLE t (uid INT)")
    warehouse.execute("INSERT INTO t VALUES (1), (2)")
    mysql_server.execute(
        "CREATE SCHEMA state_of_it",
        "CREATE USER audience_login IDENTIFIED BY 'x'",
        "GRANT SELECT, INSERT, CREATE, DROP, INDEX, CREATE VIEW ON state_of_it.* TO audience_login",
    )
    try:
        with mysql_server.open("state_of_it", user="audience_login", password="x") as login:
            sync = sync_of(login, f"SELECT uid FROM {mysql_database}.t", properties={})
            with pytest.raises(WarehouseRefused, match=r"denied.*needs SELECT on the source"):
                sync.run(day(0))
            mysql_server.execute(f"GRANT SELECT ON {mysql_database}.t TO audience_login")
        with mysql_server.open("state_of_it", user="audience_login", password="x") as login:
            sync = sync_of(login, f"SELECT uid FROM {mysql_database}.t", properties={})
            assert [sync.run(day(number))["members"] for number in range(2)] == [2, 2]
    finally:
        mysql_server.execute("DROP USER audience_login")
