"""Priority between audiences: of those that take a user, the user is in the first alone.

A row of an audience that comes later stays in what is read and names nobody, so that it is counted, and a user who
moves is an ordinary exit and an ordinary entry. It builds expressions and runs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.sql.statements import column, text

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTRANKED = "outranked"
"""Name, while the source is read, of whether a row's user is in an audience that comes first."""

RANK = "audience_rank"
"""Name, of what is taken of each row, of its audience's place among those that exclude each other."""


def rank_of(audiences: Sequence[str], audience: exp.Expr) -> exp.Expr:
    """Build the place of an audience in a list, from 0; NULL where it is not in it.

    :param audience: its id.
    """
    case = exp.case()
    for number, name in enumerate(audiences):
        case = case.when(audience.copy().eq(text(name)), exp.Literal.number(number))
    return case.else_(exp.cast(exp.null(), "INT"))


def mark_outranked(taken: exp.Select) -> exp.Select:
    """Build what is read of the source with ``outranked`` in the place of the rank; such a row has no user id."""
    names = [n for n in taken.named_selects if n != RANK]
    first = exp.Window(this=exp.Min(this=column(RANK)), partition_by=[column("user_id")])
    ranked = exp.select(*map(column, names), column(RANK), first.as_("first_rank"))
    ranked = ranked.from_(taken.subquery("taken", copy=False))
    named = column("user_id").is_(exp.null()).not_()
    later = exp.GT(this=column(RANK), expression=column("first_rank"))
    outranked = exp.func("COALESCE", exp.and_(named, later), exp.false())
    user_id = exp.case().when(outranked.copy(), exp.null()).else_(column("user_id"))
    given = ((user_id if n == "user_id" else column(n)).as_(n) for n in names)
    return exp.select(*given, outranked.as_(OUTRANKED)).from_(ranked.subquery("ranked", copy=False))
