"""Statements mean what they should before any engine sees them: names, literals, and the author's query."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from airflow_kinesis_audience.dialects import DIALECTS, state_column
from airflow_kinesis_audience.kinds import Kind, kind_of
from airflow_kinesis_audience.sql import SOURCE_PLACEHOLDER, check_query, column, render, table, table_name, text

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


@given(name=any_text, engine=engines)
def test_a_state_column_fits_with_its_prefix_and_keeps_a_short_name(name, engine):
    dialect = DIALECTS[engine]
    found = state_column(name, dialect)
    assert len(f"new_{found}".encode()) <= dialect.identifier_bytes
    if len(name.encode()) <= dialect.identifier_bytes - 4:
        assert found == name


@pytest.mark.parametrize("letter", ["n", "ü", "\U0001f600"])
def test_long_columns_that_differ_at_their_end_have_different_state_columns(letter):
    names = [letter * 80 + end for end in "ab"]
    assert len({state_column(name, DIALECTS["postgres"]) for name in names}) == 2


@pytest.mark.parametrize("engine", sorted(DIALECTS))
def test_the_query_goes_in_as_it_was_written(engine):
    query = "SELECT 'it''s %s' AS a -- \"author's query\" `author's query`\nFROM x"
    source = table(None, SOURCE_PLACEHOLDER).as_("given", quoted=True)
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
        Kind.BOOLEAN: ["BOOLEAN"],
        Kind.INTEGER: ["TINYINT", "INTEGER", "BIGINT", "UINTEGER"],
        Kind.FLOAT: ["FLOAT", "DOUBLE"],
        Kind.TEXT: ["VARCHAR", "ENUM('a', 'b')"],
        Kind.DATE: ["DATE"],
        Kind.TIMESTAMP: ["TIMESTAMP WITH TIME ZONE"],
        Kind.EXACT: ["DECIMAL(18,3)", "HUGEINT", "UBIGINT", "UHUGEINT", "UUID"],
    },
    "postgres": {
        Kind.BOOLEAN: ["boolean"],
        Kind.INTEGER: ["smallint", "integer", "bigint"],
        Kind.FLOAT: ["real", "double precision"],
        Kind.TEXT: ["text", "character varying", "character"],
        Kind.DATE: ["date"],
        Kind.TIMESTAMP: ["timestamp with time zone"],
        Kind.EXACT: ["numeric", "uuid"],
    },
    "mysql": {
        Kind.BOOLEAN: ["BOOLEAN"],
        Kind.INTEGER: ["TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT"],
        Kind.FLOAT: ["FLOAT", "DOUBLE"],
        Kind.TEXT: ["TEXT"],
        Kind.DATE: ["DATE"],
        Kind.TIMESTAMP: ["TIMESTAMP"],
        Kind.EXACT: ["DECIMAL", "BIGINT UNSIGNED"],
    },
    "hiveserver2": {
        Kind.BOOLEAN: ["boolean"],
        Kind.INTEGER: ["tinyint", "smallint", "int", "bigint"],
        Kind.FLOAT: ["float", "double"],
        Kind.TEXT: ["string", "string collate UTF8_LCASE", "varchar(10)", "char(5)"],
        Kind.DATE: ["date"],
        Kind.TIMESTAMP: ["timestamp", "timestamp_ltz"],
        Kind.EXACT: ["decimal(38,10)"],
    },
}


@pytest.mark.parametrize("engine", sorted(KINDS))
def test_every_type_with_one_json_form_has_its_kind(engine):
    for kind, names in KINDS[engine].items():
        assert {kind_of(name, "c", DIALECTS[engine]) for name in names} == {kind}


@pytest.mark.parametrize("engine", sorted(KINDS))
@pytest.mark.parametrize(
    "name", ["JSON", "INTEGER[]", "INTERVAL", "TIME", "a type of my own", "MAP(VARCHAR, INTEGER)"]
)
def test_a_type_without_one_json_form_names_the_column_and_a_cast(engine, name):
    text_type = {"mysql": "CHAR", **dict.fromkeys(SPARK, "STRING")}.get(engine, "VARCHAR")
    with pytest.raises(ValueError, match=rf"column 'odd' .*CAST\(odd AS {text_type}\) AS odd"):
        kind_of(name, "odd", DIALECTS[engine])


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
        kind_of(name, "seen", DIALECTS[engine])
