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
from airflow_kinesis_audience.operators.errors import airflow_outcome, emit_held, emit_state
from airflow_kinesis_audience.operators.guard_arguments import GuardArguments
from airflow_kinesis_audience.operators.identity import Identity, map_identities
from airflow_kinesis_audience.operators.leaving import LeavesStatement
from airflow_kinesis_audience.operators.links import AudienceLink
from airflow_kinesis_audience.operators.reporting.assets import add_alias, emit_change_set
from airflow_kinesis_audience.operators.reporting.log_lines import log_change_set
from airflow_kinesis_audience.operators.reporting.metrics import count_changes, count_stop
from airflow_kinesis_audience.operators.run_context import (
    author_of,
    choose_on_covered,
    fail_if_covered,
    fail_if_recorded,
    permission_of,
    run_as_of,
    statement_tag,
)
from airflow_kinesis_audience.operators.source_arguments import SourceArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.state.retention import Retention


class AudienceDiffOperator(LeavesStatement, SourceArguments, GuardArguments):
    """Find who entered, left or changed since the last run, inside the warehouse, and record it there.

    Returns a summary: ``sync_id``, ``as_of``, ``previous_as_of``, ``entered``, ``exited``, ``updated``,
    ``members``, the counts per audience if there are few, and the place of the state. It has ``excluded``, the
    number of excluded rows; ``outranked``, of rows whose user is in an audience before; ``unknown_exclusive``, the
    ids in ``exclusive_by`` that no audience has; ``recorded`` if the change set was published already, so that
    nothing was computed; ``confirmed`` if it was computed again and is already right, so that nothing was added;
    ``corrects``, the instant that it corrects; ``inserted``, ``compensation`` if
    later change sets exist; ``held_audiences``, by id why only these are held. The task fails without retries if a
    retry cannot help.

    To let one run pass the guards, set ``let_through`` in the DAG run's configuration to true, or to a list of
    audience ids. The permission belongs to this run, and its first change set uses it up.

    :param warehouse_conn_id: Airflow connection of a supported warehouse, such as DuckDB or PostgreSQL.
    :param sql: a SELECT with one row per member, or a ``.sql`` file. Set this or ``table``. Templates can use the
        run's instant, for every kind of run: ``WHERE ds = '{{ as_of | ds }}'``.
    :param table: a table or view with one row per member, ``schema.table``; quote a part that has a
        dot in it, ``"My.Schema"."order"``. On Snowflake, a part without quotes is in upper case.
    :param source: instead of ``sql``, ``table`` and ``warehouse_conn_id``: a function, or its dotted path such as
        ``my_company.audiences.churn_risk``. It gets the run's instant, and returns or yields pandas frames, Arrow
        tables or batches with one row per member. It needs ``state_path``.
    :param exclude_sql: a SELECT, or a ``.sql`` file, with one column: ids of users that must be in no audience.
        It runs in the statement of ``sql``. NULL is ignored.
    :param consent_column: a boolean column; a user is in no audience unless it is true in all rows of the user.
    :param split: group to its share of the users in per cent: with ``{"control": 10}`` a tenth of the users is in
        the audience ``lapsed.control`` instead of ``lapsed``. A user is always on the same side.
    :param split_key: decides who is on which side, by default ``sync_id``.
    :param exclusive_by: ids of audiences that exclude each other: a user is only in the first one that has a row
        of the user. Other audiences of the sync keep all their users.
    :param user_id_column: the column of the user id; its values are sent as text.
    :param identities: source column to identity type, or to an ``Identity`` with the rules of that column:
        ``{"email": Identity("Email", hash="sha256")}``. A column of lists gives a member several identities of
        this type.
    :param normalize_identities: source column to ``trim``, ``email`` (trimmed, in lower case), ``gmail``
        (the same, and a Gmail address without dots and ``+suffix``) or ``phone`` (E.164). A phone number
        without its country code is an invalid row.
    :param hash_identities: source column to ``sha256`` or ``md5``, of the normalized value; the raw value never
        leaves the warehouse. A row whose value is probably hashed already is invalid.
    :param hashed_identities: source column to ``sha256`` or ``md5``, if the source already has digests. A row
        with any other value is invalid.
    :param on_identity_rule_change: for an identity that was sent raw and is now hashed: ``keep_old`` never sends
        the raw value again, so consumers keep it; ``remove_old`` sends it once more, in removals. Both remove any
        other old value.
    :param properties: source columns, or source column to property name.
    :param audience_id: the audience's id, which never changes. Set this or ``audience_id_column``.
    :param audience_id_column: the column of the audience id, for many audiences in one sync.
    :param audience_name: the audience's name, by default its id.
    :param audience_name_column: the column of the audience name.
    :param sync_id: name of the sync and of its state, by default ``dag_id.task_id``. A mapped task, or a task of
        a mapped group, needs one for each instance.
    :param as_of: the instant that the run represents, with a time zone. Default: the end of the data interval, or
        the logical date if it is later; for other runs, the time at which the run is due.
    :param guards: the following nine arguments as one value, ``Guards(max_exits=1000)``, without Jinja. By default
        the first five are what ``[kinesis_audience]`` of Airflow's configuration sets.
    :param max_exit_ratio: stop if more than this share of an audience's previous members would exit. With fewer
        than 100 members, also more than 20 must exit, or all. 1 or ``None`` lets all exit.
    :param max_exit_ratio_per_day: stop if more than this share of an audience's members would have exited within
        the 24 hours up to the run, including this run. A run that was let through, and all runs before it, do not
        count. More than 20 audiences are checked as one.
    :param max_exits: stop if more members of an audience would exit.
    :param max_change_ratio: stop if entries and exits together exceed this share of the previous members.
    :param min_members: stop if an audience would have fewer members.
    :param on_empty: an audience that had members and has no row in the source: ``fail``, or ``exit_all``.
    :param on_invalid_rows: a row has no user id, repeats a user, or has an identity that breaks its rule:
        ``fail``, or ``drop`` the row and count it. A member does not exit because its row was dropped.
    :param on_schema_change: the mapping, or the type of a mapped column, has changed: ``fail``, or ``update`` the
        members whose values differ. A changed key always fails.
    :param usual_guards: also stop what is not usual for an audience by the counts of its own earlier runs, from 20
        runs on: far more exits, entries or updates, far fewer members, another share of dropped rows or of NULL in
        a mapped column, and a source that no longer changes.
    :param on_guard: if a guard stops the change set: ``fail``; ``hold`` all of it until a person approves it; or
        ``hold_audience`` to hold only the audiences that the guard stops, and publish the others. A held audience
        keeps its published members until a later run finds it within the limits, or a person approves it.
    :param on_covered: if a later run covers the run's instant: ``skip`` the run; ``fail``, also if another run
        has published the instant; ``insert`` the change set of an instant that has none, before the later ones;
        or ``correct``, which also computes a published membership again and publishes what differs one second
        later. The default is ``fail`` for a run of a backfill and ``skip`` for any other.
    :param reuse_deleted: start again with the id of a deleted sync or audience.
    :param state_schema: schema of the state in the warehouse; ``database.schema`` is possible.
    :param state_path: for a login that can only read: URL of the state in Parquet files, such as
        ``s3://aws_default@bucket/audiences``. The worker then reads all rows and compares them.
    :param state_memory: limit of the worker's memory for the comparison with ``state_path``, by default
        ``512MB``; beyond it, disk is used.
    :param compaction_share: write a new full copy when the changes since the last one exceed this share of the
        members.
    :param keep_history: how long past memberships stay available. The first run after this time and a tenth of it
        drops the values of older ones.
    :param keep_exits: limit of how long exits stay known, so that a resync resends them; ``None`` keeps them for
        ever.
    :param history_view: maintain views over all change sets and all deliveries in the state schema, for queries.
    """

    template_fields: Sequence[str] = (
        *("warehouse_conn_id", "sql", "table", "exclude_sql", "audience_id", "audience_name", "sync_id", "as_of"),
        *("state_schema", "state_path", "state_memory"),
        *("max_exit_ratio", "max_exit_ratio_per_day", "max_exits", "max_change_ratio", "min_members"),
        *("on_empty", "on_invalid_rows", "on_schema_change", "on_identity_rule_change", "on_covered"),
        *("usual_guards", "exclusive_by"),
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "exclude_sql": "sql"}  # noqa: RUF012
    operator_extra_links = (AudienceLink(),)
    ui_color = "#e3f1ee"

    def __init__(
        self,
        *,
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
            # First, and by the run's own variables: as_of is made of them.
            super()._do_render_template_fields(self, ("as_of", "sync_id"), context, jinja_env, seen_oids)
            known: dict[str, Any] = {}
            with airflow_outcome(context, known):
                known["sync_id"] = self.own_sync_id(context)
                variables["as_of"] = coerce_datetime(run_as_of(context, self.as_of))
        super()._do_render_template_fields(parent, template_fields, variables, jinja_env, seen_oids)

    def _compute(self, context: Context) -> dict[str, Any]:
        known = self.known_facts = {}
        with airflow_outcome(context, known):
            from airflow_kinesis_audience.core.changes.sync import Sync
            from airflow_kinesis_audience.core.state.status import find_lasting_pins

            known["sync_id"] = self.own_sync_id(context)
            as_of = run_as_of(context, self.as_of)
            known["as_of"] = instant_text(as_of)
            if self.on_guard not in ("fail", "hold", "hold_audience"):
                raise ValueError(f"on_guard is {self.on_guard!r}; expected fail, hold or hold_audience")
            on_covered = choose_on_covered(context, self.on_covered)
            guards = self.build_guards()
            state = self.build_state()
            permission = permission_of(context)
            retention = self._build_retention()
            if self.history_view and self.state_path:
                raise ValueError(
                    "history_view needs a warehouse that the login can write to; with state_path, remove it"
                )
            with self.open_state(known["sync_id"], as_of, tag=statement_tag(context, known["sync_id"])) as ledger:
                source = self.build_source(ledger.warehouse.origin.dialect)
                author = author_of(context, adopts=self.adopt_state_of)
                sync = Sync(ledger, source, guards=guards, retention=retention, author=author)
                self._continue(sync)
                with fail_if_covered(fails=on_covered != "skip"):
                    summary = sync.run(
                        as_of,
                        permission=permission,
                        hold=self.on_guard != "fail",
                        hold_audiences=self.on_guard == "hold_audience",
                        reuse_deleted=self.reuse_deleted,
                        insert=on_covered == "insert",
                        correct=on_covered == "correct",
                    )
                fail_if_recorded(context, summary, fails=on_covered == "fail")
                summary |= self._count_sent()
        log_change_set(summary, sync.counts)
        names = {self.audience_id: self.audience_name} if self.audience_id and self.audience_name else {}
        if "held" in summary:
            count_stop(known, "held")
            emit_state(context, known, "held", summary["held"])
            known["audience_names"] = names
        else:
            emit_held(context, summary)
            if "confirmed" not in summary:
                count_changes(summary)
            pinned = [pin.sentence for pin in find_lasting_pins(ledger.state)]
            emit_change_set(context, self.alias, summary, guards, sync.counts, names, pinned, source)
        known |= {**summary, **state.to_summary()}
        return known

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
            query=self.build_query(dialect),
            user_id=self.user_id_column,
            identities=identities,
            identity_rules=rules,
            on_identity_rule_change=self.on_identity_rule_change,
            properties=dict(named) if isinstance(named, Mapping) else {name: name for name in named},
            audience_id=self.audience_id,
            audience_name=self.audience_name,
            audience_id_column=self.audience_id_column,
            audience_name_column=self.audience_name_column,
            exclude_query=self.exclude_sql,
            consent_column=self.consent_column,
            split=self.build_split(),
            exclusive_by=self.build_order(),
        )
