"""Spark alone: what the hook promises, and a ledger on an engine that makes a file of every row.

What every engine does is in ``test_state_model.py``; this is what only Spark could get wrong. All of it talks to a
real Thrift server.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    LedgerConflict,
    TaskEnded,
    WarehouseRefused,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state import ledger_compaction
from airflow_kinesis_audience.core.state.delivery_details import DestinationDetached
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.hooks.warehouses import spark as spark_hook
from airflow_kinesis_audience.hooks.warehouses.databricks import DatabricksWarehouse
from airflow_kinesis_audience.hooks.warehouses.spark import SparkWarehouse, bound
from tests.warehouses import (
    LET_ALL_THROUGH,
    DiesAt,
    Killed,
    Stream,
    day,
    fresh_schema,
    insert_rows,
    open_outbox,
    read_changes,
    read_entries,
    read_membership,
    read_timeline,
    small_delivery,
)

NUMBERS = "SELECT id + 1 AS n, CASE WHEN id % 2 = 1 THEN 9007199254740993 END AS big FROM range(0, 25)"
SCHEMA = pa.schema([("n", pa.int64()), ("big", pa.int64())])
WORDS = [
    *(
        "",
        None,
        "NULL",
        "\\N",
        "\\u0041",
        "\\",
        "it's",
        'a "quoted", word',
        "two\nlines",
        "two\r\nmore",
        " ",
        "\t",
    ),
    *(
        "${env:HOME}",
        "$",
        "\\${x}",
        "${spark.app.name}",
        "\x0012",
        "\x1a",
        "%s",
        "?",
        "-- no",
        "/* no",
        "`x`",
        "é\U0001f600",
    ),
]


@pytest.fixture
def warehouse(spark_server):
    with spark_server.open() as warehouse:
        yield warehouse


@pytest.fixture
def name(warehouse):
    """Name a table that is dropped after the test."""
    name = f"t_{fresh_schema()}"
    yield name
    warehouse.drop_table(name)


@pytest.fixture
def schema(warehouse):
    """Name a state schema."""
    return f"spark_{fresh_schema()}"


def test_any_text_is_written_and_read_as_it_is(warehouse, name):
    warehouse.execute(f"CREATE TABLE {name} (n BIGINT, word STRING)")
    insert_rows(warehouse, name, list(enumerate(WORDS)))
    read = warehouse.read_rows(f"SELECT word FROM {name} ORDER BY n")
    assert [word for (word,) in read] == WORDS
    same = " OR ".join("(n = ? AND word <=> ?)" for _ in WORDS)
    given = [value for n, word in enumerate(WORDS) for value in (n, word)]
    assert warehouse.read_rows(f"SELECT COUNT(*) FROM {name} WHERE {same}", given) == [(len(WORDS),)]


def test_question_marks_within_texts_and_comments_are_no_parameters():
    assert bound("SELECT '?', `?`, ? /* ? */ -- ?\n, ?", ["a'\\", 7]) == (
        "SELECT '?', `?`, 'a\\'\\\\' /* ? */ -- ?\n, 7"
    )
    with pytest.raises(ValueError, match="argument"):
        bound("SELECT ?", ["a", "b"])


@pytest.mark.parametrize(
    ("said", "expected", "sentence"),
    [
        (
            "[CAST_INVALID_INPUT] The value 'secret' cannot be cast. SQLSTATE: 22018",
            WarehouseRefused,
            "CAST_INVALID",
        ),
        (
            "[TABLE_OR_VIEW_NOT_FOUND] `marts`.`x` cannot be found. SQLSTATE: 42P01",
            WarehouseRefused,
            "rejected the statement (42P01, TABLE_OR_VIEW_NOT_FOUND)",
        ),
        ("[INSUFFICIENT_PERMISSIONS] No SELECT on marts.x. SQLSTATE: 42501", WarehouseRefused, "needs SELECT on"),
        ("HTTP 503 from secret.example", WarehouseUnavailable, "whether the SQL warehouse runs"),
    ],
)
def test_an_error_of_databricks_is_raised_without_values(said, expected, sentence):
    def connect() -> None:
        raise RuntimeError(said)

    with DatabricksWarehouse(connect, DIALECTS["databricks"]) as warehouse, pytest.raises(expected) as refused:
        warehouse.read_rows("SELECT 1")
    assert sentence in str(refused.value)
    assert "secret" not in str(refused.value)


def test_every_value_is_read_as_it_is_in_the_table(warehouse):
    query = """
        SELECT * FROM VALUES
        (0, TRUE, DATE '1583-02-28', 0.1D, TIMESTAMP '2026-01-01 01:00:00.000001+05:30', 12345678901234567890.12),
        (1, FALSE, DATE '9999-12-31', -1e-300D, TIMESTAMP '1969-12-31 23:59:59.5+00:00', -0.01),
        (2, NULL, NULL, DOUBLE('NaN'), NULL, NULL),
        (3, NULL, NULL, DOUBLE('-Infinity'), NULL, 0)
        AS t(n, flag, day, share, seen, exact)
    """
    fields = [("n", pa.int64()), ("flag", pa.bool_()), ("day", pa.date32()), ("share", pa.float64())]
    schema = pa.schema([*fields, ("seen", pa.timestamp("us", tz="UTC")), ("exact", pa.decimal128(22, 2))])
    read = pa.Table.from_batches(warehouse.read_batches(f"{query} ORDER BY n", schema, rows=3)).to_pydict()
    assert read["flag"] == [True, False, None, None]
    assert read["day"] == [date(1583, 2, 28), date(9999, 12, 31), None, None]
    assert read["share"][:2] == [0.1, -1e-300]
    assert math.isnan(read["share"][2])
    assert read["share"][3] == -math.inf
    early = datetime(2025, 12, 31, 19, 30, 0, 1, tzinfo=UTC)
    assert read["seen"] == [early, datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC), None, None]
    assert read["exact"] == [Decimal("12345678901234567890.12"), Decimal("-0.01"), None, Decimal("0.00")]


def test_a_large_result_comes_in_bounded_batches_of_the_asked_types(warehouse):
    batches = list(warehouse.read_batches(f"{NUMBERS} ORDER BY n", SCHEMA, rows=10))
    assert [batch.num_rows for batch in batches] == [10, 10, 5]
    read = pa.Table.from_batches(batches).to_pydict()
    assert read == {"n": list(range(1, 26)), "big": [None if n % 2 else 2**53 + 1 for n in range(1, 26)]}
    assert list(warehouse.read_batches(f"SELECT * FROM ({NUMBERS}) WHERE n < 0", SCHEMA, rows=10)) == []


def test_what_is_read_does_not_stand_in_the_way_of_another_statement(warehouse):
    first = warehouse.read_batches(NUMBERS, SCHEMA, rows=1)
    next(first)
    second = warehouse.read_batches(NUMBERS, SCHEMA, rows=10)
    assert next(second).num_rows == 10
    assert warehouse.read_rows("SELECT 1") == [(1,)]
    first.close()
    assert sum(batch.num_rows for batch in second) == 15


def test_a_value_that_no_type_can_hold_is_refused_without_showing_it(warehouse):
    with pytest.raises(WarehouseRefused, match="outside the range of its type") as refused:
        list(warehouse.read_batches("SELECT DATE '+12026-01-01'", pa.schema([("day", pa.date32())]), rows=10))
    assert "12026" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_types_are_read_without_running_the_query(warehouse):
    query = "SELECT CAST('no number' AS BIGINT) AS `Odd ``name`, ARRAY('a') AS l -- not a single row of it"
    assert warehouse.read_types(query) == {"Odd `name": "bigint", "l": "array<string>"}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT CAST(word AS BIGINT) FROM {}",
        "SELECT CAST(word AS DATE) FROM {}",
        "SELECT RAISE_ERROR(word) FROM {}",
        "CREATE TABLE {}_2 AS SELECT CAST(word AS DOUBLE) AS n FROM {}",
    ],
)
def test_an_error_never_quotes_a_value_of_a_row(warehouse, name, statement):
    warehouse.execute(f"CREATE TABLE {name} (word STRING)")
    insert_rows(warehouse, name, [("secret@example.com",)])
    with pytest.raises(WarehouseRefused, match="run the query in the warehouse") as refused:
        warehouse.execute(statement.format(name, name))
    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__, "a traceback would print the driver's words"


def test_a_wrong_query_is_refused_in_the_engines_words(warehouse):
    for statement, sentence in (
        ("SELECT 1 FROM nowhere", "`nowhere` cannot be found"),
        ("SELEC 1", "(?i)syntax error"),
        ("SELECT nothing", "`nothing` cannot be resolved"),
    ):
        with pytest.raises(WarehouseRefused, match=sentence):
            warehouse.read_types(statement)
    assert warehouse.read_rows("SELECT 1") == [(1,)]


def test_no_statement_and_no_row_is_logged(warehouse, caplog):
    with caplog.at_level(logging.DEBUG):
        assert warehouse.read_rows("SELECT ?", ["anna@example.com"]) == [("anna@example.com",)]
    assert "anna" not in caplog.text


def test_a_session_that_ended_and_a_server_that_is_not_there_are_worth_a_retry(spark_server):
    ended = spark_server.connect()
    with SparkWarehouse(lambda: ended, DIALECTS["hiveserver2"]) as warehouse:
        warehouse.read_rows("SELECT 1")
        ended.close()
        with pytest.raises(WarehouseUnavailable):
            warehouse.read_rows("SELECT 1")
        warehouse._opened = None
    nowhere = type(spark_server)(port=1, pid=0)
    with nowhere.open() as warehouse, pytest.raises(WarehouseUnavailable, match="check host, port"):
        warehouse.read_rows("SELECT 1")


def test_a_server_that_takes_no_settings_is_refused(spark_server, monkeypatch):
    monkeypatch.setattr(spark_hook, "SETTINGS", ("SET spark.sql.warehouse.dir = elsewhere",))
    with spark_server.open() as warehouse, pytest.raises(WarehouseRefused, match="not Spark, or does not allow"):
        warehouse.read_rows("SELECT 1")


def people(warehouse: SparkWarehouse, schema: str, select: str, **changed: object) -> Sync:
    given = {"user_id": "uid", "audience_id": "vips", "identities": {}, "properties": {"seen": "seen"}}
    return Sync(
        Ledger(warehouse, schema, "s"), Source(query=select, **{**given, **changed}), guards=LET_ALL_THROUGH
    )


def test_a_time_without_a_zone_is_refused_with_what_to_write_instead(warehouse, schema):
    naive = "TIMESTAMP_NTZ '2026-01-31 12:00:00'"
    with pytest.raises(ValueError, match=r"TO_UTC_TIMESTAMP\(seen, 'UTC'\) AS seen"):
        people(warehouse, schema, f"SELECT 'u' AS uid, {naive} AS seen").run(day(0))
    shifted = f"SELECT 'u' AS uid, TO_UTC_TIMESTAMP({naive}, 'Europe/Berlin') AS seen"
    empty = f"SELECT * FROM ({shifted}) WHERE uid = 'nobody'"
    people(warehouse, schema, empty).run(day(0))
    people(warehouse, schema, shifted).run(day(1))
    [changes] = read_changes(Ledger(warehouse, schema, "s"), day(1))
    assert list(changes.new_properties["seen"]) == [datetime(2026, 1, 31, 11, tzinfo=UTC)]


@pytest.mark.slow_engine
def test_texts_of_a_collation_that_ignores_case_are_compared_byte_by_byte(warehouse, schema):
    def named(*names: str) -> str:
        rows = ", ".join(f"('{name}', 'x')" for name in names)
        return f"SELECT uid COLLATE UTF8_LCASE AS uid, seen FROM VALUES {rows} AS t(uid, seen)"

    people(warehouse, schema, named("bob", "Bob")).run(day(0))
    summary = people(warehouse, schema, named("BOB", "Bob")).run(day(1))
    assert [summary[n] for n in ("entered", "exited", "updated", "members")] == [1, 1, 0, 2]


@pytest.mark.slow_engine
def test_profiles_are_delivered_when_two_change_sets_lie_after_the_base(warehouse, schema):
    stream, delivery = Stream(), small_delivery(message_format="adobe_profile", options={})
    source = Source(
        query="", user_id="uid", identities={}, properties={}, audience_id="vips", audience_name="VIPs"
    )
    for number in range(4):
        rows = ", ".join(f"('u{n}')" for n in range(max(number - 1, 0), number + 1))
        ledger = Ledger(warehouse, schema, "dag.diff")
        Sync(
            ledger, replace(source, query=f"SELECT uid FROM VALUES {rows} AS given(uid)"), guards=LET_ALL_THROUGH
        ).run(day(number))
        before = len(stream.taken)
        open_outbox(Ledger(warehouse, schema, "dag.diff"), stream, delivery).drain(day(number))
        said = {}
        for message in map(json.loads, stream.messages[before:]):
            [user] = message["identityMap"]["crmid"]
            said[user["id"]] = message["segmentMembership"]["ups"]["vips"]["status"]
        entered, exited = f"u{number}", f"u{number - 2}"
        assert said == {entered: said[entered]} | ({exited: "exited"} if number > 1 else {})
        assert said[entered] != "exited"


@pytest.mark.slow_engine
def test_a_source_that_is_not_deterministic_is_worked_out_once(warehouse, schema):
    query = "SELECT CAST(id AS STRING) AS uid, CAST(id % 7 AS STRING) AS seen FROM range(400) WHERE RAND() < 0.5"
    for number in range(2):
        members = people(warehouse, schema, query).run(day(number))["members"]
        name = read_timeline(Ledger(warehouse, schema, "s")).change_sets[-1].table
        counted = f"SELECT source_rows, invalid_rows FROM {schema}.{name} WHERE action = 'audience'"
        assert warehouse.read_rows(counted) == [(members, 0)]
        assert len(read_membership(Ledger(warehouse, schema, "s"), day(number))) == members


def test_a_list_that_has_no_value_or_null_in_it_is_no_identity(warehouse, schema):
    values = "('a', ARRAY('B@x.com', NULL, 'b@x.com ')), ('b', ARRAY(NULL)), ('c', NULL), ('d', ARRAY(' '))"
    query = f"SELECT uid, ids FROM VALUES {values} AS t(uid, ids)"
    how = {
        "properties": {},
        "identities": {"ids": "Email"},
        "identity_rules": {"ids": IdentityRule(normalize="email")},
    }
    people(warehouse, schema, f"SELECT * FROM ({query}) WHERE uid = 'nobody'", **how).run(day(0))
    people(warehouse, schema, query, **how).run(day(1))
    [changes] = read_changes(Ledger(warehouse, schema, "s"), day(1))
    found = dict(zip(changes.user_id, changes.new_identities["Email"], strict=True))
    assert found == {"a": ["b@x.com"], "b": None, "c": None, "d": None}


def test_rows_that_are_inserted_at_once_are_all_there(warehouse, spark_server, name):
    """Spark's own way removes what another session is writing, and answers that all is well."""
    warehouse.execute(f"CREATE TABLE {name} (writer BIGINT, n BIGINT)")

    def insert(writer: int) -> None:
        with spark_server.open() as own:
            for n in range(6):
                own.execute(f"INSERT INTO {name} VALUES ({writer}, {n})")

    in_threads(insert, 4)
    warehouse.execute(f"REFRESH TABLE {name}")
    found = warehouse.read_rows(f"SELECT writer, n FROM {name}")
    assert sorted(found) == [(writer, n) for writer in range(4) for n in range(6)]


