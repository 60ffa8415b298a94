"""The door to the warehouse behind an Airflow connection, whatever engine it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.dialects import DIALECTS
from airflow_kinesis_audience.hooks.databricks import DatabricksWarehouse, open_with
from airflow_kinesis_audience.hooks.duckdb import DuckDbWarehouse, within_bounds
from airflow_kinesis_audience.hooks.mysql import MySqlWarehouse
from airflow_kinesis_audience.hooks.postgres import PostgresWarehouse
from airflow_kinesis_audience.hooks.spark import SparkWarehouse

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_audience.hooks.dbapi import SqlWarehouse

_DOORS: dict[str, type[SqlWarehouse]] = {
    "duckdb": DuckDbWarehouse,
    "postgres": PostgresWarehouse,
    "mysql": MySqlWarehouse,
    "hiveserver2": SparkWarehouse,
    "databricks": DatabricksWarehouse,
}


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
    connect: Callable[[], Any]
    try:
        if kind == "databricks":
            connect = open_with(conn_id)
        else:
            hook = BaseHook.get_hook(conn_id)
            connect = within_bounds(conn_id, hook) if kind == "duckdb" else hook.get_conn
    except (AirflowException, ImportError):
        raise ValueError(
            f"warehouse connection {conn_id!r} is of type {kind}, whose hook is not installed here; "
            f"pip install airflow-kinesis-audience[{kind}]"
        ) from None
    return _DOORS[kind](connect, DIALECTS[kind])
