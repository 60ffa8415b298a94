"""The task that computes a change set. It sends nothing and can be repeated.

Arguments are only assigned on construction and checked when the task runs, after templating. The task returns
counts and names, never rows. The engine is imported when the task runs, so that a DAG file is parsed without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.timezone import coerce_datetime

from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.operators.errors import airflow_outcome, emit_state
from airflow_kinesis_audience.operators.guard_arguments import GuardArguments
from airflow_kinesis_audience.operators.identity import Identity, map_identities
from airflow_kinesis_audience.operators.links import AudienceLink
from airflow_kinesis_audience.operators.reporting.assets import add_alias, emit_change_set
from airflow_kinesis_audience.operators.reporting.lineage import change_set_lineage
from airflow_kinesis_audience.operators.reporting.log_lines import log_change_set
from airflow_kinesis_audience.operators.reporting.metrics import count_changes, count_stop
from airflow_kinesis_audience.operators.run_context import (
    author_of,
    choose_on_covered,
    fail_if_covered,
    permission_of,
    run_as_of,
    select_all,
)
from airflow_kinesis_audience.operators.state_arguments import StateArguments

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.state.retention import Retention
    from airflow_kinesis_audience.hooks.state import State


class AudienceDiffOperator(StateArguments, GuardArguments):
    """Find who entered, left or changed since the last run, inside the warehouse, and record it there.

    Returns a summary: ``sync_id``, ``as_of``, ``previous_as_of``, ``entered``, ``exited``, ``updated``,
    ``members``, per audience where there are few, and where the state is; ``recorded`` if the change set was
    published already and nothing was computed; ``corrects``, the instant whose membership it corrects;
    ``inserted`` if later change sets exist. It fails without retries where a retry cannot help.

    One run may pass what a guard stops: ``let_through`` in the DAG run's configuration is true, or a list of the
    audiences that may. The permission is the run's alone, and used up by its first change set.

    :param warehouse_conn_id: any Airflow connection whose hook is a ``DbApiHook``: DuckDB or PostgreSQL.
    :param sql: a SELECT with one row per member, or a ``.sql`` file. Either this or ``table``. Templates have the
        instant that the run speaks for, whatever kind of run it is: ``WHERE ds = '{{ as_of | ds }}'``.
    :param table: a table or view with one row per member, ``schema.table``; quote a part that has a
        dot in it, ``"My.Schema"."order"``. On Snowflake a part without quotes means upper case.
    :param user_id_column: the column of the user id; its values are sent as text.
    :param identities: source column to identity type, or to an ``Identity``, which has the rules of that column
        with it: ``{"email": Identity("Email", hash="sha256")}``. A column of lists gives a member several of that
        type.
    :param normalize_identities: source column to ``trim``, ``email`` (trimmed, in lower case), ``gmail``
        (likewise, and an address at Gmail without dots and ``+suffix``) or ``phone`` (E.164). A phone number
        without its country code is an invalid row.
    :param hash_identities: source column to ``sha256`` or ``md5``, of the normalized value; the raw one never
        leaves the warehouse. A value that looks hashed already is an invalid row.
    :param hashed_identities: source column to ``sha256`` or ``md5``, where the source has digests itself; a value
        that is none is an invalid row.
    :param on_identity_rule_change: of an identity that was sent raw and is hashed from now on: ``keep_old`` never
        sends the raw value again, so that whoever knows a user by it keeps it; ``remove_old`` sends it once more,
        in removals. Any other old value is removed in either case.
    :param properties: source columns, or source column to property name.
    :param audience_id: the audience's id, which never changes; or
    :param audience_id_column: the column of the audience id, for many audiences in one sync.
    :param audience_name: the audience's name, by default its id.
    :param audience_name_column: the column of the audience name.
    :param sync_id: the name under which state is kept, by default ``dag_id.task_id``. A mapped task, or one of a
        mapped group, needs one for each of its instances.
    :param as_of: the instant that the run speaks for, with a time zone; by default the end of the data interval,
        or the logical date if it is later, or when the run of a partition or any other run is due.
    :param guards: the following eight as one value, ``Guards(max_exits=1000, min_members=10)``, instead of them.
        Jinja does not render it.
    :param max_exit_ratio: stop if more than this share of an audience's previous members would exit. Of fewer than
        100 members also more than 20 have to exit, or all. 1, or ``None``, lets all exit.
    :param max_exit_ratio_per_day: stop if within the 24 hours up to the run, its own exits among them, more than
        this share exited of all who were members in that time, as the ledger has it. A run that was let through,
        and what was before it, does not count any more. More than 20 audiences are looked at as one.
    :param max_exits: stop if more members of an audience would exit.
    :param max_change_ratio: stop if entries and exits together are more than this share of the previous members.
    :param min_members: stop if an audience would have fewer members.
    :param on_empty: an audience that had members and has no row in the source: ``fail``, or ``exit_all``.
    :param on_invalid_rows: a row without a user id, beyond the first of its user, or with an identity that is not
        what its rule promises: ``fail``, or ``drop`` it and count it. A member is never taken to have left who may
        be in a row that is dropped.
    :param on_schema_change: another mapping, or another type of a mapped column: ``fail``, or ``update`` the
        members whose values are others by it. Another key always fails: it is never turned into exits and entries.
    :param on_guard: what a tripped guard does: ``fail``, or ``hold`` the change set for a person to approve, as
        :func:`~airflow_kinesis_audience.operators.group.audience_sync` does. What is held is not published.
    :param on_covered: what becomes of a run whose instant is published already, or covered by a later run:
        ``skip`` it; ``fail``; ``insert`` the change set of an instant that has none, before the later ones; or
        ``correct``, which also computes a published membership again and publishes the difference one second
        later. By default a covered run of a backfill fails, and any other is skipped.
    :param reuse_deleted: begin anew under the id of a sync or an audience that was deleted.
    :param state_schema: where the state is kept in the warehouse; ``database.schema`` is possible.
    :param state_path: for a login that may only read: where the state is kept instead, as Parquet files, such as
        ``s3://aws_default@bucket/audiences``. The rows then come to the worker, which compares them.
    :param state_memory: what comparing may take of the worker's memory there, by default ``512MB``; the rest is
        done on disk.
    :param compaction_share: changes since the last full copy, as a share of the members, that make a new one.
    :param keep_history: how long a past membership can be asked for. The values of older ones are dropped by the
        first run after this time and a tenth of it.
    :param keep_exits: how long it is remembered at most who has left, so that a resync sends their exits; ``None``
        for ever.
    :param history_view: keep a view over all change sets in the state schema, for people to look at.
    """

    template_fields: Sequence[str] = (
        *("warehouse_conn_id", "sql", "table", "audience_id", "audience_name", "sync_id", "as_of"),
        *("state_schema", "state_path", "state_memory"),
        *("max_exit_ratio", "max_exit_ratio_per_day", "max_exits", "max_change_ratio", "min_members"),
        *("on_empty", "on_invalid_rows", "on_schema_change", "on_identity_rule_change", "on_covered"),
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012
    operator_extra_links = (AudienceLink(),)
    ui_color = "#e3f1ee"

    def __init__(
        self,
        *,
        sql: str | None = None,
        table: str | None = None,
        user_id_column: str = "user_id",
        identities: Mapping[str, str | Identity] | None = None,
        normalize_identities: Mapping[str, str] | None = None,
        hash_identities: Mapping[str, str] | None = None,
        hashed_identities: Mapping[str, str] | None = None,
        on_identity_rule_change: str = "keep_old",
        properties: Sequence[str] | Mapping[str, str] = (),
        audience_id: str | None = None,
        audience_name: str | None = None,
        audience_id_column: str | None = None,
        audience_name_column: str | None = None,
        as_of: str | datetime | None = None,
        state_memory: str | None = None,
        on_guard: str = "fail",
        on_covered: str | None = None,
        reuse_deleted: bool = False,
        compaction_share: float = 0.25,
        keep_history: timedelta = timedelta(days=90),
        keep_exits: timedelta | None = timedelta(days=400),
        history_view: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alias = add_alias(self)
        self.known_facts: dict[str, Any] = {}
        self.sql = sql
        self.table = table
        self.user_id_column = user_id_column
        self.identities = identities
        self.normalize_identities = normalize_identities
        self.hash_identities = hash_identities
        self.hashed_identities = hashed_identities
        self.on_identity_rule_change = on_identity_rule_change
        self.properties = properties
        self.audience_id = audience_id
        self.audience_name = audience_name
        self.audience_id_column = audience_id_column
        self.audience_name_column = audience_name_column
        self.as_of = as_of
        self.state_memory = state_memory
        self.on_guard = on_guard
        self.on_covered = on_covered
        self.reuse_deleted = reuse_deleted
        self.compaction_share = compaction_share
        self.keep_history = keep_history
        self.keep_exits = keep_exits
        self.history_view = history_view

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render the fields with ``as_of`` among their variables; for a mapped task Airflow calls this alone."""
        variables: Any = dict(context)
        if parent is self:
            self.as_of, self.sync_id = (
                self.render_template(given, context, jinja_env, seen_oids) for given in (self.as_of, self.sync_id)
            )
            known: dict[str, Any] = {}
            with airflow_outcome(context, known):
                known["sync_id"] = self.own_sync_id(context)
                variables["as_of"] = coerce_datetime(run_as_of(context, self.as_of))
        super()._do_render_template_fields(parent, template_fields, variables, jinja_env, seen_oids)

    def execute(self, context: Context) -> dict[str, Any]:
        """Compute the change set of this run, check it against the guards, and record it."""
        from airflow_kinesis_audience.core.changes.sync import Sync
        from airflow_kinesis_audience.core.state.status import find_lasting_pins
        from airflow_kinesis_audience.hooks.state import open_ledger

        known = self.known_facts = {}
        with airflow_outcome(context, known):
            known["sync_id"] = self.own_sync_id(context)
            as_of = run_as_of(context, self.as_of)
            known["as_of"] = instant_text(as_of)
            if self.on_guard not in ("fail", "hold"):
                raise ValueError(f"on_guard is {self.on_guard!r}; expected fail or hold")
            on_covered = choose_on_covered(context, self.on_covered)
            guards = self.build_guards()
            state = self.build_state()
            permission = permission_of(context)
            retention = self._build_retention()
            if self.history_view and self.state_path:
                raise ValueError(
                    "history_view needs a warehouse that may be written to; leave it out with state_path"
                )
            with open_ledger(state, known["sync_id"], reads_source=True) as ledger:
                source = self.build_source(ledger.warehouse.origin.dialect)
                author = author_of(context, adopts=self.adopt_state_of)
                sync = Sync(ledger, source, guards=guards, retention=retention, author=author)
                with fail_if_covered(fails=on_covered != "skip"):
                    summary = sync.run(
                        as_of,
                        permission=permission,
                        hold=self.on_guard == "hold",
                        reuse_deleted=self.reuse_deleted,
                        insert=on_covered == "insert",
                        correct=on_covered == "correct",
                    )
        log_change_set(summary)
        names = {self.audience_id: self.audience_name} if self.audience_id and self.audience_name else {}
        if "held" in summary:
            count_stop(known, "held")
            emit_state(context, known, "held", summary["held"])
            known["audience_names"] = names
        else:
            count_changes(summary)
            pinned = [pin.sentence for pin in find_lasting_pins(ledger.state)]
            emit_change_set(context, self.alias, summary, guards, sync.counts, names, pinned)
        known |= {**summary, **state.to_summary()}
        return known

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Report to OpenLineage which tables were read, and how many changes were found."""
        return change_set_lineage(select_all(self.sql, self.table, "who belongs is"), self.known_facts)

    def build_state(self) -> State:
        """Build the value that says where the state is, once templates are rendered."""
        from airflow_kinesis_audience.hooks.state import State

        return State(
            warehouse_conn_id=self.warehouse_conn_id,
            state_schema=self.state_schema,
            state_path=self.state_path,
            state_memory=self.state_memory,
        )

    def _build_retention(self) -> Retention:
        from airflow_kinesis_audience.core.state.retention import Retention

        return Retention(
            compaction_share=self.compaction_share,
            keep_history=self.keep_history,
            keep_exits=self.keep_exits,
            history_view=self.history_view,
        )

    def build_source(self, dialect: Dialect | None = None) -> Source:
        """Build the value that says who belongs and what is mapped, once templates are rendered."""
        from airflow_kinesis_audience.core.model.audience import Source

        named = self.properties
        identities, rules = map_identities(
            self.identities,
            normalize=self.normalize_identities,
            hash_with=self.hash_identities,
            hashed_with=self.hashed_identities,
        )
        return Source(
            query=select_all(self.sql, self.table, "who belongs is", dialect),
            user_id=self.user_id_column,
            identities=identities,
            identity_rules=rules,
            on_identity_rule_change=self.on_identity_rule_change,
            properties=dict(named) if isinstance(named, Mapping) else {name: name for name in named},
            audience_id=self.audience_id,
            audience_name=self.audience_name,
            audience_id_column=self.audience_id_column,
            audience_name_column=self.audience_name_column,
        )
