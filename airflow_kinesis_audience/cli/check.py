"""``check``: whether the tasks of a DAG file could run: connections, source, state, streams, permissions, options.

Each finding is a line with ✓ or ✗, and what to do. Nothing is put on a stream; with ``--write`` a table is created
in the state's schema and dropped, else nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from airflow_kinesis_audience.cli import dag_task
from airflow_kinesis_audience.cli.masking import one_line
from airflow_kinesis_audience.core.exceptions import AudienceError
from airflow_kinesis_audience.core.model.instants import instant

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.ledger import Ledger
    from airflow_kinesis_audience.operators import AudienceDiffOperator, EventsToKinesisOperator
    from airflow_kinesis_audience.operators.delivery_operator import DeliveryOperator

FAILED = 3
"""Exit code if a task could not run."""

_OF_A_DELIVERY = ("stream_name", "delivery_stream_name", "aws_conn_id", "region_name", "format_options")
_PROBE = "check_of_grants"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing that a task needs.

    :param ok: none where it was not checked.
    """

    task: str
    what: str
    ok: bool | None
    text: str

    def __str__(self) -> str:
        sign = {True: "✓", False: "✗", None: "-"}[self.ok]
        return f"{sign} {self.task}, {self.what}: {self.text}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("dag_file", type=Path, help="the DAG file")
    parser.add_argument(
        "--as-of",
        type=instant,
        metavar="INSTANT",
        help="the instant that templates are rendered for; default: now",
    )
    parser.add_argument("--write", action="store_true", help="create a table in the state's schema, and drop it")
    parser.epilog = f"It ends with {FAILED} if a task could not run."


def run(given: argparse.Namespace, out: TextIO) -> int:
    """Print what was found."""
    found = []
    for finding in check_file(given.dag_file, given):
        print(one_line(str(finding)), file=out, flush=True)
        found.append(finding)
    return FAILED if any(f.ok is False for f in found) else 0


def check_file(path: Path, given: argparse.Namespace) -> Iterator[Finding]:
    """Check all tasks of this package in a DAG file.

    :raises ValueError: if the file cannot be imported, or has no such task.
    """
    from airflow_kinesis_audience.operators import AudienceDiffOperator, EventsToKinesisOperator
    from airflow_kinesis_audience.operators.delivery_operator import DeliveryOperator

    kinds = AudienceDiffOperator, DeliveryOperator
    tasks = {f"{dag.dag_id}.{t.task_id}": t for dag in dag_task.load(path) for t in dag.tasks}
    ours = {n: t for n, t in tasks.items() if issubclass(getattr(t, "operator_class", type(t)), kinds)}
    if not ours:
        raise ValueError(f"{path} has no task that computes or delivers changes")
    for name, task in ours.items():
        if isinstance(task, AudienceDiffOperator):
            yield from _check_diff(name, task, given)
        elif isinstance(task, DeliveryOperator):
            if isinstance(task, EventsToKinesisOperator):
                yield _check_events(name, task, given)
            yield _check_delivery(name, task, given)
        else:
            yield Finding(name, "mapped", None, "skipped: its arguments are known only when it runs")


def _check_diff(name: str, task: AudienceDiffOperator, given: argparse.Namespace) -> Iterator[Finding]:
    from airflow_kinesis_audience.core.changes.baseline import describe_source
    from airflow_kinesis_audience.hooks.state import open_ledger

    def source() -> str:
        dag_task.render(task, given.as_of)
        task.build_guards()
        with open_ledger(task.build_state(), dag_task.sync_id_of(task), reads_source=True) as ledger:
            asked = task.build_source(ledger.warehouse.origin.dialect)
            return _runs(describe_source(ledger.warehouse, asked).types)

    def state() -> str:
        with open_ledger(task.build_state(), dag_task.sync_id_of(task)) as ledger:
            return _write_to(ledger) if given.write else _read_from(ledger)

    if untriggerable := dag_task.find_untriggerable(task):
        yield Finding(name, "templates", None, f"a triggered run would fail: {untriggerable}")
    yield _find(name, "source", source)
    yield _find(name, "state", state)


def _check_events(name: str, task: EventsToKinesisOperator, given: argparse.Namespace) -> Finding:
    from airflow_kinesis_audience.core.source.event_layout import event_layout
    from airflow_kinesis_audience.core.source.query import describe_query
    from airflow_kinesis_audience.hooks.warehouse import open_warehouse

    def source() -> str:
        dag_task.render(task, given.as_of)
        with open_warehouse(task.warehouse_conn_id) as warehouse:
            asked, _, types = describe_query(warehouse, task.build_source(warehouse.dialect))
            event_layout(asked, types, warehouse.dialect)
        return _runs(types)

    return _find(name, "source", source)


def _check_delivery(name: str, task: DeliveryOperator, given: argparse.Namespace) -> Finding:
    def stream() -> str:
        context = dag_task.make_context(task, given.as_of)
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


def _read_from(ledger: Ledger) -> str:
    from airflow_kinesis_audience.core.state.status import read_state

    newest = read_state(ledger).timeline.newest
    if newest is None:
        return "this sync has not run yet; --write checks that its first run can create its tables"
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
