"""Statements mean what they should before any engine sees them: names, literals, and the author's query."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
import sqlglot
from hypothesis import example, given
from hypothesis import strategies as st
from sqlglot import exp

from airflow_kinesis_audience.core.source.query import check_query
from airflow_kinesis_audience.core.sql import statements
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.sql.names import state_column, table_name
from airflow_kinesis_audience.core.sql.statements import (
    SOURCE_PLACEHOLDER,
    column,
    named_table,
    render,
    table,
    text,
)
from airflow_kinesis_audience.core.sql.types import LogicalType, logical_type_of

AS_OF = datetime(2026, 1, 31, 12, tzinfo=UTC)
engines = st.sampled_from(sorted(DIALECTS))
SPARK = ("hiveserver2", "databricks")
any_text = st.text(st.characters(codec="utf-8"), max_size=200)


@given(sync_id=any_text, what=st.sampled_from(("base", "changes", "snapshot")))
def test_a_table_name_is_short_plain_and_tells_sync_and_instant(sync_id, what):
    name = table_name(what, sync_id, AS_OF, "abc123")
    assert re.fullmatch(r"[a-z0-9_]{1,60}", name)
    assert name.startswith(f"{what}_")
    assert name.endswith("_20260131_120000_abc123")


@given(ids=st.lists(any_text, min_size=2, max_size=2, unique=True))
def test_two_syncs_never_share_a_table_name(ids):
    first, second = (table_name("base", sync_id, AS_OF, "abc123") for sync_id in ids)
    assert first != second


@given(label=any_text, role=st.sampled_from(["identity", "property"]))
def test_a_state_column_is_short_and_plain_whatever_its_values_are_sent_as(label, role):
    assert re.fullmatch(r"[a-z0-9_]{17,36}", state_column(role, label))


@given(label=any_text, other=any_text)
@example(label="EMAIL", other="email")
@example(label="n" * 80 + "a", other="n" * 80 + "b")
@example(label="é", other="e\u0301")
def test_no_two_state_columns_are_one_to_any_engine(label, other):
    columns = {("identity", label), ("property", label), ("identity", other), ("property", other)}
    assert len({state_column(*found).casefold() for found in columns}) == len(columns)


NAMED_TABLES = {
    "marts.lapsed": ["marts", "lapsed"],
    "order": ["order"],
    "Marts.Lapsed users": ["Marts", "Lapsed users"],
    "a.b.c": ["a", "b", "c"],
    "my-project.set.t$1": ["my-project", "set", "t$1"],
    '"My.Schema"."order"': ["My.Schema", "order"],
    "`My.Schema`.`or``der`": ["My.Schema", "or`der"],
    'db."x ""y"".z"': ["db", 'x "y".z'],
    'it"s': ['it"s'],
}


@pytest.mark.parametrize("engine", sorted(DIALECTS))
def test_no_class_is_made_of_sqlglots_which_cannot_be_where_it_is_compiled(engine: str) -> None:
    given = sqlglot.Dialect.get_or_raise(DIALECTS[engine].name)
    overrides = tuple(DIALECTS[engine].functions.sql_overrides.items())
    made = statements._generator(DIALECTS[engine].name, overrides)()
    assert type(made) is given.generator_class


@pytest.mark.parametrize("engine", sorted(DIALECTS))
@pytest.mark.parametrize("name", NAMED_TABLES)
def test_a_table_is_named_as_its_author_writes_it(name, engine):
    found = named_table(name, DIALECTS[engine])
    parts = [part.name for part in found.parts]
    assert [p.lower() for p in parts] == [p.lower() for p in NAMED_TABLES[name]]
    assert all(part.args["quoted"] for part in found.parts)
    if engine != "snowflake":
        assert parts == NAMED_TABLES[name]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("marts.lapsed", ["MARTS", "LAPSED"]),
        ("Marts.order", ["MARTS", "ORDER"]),
        ("my_db.s$1.T", ["MY_DB", "S$1", "T"]),
        ('marts."lapsed"', ["MARTS", "lapsed"]),
        ('"Marts"."Lapsed"', ["Marts", "Lapsed"]),
        ("marts.lapsed users", ["MARTS", "lapsed users"]),
    ],
)
def test_snowflake_means_upper_case_by_a_name_without_quotes(name, parts):
    assert [part.name for part in named_table(name, DIALECTS["snowflake"]).parts] == parts


@pytest.mark.parametrize("name", ["", " ", ".", "a.", ".a", "a..b", '"a', '"a"b', '"', '""', 'a."b', "`a", '"a".'])
def test_what_is_no_name_of_a_table_is_refused_with_what_to_write(name):
    with pytest.raises(ValueError, match="expected a table name"):
        named_table(name)


@pytest.mark.parametrize("engine", sorted(DIALECTS))
def test_the_query_goes_in_as_it_was_written(engine):
    query = "SELECT 'it''s %s' AS a -- \"author's query\" `author's query`\nFROM x"
    source = table(None, SOURCE_PLACEHOLDER).as_("given")
    sql = render(exp.select(column("a")).from_(source), DIALECTS[engine], query=query)
    before, found, after = sql.partition(query)
    assert found
    assert (before + after).replace("`", '"') == 'SELECT "a" FROM (\n\n) AS "given"'


@pytest.mark.parametrize("engine", sorted(DIALECTS))
def test_names_are_quoted_and_values_are_text(engine):
    dialect = DIALECTS[engine]
    # BigQuery alone takes a dot in a quoted name for one between two.
    reference = column('we"ird; `--', "t-t")
    assert read_back(render(reference, dialect), dialect) == reference
    literal = read_back(render(text("it's \\ %s"), dialect), dialect)
    assert literal.is_type("TEXT", "VARCHAR", "CHAR")
    assert literal.this.this == "it's \\ %s"
    found = read_back(render(exp.select("*").from_(table("db.my schema", "t")), dialect), dialect)
    assert found.find(exp.Table) == table("db.my schema", "t")


def read_back(sql, dialect):
    return sqlglot.parse_one(sql, read=dialect.name)


@pytest.mark.parametrize(
    ("query", "cleaned"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 1;", "SELECT 1"),
        (" \n SELECT 1 ;; \n -- ; end", " \n SELECT 1"),
        ("SELECT ';' AS a; /* ; */", "SELECT ';' AS a"),
        ('SELECT 1 AS ";"', 'SELECT 1 AS ";"'),
        ("SELECT '\U0001f600é' ;", "SELECT '\U0001f600é'"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
    ],
)
@pytest.mark.parametrize("engine", sorted(DIALECTS))
def test_only_closing_semicolons_and_what_follows_are_taken_off(engine, query, cleaned):
    assert check_query(query, DIALECTS[engine]) == cleaned


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 -- the end",
        "SELECT 1 /* the end */",
        "SELECT /*+ BROADCAST(t) */ 1 FROM t /*+ the end */",
        "/* first */ SELECT 1 /* ; ) */",
    ],
)
@pytest.mark.parametrize("closed", ["", "\n;", "\n;;\n"])
@pytest.mark.parametrize("engine", sorted(DIALECTS))
def test_a_comment_is_passed_on_because_it_may_be_a_hint(engine, query, closed):
    assert check_query(query + closed, DIALECTS[engine]) == query


@pytest.mark.parametrize(
    "query",
    [
        "SELECT uid FROM t /*! WHERE uid > 1 */",
        "SELECT uid FROM t /*!50701 WHERE uid IN (1, 2) */ /*M!100100 AND uid = ')' */ -- /*! ) */",
        "SELECT uid /*! , email */ FROM t",
        "SELECT 5--1 AS uid FROM t",
    ],
)
def test_code_in_comments_of_mysql_is_passed_on_as_it_is(query):
    assert check_query(query + "\n;", DIALECTS["mysql"]) == query


@pytest.mark.parametrize(
    "query",
    [
        "SELECT uid FROM t /*! ; DELETE FROM t */",
        "SELECT uid FROM t /*!50701 ) AS a, (SELECT 1 */",
        "SELECT uid FROM t /*M! WHERE uid = 'a */",
        "SELECT uid FROM t; /*! SELECT 1 */",
        "/*! SELECT uid FROM t */",
    ],
)
def test_code_in_comments_of_mysql_that_makes_another_statement_is_refused(query):
    with pytest.raises(ValueError, match=r"^sql "):
        check_query(query, DIALECTS["mysql"])


@pytest.mark.parametrize("engine", sorted(DIALECTS))
@pytest.mark.parametrize(
    "query",
    [
        "",
        ";",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "INSERT INTO t SELECT 1",
        "DROP TABLE t",
        "SELECT 1)",
        "SELECT (1",
        "SELECT 1) AS a, (SELECT 2",
        "SELECT 'a",
        'SELECT "a',
        "SELECT 1 /* open",
    ],
)
def test_what_is_no_single_select_is_the_authors_mistake(engine, query):
    with pytest.raises(ValueError, match=r"^sql "):
        check_query(query, DIALECTS[engine])


KINDS = {
    "duckdb": {
        LogicalType.BOOLEAN: ["BOOLEAN"],
        LogicalType.INTEGER: ["TINYINT", "INTEGER", "BIGINT", "UINTEGER"],
        LogicalType.FLOAT: ["FLOAT", "DOUBLE"],
        LogicalType.TEXT: ["VARCHAR", "ENUM('a', 'b')"],
        LogicalType.DATE: ["DATE"],
        LogicalType.TIMESTAMP: ["TIMESTAMP WITH TIME ZONE"],
        LogicalType.EXACT: ["DECIMAL(18,3)", "HUGEINT", "UBIGINT", "UHUGEINT", "UUID"],
    },
    "postgres": {
        LogicalType.BOOLEAN: ["boolean"],
        LogicalType.INTEGER: ["smallint", "integer", "bigint"],
        LogicalType.FLOAT: ["real", "double precision"],
        LogicalType.TEXT: ["text", "character varying", "character"],
        LogicalType.DATE: ["date"],
        LogicalType.TIMESTAMP: ["timestamp with time zone"],
        LogicalType.EXACT: ["numeric", "uuid"],
    },
    "mysql": {
        LogicalType.BOOLEAN: ["BOOLEAN"],
        LogicalType.INTEGER: ["TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT"],
        LogicalType.FLOAT: ["FLOAT", "DOUBLE"],
        LogicalType.TEXT: ["TEXT"],
        LogicalType.DATE: ["DATE"],
        LogicalType.TIMESTAMP: ["TIMESTAMP"],
        LogicalType.EXACT: ["DECIMAL", "BIGINT UNSIGNED"],
    },
    "hiveserver2": {
        LogicalType.BOOLEAN: ["boolean"],
        LogicalType.INTEGER: ["tinyint", "smallint", "int", "bigint"],
        LogicalType.FLOAT: ["float", "double"],
        LogicalType.TEXT: ["string", "string collate UTF8_LCASE", "varchar(10)", "char(5)"],
        LogicalType.DATE: ["date"],
        LogicalType.TIMESTAMP: ["timestamp", "timestamp_ltz"],
        LogicalType.EXACT: ["decimal(38,10)"],
    },
}


@pytest.mark.parametrize("engine", sorted(KINDS))
def test_every_type_with_one_json_form_has_its_kind(engine):
    for kind, names in KINDS[engine].items():
        assert {logical_type_of(name, "c", DIALECTS[engine]) for name in names} == {kind}


@pytest.mark.parametrize("engine", sorted(KINDS))
@pytest.mark.parametrize(
    "name", ["JSON", "INTEGER[]", "INTERVAL", "TIME", "a type of my own", "MAP(VARCHAR, INTEGER)"]
)
def test_a_type_without_one_json_form_names_the_column_and_a_cast(engine, name):
    text_type = {"mysql": "CHAR", **dict.fromkeys(SPARK, "STRING")}.get(engine, "VARCHAR")
    with pytest.raises(ValueError, match=rf"column 'odd' .*CAST\(odd AS {text_type}\) AS odd"):
        logical_type_of(name, "odd", DIALECTS[engine])


@pytest.mark.parametrize(
    ("engine", "name", "advice"),
    [
        ("duckdb", "TIMESTAMP", "seen AT TIME ZONE 'UTC' AS seen"),
        ("postgres", "timestamp without time zone", "seen AT TIME ZONE 'UTC' AS seen"),
        ("mysql", "DATETIME", "DATE_FORMAT(seen, '%Y-%m-%dT%H:%i:%s.%fZ') AS seen"),
        ("hiveserver2", "timestamp_ntz", "TO_UTC_TIMESTAMP(seen, 'UTC') AS seen"),
        ("databricks", "timestamp_ntz", "TO_UTC_TIMESTAMP(seen, 'UTC') AS seen"),
    ],
)
def test_an_instant_without_a_time_zone_asks_which_one(engine, name, advice):
    with pytest.raises(ValueError, match=rf"column 'seen' .*{re.escape(advice)}"):
        logical_type_of(name, "seen", DIALECTS[engine])
