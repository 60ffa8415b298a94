"""The row layout that bases, change sets and snapshots share, and the SQL that selects and counts such rows.

It builds statements and runs none. Rows of members or changes stand beside one ``audience`` row per audience, so
that any state table is read the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.sql.collations import state_by_bytes
from airflow_kinesis_audience.core.sql.statements import column, table, text
from airflow_kinesis_audience.core.sql.types import LogicalType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_audience.core.source.layout import Column, TableLayout


MEMBER = "member"


LEFT = "left"


AUDIENCE = "audience"
"""``action`` of rows that are no change: in a base who is a member and who has left, and what an audience is."""


BEFORE = "before"
"""``action`` of what was counted of the membership before; no row of a table has it."""

AUDIENCE_COLUMNS = ("audience_name", "source_rows", "invalid_rows", "wrong_identities")
"""Columns that only the rows of audiences have."""


RECORDED_AT, LOST = "recorded_at", "lost"
"""Columns that only tables of dead letters have: since when one is open, and whether the destination has values of
the member that are kept no more."""

_TYPES = {"audience_name": "TEXT", "source_rows": "BIGINT", "invalid_rows": "BIGINT", "wrong_identities": "TEXT"}
_TYPES |= {RECORDED_AT: "TEXT", LOST: "TEXT"}


def member_columns(layout: TableLayout) -> tuple[str, ...]:
    """List the state columns of a member, in the order of every base."""
    return ("audience_id", "user_id", "member_since", *(c.new for c in layout.columns))


def kept_columns(layout: TableLayout, names: Sequence[str], origin: str | None = None) -> dict[str, exp.Expr]:
    """Build state columns as they are read: of texts the bytes decide, also where an older run wrote them."""
    texts = {"audience_id", "user_id", *(n for c in layout.columns if _is_text(c) for n in (c.new, c.old))}
    found: dict[str, exp.Expr] = {n: column(n, origin) for n in names}
    return {n: state_by_bytes(e) if n in texts else e for n, e in found.items()}


def _is_text(c: Column) -> bool:
    return c.kind is LogicalType.TEXT


def base_columns(layout: TableLayout) -> tuple[str, ...]:
    """List the columns of a base."""
    return ("action", *member_columns(layout), "left_at", *AUDIENCE_COLUMNS)


def bucket_of(user: exp.Expr) -> exp.Expr:
    """Build a user's bucket, three hexadecimal digits; it never changes.

    :param user: the user's id, or what else identifies the user of a message.
    """
    return exp.func("SUBSTRING", exp.MD5(this=user.copy()), exp.Literal.number(1), exp.Literal.number(3))


def padded(given: Mapping[str, exp.Expr], names: Sequence[str]) -> exp.Select:
    """Select the given expressions under their names, in the order of ``names``, and NULL for all others."""
    # What is NULL in every row has no type by itself, and some engines make no table of that.
    typed = {n: exp.cast(exp.null(), kind) for n, kind in _TYPES.items()}
    return exp.select(*(given.get(n, typed.get(n, exp.null())).as_(n) for n in names))


def audience_rows(origin: exp.Table | exp.Subquery, names: Sequence[str]) -> exp.Select:
    """Build the rows that tell of audiences, from a table or an expression that has them."""
    given: dict[str, exp.Expr] = {n: column(n) for n in AUDIENCE_COLUMNS}
    given |= {n: state_by_bytes(column(n)) for n in ("audience_id", "audience_name")}
    return padded({"action": text(AUDIENCE), **given}, names).from_(origin)


def change_columns(layout: TableLayout) -> tuple[str, ...]:
    """List the columns of a change set and of a snapshot."""
    return (
        "position",
        "action",
        "updated",
        "bucket",
        *member_columns(layout),
        *(c.old for c in layout.columns),
        *AUDIENCE_COLUMNS,
    )


def select_counts(schema: str, name: str) -> exp.Query:
    """Build the counts per audience and action of a base's members or a change set's rows.

    Columns: audience_id, action, rows, distinct users.
    """
    return (
        exp.select(
            column("audience_id"),
            column("action"),
            exp.Count(this=exp.Star()),
            exp.Count(this=exp.Distinct(expressions=[column("user_id")])),
        )
        .from_(table(schema, name))
        .where(column("action").neq(AUDIENCE))
        .group_by(column("audience_id"), column("action"))
    )


def select_found(schema: str, name: str, *more: exp.Expr, before_in: str | None = None) -> exp.Query:
    """Build the counts and the audiences of a table, and those of the membership before, in one statement.

    :param more: further measures of an action's rows.
    :param before_in: the table that has the audiences before.

    Columns: audience_id, action, rows, distinct users; where the action is ``audience`` also audience_name,
    source_rows, invalid_rows, wrong_identities; and the measures. Of the audiences before come rows of the
    action ``before``: audience_id, action, source_rows, invalid_rows, audience_name.
    """
    of_audiences = (exp.Max(this=column(n)) for n in AUDIENCE_COLUMNS)
    query: exp.Query = select_counts(schema, name).select(*of_audiences, *more)
    query.set("where", None)
    if before_in is None:
        return query
    nothing: list[exp.Expr] = [exp.cast(exp.null(), _TYPES[n]) for n in AUDIENCE_COLUMNS[1:]]
    nothing += [
        exp.cast(exp.null(), "DOUBLE") if isinstance(m, exp.Avg) else exp.cast(exp.null(), "INT") for m in more
    ]
    names = ("source_rows", "invalid_rows", "audience_name")
    before = (
        exp.select(column("audience_id"), text(BEFORE), *map(column, names), *nothing)
        .from_(table(schema, before_in))
        .where(column("action").eq(AUDIENCE))
    )
    return exp.union(query, before, distinct=False)


def select_audience_rows(schema: str, name: str) -> exp.Query:
    """Build the reading of what a state table tells of audiences.

    Columns: audience_id, audience_name, source_rows, invalid_rows.
    """
    names = ("audience_id", "audience_name", "source_rows", "invalid_rows")
    return exp.select(*(column(n) for n in names)).from_(table(schema, name)).where(column("action").eq(AUDIENCE))


def numbered(names: Sequence[str], origin: exp.Table) -> exp.Select:
    """Number the rows in the order of audience, action, bucket and user; a user's bucket never changes."""
    bucket = bucket_of(column("user_id"))
    order = [exp.Ordered(this=e) for e in (column("audience_id"), column("action"), bucket, column("user_id"))]
    number = exp.Window(this=exp.RowNumber(), order=exp.Order(expressions=order))
    own = {
        "position": exp.Sub(this=number, expression=exp.Literal.number(1)),
        "bucket": bucket.copy(),
    }
    return padded({n: own.get(n, column(n)) for n in names if n not in AUDIENCE_COLUMNS}, names).from_(origin)


SLICE_ROWS = 20_000
"""Rows of a slice: what a publishing task holds at once. They are fewer where values are long."""