def test_of_many_who_create_a_view_at_once_one_does(warehouse, spark_server, schema):
    warehouse.execute(f"CREATE SCHEMA {schema}")
    others = [spark_server.open() for _ in range(4)]
    for other in others:
        other.read_rows("SELECT 1")
    for attempt in range(5):
        made: list[int] = []
        ready = threading.Barrier(len(others))

        def create(number: int, attempt: int = attempt, made: list[int] = made, ready: threading.Barrier = ready):
            ready.wait()
            try:
                others[number].execute(f"CREATE VIEW {schema}.claim_{attempt} AS SELECT {number} AS holder")
                made.append(number)
            except WarehouseRefused:
                pass

        in_threads(create, len(others))
        assert warehouse.read_rows(f"SELECT holder FROM {schema}.claim_{attempt}") == [(n,) for n in made]
    for other in others:
        other.close()


@pytest.mark.slow_engine
def test_a_ledger_is_folded_up_while_others_write_to_it(spark_server, warehouse, schema, monkeypatch):
    monkeypatch.setattr(ledger_compaction, "MOST_FILES", 4)
    Ledger(warehouse, schema, "s").prepare()
    appended: list[tuple[str, int]] = []

    def write(writer: int) -> None:
        with spark_server.open() as own:
            for n in range(1, 8):
                ledger = Ledger(own, schema, "s")
                ledger.read()
                ledger.append(f"log {writer}", DestinationDetached(), as_of=day(n))
                appended.append((f"log {writer}", n))

    in_threads(write, 3)
    assert len(appended) == 21
    assert {(e.log, e.sequence) for e in read_entries(Ledger(warehouse, schema, "s"))} == set(appended)
    [(rows,)] = warehouse.read_rows(f"SELECT COUNT(DISTINCT log, sequence) FROM {schema}.ledger")
    assert rows == 21, "people see it under its plain name"
    tables = [n for _, n, _ in warehouse.read_rows(f"SHOW TABLES IN {schema}") if n.startswith("ledger_")]
    assert not any(n.startswith("ledger_0_") for n in tables), "old ones are gone"


