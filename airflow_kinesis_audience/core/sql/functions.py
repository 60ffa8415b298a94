"""Which functions an engine has, and what it calls them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class ListFunctions:
    """What an engine calls its functions on lists.

    :param transform: gives what an expression makes of each element, and ``keep`` the elements that meet one.
    :param distinct: gives each element once, and ``sort`` them by their values.
    :param length: counts them.
    :param lambda_first: whether the expression stands before the list.
    :param keeps_nulls: whether NULL is an element like any other to ``distinct``.
    """

    transform: str
    keep: str
    distinct: str
    sort: str
    length: str
    lambda_first: bool = False
    keeps_nulls: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Functions:
    """Which functions an engine has, and what it calls them.

    :param signature: from any values to a 64-bit integer, the same for equal ones within one statement, where
        rows are found faster by it than by comparing their columns, as on DuckDB.
    :param of_lists: those that take a list and a lambda, if it has such; on DuckDB 25 times as fast as unnesting.
    :param sha256_takes_bytes: whether SHA256 takes bytes, not text.
    :param character_sets: whether TRIM and TRANSLATE take a set of characters, or regular expressions have to.
    :param is_text: whether a ``{column}`` of texts has characters alone, where it may have any bytes.
    :param regexp_like: whether it has REGEXP_LIKE, in a spelling that sqlglot knows.
    :param sql_overrides: what sqlglot renders wrong: an expression's class to SQL with its arguments in braces.
    """

    signature: str | None = None
    of_lists: ListFunctions | None = None
    sha256_takes_bytes: bool = False
    character_sets: bool = True
    regexp_like: bool = True
    is_text: str | None = None
    sql_overrides: Mapping[str, str] = field(default_factory=dict)
