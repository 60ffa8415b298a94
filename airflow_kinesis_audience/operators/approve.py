"""The task at which a person lets a held change set through, in Airflow's UI.

It is skipped unless a guard tripped. What is approved is the very change set whose numbers are shown: nothing is
computed again, and the permission ends with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_kinesis_audience.audience import instant
from airflow_kinesis_audience.exceptions import ReleaseRefused
from airflow_kinesis_audience.hooks.state import State, open_ledger
from airflow_kinesis_audience.operators.outcome import airflow_outcome, tell_state
from airflow_kinesis_audience.operators.run import read_change_set
from airflow_kinesis_audience.release import is_released, release

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.ledger import Ledger


class AudienceApprovalOperator(ApprovalOperator):
    """Ask a person whether a change set that a guard stopped may pass after all.

    Put it between a diff task with ``on_guard="hold"`` and the publishing tasks, and give those the trigger rule
    ``none_failed_min_one_success``. Approved, the held change set counts and is published; rejected, the
    publishing tasks are skipped and the baseline stays where it was. If another run was recorded meanwhile the
    approval comes too late, and the task fails.

    :param change_set: what the diff task returned.
    :param kwargs: of the standard provider's ``ApprovalOperator``, such as ``assigned_users``, ``notifiers`` or
        ``response_timeout``.
    """

    template_fields: Sequence[str] = ("subject", "body", "change_set")
    template_fields_renderers = {"change_set": "json", "body": "md"}  # noqa: RUF012
    ui_color = "#f3d9d9"

    def __init__(self, *, change_set: Any, **kwargs: Any) -> None:
        super().__init__(**{"subject": "A guard stopped an audience's changes: let them through?", **kwargs})
        self.change_set = change_set

    def execute(self, context: Context) -> Any:
        """Ask, if there is anything to ask: not where an attempt before this one has had its answer."""
        with airflow_outcome(context):
            summary = read_change_set(self.change_set)
        if not summary.get("held"):
            raise AirflowSkipException("no guard tripped: there is nothing to approve")
        with self._held(summary) as (ledger, as_of, held_table):
            if is_released(ledger, as_of, held_table):
                self.log.info("it was approved, and let through, before")
                return None
        tell_state(context, summary, "held", summary["held"])
        self.body = describe(summary)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Let the change set through, or leave it."""
        answer = super().execute_complete(context, event)
        with self._held(read_change_set(self.change_set)) as (ledger, as_of, held_table):
            if answer["chosen_options"] == [self.APPROVE]:
                release(ledger, as_of, held_table)
            elif is_released(ledger, as_of, held_table):
                raise ReleaseRefused(
                    "the change set was approved before it was rejected, and counts: the next run publishes it. "
                    "Clear the publishing task, or mend the source for the next run to correct it"
                )
        return answer

    @contextlib.contextmanager
    def _held(self, summary: Mapping[str, Any]) -> Iterator[tuple[Ledger, datetime, str]]:
        with airflow_outcome(), open_ledger(State.told_by(summary), summary["sync_id"]) as ledger:
            yield ledger, instant(summary["as_of"]), summary["held_table"]


def describe(summary: Mapping[str, Any]) -> str:
    """Tell, in Markdown, what a person is asked to let through: numbers and names of audiences, nobody's."""
    counts = ", ".join(f"{summary[n]:,} {n}" for n in ("entered", "exited", "updated", "members"))
    breaches = "\n".join(f"- {sentence}" for sentence in summary["held"])
    return (
        f"Sync `{summary['sync_id']}` as of {summary['as_of']}, after {summary['previous_as_of'] or 'nothing'}: "
        f"{counts}.\n\n{breaches}\n\n"
        "**Approve** sends exactly these changes. **Reject** sends nothing; the next run compares with what was "
        "published before."
    )
