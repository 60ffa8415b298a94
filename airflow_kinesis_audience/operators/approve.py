"""The task at which a person approves a change set that a guard stopped, in Airflow's UI.

It is skipped unless one did: in this run's diff, or at a destination. The person approves the very change set
whose numbers are shown: nothing is computed again, and the permission ends with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_kinesis_audience.core.exceptions import ReleaseRefused
from airflow_kinesis_audience.core.model.audience import COUNTS
from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.operators.errors import airflow_outcome, emit_state
from airflow_kinesis_audience.operators.killing import end_task
from airflow_kinesis_audience.operators.reporting.assets import add_alias, emit_change_set
from airflow_kinesis_audience.operators.reporting.metrics import count_changes
from airflow_kinesis_audience.operators.run_context import read_change_set, statement_tag
from airflow_kinesis_audience.operators.templates import RendersTemplates

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.outbox.removals import StoppedDelivery
    from airflow_kinesis_audience.core.state.ledger import Ledger

SHOWN_KEY = "shown"
"""XCom key of what is stopped at its destination and was shown to a person: the delivery's id and the table."""


class AudienceApprovalOperator(RendersTemplates, ApprovalOperator):
    """Let a person approve or reject a change set that a guard stopped.

    Put it between a diff task with ``on_guard="hold"`` and the publish tasks, and set the trigger rule
    ``none_failed_min_one_success`` on those. If the person approves, the held change set counts and is published.
    If the person rejects it, the publish tasks are skipped and the baseline does not move. If another run was
    recorded in the meantime, the task fails. The task also asks about a change set that the guard of a
    destination stopped, in this run or an earlier one. It does not wait for audiences that are held alone, by
    ``on_guard="hold_audience"``: the others are published at once.

    :param change_set: the output of the diff task.
    :param kwargs: of the standard provider's ``ApprovalOperator``, such as ``assigned_users``, ``notifiers`` or
        ``response_timeout``.
    """

    template_fields: Sequence[str] = ("subject", "body", "change_set")
    template_fields_renderers = {"change_set": "json", "body": "md"}  # noqa: RUF012
    ui_color = "#f3d9d9"

    def __init__(self, *, change_set: Any, **kwargs: Any) -> None:
        super().__init__(**{"subject": "A guard stopped an audience's changes. Let them through?", **kwargs})
        self.change_set = change_set
        self.alias = add_alias(self)

    def execute(self, context: Context) -> Any:
        """Ask, if there is anything to ask: not where an earlier attempt has had its answer."""
        from airflow_kinesis_audience.core.changes.approval import is_approved
        from airflow_kinesis_audience.core.outbox.removals import find_stopped

        with airflow_outcome(context):
            summary = read_change_set(self.change_set)
        held: Sequence[str] = summary.get("held", ())
        with self._open(context, summary) as ledger:
            if held and is_approved(ledger, instant(summary["as_of"]), summary["held_table"]):
                self.log.info("The change set was approved already")
                self._report(context, ledger, summary)
                held = ()
            stopped = find_stopped(ledger.read())
        if not held and not stopped:
            if summary.get("held"):
                return None
            if alone := summary.get("held_audiences"):
                raise AirflowSkipException(
                    f"a guard holds {len(alone):,} of the audiences, and all others are published, so nothing "
                    "waits here. Each run computes what is held again. The command `approve` lists and approves it"
                )
            raise AirflowSkipException("no guard stopped the change set: there is nothing to approve")
        context["ti"].xcom_push(key=SHOWN_KEY, value=[[s.log, s.table] for s in stopped])
        emit_state(context, summary, "held", [*held, *(sentence for s in stopped for sentence in s.sentences)])
        self.body = describe(summary, held, stopped)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Approve the change set, or leave it."""
        from airflow_kinesis_audience.core.changes.approval import approve, is_approved
        from airflow_kinesis_audience.core.outbox.removals import release

        answer, summary = super().execute_complete(context, event), read_change_set(self.change_set)
        as_of, held_table = instant(summary["as_of"]), summary.get("held_table", "")
        with self._open(context, summary) as ledger:
            if answer["chosen_options"] == [self.APPROVE]:
                if held_table:
                    approve(ledger, as_of, held_table)
                    self._report(context, ledger, summary)
                for log, table in context["ti"].xcom_pull(key=SHOWN_KEY) or ():
                    release(ledger, log, table)
            elif held_table and is_approved(ledger, as_of, held_table):
                raise ReleaseRefused(
                    "the change set was approved before it was rejected, so the next run publishes it. Clear the "
                    "publish task to publish it now, or correct the source, so that the next run publishes the "
                    "correction"
                )
        return answer

    def on_kill(self) -> None:
        """End the task where it is."""
        end_task()

    def _report(self, context: Context, ledger: Ledger, summary: Mapping[str, Any]) -> None:
        """Report that the change set counts, as a diff reports one that no guard stopped."""
        from airflow_kinesis_audience.core.state.sync_details import GuardBounds

        if (found := ledger.read().timeline.find(instant(summary["as_of"]))) is not None:
            recorded = found.summary(summary["sync_id"])
            count_changes(recorded)
            bounds = found.detail.bounds or GuardBounds()
            emit_change_set(context, self.alias, recorded, bounds, (), summary.get("audience_names", {}))

    @contextlib.contextmanager
    def _open(self, context: Context, summary: Mapping[str, Any]) -> Iterator[Ledger]:
        from airflow_kinesis_audience.hooks.state import State, open_ledger

        sync_id = summary["sync_id"]
        tag = statement_tag(context, sync_id)
        with airflow_outcome(), open_ledger(State.from_summary(summary), sync_id, tag=tag) as ledger:
            yield ledger


def describe(summary: Mapping[str, Any], held: Sequence[str], stopped: Sequence[StoppedDelivery] = ()) -> str:
    """Describe, in Markdown, what a person is asked to approve: numbers and names of audiences, no user's.

    :param held: why this run's change set is held.
    :param stopped: change sets that are stopped at a destination.
    """
    counts = ", ".join(f"{summary[n]:,} {n}" for n in COUNTS)
    parts = [
        f"Sync `{summary['sync_id']}` as of {summary['as_of']}, after {summary['previous_as_of'] or 'nothing'}: "
        f"{counts}."
    ]
    parts += ["\n".join(f"- {sentence}" for sentence in held)] if held else []
    for s in stopped:
        parts.append(f"`{s.destination}` has received nothing of the change set as of {instant_text(s.as_of)}:")
        parts.append("\n".join(f"- {sentence}" for sentence in s.sentences))
    parts.append("**Approve** sends exactly these changes. **Reject** sends nothing of them.")
    return "\n\n".join(parts)
