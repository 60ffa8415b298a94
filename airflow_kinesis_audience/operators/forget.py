"""The task that forgets users: they leave every audience, and then the state has nothing of them any more.

It is a sensor: it waits, without a worker's slot, until every destination has their exits. A retry, or a later
run, goes on where it stopped. No user id is in its arguments, its log or its XCom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_kinesis_audience.operators.errors import airflow_outcome
from airflow_kinesis_audience.operators.links import AudienceLink
from airflow_kinesis_audience.operators.run_context import parse_bool, select_all, statement_tag
from airflow_kinesis_audience.operators.state_arguments import STATE_FIELDS, StateArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.hooks.state import State

POKE_SECONDS = 300.0
"""How often it looks whether the destinations have the exits."""


class AudienceForgetOperator(StateArguments, BaseSensorOperator):
    """Forget users: exits for them from every audience, then the end of all their rows in the state.

    The users leave every audience of every sync in the state. Their exits have the identities that were last sent,
    and no guard stops them. The publish tasks of the syncs deliver these exits with their next runs, and this task
    waits for that. Then it removes the rows of the users from all tables, and drops the old tables. A salted
    digest of each id remains, so that no later run adds the user again while the source still has them. What is on
    streams and at consumers is not deleted by this task. Returns ``syncs``: for each sync, ``users`` with a
    digest, ``exits_at``, whether their rows are ``erased``, and, of the look that added digests,
    ``unknown_users``: how many of these ids the sync has no row of.

    :param warehouse_conn_id: connection to the warehouse that has the state, and the ids.
    :param sql: query with the ids of the users, or ``table`` with a table's name. The ids are not arguments,
        because Airflow would keep the arguments in its database.
    :param user_id_column: the column with the ids.
    :param sync_ids: the syncs; default: all syncs of the state schema. Required with ``state_path``.
    :param recall: remove the digests of these users, who can then enter again: they gave their consent again.
    :param let_through: forget them also if more than half of an audience, or what ``max_exit_ratio`` of its diff
        task says, would exit.
    :param state_schema: schema of the state; set it and ``state_path`` as on the diff tasks.
    :param poke_interval: seconds between two looks at the destinations. ``timeout``, ``mode`` and other arguments
        of Airflow's sensors work as usual; the default mode is ``reschedule``.
    """

    template_fields: Sequence[str] = (
        *STATE_FIELDS,
        "sql",
        "table",
        "user_id_column",
        "sync_ids",
        "recall",
        "let_through",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012
    operator_extra_links = (AudienceLink(),)

    def __init__(
        self,
        *,
        sql: str | None = None,
        table: str | None = None,
        user_id_column: str = "user_id",
        sync_ids: Sequence[str] = (),
        recall: bool | str = False,
        let_through: bool | str = False,
        mode: str = "reschedule",
        poke_interval: float = POKE_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, **kwargs)
        self.sql = sql
        self.table = table
        self.user_id_column = user_id_column
        self.sync_ids = sync_ids
        self.recall = recall
        self.let_through = let_through
        self.known_facts: dict[str, Any] = {}

    def poke(self, context: Context) -> PokeReturnValue:
        """Forget as far as it is possible now; done once the rows are gone."""
        from airflow_kinesis_audience.hooks.state import State

        with airflow_outcome(context, self.known_facts):
            syncs = self._work(context, State(**self.state_location()))  # type: ignore[arg-type]
        for sync in syncs:
            found = ", ".join(f"{name}: {value}" for name, value in sync.items() if name != "waits_for")
            self.log.info("Forgetting: %s", found)
            for sentence in sync.get("waits_for", ()):
                self.log.info("Waiting: %s", sentence)
        is_done = all(sync.get("erased", True) for sync in syncs)
        return PokeReturnValue(is_done=is_done, xcom_value={**self.state_location(), "syncs": syncs})

    def _work(self, context: Context, state: State) -> list[dict[str, Any]]:
        from airflow_kinesis_audience.core.outbox.burying import recall_in
        from airflow_kinesis_audience.core.outbox.forgetting import find_unknown, forget_in
        from airflow_kinesis_audience.core.source.users import read_user_ids
        from airflow_kinesis_audience.core.state.status import read_syncs
        from airflow_kinesis_audience.hooks.state import open_ledger

        given = self.sync_ids or self.sync_id or ()
        names = [given] if isinstance(given, str) else list(given)
        if state.state_path is not None and not names:
            raise ValueError("set sync_ids, the ids of the syncs: a state in files does not list them")
        sync_id = names[0] if names else ""
        tag = statement_tag(context, ",".join(names) or "all")
        with open_ledger(state, sync_id, tag=tag, reads_source=True) as ledger:
            query = select_all(self.sql, self.table, "the ids of the users are", ledger.warehouse.origin.dialect)
            user_ids = read_user_ids(ledger.warehouse, query, self.user_id_column)
            if parse_bool(self.recall, "recall"):
                syncs = names or read_syncs(ledger.warehouse, ledger.schema)
                if not syncs:
                    raise ValueError(
                        f"schema {ledger.schema!r} has no sync; correct state_schema. Nobody was recalled"
                    )
                recalled = recall_in(ledger, syncs, user_ids)
                return [{"sync_id": s, "recalled": users} for s, users in recalled.items()]
            passes = parse_bool(self.let_through, "let_through")
            found = forget_in(ledger, names, user_ids, let_through=passes)
            if unknown := find_unknown(found):
                self.log.warning(
                    "%s of %s users are in no table of these syncs: check that the ids are written as user ids",
                    *(f"{len(ids):,}" for ids in (unknown, user_ids)),
                )
            return [f.summary for f in found]
