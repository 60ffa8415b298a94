"""A sync with two audiences and two destinations, whose process is killed after every single thing that it does.

A step is a statement that writes (a table, a row of the ledger, a drop) or a put, whose records were taken or not.
A story is some days of runs and publishes. It is told once for each of its steps: the process dies right after the
step, the task is tried again as Airflow would, and the story goes on to its end. The model of ``converging.py``
says after each run and publish what must be so: nothing is lost, nothing is invented, every promise holds.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from unittest import mock

import duckdb

from airflow_kinesis_audience.core.model.instants import instant
from airflow_kinesis_audience.core.outbox import sender as sender_module
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.sql.dialects import DIALECTS
from airflow_kinesis_audience.core.state import rows as rows_module
from airflow_kinesis_audience.core.state.retention import Retention
from airflow_kinesis_audience.hooks.warehouses.duckdb import DuckDbWarehouse
from tests.contract.converging import (
    NO_DELAY,
    ONE_AT_A_TIME,
    SLICE_ROWS,
    AtPut,
    AtStatement,
    Edits,
    Moments,
    WholeLedger,
    World,
)
from tests.postgres import HOW_TO_INSTALL, find_programs, running_server
from tests.warehouses import START, Watched, open_postgres

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse

NAMES = ("users", "emails")


@dataclass(frozen=True)
class AfterWrite(AtStatement):
    """The process dies after a numbered statement that writes."""


class Writes(Moments):
    """Steps in after a statement that writes; those that read are no steps."""

    def before(self, sql: str) -> None:
        self._note(sql)

    def after(self, _: str) -> None:
        self._count += 1
        self._step_in()


class Crashing(World):
    """The world of the model, in which processes die after their writes."""

    def _watch(self, warehouse: SqlWarehouse, mishap: AtStatement | None) -> tuple[Watched, Moments]:
        if not isinstance(mishap, AfterWrite):
            return super()._watch(warehouse, mishap)
        watched = Watched(warehouse)
        self.moments = Writes(self._note, mishap.at, "after", lambda: mishap.strike(watched))
        watched.before, watched.after = self.moments.before, self.moments.after
        return watched, self.moments

    def check_order(self) -> None:
        """What is told of a user of an audience is in order on the wire, and has one partition key."""
        for name in NAMES:
            destination, last, keys = self.destinations[name], {}, {}
            for record in destination.stream.taken:
                for told in destination.read(record.data):
                    self.require(told.time >= last.get(told.key, 0), "what is older never follows what is newer")
                    key = keys.setdefault(told.key, record.partition_key)
                    self.require(name != "users" or key == record.partition_key, "a user has one partition key")
                    last[told.key] = told.time

    def check_counts(self) -> None:
        """By the ledger, every change set was delivered once to each destination, and to its last change."""
        schema = self.people.schema
        query = f"SELECT log, as_of, detail FROM {schema}.ledger WHERE event = 'delivered'"
        rows = self.warehouse.read_rows(query)
        self.require(len({(log, as_of) for log, as_of, _ in rows}) == len(rows), "nothing is delivered twice over")
        self.require(len(rows) == len(self.truth) * len(NAMES), "every change set was delivered")
        for log, as_of, detail in rows:
            counts = json.loads(detail)
            due = self._changes(log, as_of)
            self.require(
                counts.get("delivered", 0) + counts.get("omitted", 0) == due, f"the sums match as of {as_of}"
            )

    def _changes(self, log: str, as_of: str) -> int:
        """Count the changes that lead to an instant: to the first one everybody enters."""
        number = (instant(as_of) - START).days
        now = self.truth[number].members
        if number == self.facts.attached[log]:
            return len(now)
        before = self.truth[max(n for n in self.truth if n < number)].members
        return sum(now.get(key) != before.get(key) for key in {*now, *before})


def _edits(*given: tuple[str, str, int | None, str | None] | tuple[str, str]) -> Edits:
    return [((g[0], g[1]), (g[2], g[3]) if len(g) == 4 else None) for g in given]


DAYS: Sequence[Edits] = (
    _edits(*(("a", f"u{n}", n % 3, "Bern") for n in range(5)), *(("b", f"u{n}", 0, None) for n in range(3))),
    _edits(("a", "u0"), ("a", "u1", 2, "Rome"), ("b", "u0", 1, "Bern"), ("b", "u4", 0, None)),
    _edits(("a", "u0", 1, None), ("b", "u1"), ("b", "u2", 2, "Rome"), ("a", "u2"), ("a", "u3", 0, "Bern")),
)
"""Who enters, changes and leaves on each day."""

Task = Callable[[Crashing, "AtStatement | AtPut | None"], None]


def tasks_of(days: Sequence[Edits]) -> list[tuple[str, Task]]:
    """List the tasks of a story, in the order in which Airflow runs them."""

    def run(number: int, edits: Edits) -> Task:
        def task(world: Crashing, mishap: AtStatement | AtPut | None) -> None:
            world.edit(edits)
            world.run(number, mishap if isinstance(mishap, AtStatement) else None)

        return task

    def publish(name: str, number: int) -> Task:
        return lambda world, mishap: world.publish(name, number, mishap)

    found: list[tuple[str, Task]] = []
    for number, edits in enumerate(days):
        found.append((f"day {number}, diff", run(number, edits)))
        found += [(f"day {number}, publish {name}", publish(name, number)) for name in NAMES]
    return found


@dataclass
class Crashed:
    """What was done.

    :param steps: after which the process died, by task.
    :param puts: records on the wires in all stories, and ``repeated`` those that were there before.
    """

    steps: Counter[str] = field(default_factory=Counter)
    puts: int = 0
    repeated: int = 0
    seconds: float = 0.0

    def describe(self) -> str:
        lines = [f"  {task}: died after each of {steps} steps" for task, steps in self.steps.items()]
        return "\n".join(
            [
                *lines,
                f"  {self.steps.total()} stories, each told to its end: nothing lost, nothing invented",
                f"  {self.puts:,} records on the wires, {self.repeated:,} of them once more, with the same bytes",
                f"  {self.seconds:.0f} s",
            ]
        )


def crash_at_every_step(
    warehouses: tuple[SqlWarehouse, SqlWarehouse], *, days: Sequence[Edits] = DAYS, every: int = 1
) -> Crashed:
    """Tell the story once for each of its steps, and let the process die after it.

    :param every: take so many steps at a time, where all would take too long.
    :raises AssertionError: by the model, if a promise is broken.
    """
    done, began, tasks = Crashed(), time.monotonic(), tasks_of(days)
    with _small_and_in_order():
        for which, (name, _) in enumerate(tasks):
            for mishaps in _mishaps(name, every):
                for mishap in mishaps:
                    if not _tell(warehouses, tasks, which, mishap, done):
                        break
                    done.steps[name] += 1
    done.seconds = time.monotonic() - began
    return done


def _mishaps(task: str, every: int) -> Iterator[Iterator[AtStatement | AtPut]]:
    yield (AfterWrite(at, "after", "dies") for at in range(0, 10_000, every))
    if "publish" in task:
        for taken in (True, False):
            yield (AtPut(at, "dies", taken) for at in range(0, 10_000, every))


def _tell(
    warehouses: tuple[SqlWarehouse, SqlWarehouse],
    tasks: Sequence[tuple[str, Task]],
    which: int,
    mishap: AtStatement | AtPut,
    done: Crashed,
) -> bool:
    """Tell the story with one mishap; false if the task has not so many steps."""
    world = Crashing(*warehouses, Outbox, WholeLedger)
    world.upkeep = Retention(compaction_share=0.1, keep_history=timedelta(days=1))
    try:
        for _, task in tasks[:which]:
            task(world, None)
        before = sum(len(d.stream.puts) for d in world.destinations.values())
        tasks[which][1](world, mishap)
        after = sum(len(d.stream.puts) for d in world.destinations.values())
        struck = after - before > mishap.at if isinstance(mishap, AtPut) else world.moments.struck
        if not struck:
            return False
        for _, task in tasks[which:]:
            task(world, None)
        world.conclude()
        world.check_order()
        world.check_counts()
        taken = [r.data for d in world.destinations.values() for r in d.stream.taken]
        done.puts += len(taken)
        done.repeated += len(taken) - len(set(taken))
        return True
    finally:
        world.drop()


@contextlib.contextmanager
def _small_and_in_order() -> Iterator[None]:
    # Small slices, and one request at a time: a story that fails once fails always.
    one_by_one = functools.partial(produce, bounds=ONE_AT_A_TIME, clock=NO_DELAY)
    with (
        mock.patch.object(rows_module, "SLICE_ROWS", SLICE_ROWS),
        mock.patch.object(sender_module, "produce", one_by_one),
    ):
        yield


def main() -> bool:
    """Take every step, on each engine that is here."""
    database = duckdb.connect(":memory:", config={"threads": 1})
    one, another = (DuckDbWarehouse(database.cursor, DIALECTS["duckdb"]) for _ in range(2))
    print("DuckDB", crash_at_every_step((one, another)).describe(), sep="\n")
    programs = find_programs()
    if programs is None:
        print(HOW_TO_INSTALL)
        return True
    with (
        running_server(programs) as server,
        open_postgres(server.dsn()) as one,
        open_postgres(server.dsn()) as two,
    ):
        print("PostgreSQL", crash_at_every_step((one, two)).describe(), sep="\n")
    return True
