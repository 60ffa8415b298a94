"""Where a command finds the state of a sync: the arguments that say it, and the value that they make."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow_kinesis_audience.hooks.settings import STATE_SCHEMA, configured

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.state import State


def add_state_arguments(parser: argparse.ArgumentParser, *, of_files: str = "") -> None:
    """Add what says where the state is.

    :param of_files: what else a state in files needs.
    """
    parser.add_argument(
        "--warehouse", default="warehouse", metavar="CONN_ID", help="Airflow connection (default: warehouse)"
    )
    parser.add_argument("--state-schema", help=f"default: {STATE_SCHEMA}, or what Airflow's configuration sets")
    parser.add_argument("--state-path", help=f"the state's URL, if the state is kept in files{of_files}")


def build_state(given: argparse.Namespace) -> State:
    """Build the value that says where the state is."""
    from airflow_kinesis_audience.hooks.state import State

    return State(
        warehouse_conn_id=given.warehouse,
        state_schema=given.state_schema or configured("state_schema", STATE_SCHEMA),
        state_path=given.state_path,
    )
