"""The SQL on the pages of warehouses: run where the engine is here, elsewhere read by a parser of its dialect."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlglot
from jinja2 import Template
from sqlglot import exp

from tests.docs.pages import blocks

SHOWN = [
    *(("snowflake", block) for block in blocks("sql", "docs/warehouse-snowflake.md")),
    *zip(("bigquery", "trino"), blocks("sql", "docs/warehouse-cloud.md"), strict=True),
]


@pytest.mark.parametrize(("dialect", "block"), SHOWN, ids=lambda given: getattr(given, "name", given))
def test_the_sql_of_a_page_is_its_engines(dialect, block):
    text = Template(block.text).render(as_of=datetime(2026, 1, 31, tzinfo=UTC))
    for statement in sqlglot.parse(text, read=dialect):
        assert isinstance(statement, exp.Select | exp.Create | exp.Grant), text


@pytest.mark.parametrize(("dialect", "block"), SHOWN, ids=lambda given: getattr(given, "name", given))
def test_a_query_of_the_past_says_so_to_the_parser(dialect, block):
    text = Template(block.text).render(as_of=datetime(2026, 1, 31, tzinfo=UTC))
    for query in sqlglot.parse_one(text, read=dialect).find_all(exp.Select):
        [table] = query.find_all(exp.Table)
        assert table.args.get("when") or table.args.get("version")


def test_the_sql_of_mysql_runs_on_mariadb(mysql_server):
    grants, past = blocks("sql", "docs/warehouse-mysql.md")
    columns = "user_id TEXT, email TEXT, city TEXT"
    mysql_server.execute(
        "CREATE DATABASE marts",
        f"CREATE TABLE marts.lapsed ({columns}) WITH SYSTEM VERSIONING",
        "CREATE USER audience_login",
    )
    try:
        mysql_server.execute(*(s for s in grants.text.split(";") if s.strip()))
        mysql_server.execute(Template(past.text).render(as_of=datetime(2026, 1, 31, tzinfo=UTC)))
    finally:
        mysql_server.execute("DROP DATABASE marts", "DROP USER audience_login")
        mysql_server.execute("DROP DATABASE IF EXISTS airflow_audience")
