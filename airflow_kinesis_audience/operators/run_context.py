"""What a DAG run gives to its tasks: its instant, its permissions, and what its diff found.

It reads the task's context and arguments, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.guards import NO_PERMISSION, Permission
from airflow_kinesis_audience.core.exceptions import RunSuperseded
from airflow_kinesis_audience.core.model.instants import instant, instant_text

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_kinesis_audience.core.changes.authors import Author
    from airflow_kinesis_audience.core.sql.dialects import Dialect
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.hooks.statement_tags import StatementTag

LET_THROUGH = "let_through"
"""The key of the run's configuration that lets its change set pass the guards: true, or a list of audience ids."""

CLOCK_SKEW = timedelta(minutes=10)
"""How far a scheduler's clock may be ahead of a worker's."""

_OF_PARTITIONS = ("run_offset", "partition_mapper_config")
"""Attributes that the timetables of partitions have, and no other."""


def run_as_of(context: Context, given: str | datetime | None = None) -> datetime:
    """Return the instant that a run represents.

    That is, in this order: what the author gave; of a partition, the instant at which its run is due; the end of
    the data interval, or the logical date if it is later, as of a manual run; the time after which the run was
    due.

    :param given: what the author gave, after templating.
    :raises ValueError: if the run has none, if it is in the future, since everything until then would count as
        covered, or if templates would read another time than the run's.
    """
    found = given or _partition_due(context) or _interval_end(context) or context["dag_run"].run_after
    if found is None:
        raise ValueError("the run has neither data interval nor logical date; set as_of")
    as_of = instant(found)
    if as_of > datetime.now(UTC) + CLOCK_SKEW:
        raise ValueError(
            f"the run represents {instant_text(as_of)}, which is in the future: it would cover every run until "
            "then. Trigger it with a logical date in the past, or correct the clocks of both machines"
        )
    return as_of


def _interval_end(context: Context) -> datetime | None:
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    logical = context.get("logical_date")
    if start and logical and logical < start:
        raise ValueError(
            f"the run's logical date is {instant_text(logical)}, and its data interval begins later, at "
            f"{instant_text(start)}: Airflow computes the interval of a triggered run from the present time. {{{{ "
            "ds }} would read another day than the run's, so nothing was read. For a day in the past, use "
            '`airflow backfill create`, or as_of="{{ logical_date }}" in the DAG'
        )
    # A manual run is later than the last interval that is complete, which is the one that Airflow gives it.
    return max((time for time in (end, logical) if time), default=None)


def _partition_due(context: Context) -> datetime | None:
    """Return when a partition's run is due, which a run of it that is made again much later does not say."""
    timetable = getattr(context.get("dag"), "timetable", None)
    key = context.get("partition_key") or getattr(context.get("dag_run"), "partition_key", None)
    date = context.get("partition_date") or _date_of_key(timetable, key)
    offset = getattr(timetable, "run_offset", None) or 0
    if key is None and not any(hasattr(timetable, name) for name in _OF_PARTITIONS):
        return None
    if date is None or offset > 0:
        found = f"partition {key!r}" if key else "no partition"
        raise ValueError(
            f"the run is of {found}, which is not an instant. Trigger the run with a key that is a time, or "
            'set as_of, such as as_of="{{ partition_key }}T00:00:00Z"'
        )
    due: datetime = date
    for _ in range(-offset):
        due = _next_tick(timetable, due)
    return due


def _date_of_key(timetable: Any, key: str | None) -> datetime | None:
    """Return the date that a partition's key was made of: Airflow 3.2 gives a task the key alone."""
    key_format = getattr(timetable, "key_format", None)
    # In another zone the key is a time of UTC in 3.2, and one of the zone in 3.3.
    if key is None or key_format is None or str(timetable.timezone) != "UTC":
        return None
    with contextlib.suppress(ValueError):  # of a run that was triggered with another key
        date = datetime.strptime(key, key_format)
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    return None


def _next_tick(timetable: Any, date: datetime) -> datetime:
    from airflow.sdk.timezone import coerce_datetime
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.trigger import CronTriggerTimetable

    found = CronTriggerTimetable(timetable.expression, timezone=timetable.timezone).next_dagrun_info(
        last_automated_data_interval=DataInterval.exact(coerce_datetime(date)),
        restriction=TimeRestriction(earliest=None, latest=None, catchup=True),
    )
    if found is None:
        raise ValueError(f"{timetable.expression!r} has no instant after {instant_text(date)}; set as_of")
    return found.run_after


def choose_on_covered(context: Context, given: str | None) -> str:
    """Return what becomes of a run whose instant is covered: what the author gave, or the default of such a run.

    :raises ValueError: if it is no such choice.
    """
    if given in ("skip", "fail", "insert", "correct"):
        return given
    if given:
        raise ValueError(f"on_covered is {given!r}; expected skip, fail, insert or correct")
    return "fail" if context["dag_run"].run_type == "backfill" else "skip"


