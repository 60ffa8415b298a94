"""How many statements a task sends: each is a round trip, and on some engines a second or a job that is paid for.

A task is counted as it runs in steady state, on an engine of its own: with a new connection and a ledger that it
has not read yet, 200 changes among 1,000 members, one slice, one destination. What is counted is what reaches the
driver, so that nothing is missed; what sets a session up stands apart. ``-s`` prints every statement in its order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from sqlglot import exp, parse_one

from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.outbox import attempt as attempt_module
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.hooks.files.ledger import FileLedgerTable
from tests.engines import ENGINES, Place
from tests.warehouses import KINESIS_LIMITS, LET_ALL_THROUGH, Stream, day, fresh_schema, small_delivery

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.state.ledger import Ledger

TASKS = ("diff", "publish", "first publish")
BUDGETS = {
    # DuckDB is asked for the plan of the query in a statement of its own.
    "duckdb": (8, 6, 11),
    "duckdb without keys": (8, 6, 12),
    # Of the warehouse that the state is apart from: the types of the query, and its rows.
    "parquet": (2, 0, 0),
    "postgres": (7, 6, 11),
    # An index is made after each table.
    "mysql": (8, 6, 12),
    # Spark is asked which table of the ledger is open, and for its new files, before each use of it.
    "spark": (16, 15, 28),
    "databricks on spark": (16, 15, 28),
    "snowflake": (7, 6, 12),
    # A slice is read through a cursor of the server's: it is declared first.
    "redshift": (7, 7, 13),
    "bigquery": (7, 6, 12),
    # Its driver does not say how many rows were inserted, so that is looked at.
    "clickhouse": (8, 7, 13),
}
"""By engine, the most statements of a diff, of a publish and of a first publish, without those of the session."""

MEMBERS, MOVED, UPDATED = 1_000, 60, 80
"""Members on each day; those who enter, and as many who exit, from one day to the next; and those who change."""

KINDS = (
    (r"^SET |^ALTER SESSION|^autocommit|^set_character_set", "session"),
    (r"^SELECT @@SESSION", "settings of the session"),
    (r"^EXPLAIN", "plan of the query"),
    (
        r"^(DESCRIBE|DRY RUN)|AS given (LIMIT 0|WHERE 1 = 0)(; EXPLAIN .*)?$|^SELECT oid::bigint, format_type",
        "types of the query",
    ),
    (r"^CREATE VIEW \S*claim_", "claim"),
    (r"^DROP VIEW IF EXISTS \S*claim_", "let go of the claim"),
    (r"^SELECT row FROM \S*claim_", "read a claim"),
    (r"^CREATE VIEW .* read_parquet\(", "see a file"),
    (r"^CREATE INDEX", "index"),
    (r"^ANALYZE", "statistics"),
    (r"^CREATE TABLE brought_", "keep the rows of the source"),
    (r"^CREATE TABLE .* AS (WITH|SELECT)|^COPY .* \(FORMAT parquet", "write a table"),
    (r"^CREATE", "create"),
    (r"^DROP", "drop"),
    (r"^REFRESH", "see new rows"),
    (r"^SHOW", "list the tables"),
    (r"^INSERT INTO \S*ledger", "append to the ledger"),
    (r"^SELECT .* AS recency FROM \S*ledger\S* WHERE sync_id <> ", "other syncs of the destination"),
    (r"^SELECT .* AS recency FROM \(SELECT \* FROM \S*ledger", "read the ledger"),
    (r"^SELECT sync_id, .* AS mark FROM \S*ledger", "read the ledger"),
    (r"^SELECT sync_id, .* FROM \S*ledger\S* WHERE event = ", "deleted audiences"),
    (r"^SELECT sync_id, .* FROM \S*ledger\S* WHERE sync_id = '[^']*' AND log = 'folded'", "read the fold"),
    (r"^SELECT sync_id, .* FROM \S*ledger\S* WHERE \(*sync_id = ", "look for a row of the ledger"),
    (r"^SELECT (name, folded FROM \S*ledger_at_|COUNT\(\*\) FROM \S*ledger)", "where the ledger is"),
    (r"^SELECT audience_id, audience_name, source_rows, invalid_rows", "names of audiences"),
    (r"^SELECT audience_id, action, (toInt64\()?COUNT", "count"),
    (r"^SELECT slice, digit, SUM\(changes\)", "count of slices"),
    (r"^(COPY \( |DECLARE \S+ CURSOR FOR )?SELECT position, action.* ORDER BY position", "read a slice"),
    (r"^FETCH", "rows of what is read"),
    (r" AS brought$|^COPY \( SELECT .* AS brought \) TO STDOUT", "read the source"),
)
"""How a statement looks, without its quotes, to what it is for; the first that fits counts."""

_STATEMENTS = {
    *("execute", "sql", "query", "describe", "send_query", "ExecuteStatement", "command", "query_arrow_stream"),
    # Of MySQL's driver, which makes statements of them.
    *("autocommit", "set_character_set"),
}
"""What of a driver's objects sends a statement."""

