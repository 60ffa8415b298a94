"""The door to the warehouse behind an Airflow connection, whatever engine it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_audience.dialects import DIALECTS
from airflow_kinesis_audience.hooks.bigquery import BigQueryWarehouse
from airflow_kinesis_audience.hooks.clickhouse import ClickHouseWarehouse
from airflow_kinesis_audience.hooks.databricks import DatabricksWarehouse
from airflow_kinesis_audience.hooks.duckdb import DuckDbWarehouse
from airflow_kinesis_audience.hooks.mysql import MySqlWarehouse
from airflow_kinesis_audience.hooks.postgres import PostgresWarehouse
from airflow_kinesis_audience.hooks.redshift import RedshiftWarehouse
from airflow_kinesis_audience.hooks.snowflake import SnowflakeWarehouse
from airflow_kinesis_audience.hooks.spark import SparkWarehouse
from airflow_kinesis_audience.hooks.trino import AthenaWarehouse, TrinoWarehouse

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.dbapi import SqlWarehouse

_DOORS: dict[str, type[SqlWarehouse]] = {
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
    if kind not in _DOORS:
        raise ValueError(f"warehouse connection {conn_id!r} is of type {kind}; supported are {', '.join(_DOORS)}")
    door = door_of(kind)
    try:
        connect = door.connector(conn_id, BaseHook.get_hook(conn_id))
    except (AirflowException, ImportError):
        raise ValueError(
            f"warehouse connection {conn_id!r} is of type {kind}, whose hook is not installed here; "
            f"pip install airflow-kinesis-audience[{_EXTRAS.get(kind, kind)}]"
        ) from None
    return door(connect, DIALECTS[kind])


def door_of(kind: str) -> type[SqlWarehouse]:
    """Give the door to an engine.

    :param kind: the connection type of Airflow's hook.
    """
    return _DOORS[kind]
