"""The ready task group: diff, approval only if a guard tripped, publish.

It makes tasks of the operators and adds nothing to what they do.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from airflow.sdk import BaseOperator, TaskGroup

from airflow_kinesis_audience.operators.approve import AudienceApprovalOperator
from airflow_kinesis_audience.operators.diff import AudienceDiffOperator
from airflow_kinesis_audience.operators.publish import AudienceToFirehoseOperator, AudienceToKinesisOperator


def audience_sync(
    *,
    group_id: str = "audience",
    default_args: Mapping[str, Any] | None = None,
    approval: Mapping[str, Any] | None = None,
    parts: int = 1,
    **arguments: Any,
) -> TaskGroup:
    """Make the tasks ``diff``, ``approve`` and ``publish`` of one audience sync.

    If a guard stops some audiences, these are held and the others are published (``on_guard="hold_audience"``).
    If a guard stops the change set as a whole, it is held, and ``approve`` waits for a person, who sees the
    numbers under Airflow's required actions. Otherwise ``approve`` is skipped.

    :param group_id: id of the group, and prefix of the tasks' ids.
    :param default_args: for all three tasks, such as ``retries`` or ``pool``.
    :param approval: for the approval: ``assigned_users``, ``notifiers``, ``response_timeout`` …
    :param parts: number of mapped tasks of ``publish``, each with its own users: a power of two, up to 16 and up
        to ``partitions``.
    :param arguments: those of :class:`~airflow_kinesis_audience.operators.diff.AudienceDiffOperator` and of
        :class:`~airflow_kinesis_audience.operators.publish.AudienceToKinesisOperator`, or, where
        ``delivery_stream_name`` is among them, of its sibling for Firehose.
    :raises TypeError: if neither task has such an argument.
    """
    of_diff = _arguments(AudienceDiffOperator)
    to_firehose = "delivery_stream_name" in arguments
    publishing = AudienceToFirehoseOperator if to_firehose else AudienceToKinesisOperator
    of_publish = _arguments(publishing) - {"change_set", "part", "parts"}
    if unknown := sorted(set(arguments) - of_diff - of_publish):
        raise TypeError(
            f"audience_sync has no argument {', '.join(unknown)}; it accepts the arguments of "
            f"AudienceDiffOperator and {publishing.__name__}, and those of any task in default_args"
        )
    with TaskGroup(group_id, default_args=dict(default_args or {})) as group:  # type: ignore[arg-type]
        diff = AudienceDiffOperator(
            task_id="diff",
            **{"on_guard": "hold_audience", **{n: v for n, v in arguments.items() if n in of_diff}},
        )
        approve = AudienceApprovalOperator(task_id="approve", change_set=diff.output, **(approval or {}))
        publish = {
            "task_id": "publish",
            "change_set": diff.output,
            # a skipped approval was not needed; a skipped diff has nothing to publish
            "trigger_rule": "none_failed_min_one_success",
            **{n: v for n, v in arguments.items() if n in of_publish},
        }
        if parts == 1:
            approve >> publishing(**publish)
        else:
            approve >> publishing.partial(parts=parts, **publish).expand(part=list(range(parts)))
    return group


def _arguments(operator: type[BaseOperator]) -> set[str]:
    """Return the arguments of an operator, its own and those of its bases, without Airflow's."""
    own = takewhile(lambda base: base is not BaseOperator, operator.__mro__)
    named = [inspect.signature(base.__init__).parameters.values() for base in own]  # type: ignore[misc]
    return {p.name for parameters in named for p in parameters if p.kind is p.KEYWORD_ONLY}
