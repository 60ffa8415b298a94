"""What a deployment sets for all its tasks in ``[kinesis_audience]`` of Airflow's configuration.

A task's own argument comes first. ``provider_info.py`` describes the options. An empty option is not set: an empty
variable of the environment takes no limit away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from airflow_kinesis_audience.core.model.partitioning import read_partitions

SECTION = "kinesis_audience"
STATE_SCHEMA = "airflow_audience"
"""Where the state is if nothing else is set."""

_Read = TypeVar("_Read")


def configured(option: str, otherwise: str) -> str:
    """Return what an option is set to, or its default."""
    return str(_conf().get(SECTION, option, fallback="")).strip() or otherwise


def read_configured(option: str, otherwise: str, read: Callable[[str], _Read]) -> _Read:
    """Read an option.

    :param read: makes the value of the text; its ``ValueError`` says what it found and expected.
    :raises ValueError: if the text is wrong; the sentence names the section. A retry does not help.
    """
    try:
        return read(configured(option, otherwise))
    except ValueError as error:
        raise ValueError(f"[{SECTION}] of Airflow's configuration: {error}") from None


def choose_partitions(given: int | None) -> int:
    """Return the partitions per audience: what a task's author gave, or else what the deployment set."""
    return read_configured("partitions", "16", read_partitions) if given is None else read_partitions(given)


def logs_sql() -> bool:
    """Return whether statements are written to the task's log; by default they are not."""
    return read_configured("log_sql", "false", _read_log_sql)


def _read_log_sql(text: str) -> bool:
    found = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}.get(text.lower())
    if found is None:
        raise ValueError(f"log_sql is {text!r}; expected True or False")
    return found


def is_deferrable_by_default() -> bool:
    """Return whether tasks of this deployment wait without a worker slot if they can; by default they do not."""
    return bool(_conf().getboolean("operators", "default_deferrable", fallback=False))


def _conf() -> Any:
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # before Airflow 3.2
        from airflow.configuration import conf
    return conf
