"""Whether tasks of this package can run: connections, clock, source, state, streams, permissions, options.

Nothing is put on a stream; where writing is asked for, a table is created in the state's schema and dropped, else
nothing is written. A finding has no value of a row.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError
from airflow_kinesis_audience.operators.delivery_operator import DeliveryOperator
from airflow_kinesis_audience.operators.diff import AudienceDiffOperator
from airflow_kinesis_audience.operators.events import EventsToKinesisOperator
from airflow_kinesis_audience.operators.run_context import statement_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow.sdk import Context

    from airflow_kinesis_audience.core.sql.warehouse import Warehouse
    from airflow_kinesis_audience.core.state.ledger import Ledger

CLOCK_SKEW = timedelta(minutes=1)
"""How far the clocks of the warehouse and of the worker may be apart."""

_OF_A_DELIVERY = ("stream_name", "delivery_stream_name", "aws_conn_id", "region_name", "format_options")
_PROBE = "check_of_grants"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing that a task needs.

    :param ok: none where it was not checked, or is no fault.
    """

    task: str
    what: str
    ok: bool | None
    text: str

    def __str__(self) -> str:
        sign = {True: "✓", False: "✗", None: "-"}[self.ok]
        return f"{sign} {self.task}, {self.what}: {self.text}"


def is_checked(task: Any) -> bool:
    """Whether a task, or a mapped one, is of a kind that can be checked."""
    return issubclass(getattr(task, "operator_class", type(task)), AudienceDiffOperator | DeliveryOperator)


def check_tasks(
    tasks: Iterable[Any], context_of: Callable[[Any], Context], *, write: bool = False
) -> Iterator[Finding]:
    """Check tasks that can be checked.

    :param context_of: gives the context by which the templates of a task are rendered; the task stays as it is.
    :param write: also create a table in the state's schema, and drop it.
    """
    for given in tasks:
        name, task = f"{given.dag_id}.{given.task_id}", copy.copy(given)
        if isinstance(task, AudienceDiffOperator):
            yield from _check_diff(name, task, context_of, write=write)
        elif isinstance(task, DeliveryOperator):
            if isinstance(task, EventsToKinesisOperator):
                yield _check_events(name, task, context_of)
            yield _check_delivery(name, task, context_of)
        else:
            yield Finding(name, "mapped", None, "skipped: its arguments are known only when it runs")


def render(task: Any, context: Context) -> None:
    """Render the task's templates in place.

    :raises ValueError: if that fails.
    """
    from airflow.providers.common.compat.sdk import AirflowFailException

    try:
        task.render_template_fields(context)
    except AirflowFailException as error:
        raise ValueError(str(error)) from None


def _check_diff(
    name: str, task: AudienceDiffOperator, context_of: Callable[[Any], Context], *, write: bool
) -> Iterator[Finding]:
    from airflow_kinesis_audience.core.changes.baseline import describe_source
    from airflow_kinesis_audience.hooks.state import open_ledger

    more: list[Finding] = []

    def source() -> str:
        render(task, context := context_of(task))
        task.build_guards()
        tag = statement_tag(context, task.default_sync_id)
        with task.open_state(task.default_sync_id, datetime.now(UTC), tag=tag) as ledger:
            origin = ledger.warehouse.origin
            asked = task.build_source(origin.dialect)
            types = describe_source(ledger.warehouse, asked, ledger.sync_id).types
            more.append(_find(name, "clock", lambda: _compare_clocks(ledger.warehouse)))
            if (encoding := origin.dialect.text_encoding) != "utf-8":
                lacks = f"the warehouse keeps texts in {encoding}; a character that it lacks stops a run"
                more.append(Finding(name, "encoding", None, lacks))
        return _runs(types)

    def state() -> str:
        tag = statement_tag(context_of(task), task.default_sync_id)
        with open_ledger(task.build_state(), task.default_sync_id, tag=tag) as ledger:
            return _write_to(ledger) if write else _read_from(ledger)

    yield _find(name, "source", source)
    yield from more
    yield _find(name, "state", state)


def _check_events(name: str, task: EventsToKinesisOperator, context_of: Callable[[Any], Context]) -> Finding:
    from airflow_kinesis_audience.core.source.event_layout import event_layout
    from airflow_kinesis_audience.core.source.query import describe_query
    from airflow_kinesis_audience.hooks.state import State, name_task
    from airflow_kinesis_audience.hooks.warehouse import open_warehouse

    def source() -> str:
        render(task, context := context_of(task))
        with open_warehouse(task.warehouse_conn_id) as warehouse:
            name_task(warehouse, statement_tag(context, task.default_sync_id), State(**task.state_location()))  # type: ignore[arg-type]
            asked, _, types = describe_query(warehouse, task.build_source(warehouse.dialect))
            event_layout(asked, types, warehouse.dialect)
        return _runs(types)

    return _find(name, "source", source)


def _check_delivery(name: str, task: DeliveryOperator, context_of: Callable[[Any], Context]) -> Finding:
    def stream() -> str:
        context = context_of(task)
        for field in _OF_A_DELIVERY:
            setattr(task, field, task.render_template(getattr(task, field), context))
        hook = task.build_stream()
        task.build_delivery(hook)
        hook.check()
        return f"{hook.destination} accepts {task.message_format} from this login, as far as the login can check"

    return _find(name, "stream", stream)


def _find(task: str, what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(task, what, True, check())
    except (AudienceError, ValueError) as error:
        return Finding(task, what, False, str(error))


def _runs(types: Mapping[str, str]) -> str:
    return f"the query runs and returns {', '.join(types)}"


def _compare_clocks(warehouse: Warehouse) -> str:
    """Compare the time of the warehouse, in UTC, with this machine's: an hour apart is a wrong zone.

    :raises ValueError: if they are too far apart.
    """
    from airflow_kinesis_audience.core.source.arrival import read_clock

    apart = (read_clock(warehouse) - datetime.now(UTC).replace(microsecond=0)).total_seconds()
    if abs(apart) > CLOCK_SKEW.total_seconds():
        raise ValueError(
            f"the warehouse's clock, in UTC, is {abs(apart):,.0f} s {'ahead of' if apart > 0 else 'behind'} this "
            f"worker's; expected at most {CLOCK_SKEW.total_seconds():.0f} s. Correct the clock or the time zone "
            "of one of them, or events are forwarded late or too early"
        )
    return "the clocks of the warehouse and of this worker agree, in UTC"


def _read_from(ledger: Ledger) -> str:
    from airflow_kinesis_audience.core.state.status import read_state

    newest = read_state(ledger).timeline.newest
    if newest is None:
        return "this sync has not run yet; with write, the check creates a table, as its first run will"
    return f"schema {ledger.schema} can be read; the newest membership has {newest.counts.members:,} members"


def _write_to(ledger: Ledger) -> str:
    from sqlglot import exp

    from airflow_kinesis_audience.core.sql.statements import drop_table, table, write_table

    ledger.prepare()
    probe = table(ledger.schema, _PROBE)
    drop_table(ledger.warehouse, probe)
    write_table(ledger.warehouse, probe, exp.select(exp.Literal.number(1).as_("position")))
    drop_table(ledger.warehouse, probe)
    return f"schema {ledger.schema} has a ledger, and a table was created there and dropped"
