"""The ready task group: diff, approval only if a guard tripped, publish."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from airflow.sdk import TaskGroup

from airflow_kinesis_audience.operators.approve import AudienceApprovalOperator
from airflow_kinesis_audience.operators.destination import KinesisDeliveryOperator
from airflow_kinesis_audience.operators.diff import AudienceDiffOperator
from airflow_kinesis_audience.operators.publish import AudienceToKinesisOperator


def audience_sync(
    *,
    group_id: str = "audience",
    default_args: Mapping[str, Any] | None = None,
    approval: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> TaskGroup:
    """Make the tasks ``diff``, ``approve`` and ``publish`` of one audience sync.

    A change set that a guard stops is held, and ``approve`` waits for a person, who sees the numbers under
    Airflow's required actions. Where no guard tripped ``approve`` is skipped, and nobody is asked.

    :param group_id: id of the group; the tasks' ids begin with it.
    :param default_args: for all three tasks, such as ``retries`` or ``pool``.
    :param approval: for the approval: ``assigned_users``, ``notifiers``, ``response_timeout`` …
    :param arguments: those of :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator` and of
        :class:`~airflow_kinesis_audience.operators.publish.AudienceToKinesisOperator`.
    :raises TypeError: if an argument is neither's.
    """
    of_diff = _arguments(AudienceDiffOperator) - {"on_guard"}
    of_publish = _arguments(AudienceToKinesisOperator, KinesisDeliveryOperator) - {"change_set"}
    if unknown := sorted(set(arguments) - of_diff - of_publish):
        raise TypeError(
            f"audience_sync knows no {', '.join(unknown)}; it takes the arguments of AudienceDiffOperator and "
            "AudienceToKinesisOperator, and those of any task in default_args"
        )
    with TaskGroup(group_id, default_args=dict(default_args or {})) as group:  # type: ignore[arg-type]
        diff = AudienceDiffOperator(
            task_id="diff", on_guard="hold", **{n: v for n, v in arguments.items() if n in of_diff}
        )
        approve = AudienceApprovalOperator(task_id="approve", change_set=diff.output, **(approval or {}))
        publish = AudienceToKinesisOperator(
            task_id="publish",
            change_set=diff.output,
            # a skipped approval is none that was needed; a skipped diff has nothing to publish
            trigger_rule="none_failed_min_one_success",
            **{n: v for n, v in arguments.items() if n in of_publish},
        )
        approve >> publish
    return group


def _arguments(*operators: type) -> set[str]:
    named = [inspect.signature(operator.__init__).parameters.values() for operator in operators]  # type: ignore[misc]
    return {p.name for parameters in named for p in parameters if p.kind is p.KEYWORD_ONLY}
