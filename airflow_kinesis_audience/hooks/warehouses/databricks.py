"""Databricks, through the connector that Airflow's SQL hook for it opens.

Its SQL is Spark's, which the tests run on Spark itself; what is here was never run against Databricks. Values are
written into statements as for Spark.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable
from airflow_kinesis_audience.hooks.warehouses.spark import SparkWarehouse, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa


class DatabricksWarehouse(SparkWarehouse):
    """Databricks SQL; rows come out as Arrow."""

    loggers = ("databricks", "urllib3")

    @staticmethod
    def connector(conn_id: str, hook: Any) -> Callable[[], Any]:
        """Give what opens a connection: the hook that Airflow has for the type speaks of jobs, not SQL.

        A hook for each, since one gives the same connection again after it was closed.
        """
        from airflow.providers.databricks.hooks.databricks_sql import DatabricksSqlHook

        return lambda: DatabricksSqlHook(databricks_conn_id=conn_id).get_conn()

    def read_batches(self, sql: str, schema: pa.Schema, *, rows: int) -> Iterator[pa.RecordBatch]:
        """Read a large result in Arrow batches."""
        with self._cursor() as cursor:
            self._run(cursor, sql, ())
            while (fetched := cursor.fetchmany_arrow(rows)).num_rows:
                yield from fetched.rename_columns(schema.names).cast(schema).to_batches()

    def _open(self) -> Any:
        with self._translated():
            connection = self._connect()
            with connection.cursor() as cursor:
                # Instants are written as text without a zone.
                cursor.execute("SET TIME ZONE 'UTC'")
        return connection

    def _cancel(self, connection: Any, cursor: Any) -> None:
        cursor.cancel()

    def _translate(self, error: Exception, *, planned: bool) -> AudienceError:
        if isinstance(error, ValueError):
            return WarehouseRefused(
                "a value from Databricks is outside the range of its type; it is not shown here"
            )
        state = re.search(r"SQLSTATE: (\w{5})", str(error))
        if state is not None:
            return translated(state[1], str(error), "Databricks", planned=planned)
        return WarehouseUnavailable(
            f"Databricks is not available ({type(error).__name__}); check host, http_path and token of the "
            "connection, and whether the SQL warehouse runs"
        )