_OF_A_FILE = ("create", "replace", "find", "read", "read_if_there", "remove")


def describe(statement: str) -> str:
    """Say what a statement is for."""
    plain = re.sub(r'["`]', "", " ".join(statement.split()))
    return next((what for pattern, what in KINDS if re.search(pattern, plain, re.IGNORECASE)), "other")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One statement, or one operation on the files of a state.

    :param where: the warehouse; of a state in files also the task's own DuckDB, the ledger, and the files.
    """

    where: str
    what: str
    text: str


@dataclass
class Task:
    """What one task sends, in its order."""

    sent: list[Sent] = field(default_factory=list)
    connections: int = 0
    opening: int = 0
    watched: list[tuple[Any, str]] = field(default_factory=list)

    @property
    def statements(self) -> list[Sent]:
        """What the budget is for."""
        return [s for s in self.sent if s.where == "warehouse" and s.what != "session"]

    def watch(self, ledger: Ledger) -> Ledger:
        """Note from here on what is sent through a ledger that nothing was read of."""
        warehouse: Any = ledger.warehouse
        here = "warehouse" if warehouse.origin is warehouse else "own DuckDB"
        self._watch_connections(warehouse, here)
        if here != "warehouse":
            self._watch_connections(warehouse.origin, "warehouse")
        if isinstance(ledger.rows, FileLedgerTable):
            named = (("read", "read"), ("read_all", "read"), ("read_others", "read"), ("append", "append to"))
            for name, what in named:
                self._watch_calls(
                    ledger.rows, name, lambda given, w=what: [("ledger", f"{w} the ledger", _row(given))]
                )
            for name in _OF_A_FILE:
                self._watch_calls(ledger.rows._files, name, lambda given, n=name: _operations(n, given))
        return ledger

    def note(self, method: str, given: Sequence[Any], named: dict[str, Any], where: str) -> None:
        """Note what a driver's object was asked to send."""
        first = getattr(given[0], "statement", given[0])
        text = first.decode() if isinstance(first, bytes) else str(first)
        if method in ("autocommit", "set_character_set"):
            text = f"{method} {text}"
        elif method == "describe":
            text = f"DESCRIBE {text}"
        elif getattr(named.get("job_config"), "dry_run", False):
            text = f"DRY RUN {text}"
        # Settings that PostgreSQL gets in the statement's own round trip.
        text = re.sub(r"^(SET (LOCAL|TRANSACTION) [^;]+; )+\s*(?=\S)", "", text)
        what = "session" if self.opening else describe(text)
        if what == "append to the ledger" and len(given) > 1:
            text = f"{given[1][3]}: {text}"
        self.sent.append(Sent(where=where, what=what, text=" ".join(text.split())))

    def _watch_connections(self, warehouse: Any, where: str) -> None:
        connect = warehouse._connect

        def connect_watched() -> Spy:
            self.connections += 1
            return Spy(connect(), lambda *asked: self.note(*asked, where))

        warehouse._connect = connect_watched
        for name in ("_open", "_open_reader"):
            setattr(warehouse, name, self._setting_up(getattr(warehouse, name)))

    def _setting_up(self, set_up: Callable[[], Any]) -> Callable[[], Any]:
        def set_up_watched() -> Any:
            self.opening += 1
            try:
                return set_up()
            finally:
                self.opening -= 1

        return set_up_watched

    def _watch_calls(self, of: Any, name: str, noted: Callable[[Any], Sequence[tuple[str, str, str]]]) -> None:
        call = getattr(of, name)

        def call_watched(*given: Any, **named: Any) -> Any:
            self.sent += [Sent(where=where, what=what, text=text) for where, what, text in noted(given[0])]
            return call(*given, **named)

        setattr(of, name, call_watched)
        self.watched.append((of, name))

    def end(self) -> None:
        """Note nothing more of what other tasks use, too."""
        while self.watched:
            delattr(*self.watched.pop())


