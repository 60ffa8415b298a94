"""Ids that were numbers and are texts now: an author's cast may write them as they were published, or otherwise.

Nothing but the ids themselves shows it. So the change set is looked at once it is written: who exits under one
spelling of a number and enters under another is one member, and the cast is not the right one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.exceptions import SchemaChanged
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.source.identities import matches
from airflow_kinesis_audience.core.source.layout import recast_keys
from airflow_kinesis_audience.core.source.texts import without_zeros
from airflow_kinesis_audience.core.sql.statements import column, render, table, text
from airflow_kinesis_audience.core.sql.types import FILLED, LogicalType

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet

_NUMBER = "^-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?$"


def check_recast_keys(ledger: Ledger, name: str, previous: RecordedChangeSet | None, layout: TableLayout) -> None:
    """Check that ids which an author casts to texts are written as they were published; asked once.

    :param name: the table of the change set.
    :raises SchemaChanged: if members would exit and enter under another spelling of their number.
    """
    recast = recast_keys(previous.layout, layout) if previous is not None else {}
    if not recast:
        return
    pairs = exp.select(exp.Count(this=exp.Star())).from_(_ids(ledger, name, Action.EXITED, "gone"))
    dialect = ledger.warehouse.dialect
    both = ((n, column(n, "gone"), column(n, "come")) for n in layout.key)
    same = (
        _number(gone, recast[n], dialect).eq(_number(come, recast[n], dialect)) if n in recast else gone.eq(come)
        for n, gone, come in both
    )
    pairs = pairs.join(_ids(ledger, name, Action.ENTERED, "come"), on=exp.and_(*same))
    if ledger.warehouse.read_rows(render(pairs, dialect))[0][0]:
        raise SchemaChanged(
            f"the column of {' and '.join(recast)} had numbers and now has texts, some of which differ from the "
            "published ones, such as 7 and 7.00. Members would exit and enter under another id, so nothing was "
            "sent. Cast the column to the text that was published, or set a new sync_id for the new ids"
        )


def _ids(ledger: Ledger, name: str, action: Action, alias: str) -> exp.Subquery:
    ids = exp.select(column("audience_id"), column("user_id")).from_(table(ledger.schema, name))
    return ids.where(column("action").eq(text(action.value))).subquery(alias)


def _number(value: exp.Expr, kind: str, dialect: Dialect) -> exp.Expr:
    """Build what is the same for two spellings of a number: of a float its value, of another its shortest text."""
    if kind.endswith(FILLED):
        value = exp.Trim(this=value, expression=exp.Literal.string("0"), position="LEADING")
    if kind != LogicalType.FLOAT:
        return without_zeros(value)
    is_number = matches(value.copy(), _NUMBER, dialect)
    return exp.case().when(is_number, exp.cast(value, "DOUBLE"))
