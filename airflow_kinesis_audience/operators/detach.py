"""The task that detaches a destination which nobody uses any more, or ends what nobody finishes.

It sends nothing. A retry goes on where the last attempt broke off, and what is detached already is no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.operators.errors import airflow_outcome
from airflow_kinesis_audience.operators.links import AudienceLink
from airflow_kinesis_audience.operators.run_context import statement_tag
from airflow_kinesis_audience.operators.state_arguments import STATE_FIELDS, StateArguments

if TYPE_CHECKING:
    from airflow.sdk import Context


class AudienceDetachOperator(StateArguments):
    """Stop keeping history for a destination that nobody uses, or for a resync or replay that nobody finishes.

    The state keeps all change sets that a destination has not received, and all history since the start of a
    resync or replay, also beyond ``keep_history``. This task drops the destination's own tables, and the next run
    of the sync drops the history that nothing else needs. Nothing is sent: consumers keep what they have. A
    publish task that still uses the destination starts again with its ``on_first_run``. Returns ``detached``: for
    each delivery, a sentence with what it kept and since when.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the sync.
    :param state_schema: schema of the state; set it and ``state_path`` as on the diff task.
    :param destination: as shown by the page and ``status``, such as ``kinesis://eu-west-1/audience-changes``.
    :param message_format: only deliveries of this format, if the destination has several.
    :param only_resyncs: only resyncs that are not finished.
    :param only_replays: only replays that are not finished.
    """

    template_fields: Sequence[str] = (*STATE_FIELDS, "destination", "message_format")
    operator_extra_links = (AudienceLink(),)

    def __init__(
        self,
        *,
        sync_id: str,
        destination: str,
        message_format: str | None = None,
        only_resyncs: bool = False,
        only_replays: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(sync_id=sync_id, **kwargs)
        self.destination = destination
        self.message_format = message_format
        self.only_resyncs = only_resyncs
        self.only_replays = only_replays
        self.known_facts: dict[str, Any] = {}

    def execute(self, context: Context) -> dict[str, Any]:
        """Detach the destination, or find that it is detached."""
        from airflow_kinesis_audience.core.outbox.detachment import choose_pins, detach
        from airflow_kinesis_audience.hooks.state import State, open_ledger

        self.known_facts = known = {"sync_id": self.own_sync_id(context), "destination": self.destination}
        with (
            airflow_outcome(context, known),
            open_ledger(
                State(**self.state_location()),  # type: ignore[arg-type]
                known["sync_id"],
                tag=statement_tag(context, known["sync_id"]),
            ) as ledger,
        ):
            ledger.read()
            chosen = choose_pins(
                ledger,
                self.destination,
                message_format=self.message_format,
                only_resyncs=self.only_resyncs,
                only_replays=self.only_replays,
            )
            detach(ledger, {pin.log for pin in chosen})
        for pin in chosen:
            self.log.info("Detached: %s", pin.sentence)
        return {**known, **self.state_location(), "detached": [pin.sentence for pin in chosen]}