@contextlib.contextmanager
def fail_if_covered(*, fails: bool) -> Iterator[None]:
    """Make a run fail, if it is to, that a later one covers: a green run would hide that it did nothing.

    :raises ValueError: in place of the error by which a run is skipped.
    """
    try:
        yield
    except RunSuperseded as error:
        if not fails:
            raise
        raise ValueError(
            f'{error}. Nothing was computed or sent. Set on_covered="insert" to insert the change set of an '
            "instant between two runs. To start before the first run, use a new sync_id and runs in "
            "ascending order; docs/backfill.md shows how"
        ) from None


def fail_if_recorded(context: Context, summary: Mapping[str, Any], *, fails: bool) -> None:
    """Make a run fail, if it is to, that finds the change set of another run; a repeated one finds its own.

    :raises ValueError: if so.
    """
    if fails and "recorded" in summary and context["ti"].try_number == 1:
        raise ValueError(
            f"this run represents {summary['as_of']}, and another run has already published that instant. "
            'Nothing was computed or sent. If the source was corrected since then, set on_covered="correct": the '
            "run then publishes what differs; docs/backfill.md shows how"
        )


def name_task(context: Context) -> str:
    """Name what all tries of a task in a run have in common."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.task_id}/{ti.map_index}/{ti.run_id}"


def statement_tag(context: Context, sync_id: str) -> StatementTag | None:
    """Return what names this attempt of the task in its statements; none where a command renders the task."""
    from airflow_kinesis_audience.hooks.statement_tags import StatementTag

    if (ti := context.get("ti")) is None:
        return None
    return StatementTag(sync_id=sync_id, run_id=ti.run_id, task=name_task(context), attempt=ti.try_number)


def count_statements(ledger: Ledger) -> dict[str, Any]:
    """Return, for a summary, how many statements the warehouse got, how long they took, and what they read."""
    sent = ledger.warehouse.origin
    scanned = {} if sent.bytes_scanned is None else {"bytes_scanned": sent.bytes_scanned}
    return {"statements": sent.statements, "statement_seconds": round(sent.statement_seconds, 3), **scanned}


def author_of(context: Context, *, adopts: str | None) -> Author:
    """Return which task it is that computes a sync.

    :param adopts: the task whose state this one continues.
    """
    from airflow_kinesis_audience.core.changes.authors import Author

    ti = context["ti"]
    index = getattr(ti, "map_index", None)
    return Author(
        task=f"{ti.dag_id}.{ti.task_id}", map_index=-1 if index is None else index, adopts=adopts or None
    )


def permission_of(context: Context) -> Permission:
    """Return which breaches a run may have, by ``let_through`` in its configuration.

    :raises ValueError: if it is neither true or false nor a list of audience ids.
    """
    # Not the parameters: their defaults are the DAG's, and would count for every run.
    given = (context["dag_run"].conf or {}).get(LET_THROUGH)
    if given is None or isinstance(given, bool):
        return Permission(everything=bool(given))
    if isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(a, str) for a in given):
        return Permission(audiences=frozenset(given)) if given else NO_PERMISSION
    raise ValueError(
        f"{LET_THROUGH} in the run's configuration is a {type(given).__name__}; expected true, or a list of "
        "audience ids (texts) that may pass the guards in this run"
    )


def select_all(sql: str | None, table: str | None, what: str, dialect: Dialect | None = None) -> str:
    """Return the query that an author gave, or one over the table.

    :param what: begins the sentence that says why one of the two is needed.
    :param dialect: of the warehouse, if it is known.
    :raises ValueError: if it is not one of the two, or no table's name.
    """
    if (sql is None) == (table is None):
        raise ValueError(f"set either sql or table: {what} read from one of them")
    if sql is not None:
        # An editor may begin a file with a byte order mark, which does not belong to the query.
        return sql.removeprefix("\ufeff")
    from airflow_kinesis_audience.core.sql.statements import named_table

    named = named_table(table or "", dialect).sql(dialect=dialect.name if dialect else None, identify=True)
    return f"SELECT * FROM {named}"  # noqa: S608


def parse_bool(value: bool | str, name: str) -> bool:
    """Read a yes or no, which a template leaves as text.

    :raises ValueError: if it is neither.
    """
    found = {"true": True, "false": False}.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"{name} is {value!r}; expected true or false")
    return found


def read_change_set(change_set: Any) -> dict[str, Any]:
    """Read what the diff task returned, as a dict or as its JSON.

    :raises ValueError: if it is something else.
    """
    if isinstance(change_set, str):
        try:
            change_set = json.loads(change_set)
        except ValueError:
            raise ValueError("change_set is a text that is not JSON; pass the diff task's .output") from None
    needed = ("sync_id", "as_of", "warehouse_conn_id", "state_schema")
    if not isinstance(change_set, Mapping) or any(n not in change_set for n in needed):
        raise ValueError(
            "change_set is not the result of an AudienceDiffOperator; pass the diff task's .output, and check "
            "that the task ran in this DAG run"
        )
    return dict(change_set)
