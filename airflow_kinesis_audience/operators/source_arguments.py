"""Where the members of a diff task come from: a query, a table, or a function of the author's."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.operators.reporting.lineage import change_set_lineage
from airflow_kinesis_audience.operators.run_context import select_all
from airflow_kinesis_audience.operators.state_arguments import StateArguments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_kinesis_audience.core.model.splits import Split
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.hooks.state import State
    from airflow_kinesis_audience.hooks.statement_tags import StatementTag


class SourceArguments(StateArguments):
    """The part of a diff task that says who belongs.

    :ivar known_facts: of the run, once it has any.
    """

    known_facts: dict[str, Any]

    def __init__(
        self,
        *,
        warehouse_conn_id: str = "",
        sql: str | None = None,
        table: str | None = None,
        source: str | Callable[..., Any] | None = None,
        exclude_sql: str | None = None,
        consent_column: str | None = None,
        split: Mapping[str, float] | None = None,
        split_key: str | None = None,
        exclusive_by: Sequence[str] = (),
        state_memory: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(warehouse_conn_id=warehouse_conn_id, **kwargs)
        self.sql = sql
        self.table = table
        self.source = source
        self.exclude_sql = exclude_sql
        self.consent_column = consent_column
        self.split = split
        self.split_key = split_key
        self.exclusive_by = exclusive_by
        self.state_memory = state_memory

    def open_state(
        self, sync_id: str, as_of: datetime, *, tag: StatementTag | None
    ) -> AbstractContextManager[Ledger]:
        """Open the ledger, and what the members are read from, once templates are rendered.

        :raises ValueError: if an argument is missing, or one too many; a retry does not help.
        """
        from airflow_kinesis_audience.hooks.state import FunctionSource, open_ledger

        source = None if self.source is None else FunctionSource(function=self.source, as_of=as_of)
        return open_ledger(self.build_state(), sync_id, reads_source=True, tag=tag, source=source)

    def build_state(self) -> State:
        """Build the value that says where the state is, once templates are rendered."""
        from airflow_kinesis_audience.hooks.state import State

        if self.source is None and not self.warehouse_conn_id:
            raise ValueError("set warehouse_conn_id, the Airflow connection of the warehouse with sql or table")
        if self.source is not None and not self.state_path:
            raise ValueError(
                "source is a function, whose rows are in no warehouse, so the state is kept in files; set "
                "state_path to a URL such as s3://aws_default@bucket/audiences"
            )
        return State(
            warehouse_conn_id=self.warehouse_conn_id,
            state_schema=self.state_schema,
            state_path=self.state_path,
            state_memory=self.state_memory,
        )

    def build_split(self) -> Split | None:
        """Build the split of the audiences, if there is one.

        :raises ValueError: if its shares are none.
        """
        from airflow_kinesis_audience.core.model.splits import Split

        if self.split is None and self.split_key is not None:
            raise ValueError("split_key is set and split is not; set split to the groups, such as {'control': 10}")
        return None if not self.split else Split(shares=dict(self.split), key=self.split_key or "")

    def build_order(self) -> tuple[str, ...]:
        """Build the order of the audiences that exclude each other.

        :raises ValueError: if it is no list.
        """
        if isinstance(self.exclusive_by, str):
            raise ValueError(f"exclusive_by is {self.exclusive_by!r}; expected a list of audience ids")
        return tuple(self.exclusive_by or ())

    def build_query(self, dialect: Dialect | None = None) -> str:
        """Return the query that gives the members.

        :raises ValueError: if there is none, or more than one.
        """
        if self.source is None:
            return select_all(self.sql, self.table, "the members are", dialect)
        if self.sql is not None or self.table is not None:
            raise ValueError("set one of sql, table and source: the members come from one of them")
        if self.exclude_sql is not None:
            raise ValueError(
                "exclude_sql is read by a warehouse, and source is a function; leave the users out in the "
                "function, or give its rows a boolean column and set consent_column"
            )
        from airflow_kinesis_audience.hooks.files.function_source import ROWS

        return f"SELECT * FROM {ROWS}"  # noqa: S608

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Report to OpenLineage which tables were read, and how many changes were found."""
        if self.source is not None:
            return None
        queries = (self.build_query(), self.exclude_sql or "")
        return change_set_lineage([q for q in queries if q], self.known_facts)
