"""Opens the warehouse behind an Airflow connection, whatever engine it is.

Each engine has a class of its own in ``warehouses/``; here is which one a type of connection means. Nothing is
connected to before the first statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import how_to_install
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.hooks.warehouses.bigquery import BigQueryWarehouse
from airflow_kinesis_audience.hooks.warehouses.clickhouse import ClickHouseWarehouse
from airflow_kinesis_audience.hooks.warehouses.databricks import DatabricksWarehouse
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from airflow_kinesis_audience.hooks.warehouses.mysql import MySqlWarehouse
from airflow_kinesis_audience.hooks.warehouses.opening import opener
from airflow_kinesis_audience.hooks.warehouses.postgres import PostgresWarehouse
from airflow_kinesis_audience.hooks.warehouses.redshift import RedshiftWarehouse
from airflow_kinesis_audience.hooks.warehouses.snowflake import SnowflakeWarehouse
from airflow_kinesis_audience.hooks.warehouses.spark import SparkWarehouse
from airflow_kinesis_audience.hooks.warehouses.trino import AthenaWarehouse, TrinoWarehouse

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

_WAREHOUSES: dict[str, type[SqlWarehouse]] = {
    "athena": AthenaWarehouse,
    "clickhouse": ClickHouseWarehouse,
    "duckdb": DuckDbWarehouse,
    "gcpbigquery": BigQueryWarehouse,
    "databricks": DatabricksWarehouse,
    "hiveserver2": SparkWarehouse,
    "mysql": MySqlWarehouse,
    "postgres": PostgresWarehouse,
    "redshift": RedshiftWarehouse,
    "snowflake": SnowflakeWarehouse,
    "trino": TrinoWarehouse,
}
"""By the connection type of Airflow's hook."""

_EXTRAS = {"gcpbigquery": "bigquery"}
"""By connection type, what pip calls its packages where that is another word."""


def open_warehouse(conn_id: str) -> SqlWarehouse:
    """Open the warehouse behind an Airflow connection.

    :param conn_id: id of a connection whose hook is a ``DbApiHook``.
    :raises ValueError: if there is no such connection or its type is not supported; a retry does not help.
    """
    from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException
    from airflow.sdk import BaseHook

    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ValueError(
            f"warehouse_conn_id is {conn_id!r}, and Airflow has no connection of that id; create it, for example: "
            f"airflow connections add {conn_id} --conn-uri ..."
        ) from None
    kind = connection.conn_type
    if kind not in _WAREHOUSES:
        raise ValueError(
            f"warehouse connection {conn_id!r} is of type {kind}; supported are {', '.join(_WAREHOUSES)}"
        )
    opens = warehouse_class(kind)
    try:
        connect = opens.connector(conn_id, BaseHook.get_hook(conn_id))
    except (AirflowException, ImportError):
        raise ValueError(
            f"warehouse connection {conn_id!r} is of type {kind}, whose hook is not installed here; "
            f"{how_to_install(_EXTRAS.get(kind, kind))}"
        ) from None
    # DuckDB is a file, whose own class says what is wrong with it.
    return opens(connect if kind == "duckdb" else opener(connect, connection), DIALECTS[kind])


def warehouse_class(kind: str) -> type[SqlWarehouse]:
    """Give the class of an engine's warehouses.

    :param kind: the connection type of Airflow's hook.
    """
    return _WAREHOUSES[kind]
