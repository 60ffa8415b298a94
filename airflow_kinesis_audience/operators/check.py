"""The task that checks, in a deployment, whether the other tasks of its DAG can run. It sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow_kinesis_audience.core.exceptions import CheckFailed
from airflow_kinesis_audience.operators.errors import airflow_outcome
from airflow_kinesis_audience.operators.run_context import parse_bool
from airflow_kinesis_audience.operators.templates import RendersTemplates

if TYPE_CHECKING:
    from airflow.sdk import Context


class AudienceCheckOperator(RendersTemplates):
    """Check that the tasks of this DAG can run, as ``airflow audiences check`` does, with its connections.

    It checks connections, clocks, the encoding, the source's columns, the state, streams, permissions and options.
    It reads no row of the source and sends nothing. Each finding is a line of the log. If a task cannot run, this
    one fails without retries. Mapped tasks are not checked, since their arguments are known only when they run.
    Returns ``checked``, the findings, a sentence each.

    :param check_task_ids: check these tasks only; default: all tasks of this package in the DAG.
    :param write: also create a table in the schema of the state, and drop it.
    """

    template_fields: Sequence[str] = ("write",)

    def __init__(
        self, *, check_task_ids: Sequence[str] | None = None, write: bool | str = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.check_task_ids = check_task_ids
        self.write = write

    def execute(self, context: Context) -> dict[str, Any]:
        """Check the tasks."""
        from airflow_kinesis_audience.operators.checks import check_tasks, is_checked

        with airflow_outcome(context):
            tasks = {task.task_id: task for task in self.dag.tasks if is_checked(task)}
            wanted = tasks if self.check_task_ids is None else self.check_task_ids
            if unknown := [name for name in wanted if name not in tasks]:
                raise ValueError(
                    f"check_task_ids names {', '.join(map(repr, unknown))}; expected of "
                    f"{', '.join(tasks) or 'none'}"
                )

            def context_of(task: Any) -> Context:
                return cast("Context", {**context, "task": task})

            found = []
            write = parse_bool(self.write, "write")
            for finding in check_tasks([tasks[name] for name in wanted], context_of, write=write):
                self.log.log(40 if finding.ok is False else 20, "%s", finding)
                found.append(finding)
            if failed := [str(finding) for finding in found if finding.ok is False]:
                raise CheckFailed(
                    f"{len(failed)} checks failed; correct each, and clear this task: {'; '.join(failed)}", failed
                )
        return {"checked": [str(finding) for finding in found]}
