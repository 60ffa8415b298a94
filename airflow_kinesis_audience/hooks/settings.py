"""What a deployment sets for all its tasks in ``[kinesis_audience]`` of Airflow's configuration.

A task's own argument comes first. ``provider_info.py`` describes the options.
"""

from __future__ import annotations

from typing import Any

SECTION = "kinesis_audience"
STATE_SCHEMA = "airflow_audience"
"""Where the state is if nothing else is set."""


def configured(option: str, otherwise: str) -> str:
    """Return what an option is set to, or its default."""
    return str(_conf().get(SECTION, option, fallback=otherwise))


def configured_number(option: str, otherwise: int) -> int:
    """Return what an option is set to, as a whole number, or its default."""
    return int(_conf().getint(SECTION, option, fallback=otherwise))


def configured_bool(option: str) -> bool:
    """Return whether an option is set to true; by default it is not."""
    return bool(_conf().getboolean(SECTION, option, fallback=False))


def _conf() -> Any:
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # before Airflow 3.2
        from airflow.configuration import conf
    return conf
