"""What tasks report to OpenLineage: from which tables a sync reads, and to which stream it is delivered.

Names and counts, never a query or a value. A sync is one dataset, in the schema of its state: the tables in which
its change sets are written have another name in every run, and would be other nodes each time. Without the
OpenLineage provider nothing here is called.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import BaseHook

from airflow_kinesis_audience.core.model.audience import CHANGE_COUNTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.openlineage.extractors import OperatorLineage


class _Database(NamedTuple):
    """Where a warehouse's tables are, as OpenLineage names it."""

    namespace: str
    database: str | None
    default_schema: str | None
    dialect: str | None

    def name(self, *parts: str) -> str:
        return ".".join(part for part in (self.database, *parts) if part)

    def within(self, database: str) -> _Database:
        return self._replace(database=database) if database else self

    def sync(self, known: Mapping[str, Any]) -> str:
        return self.name(known["state_schema"], known["sync_id"])


def change_set_lineage(queries: Sequence[str], known: Mapping[str, Any]) -> OperatorLineage[Any, Any] | None:
    """Report what a diff has read and written.

    :param queries: what was read: the source, and who is excluded.
    :param known: the facts of the run: ``warehouse_conn_id``, ``state_schema``, ``sync_id``, and its counts.
    """
    if "entered" not in known or "held" in known:
        return None
    changes = sum(known[count] for count in CHANGE_COUNTS)
    return _lineage(
        known, lambda at: _tables(at, *queries), lambda at: _output(at.namespace, at.sync(known), changes)
    )


def delivery_lineage(query: str | None, known: Mapping[str, Any]) -> OperatorLineage[Any, Any] | None:
    """Report what a delivery has read and put.

    :param query: what was read, where that is not the change sets of a sync.
    :param known: the facts of the run, ``destination`` and its counts besides.
    """
    if "delivered" not in known:
        return None
    scheme, _, where = known["destination"].partition("://")
    region, _, stream = where.partition("/")
    put = _output(f"{scheme}://{region}", stream, known["delivered"], known["bytes"])
    return _lineage(
        known, lambda at: [_input(at, at.sync(known))] if query is None else _tables(at, query), lambda _: put
    )


def _lineage(
    known: Mapping[str, Any], inputs: Callable[[_Database], list[Any]], output: Callable[[_Database], Any]
) -> OperatorLineage[Any, Any] | None:
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    if not known["warehouse_conn_id"]:  # the rows are a function's
        return None
    at = _database(known["warehouse_conn_id"])
    return OperatorLineage(inputs=inputs(at), outputs=[output(at)])


def _database(conn_id: str) -> _Database:
    from airflow_kinesis_audience.core.sql.dialects import DIALECTS

    connection = BaseHook.get_connection(conn_id)
    hook: Any = BaseHook.get_hook(conn_id)
    kind = str(connection.conn_type)
    supported = DIALECTS.get(kind)
    try:
        info = hook.get_openlineage_database_info(connection)
    except (AttributeError, NotImplementedError):
        info = None
    dialect = supported.name if supported else None
    if info is None:
        return _Database(f"{kind}://{connection.host or ''}", None, None, dialect)
    return _Database(
        f"{info.scheme}://{info.authority}", info.database, hook.get_openlineage_default_schema(), dialect
    )


def _tables(at: _Database, *queries: str) -> list[Any]:
    """Find the tables that queries read; none of one that cannot be parsed."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError

    found: set[str] = set()
    for query in queries:
        with suppress(SqlglotError):
            parsed = parse_one(query, read=at.dialect)
            named = {cte.alias_or_name for cte in parsed.find_all(exp.CTE)}
            found |= {
                at.within(table.catalog).name(table.db or at.default_schema or "", table.name)
                for table in parsed.find_all(exp.Table)
                if table.name and (table.db or table.name not in named)
            }
    return [_input(at, name) for name in sorted(found)]


def _input(at: _Database, name: str) -> Any:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    return Dataset(namespace=at.namespace, name=name)


def _output(namespace: str, name: str, rows: int, size: int | None = None) -> Any:
    from airflow.providers.common.compat.openlineage.facet import (
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )

    facets: dict[str, Any] = {"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=rows, size=size)}
    return OutputDataset(namespace=namespace, name=name, outputFacets=facets)
