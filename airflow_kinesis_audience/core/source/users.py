"""Reads ids of users out of a query of the author's, as the state has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.source.columns import key_text
from airflow_kinesis_audience.core.source.layout import layout_of
from airflow_kinesis_audience.core.source.query import describe_query
from airflow_kinesis_audience.core.sql.statements import SOURCE_PLACEHOLDER, column, render, table

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.sql.warehouse import Warehouse


def read_user_ids(warehouse: Warehouse, query: str, user_id: str) -> set[str]:
    """Read the ids that a query gives; rows without one are left out.

    :param warehouse: that has the state; the query is run where the author's tables are.
    :param user_id: the column that has them.
    :raises ValueError: if query or column cannot be used; no retry helps.
    :raises WarehouseRefused: if the warehouse cannot run the query; no retry helps.
    """
    origin = warehouse.origin
    named = Source(query=query, user_id=user_id, identities={}, properties={}, audience_id="users")
    source, query, types = describe_query(origin, named)
    layout = layout_of(source, types, origin.dialect)
    ids = exp.select(key_text(source.user_id, layout, origin.dialect).as_("user_id"))
    ids = ids.from_(table(None, SOURCE_PLACEHOLDER).as_("given"))
    named_ids = exp.select(column("user_id")).distinct().from_(ids.subquery("ids"))
    rows = origin.read_rows(render(named_ids, origin.dialect, query=query))
    return {user for (user,) in rows if user is not None}
