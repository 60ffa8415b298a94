"""What is sent to engines that do not run here: as it is written down, and as their own grammar has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from tests.engines.environments import add_packages
from tests.golden_sql import ENGINES, GOLDEN, write_down

FILES = sorted(GOLDEN.glob("*/*.sql"))


def statements(path: Path) -> list[str]:
    return path.read_bytes().decode().removesuffix(";\n").split(";\n")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_sent_is_what_is_written_down(engine):
    written = {path.stem: path.read_bytes().decode() for path in (GOLDEN / engine).glob("*.sql")}
    assert write_down(engine) == written, "look at the difference, then: python -m tests.golden_sql"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_statement_is_read_back_as_it_was_written(path):
    dialect = "athena" if path.parent.name == "athena" else DIALECTS[path.parent.name].name
    for statement in statements(path):
        read = sqlglot.parse_one(statement.replace("%s", "NULL"), read=dialect)
        assert not isinstance(read, exp.Command), "sqlglot knows no such statement"
        again = read.sql(dialect=dialect)
        assert sqlglot.parse_one(again, read=dialect).sql(dialect=dialect) == again


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "trino"], ids=lambda path: path.stem)
def test_trinos_own_grammar_takes_it_and_knows_every_function(path):
    add_packages("trino")
    from trino_sql_validator import validate

    for statement in statements(path):
        found = validate(statement, jinja="reject")
        assert found.valid, found.error
        assert (found.unknown_functions, found.unknown_types) == ([], [])