@pytest.mark.slow_engine
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_folding_that_was_killed_is_gone_on_with(spark_server, warehouse, schema, monkeypatch, side):
    first = Ledger(warehouse, schema, "s")
    first.prepare()
    for n in range(1, 5):
        first.append("log", DestinationDetached(), as_of=day(n))
    monkeypatch.setattr(ledger_compaction, "MOST_FILES", 3)
    at, ended = 0, False
    with spark_server.open() as inner:
        while not ended:
            try:
                Ledger(DiesAt(inner, at, side), schema, "s").read()  # type: ignore[arg-type]
                ended = True
            except Killed:
                monkeypatch.setattr(ledger_compaction, "MOST_FILES", 1_000)
                seen = Ledger(warehouse, schema, "s")
                assert [e.sequence for e in read_entries(seen)] == list(range(1, 5 + at))
                seen.append("log", DestinationDetached(), as_of=day(5 + at))
                monkeypatch.setattr(ledger_compaction, "MOST_FILES", 0)
            at += 1
    assert at > 5
    assert [e.sequence for e in read_entries(Ledger(warehouse, schema, "s"))] == list(range(1, 4 + at))


def test_a_row_that_was_answered_and_lost_is_written_again(spark_server, warehouse, schema):
    Ledger(warehouse, schema, "s").prepare()

    class Losing(SparkWarehouse):
        lost = 0

        def execute(self, sql, parameters=()):
            if sql.startswith("INSERT") and not self.lost:
                self.lost += 1
            else:
                return super().execute(sql, parameters)
            return None

    with Losing(spark_server.connect, DIALECTS["hiveserver2"]) as losing:
        ledger = Ledger(losing, schema, "s")
        ledger.read()
        ledger.append("log", DestinationDetached(), as_of=day(0))
        assert losing.lost == 1
    assert [e.sequence for e in read_entries(Ledger(warehouse, schema, "s"))] == [1]
    with pytest.raises(LedgerConflict):
        Ledger(warehouse, schema, "s").append("log", DestinationDetached(), as_of=day(0))