class Spy:
    """Stands for a driver's object and those that it gives, and notes each statement before it is sent."""

    def __init__(self, real: Any, note: Callable[[str, Sequence[Any], dict[str, Any]], None]) -> None:
        self.__dict__.update(_real=real, _note=note)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name in ("pgconn", "client", "connection"):
            return Spy(found, self._note)
        if name == "cursor":
            return lambda *given, **named: Spy(found(*given, **named), self._note)
        if name not in _STATEMENTS or not callable(found):
            return found

        def send(*given: Any, **named: Any) -> Any:
            self._note(name, given, named)
            return found(*given, **named)

        return send

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def __enter__(self) -> Spy:
        self._real.__enter__()
        return self

    def __exit__(self, *raised: Any) -> Any:
        return self._real.__exit__(*raised)


def _row(given: Any) -> str:
    return getattr(given, "event", "")


def _operations(name: str, given: Any) -> list[tuple[str, str, str]]:
    names = given if name == "read" else [given]
    return [("files", "list a directory" if name == "find" else f"{name} a file", one) for one in names]


def write_source(place: Place, name: str, number: int) -> None:
    """Write the source table of a day anew: some have entered since the day before, some exited, some changed."""
    digits = " UNION ALL ".join(f"SELECT {n} AS d" for n in range(10))
    first, changed = number * MOVED, MEMBERS // 2
    query = f"""
        SELECT
            CAST('vips' AS TEXT) AS audience,
            CAST(CONCAT('u', CAST(n AS TEXT)) AS TEXT) AS uid,
            CAST(CONCAT('u', CAST(n AS TEXT), '@example.com') AS TEXT) AS email,
            CAST(CASE WHEN n >= {changed} AND n < {changed + UPDATED} THEN 'city {number}' ELSE 'Bern' END AS TEXT)
                AS city
        FROM (
            SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n
            FROM ({digits}) AS a CROSS JOIN ({digits}) AS b CROSS JOIN ({digits}) AS c CROSS JOIN ({digits}) AS e
        ) AS numbers
        WHERE n >= {first} AND n < {first + MEMBERS}
    """
    warehouse = place.source
    table = exp.table_(name, quoted=True).sql(dialect=warehouse.dialect.name, identify=True)
    warehouse.drop_table(table)
    warehouse.write_table(table, parse_one(query).sql(dialect=warehouse.dialect.name, identify=True))


