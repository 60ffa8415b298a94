"""``check``: whether the tasks of a DAG file could run: connections, source, state, streams, permissions, options.

Each finding is a line with ✓ or ✗, and what to do. Nothing is put on a stream; with ``--write`` a table is created
in the state's schema and dropped, else nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from airflow_kinesis_audience.cli import dag_task
from airflow_kinesis_audience.cli.masking import one_line
from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.operators.checks import Finding, check_tasks, is_checked
from airflow_kinesis_audience.operators.diff import AudienceDiffOperator

FAILED = 3
"""Exit code if a task could not run."""


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
    tasks = [task for dag in dag_task.load(path) for task in dag.tasks if is_checked(task)]
    if not tasks:
        raise ValueError(f"{path} has no task that computes or delivers changes")

    def context_of(task: Any) -> Any:
        return dag_task.make_context(task, given.as_of)

    for task in tasks:
        if isinstance(task, AudienceDiffOperator) and (why := dag_task.find_untriggerable(task)):
            name = f"{task.dag_id}.{task.task_id}"
            yield Finding(name, "templates", None, f"a triggered run would fail: {why}")
        yield from check_tasks([task], context_of, write=given.write)
