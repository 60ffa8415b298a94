"""The author's query: one SELECT, checked before it is spliced into a statement, and the columns that it gives.

The text is never changed but for a closing semicolon, so that it means exactly what its author tested, comments
and all: an engine may run them. It is tokenized and not parsed: a query may use what sqlglot does not know.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import TokenError

from airflow_kinesis_audience.core.exceptions import WarehouseRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlglot import Token

    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.model.events import EventSource
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

_Mapped = TypeVar("_Mapped", "Source", "EventSource")

_NO_COLUMN = (
    "query",
    "exclude_query",
    "split",
    "exclusive_by",
    "audience_id",
    "audience_name",
    "arrived_at_timezone",
)


def match_column_case(source: _Mapped, types: Mapping[str, str], dialect: Dialect) -> _Mapped:
    """Name the mapped columns as the query gives them, where the engine folds the case of columns' names.

    A name that the query gives just so stays; so does one that it does not give, or gives in two spellings.

    :raises ValueError: if two names mean the same column; a retry does not help.
    """
    if not dialect.folds_column_case:
        return source

    def given(name: str) -> str:
        alike = [n for n in types if n.lower() == name.lower()]
        return alike[0] if name not in types and len(alike) == 1 else name

    named: dict[str, Any] = {}
    for column in (f.name for f in fields(source) if f.name not in _NO_COLUMN):
        value = getattr(source, column)
        if isinstance(value, str):
            named[column] = given(value)
        elif value is not None:
            named[column] = {given(name): meaning for name, meaning in value.items()}
            if len(named[column]) < len(value):
                raise ValueError(
                    f"{column} names one column twice, with letters of different case, in "
                    f"{', '.join(map(repr, value))}; the query returns it once. Name each column once"
                )
    return replace(source, **named)


def describe_query(origin: Warehouse, source: _Mapped) -> tuple[_Mapped, str, dict[str, str]]:
    """Have the warehouse describe the author's query: the source as it names its columns, the query, and types.

    :raises ValueError: if the query or the mapping cannot be used; a retry does not help.
    :raises WarehouseRefused: if the warehouse cannot run the query; a retry does not help.
    """
    query = check_query(source.query, origin.dialect)
    types = read_types(origin, query, "the source", "sql or table")
    return match_column_case(source, types, origin.dialect), query, types


def read_types(origin: Warehouse, query: str, what: str, argument: str) -> dict[str, str]:
    """Have the warehouse describe a query of the author's: column name to type name.

    :param what: it reads, and the task's ``argument`` that it is; for the error.
    :raises WarehouseRefused: if the warehouse cannot run it; a retry does not help.
    """
    try:
        return origin.read_types(query)
    except WarehouseRefused as error:
        raise WarehouseRefused(
            f"{error}. This statement reads {what}: correct the task's {argument}, correct the database and "
            "schema of its connection, or let the connection's login read the table"
        ) from None


def check_query(query: str, dialect: Dialect, argument: str = "sql") -> str:
    """Return the author's query as it was written, comments and all, without what follows a closing semicolon.

    :param argument: the task's that it is, for the error.
    :raises ValueError: if it is empty or more than one statement; a retry does not help.
    """
    tokens = _tokens(query, dialect, argument)
    closing: list[Token] = []
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        closing.append(tokens.pop())
    if not tokens:
        raise ValueError("sql is empty; expected a SELECT that returns one row per member")
    if tokens[0].token_type not in (TokenType.SELECT, TokenType.WITH, TokenType.FROM, TokenType.L_PAREN):
        raise ValueError(f"{argument} begins with {tokens[0].text.upper()}; expected a SELECT or WITH ... SELECT")
    if any(code_in_comments(closing, dialect)):
        raise ValueError(_several(argument))
    _check_part(tokens, dialect, argument)
    return query[: closing[-1].start if closing else None].rstrip()


def code_in_comments(tokens: Iterable[Token], dialect: Dialect) -> Iterator[str]:
    """Give what stands in comments and is run by the engine all the same, as in MySQL's ``/*!50701 ... */``."""
    for comment in (c for token in tokens for c in token.comments):
        if sign := next((s for s in dialect.code_comments if comment.startswith(s)), ""):
            yield comment.removeprefix(sign).lstrip("0123456789")


def _several(argument: str) -> str:
    return f"{argument} holds more than one statement; expected a single SELECT, without semicolons"


def _check_part(tokens: Sequence[Token], dialect: Dialect, argument: str) -> None:
    """Refuse what would end before the statement that it stands in does."""
    if any(token.token_type is TokenType.SEMICOLON for token in tokens):
        raise ValueError(_several(argument))
    depth = 0
    for token in tokens:
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if depth < 0:
            break
    if depth:
        raise ValueError(f"{argument} has a parenthesis that is not closed, or is closed too often")
    for code in code_in_comments(tokens, dialect):
        _check_part(_tokens(code, dialect, argument), dialect, argument)


def _tokens(text: str, dialect: Dialect, argument: str) -> list[Token]:
    try:
        return list(sqlglot.Dialect.get_or_raise(dialect.name).tokenize(text))
    except TokenError as error:
        raise ValueError(f"{argument} cannot be read: a quote or a comment is not closed") from error
