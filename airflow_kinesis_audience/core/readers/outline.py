"""What is to be read of a table before its slices are: the names of audiences, and the counts of its chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlglot import exp

from airflow_kinesis_audience.core.sql.statements import column, null_like, render, table, union_all
from airflow_kinesis_audience.core.state.rows import AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse

ALL_DIGITS = range(16)
"""The digits with which a bucket may begin."""


def read_audience_names(warehouse: Warehouse, change_set: ChangeSet) -> dict[str, str]:
    """Read the names of all audiences in a change set, by id; an id without a name is its own."""
    query = union_all(_select_names(change_set))
    return _names_of(warehouse.read_rows(render(query, warehouse.dialect)))


def _select_names(change_set: ChangeSet) -> list[exp.Select]:
    """Build the audiences of each table: rank, audience_id, audience_name; those of a higher rank hold."""
    tables = [name for name in (change_set.names_from, change_set.table) if name is not None]
    return [
        exp.select(exp.Literal.number(rank).as_("rank"), column("audience_id"), column("audience_name"))
        .from_(table(change_set.schema, name))
        .where(column("action").eq(AUDIENCE))
        for rank, name in enumerate(tables)
    ]


def _names_of(rows: Iterable[Sequence[Any]]) -> dict[str, str]:
    # Rows that name no audience are counted as one's, so that a guard knows how many there were before.
    named = sorted((row for row in rows if row[1] is not None), key=lambda row: int(row[0]))
    return {audience: called or audience for _, audience, called in named}


def read_outline(warehouse: Warehouse, change_set: ChangeSet) -> tuple[dict[tuple[int, str], int], dict[str, str]]:
    """Read in one statement what :func:`count_chunks` counts, and the names of the audiences."""
    number, is_change = slice_of(column("position"), change_set.slice_rows), column("action").neq(AUDIENCE)
    nothing = [null_like(column(n)).as_(n) for n in ("audience_id", "audience_name")]
    origin = table(change_set.schema, change_set.table)
    chunks = _select_chunks(origin, number, is_change, *nothing)
    query: exp.Query = chunks.select(*(exp.Max(this=column(n.alias)) for n in nothing), copy=False)
    for names in _select_names(change_set):
        digit, changes = exp.Literal.string(""), exp.Literal.number(0)
        rank, *named = names.expressions
        names.set("expressions", [rank, digit, changes, *named])
        query = exp.union(query, names, distinct=False, copy=False)
    found = warehouse.read_rows(render(query, warehouse.dialect))
    counts = {(int(row[0]), str(row[1])): int(row[2]) for row in found if row[1]}
    return counts, _names_of((rank, *named) for rank, digit, _, *named in found if not digit)


def count_chunks(
    warehouse: Warehouse, origin: exp.Table, number: exp.Expr, is_sent: exp.Expr, changes: exp.Expr | None = None
) -> dict[tuple[int, str], int]:
    """Count the changes of a state table by slice and first digit of the bucket.

    :param number: of a row's slice.
    :param is_sent: the condition on the rows that are sent.
    :param changes: how many changes a row stands for, by default one.
    """
    query = _select_chunks(origin, number, is_sent, changes=changes)
    found = warehouse.read_rows(render(query, warehouse.dialect))
    return {(int(slice_number), str(first)): int(count) for slice_number, first, count in found}


def _select_chunks(
    origin: exp.Table, number: exp.Expr, is_sent: exp.Expr, *more: exp.Expr, changes: exp.Expr | None = None
) -> exp.Select:
    """Build the counts of chunks: slice, digit, changes."""
    chunks = exp.select(
        number.as_("slice"),
        digit_of_bucket().as_("digit"),
        (changes or exp.Literal.number(1)).as_("changes"),
        *more,
    )
    return (
        exp.select(column("slice"), column("digit"), exp.Sum(this=column("changes")))
        .from_(chunks.from_(origin).where(is_sent).subquery("chunks"))
        .group_by(column("slice"), column("digit"))
    )


def is_within(place: str, wanted: range, digits: range) -> list[exp.Expr]:
    """Build the conditions on rows of some slices whose buckets begin with some digits.

    :param place: the column that says where a row is, and ``wanted`` its values.
    """
    conditions: list[exp.Expr] = [
        exp.GTE(this=column(place), expression=exp.Literal.number(wanted.start)),
        exp.LT(this=column(place), expression=exp.Literal.number(wanted.stop)),
        digit_of_bucket().isin(*(f"{digit:x}" for digit in digits)),
    ]
    # Of the column itself an engine knows the least and the greatest value in a file or a block.
    if digits.start > ALL_DIGITS.start:
        conditions.append(exp.GTE(this=column("bucket"), expression=exp.Literal.string(f"{digits.start:x}")))
    if digits.stop < ALL_DIGITS.stop:
        conditions.append(exp.LT(this=column("bucket"), expression=exp.Literal.string(f"{digits.stop:x}")))
    return conditions


def digit_of_bucket() -> exp.Expr:
    """Build the first digit of a row's bucket; tables are ordered, or have an index, by it where that helps."""
    return exp.func("SUBSTRING", column("bucket"), exp.Literal.number(1), exp.Literal.number(1))


def slice_of(ahead: exp.Expr, slice_rows: int) -> exp.Expr:
    """Build the number of a slice from how many rows are ahead."""
    share = exp.Div(this=exp.cast(ahead, "DOUBLE"), expression=exp.Literal.number(slice_rows))
    return exp.cast(exp.Floor(this=share), "BIGINT")
