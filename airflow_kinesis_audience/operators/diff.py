"""The task that computes a change set. It sends nothing and can be repeated.

Arguments are only assigned on construction and checked when the task runs, after templating. What the task
returns is counts and names, never rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_kinesis_audience.audience import Source, identity_rules, instant_text
from airflow_kinesis_audience.guards import Guards
from airflow_kinesis_audience.hooks.state import State, open_ledger
from airflow_kinesis_audience.operators.assets import add_alias, tell_change_set
from airflow_kinesis_audience.operators.lineage import change_set_lineage
from airflow_kinesis_audience.operators.links import AudienceLink
from airflow_kinesis_audience.operators.metrics import count_changes, count_stop
from airflow_kinesis_audience.operators.outcome import airflow_outcome, tell_state
from airflow_kinesis_audience.operators.run import as_of_run, permission_of, select_all
from airflow_kinesis_audience.sync import Sync
from airflow_kinesis_audience.upkeep import Upkeep

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_kinesis_audience.dialects import Dialect


class AudienceDiffOperator(BaseOperator):
    """Find who entered, left or changed since the last run, inside the warehouse, and record it there.

    Returns a summary: ``sync_id``, ``as_of``, ``previous_as_of``, ``entered``, ``exited``, ``updated``,
    ``members``, per audience where there are few, and where the state is. It fails without retries where a
    retry cannot help, and is skipped where a later run has covered its instant already.

    What a guard stops, one run may pass: ``let_through`` in the DAG run's configuration is true, or a list of the
    audiences that may. The permission is the run's alone, and used up by its first change set.

    :param warehouse_conn_id: any Airflow connection whose hook is a ``DbApiHook``: DuckDB or PostgreSQL.
    :param sql: a SELECT with one row per member, or a ``.sql`` file. Either this or ``table``.
    :param table: a table or view with one row per member, ``schema.table``.
    :param user_id_column: the column of the user id; its values are sent as text.
    :param identities: source column to identity type; a column of lists gives a member several of that type.
    :param normalize_identities: source column to ``trim``, ``email`` (trimmed, in lower case) or ``phone``
        (E.164). A phone number without its country code is an invalid row.
    :param hash_identities: source column to ``sha256`` or ``md5``, of the normalized value; the raw one never
        leaves the warehouse. A value that looks hashed already is an invalid row.
    :param hashed_identities: source column to ``sha256`` or ``md5``, where the source has digests itself; a value
        that is none is an invalid row.
    :param properties: source columns, or source column to property name.
    :param audience_id: the audience's id, which never changes; or
    :param audience_id_column: the column of the audience id, for many audiences in one sync.
    :param audience_name: the audience's name, by default its id.
    :param audience_name_column: the column of the audience name.
    :param sync_id: the name under which state is kept, by default ``dag_id.task_id``.
    :param as_of: the instant that the run speaks for, with a time zone; by default the end of the data
        interval, else the logical date, else the time after which the run was due.
    :param max_exit_ratio: stop if more than this share of an audience's previous members, from 100 members on,
        would exit.
    :param max_exits: stop if more members of an audience would exit.
    :param max_change_ratio: stop if entries and exits together are more than this share of the previous members.
    :param min_members: stop if an audience would have fewer members.
    :param on_empty: an audience that had members and has no row in the source: ``fail``, or ``exit_all``.
    :param on_invalid_rows: a row without a user id, beyond the first of its user, or with an identity that is not
        what its rule promises: ``fail``, or ``drop`` it and count it.
    :param on_schema_change: another mapping, or another type of a mapped column: ``fail``, or ``update`` the
        members whose values are others by it. Another key always fails: it is never turned into exits and entries.
    :param on_guard: what a tripped guard does: ``fail``, or ``hold`` the change set for a person to release, as
        :func:`~airflow_kinesis_audience.operators.group.audience_sync` does. What is held is not published.
    :param reuse_deleted: begin anew under the id of a sync or an audience that was deleted.
    :param state_schema: where the state is kept in the warehouse; ``database.schema`` is possible.
    :param state_path: for a login that may only read: where the state is kept instead, as Parquet files, such as
        ``s3://aws_default@bucket/audiences``. The rows then come to the worker, which compares them.
    :param state_memory: what comparing may take of the worker's memory there, by default ``512MB``; the rest is
        done on disk.
    :param compaction_share: changes since the last full copy, as a share of the members, that make a new one.
    :param keep_history: how long a past membership can be asked for.
    :param keep_exits: how long it is remembered who has left, for a resync to tell; by default for ever.
    :param history_view: keep a view over all change sets in the state schema, for people to look at.
    """

    template_fields: Sequence[str] = (
        "warehouse_conn_id",
        "sql",
        "table",
        "audience_id",
        "audience_name",
        "sync_id",
        "as_of",
        "state_schema",
        "state_path",
        "state_memory",
        "max_exit_ratio",
        "max_exits",
        "max_change_ratio",
        "min_members",
        "on_empty",
        "on_invalid_rows",
        "on_schema_change",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012
    operator_extra_links = (AudienceLink(),)
    ui_color = "#e3f1ee"

    def __init__(
        self,
        *,
        warehouse_conn_id: str,
        sql: str | None = None,
        table: str | None = None,
        user_id_column: str = "user_id",
        identities: Mapping[str, str] | None = None,
        normalize_identities: Mapping[str, str] | None = None,
        hash_identities: Mapping[str, str] | None = None,
        hashed_identities: Mapping[str, str] | None = None,
        properties: Sequence[str] | Mapping[str, str] = (),
        audience_id: str | None = None,
        audience_name: str | None = None,
        audience_id_column: str | None = None,
        audience_name_column: str | None = None,
        sync_id: str | None = None,
        as_of: str | datetime | None = None,
        state_schema: str = "airflow_audience",
        state_path: str | None = None,
        state_memory: str | None = None,
        max_exit_ratio: float | None = 0.5,
        max_exits: int | None = None,
        max_change_ratio: float | None = None,
        min_members: int | None = None,
        on_empty: str = "fail",
        on_invalid_rows: str = "fail",
        on_schema_change: str = "fail",
        on_guard: str = "fail",
        reuse_deleted: bool = False,
        compaction_share: float = 0.25,
        keep_history: timedelta = timedelta(days=90),
        keep_exits: timedelta | None = None,
        history_view: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alias = add_alias(self)
        self.told: dict[str, Any] = {}
        self.warehouse_conn_id = warehouse_conn_id
        self.sql = sql
        self.table = table
        self.user_id_column = user_id_column
        self.identities = identities
        self.normalize_identities = normalize_identities
        self.hash_identities = hash_identities
        self.hashed_identities = hashed_identities
        self.properties = properties
        self.audience_id = audience_id
        self.audience_name = audience_name
        self.audience_id_column = audience_id_column
        self.audience_name_column = audience_name_column
        self.sync_id = sync_id
        self.as_of = as_of
        self.state_schema = state_schema
        self.state_path = state_path
        self.state_memory = state_memory
        self.max_exit_ratio = max_exit_ratio
        self.max_exits = max_exits
        self.max_change_ratio = max_change_ratio
        self.min_members = min_members
        self.on_empty = on_empty
        self.on_invalid_rows = on_invalid_rows
        self.on_schema_change = on_schema_change
        self.on_guard = on_guard
        self.reuse_deleted = reuse_deleted
        self.compaction_share = compaction_share
        self.keep_history = keep_history
        self.keep_exits = keep_exits
        self.history_view = history_view

    def execute(self, context: Context) -> dict[str, Any]:
        """Compute, look at and record the change set of this run."""
        known = self.told = {"sync_id": self.sync_id or f"{self.dag_id}.{self.task_id}"}
        with airflow_outcome(context, known):
            as_of = as_of_run(context, self.as_of)
            known["as_of"] = instant_text(as_of)
            if self.on_guard not in ("fail", "hold"):
                raise ValueError(f"on_guard is {self.on_guard!r}; expected fail or hold")
            guards = self.guards()
            state = self.state()
            permission = permission_of(context)
            upkeep = Upkeep(
                compaction_share=self.compaction_share,
                keep_history=self.keep_history,
                keep_exits=self.keep_exits,
                history_view=self.history_view,
            )
            if self.history_view and self.state_path:
                raise ValueError(
                    "history_view needs a warehouse that may be written to; leave it out with state_path"
                )
            with open_ledger(state, known["sync_id"], reads_source=True) as ledger:
                source = self.source(ledger.warehouse.origin.dialect)
                sync = Sync(ledger, source, guards=guards, upkeep=upkeep)
                summary = sync.run(
                    as_of,
                    permission=permission,
                    hold=self.on_guard == "hold",
                    reuse_deleted=self.reuse_deleted,
                )
        self._tell(summary)
        if "held" in summary:
            count_stop(known, "held")
            tell_state(context, known, "held", summary["held"])
        else:
            names = {self.audience_id: self.audience_name} if self.audience_id and self.audience_name else {}
            count_changes(summary)
            tell_change_set(context, self.alias, summary, guards, sync.counts, names)
        known |= {**summary, **state.told()}
        return known

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Tell OpenLineage which tables were read, and how many changes were found."""
        return change_set_lineage(select_all(self.sql, self.table, "who belongs is"), self.told)

    def _tell(self, summary: Mapping[str, Any]) -> None:
        """Say in the log what was found, and what is unusual about it."""
        self.log.info(
            "%s as of %s: %s members, %s entered, %s exited, %s updated",
            *(summary[n] for n in ("sync_id", "as_of", "members", "entered", "exited", "updated")),
        )
        if "dropped_rows" in summary:
            self.log.warning("%s rows of the source were left out", summary["dropped_rows"])
        for breach in summary.get("let_through", ()):
            self.log.warning("let through: %s", breach)
        for breach in summary.get("held", ()):
            self.log.warning("held until a person approves it, nothing is sent: %s", breach)

    def state(self) -> State:
        """Read where the state is, once templates are rendered."""
        return State(
            warehouse_conn_id=self.warehouse_conn_id,
            state_schema=self.state_schema,
            state_path=self.state_path,
            state_memory=self.state_memory,
        )

    def guards(self) -> Guards:
        """Read the bounds, once templates are rendered."""
        return Guards(
            max_exit_ratio=_number(self.max_exit_ratio, "max_exit_ratio"),
            max_exits=_whole(self.max_exits, "max_exits"),
            max_change_ratio=_number(self.max_change_ratio, "max_change_ratio"),
            min_members=_whole(self.min_members, "min_members"),
            on_empty=self.on_empty,
            on_invalid_rows=self.on_invalid_rows,
            on_schema_change=self.on_schema_change,
        )

    def source(self, dialect: Dialect | None = None) -> Source:
        """Read who belongs and what is mapped, once templates are rendered."""
        named, identities = self.properties, dict(self.identities or {})
        return Source(
            query=select_all(self.sql, self.table, "who belongs is", dialect),
            user_id=self.user_id_column,
            identities=identities,
            identity_rules=identity_rules(
                identities,
                normalize=self.normalize_identities or {},
                hash_with=self.hash_identities or {},
                hashed_with=self.hashed_identities or {},
            ),
            properties=dict(named) if isinstance(named, Mapping) else {name: name for name in named},
            audience_id=self.audience_id,
            audience_name=self.audience_name,
            audience_id_column=self.audience_id_column,
            audience_name_column=self.audience_name_column,
        )


def _number(value: float | str | None, name: str) -> float | None:
    """Read a bound, which a template leaves as text."""
    if value is None or str(value).strip().lower() in ("", "none"):
        return None
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}; expected a number, or None for no bound") from None


def _whole(value: int | str | None, name: str) -> int | None:
    number = _number(value, name)
    if number is None or number == int(number):
        return None if number is None else int(number)
    raise ValueError(f"{name} is {value!r}; expected a whole number, or None for no bound")
