"""``@task.audience``: a diff task whose members a function gives."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.operators.diff import AudienceDiffOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import XComArg


def audience_task(
    python_callable: Callable[..., Any] | None = None, **arguments: Any
) -> Callable[..., Callable[[], XComArg]] | Callable[[], XComArg]:
    """Make a diff task of a function that gives the members.

    :param python_callable: it gets the run's instant, and returns or yields frames; see ``source`` of
        :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator`.
    :param arguments: of that operator; ``task_id`` is the function's name by default.
    :returns: what makes the task when it is called, and gives its output for a publish task's ``change_set``.
    """

    def decorate(function: Callable[..., Any]) -> Callable[[], XComArg]:
        @functools.wraps(function)
        def make() -> XComArg:
            given = {"task_id": function.__name__, **arguments}
            return AudienceDiffOperator(source=function, **given).output

        return make

    return decorate if python_callable is None else decorate(python_callable)