def in_threads(run, many: int) -> None:
    """Run it in threads, each with its number; what any of them raises is raised here."""
    failed: list[BaseException] = []

    def caught(number: int) -> None:
        try:
            run(number)
        except (AudienceError, AssertionError, RuntimeError) as error:
            failed.append(error)

    threads = [threading.Thread(target=caught, args=(number,)) for number in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("begin", ["", "CREATE TABLE ended USING parquet AS "])
def test_the_server_computes_no_more_when_what_is_at_work_is_cancelled(spark_server, begin: str) -> None:
    numbers = "range(10000000)"
    pairs = f"SELECT COUNT(*) AS n FROM {numbers} AS a CROSS JOIN {numbers} AS b (other) WHERE a.id + other < 0"
    raised: list[BaseException] = []

    def run() -> None:
        try:
            warehouse.execute(f"{begin}{pairs}")
        except BaseException as error:
            raised.append(error)

    with spark_server.open() as warehouse:
        warehouse.read_rows("SELECT 1")
        began = spark_server.cpu_seconds()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while spark_server.cpu_seconds() < began + 4:
            assert thread.is_alive(), raised
            time.sleep(0.1)
        warehouse.cancel()
        thread.join(60)
    assert [type(error) for error in raised] == [TaskEnded]
    ended = spark_server.cpu_seconds()
    time.sleep(2)
    assert spark_server.cpu_seconds() < ended + 0.5, "the server works on"
    with spark_server.open() as warehouse:
        assert [name for _, name, *_ in warehouse.read_rows("SHOW TABLES") if name == "ended"] == []
