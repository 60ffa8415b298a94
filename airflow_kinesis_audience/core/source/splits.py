"""SQL of a split: on which side of it a user is, by a digest of a key and the user id.

It builds expressions and runs none. The digest is read as a text of digits, which compare alike on every engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.model.splits import DIGITS

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.splits import Split


def in_group(split: Split, user_id: exp.Expr, audience: exp.Expr, ending: str) -> exp.Expr:
    """Build an audience's id or name as it is for the user of a row: for one of a group with the group's ending.

    :param ending: with ``{}`` for the group's name.
    """
    keyed = exp.DPipe(this=exp.Literal.string(f"{split.key}:"), expression=user_id)
    digits = exp.func("SUBSTRING", exp.MD5(this=keyed), exp.Literal.number(1), exp.Literal.number(DIGITS))
    case = exp.case()
    for name, bound in split.bounds():
        called = exp.DPipe(this=audience.copy(), expression=exp.Literal.string(ending.format(name)))
        case = case.when(exp.LT(this=digits.copy(), expression=exp.Literal.string(bound)), called)
    return case.else_(audience)
