"""The arguments that name a sync and the place of its state, which several operators share.

It assigns them and never opens anything. The names and defaults are those that DAGs already use.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.hooks.settings import STATE_SCHEMA, configured
from airflow_kinesis_audience.operators.killing import end_task
from airflow_kinesis_audience.operators.templates import RendersTemplates

if TYPE_CHECKING:
    from airflow.sdk import Context

STATE_FIELDS = ("warehouse_conn_id", "sync_id", "state_schema", "state_path")
"""Template fields of a task that is given the place of the state."""

_INSTANTS = ("as_of", "start", "end")
"""Arguments that say which run of a sync an instance is."""


# An operator, not a plain class: Airflow fills in default_args, and checks what partial() is given, by the
# constructors of operators alone.
class StateArguments(RendersTemplates):
    """The part of an operator that knows its sync and where the state of the sync is kept.

    :param warehouse_conn_id: connection to the warehouse that has the state.
    :param sync_id: the name of the sync and of its state, by default ``dag_id.task_id``; a mapped task needs one.
    :param adopt_state_of: old name ``dag_id.task_id`` of a renamed DAG or task. The task continues with the old
        state, so no member enters again and no exit is lost.
    :param state_schema: schema of the state in the warehouse; default: ``airflow_audience``, or what
        ``[kinesis_audience] state_schema`` of Airflow's configuration sets.
    :param state_path: for a login that can only read: URL of the state in Parquet files.
    """

    def __init__(
        self,
        *,
        warehouse_conn_id: str,
        sync_id: str | None = None,
        adopt_state_of: str | None = None,
        state_schema: str | None = None,
        state_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.warehouse_conn_id = warehouse_conn_id
        self.sync_id = sync_id
        self.adopt_state_of = adopt_state_of
        self.state_schema = state_schema or configured("state_schema", STATE_SCHEMA)
        self.state_path = state_path

    def on_kill(self) -> None:
        """End the task where it is."""
        end_task()

    def own_sync_id(self, context: Context) -> str:
        """Return the sync's id, which is the task's own unless the author gave one.

        :raises ValueError: if the task is mapped, alone or within its group, and all its instances have the same.
        """
        index = getattr(context.get("ti"), "map_index", None)
        if index is not None and index >= 0:
            check_not_shared(self)
        return self.default_sync_id

    @property
    def default_sync_id(self) -> str:
        """The sync's id, by the task's arguments: its own, that of the state it adopts, or the task's name."""
        return self.sync_id or self.adopt_state_of or f"{self.dag_id}.{self.task_id}"

    def state_location(self) -> dict[str, str | None]:
        """Return where the state is, as the summary of a task names it."""
        return {
            "warehouse_conn_id": self.warehouse_conn_id,
            "state_schema": self.state_schema,
            "state_path": self.state_path,
        }


def check_not_shared(task: StateArguments) -> None:
    """Refuse a mapped task whose instances all keep their state as one: an index is a position, and no name.

    Mapped over instants they may share it: each run is of the one sync.

    :param task: one instance.
    :raises ValueError: if that is so; the sentence says what to add.
    """
    own = f"{task.dag_id}.{task.task_id}"
    dag: Any = task.dag
    # As it stands in the file: not yet rendered, and of a mapped task what its instances share.
    written = dag.get_task(task.task_id)
    given = getattr(written, "partial_kwargs", None) or vars(written)

    def is_shared(name: str) -> bool:
        value = given.get(name)
        return isinstance(value, str | datetime) and "{" not in str(value)

    if not task.sync_id:
        has = f"has no sync_id, so all its instances would share the state of {own!r}"
    elif is_shared("sync_id") and all(getattr(task, n, None) is None or is_shared(n) for n in _INSTANTS):
        has = f"all its instances have the sync_id {task.sync_id!r}"
    else:
        return
    each = f'{{"audience_id": "gold", "sync_id": "{own}.gold"}}'
    raise ValueError(
        f"the task is mapped and {has}: each would treat the members of the others as its own. Nothing was read "
        "or sent. Give each instance its own, constant sync_id in the arguments of the mapping: "
        f".expand_kwargs([{each}, …]). To continue with the state that exists, set "
        f"sync_id={task.sync_id or own!r} on one of them"
    )
