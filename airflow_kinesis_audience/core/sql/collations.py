"""How a text is compared by its bytes on each engine, whatever collation a column, a schema or a session has.

Two texts are one key, or one value, only if their bytes are. Where texts are read of the author's query they are
marked here once; the state's columns carry it from there. Pure: the rendering of a statement asks here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE, _STATE = "of the source", "of the state"

_BY_BYTES: Mapping[str, str] = {
    # What a database has by default tells any two texts apart; any other collation may not.
    "postgres": '{text} COLLATE "default"',
    "duckdb": "{text} COLLATE C",
    "redshift": "COLLATE({text}, 'case_sensitive')",
    "snowflake": "COLLATE({text}, '')",
    # A text of bytes has no collation, and older servers know no COLLATE.
    "spark": "CAST(CAST({text} AS BINARY) AS STRING)",
    "databricks": "CAST(CAST({text} AS BINARY) AS STRING)",
}
"""By sqlglot's name of the dialect; a session of MySQL's has such a collation, and the others compare bytes.

Sources: https://www.postgresql.org/docs/current/collation.html,
https://docs.aws.amazon.com/redshift/latest/dg/r_COLLATE.html,
https://docs.snowflake.com/en/sql-reference/functions/collate,
https://docs.databricks.com/en/sql/language-manual/sql-ref-collation.html
"""

LOWER_ON_POSTGRES = {"Lower": '(LOWER({this} COLLATE "C") COLLATE "default")'}
"""Lower case of A to Z alone, whatever the database's own collation has."""

LOWER_ON_MYSQL = {"Lower": "CAST(LOWER(CONVERT({this} USING utf8mb4) COLLATE utf8mb4_unicode_520_ci) AS CHAR)"}
"""Lower case of the letters of Unicode 5.2; the cast gives the session's collation back."""

_OLD_STATE = ("postgres", "duckdb")
"""Engines whose tables keep the collation of what they were made of, so that a state from before may have one."""


def by_bytes(value: exp.Expr) -> exp.Expr:
    """Mark a text of the source, that it be compared by its bytes."""
    return exp.Collate(this=value, expression=exp.Var(this=_SOURCE))


def state_by_bytes(value: exp.Expr) -> exp.Expr:
    """Mark a text of the state likewise: one that was written before its source was marked is not so by itself."""
    return exp.Collate(this=value, expression=exp.Var(this=_STATE))


def is_bare(named: exp.Alias, dialect: str) -> bool:
    """Whether a marked column of the state is written under its own name, and as it is."""
    marked = named.this
    of_state = isinstance(marked, exp.Collate) and marked.expression.name == _STATE
    return of_state and dialect not in _OLD_STATE and marked.this.name == named.alias


def write_by_bytes(marked: exp.Collate, text: str, dialect: str) -> str:
    """Write a marked text as an engine has it.

    :param text: the SQL of what is marked.
    """
    if marked.expression.name == _STATE and dialect not in _OLD_STATE:
        return text
    return _BY_BYTES.get(dialect, "{text}").replace("{text}", text)
