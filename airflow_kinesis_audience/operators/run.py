"""What a DAG run says to the tasks in it: for which instant it speaks, what it may pass with, what its diff found.

It reads the task's context and arguments, and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.audience import instant, instant_text
from airflow_kinesis_audience.guards import NO_PERMISSION, Permission
from airflow_kinesis_audience.sql import table as table_reference

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.dialects import Dialect

LET_THROUGH = "let_through"
"""The key of the run's configuration that lets its change set pass the guards: true, or a list of audience ids."""

_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

CLOCK_SKEW = timedelta(minutes=10)
"""So far may a scheduler's clock be ahead of a worker's."""


def as_of_run(context: Context, given: str | datetime | None = None) -> datetime:
    """Return the instant that a run speaks for.

    :param given: what the author gave, after templating.
    :raises ValueError: if the run has none, or it lies in the future: whatever happened until then would be taken
        for covered.
    """
    run = context["dag_run"]
    times = (given, context.get("data_interval_end"), context.get("logical_date"), run.run_after)
    found = next((t for t in times if t), None)
    if found is None:
        raise ValueError("the run has neither data interval nor logical date; give as_of")
    as_of = instant(found)
    if as_of > datetime.now(UTC) + CLOCK_SKEW:
        raise ValueError(
            f"the run speaks for {instant_text(as_of)}, which is in the future: every run until then would count "
            "as covered by it. Trigger it with a logical date that has passed, or mend the clocks of both "
            "machines"
        )
    return as_of


def permission_of(context: Context) -> Permission:
    """Return which breaches a run may pass with, by ``let_through`` in its configuration.

    :raises ValueError: if it is neither true or false nor a list of audience ids.
    """
    # Not the parameters: their defaults are the DAG's, and what the DAG says would be said for every run.
    said = (context["dag_run"].conf or {}).get(LET_THROUGH)
    if said is None or isinstance(said, bool):
        return Permission(everything=bool(said))
    if isinstance(said, Sequence) and not isinstance(said, str) and all(isinstance(a, str) for a in said):
        return Permission(audiences=frozenset(said)) if said else NO_PERMISSION
    raise ValueError(
        f"{LET_THROUGH} in the run's configuration is a {type(said).__name__}; expected true, or a list of "
        "audience ids (texts) that may pass the guards in this run"
    )


def select_all(sql: str | None, table: str | None, what: str, dialect: Dialect | None = None) -> str:
    """Return the query that an author gave, or one over the table.

    :param what: begins the sentence that says why one of the two is needed.
    :param dialect: of the warehouse, if it is known.
    :raises ValueError: if it is not one of the two, or no table's name.
    """
    if (sql is None) == (table is None):
        raise ValueError(f"give either sql or table: {what} read from one of them")
    if sql is not None:
        return sql
    schema, _, name = (table or "").rpartition(".")
    if not name.strip():
        raise ValueError(f"table is {table!r}; expected a table's name such as marts.lapsed")
    as_written = dialect is not None and dialect.folds_to_upper and _PLAIN_NAME.fullmatch(table or "")
    named = table_reference(schema or None, name).sql(dialect=dialect.name if dialect else None, identify=True)
    return f"SELECT * FROM {table if as_written else named}"  # noqa: S608


def truth(value: bool | str, name: str) -> bool:
    """Read a yes or no, which a template leaves as text.

    :raises ValueError: if it is neither.
    """
    found = {"true": True, "false": False}.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"{name} is {value!r}; expected true or false")
    return found


def read_change_set(change_set: Any) -> dict[str, Any]:
    """Read what the diff task returned, as a dict or as its JSON."""
    if isinstance(change_set, str):
        try:
            change_set = json.loads(change_set)
        except ValueError:
            raise ValueError("change_set is a text that is no JSON; pass the diff task's .output") from None
    needed = ("sync_id", "as_of", "warehouse_conn_id", "state_schema")
    if not isinstance(change_set, Mapping) or any(n not in change_set for n in needed):
        raise ValueError(
            "change_set is not what an AudienceDiffOperator returns; pass the diff task's .output, and check that "
            "the task ran in this DAG run"
        )
    return dict(change_set)