@dataclass
class Steady:
    """A sync and its one destination, each task of which runs as a process of its own would.

    :ivar tasks: what each task has sent.
    """

    place: Place
    schema: str = field(default_factory=fresh_schema)
    stream: Stream = field(default_factory=Stream)

    def diff(self, number: int) -> tuple[Task, dict[str, Any]]:
        """Run the sync as of a day, over a source of that day."""
        name = f"crowd_{self.schema}"
        write_source(self.place, name, number)
        quoted = exp.table_(name, quoted=True).sql(dialect=self.place.source.dialect.name, identify=True)
        source = Source(
            query=f"SELECT * FROM {quoted}",
            user_id="uid",
            identities={"email": "Email"},
            properties={"city": "city"},
            audience_id="vips",
            audience_name="VIPs",
        )
        return self._run(lambda ledger: Sync(ledger, source, guards=LET_ALL_THROUGH).run(day(number)))

    def publish(self, number: int) -> Task:
        """Send all up to a day, by the limits and the policy that a task has."""
        delivery = small_delivery(limits=KINESIS_LIMITS, options={}, partitions=16)
        task, _ = self._run(lambda ledger: Outbox(ledger, delivery, self.stream.put).drain(day(number)))
        return task

    def _run(self, work: Callable[[Ledger], Any]) -> tuple[Task, Any]:
        task = Task()
        ledger = task.watch(self.place.open_ledger(self.schema, "dag.diff"))
        try:
            return task, work(ledger)
        finally:
            task.end()
            ledger.warehouse.close()  # type: ignore[attr-defined]


def count_tasks(place: Place) -> dict[str, Task]:
    """Run a first day, a second, and the tasks of a third one, which are counted beside the first publish."""
    steady = Steady(place)
    steady.diff(0)
    first = steady.publish(0)
    steady.diff(1)
    steady.publish(1)
    diff, summary = steady.diff(2)
    found = [summary[n] for n in ("entered", "exited", "updated", "members")]
    assert found == [MOVED, MOVED, UPDATED, MEMBERS], "not the change set that is to be counted"
    before = len(steady.stream.taken)
    publish = steady.publish(2)
    assert len(steady.stream.taken) > before, "nothing was published"
    return dict(zip(TASKS, (diff, publish, first), strict=True))


def print_task(engine: str, name: str, task: Task, budget: int) -> None:
    """Print what a task has sent in its order, and how much it is; alike operations on files stand in one line."""
    sets_up = sum(s.what == "session" for s in task.sent)
    apart = Counter(s.where for s in task.sent if s.where in ("own DuckDB", "files") and s.what != "session")
    apart += Counter(s.what for s in task.sent if s.what in ("read the ledger", "append to the ledger"))
    print(f"\n{engine}, {name}: {len(task.statements)} statements, budget {budget}", end="; ")
    print(f"session {sets_up}, connections {task.connections}", *(f"{w} {n}" for w, n in apart.items()), sep=", ")
    number = 0
    listed = [(n, s) for n, s in enumerate(task.sent) if s.what != "session"]
    for _, alike in groupby(listed, lambda found: found[1].what if found[1].where == "files" else found[0]):
        (_, sent), *more = alike
        number += sent.where == "warehouse"
        times = 1 + len(more)
        what = f"{sent.what}, {times} times" if times > 1 else sent.what
        print(f"{number if sent.where == 'warehouse' else '':4}  {sent.where:10}  {what:28}  {sent.text[:60]}")


@pytest.fixture(params=list(ENGINES))
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    with ENGINES[request.param].open_place(request, tmp_path) as place:
        yield place


def test_a_task_sends_no_more_statements_than_its_budget(place, request, monkeypatch):
    # What a task of some milliseconds comes to by itself, and this one on a machine that is busy with others, too.
    monkeypatch.setattr(attempt_module, "CHECKPOINT_SHARE", 1e-9)
    engine = str(request.node.callspec.params["place"])
    tasks = count_tasks(place)
    budgets = dict(zip(TASKS, BUDGETS[engine], strict=True))
    for name, task in tasks.items():
        print_task(engine, name, task, budgets[name])
    assert not {s.text for task in tasks.values() for s in task.sent if s.what == "other"}, "say what it is for"
    counts = {name: len(task.statements) for name, task in tasks.items()}
    assert {name: n for name, n in counts.items() if n > budgets[name]} == {}
