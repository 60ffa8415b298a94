"""A sync with two destinations, and those who work with it: an author, an Airflow, and people.

An Airflow that is never down itself starts attempts, waits for them, and starts the next one where one failed, was
killed, or was not heard of for too long and may be alive all the same.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.approval import approve
from airflow_kinesis_audience.core.changes.guards import NO_PERMISSION, Guards, Permission
from airflow_kinesis_audience.core.changes.sync import Sync
from airflow_kinesis_audience.core.exceptions import AudienceError
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.outbox import Outbox
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.retention import Retention
from tests.simulator import oracle
from tests.simulator.doubles import KeptRows, MemoryRows, Server, SimulatedWarehouse, Stream
from tests.simulator.remembering import RememberingDuckDb
from tests.simulator.scheduler import Killed, Process, Scheduler
from tests.warehouses import QUICK, day, insert_rows, small_delivery

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.outbox.delivery import Delivery

SCHEMA, SOURCE, SYNC = "state", "people", "dag.diff"
AUDIENCES, USERS, CITIES = ("a", "b"), ("u0", "u1", "u2"), (None, "Bern")
TRIES, RETRY_SECONDS, UNHEARD_SECONDS = 4, 30.0, 300.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a history is about."""

    days: int
    audiences: int
    users: int
    apart_seconds: float
    parts: int
    max_exits: int | None
    hold: bool
    keep_days: int
    compaction_share: float
    acts: tuple[str, ...]

    @classmethod
    def draw(cls, chance: random.Random) -> Plan:
        acts = [a for a in ("resync", "twice", "mapping", "full", "revoke", "clock") if chance.random() < 0.25]
        acts += ["delete"] if chance.random() < 0.1 else []
        return cls(
            days=chance.choice((1, 2, 2, 3)),
            audiences=chance.choice((1, 1, 1, 2)),
            users=chance.choice((2, 3, 3)),
            apart_seconds=chance.choice((0.0, 1.0, 60.0, 5_000.0)),
            parts=1 if "delete" in acts else chance.choice((1, 2)),
            max_exits=chance.choice((None, None, 0, 1)),
            hold=chance.random() < 0.5,
            keep_days=chance.choice((1, 90)),
            compaction_share=chance.choice((0.01, 0.25, 10.0)),
            acts=tuple(acts),
        )


class World:
    """All that is there in one history."""

    def __init__(self, inner: Any, scheduler: Scheduler, plan: Plan) -> None:
        self.inner, self.scheduler, self.plan = inner, scheduler, plan
        self.chance = scheduler.chance
        self.server = Server(scheduler, on_write=self._note)
        self.kept = KeptRows()
        self.source: dict[oracle.Key, str | None] = {}
        self.label = "city"
        self.labels: dict[Process, str] = {}
        self.written: dict[str, oracle.Members] = {}
        self.streams = {"a": Stream(scheduler), "b": Stream(scheduler)}
        self.outcomes: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.unforeseen: list[BaseException] = []
        self.allowed: set[int] = set()
        """Instants whose breaches somebody let through."""
        self.calm = False
        self.rows_in_memory = isinstance(inner, RememberingDuckDb)
        if self.rows_in_memory:
            inner.begin()
        else:
            inner.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            inner.execute(f"DROP TABLE IF EXISTS {SOURCE}")
            inner.execute(f"CREATE SCHEMA {SCHEMA}")
            inner.execute(f"CREATE TABLE {SOURCE} (audience TEXT, title TEXT, uid TEXT, city TEXT)")

    # -- the author

    def edit(self) -> None:
        """Let users enter, leave and change, all at once."""
        for _ in range(self.chance.choice((1, 2, 3))):
            key = (
                self.chance.choice(AUDIENCES[: self.plan.audiences]),
                self.chance.choice(USERS[: self.plan.users]),
            )
            if self.chance.random() < 0.4:
                self.source.pop(key, None)
            else:
                self.source[key] = self.chance.choice(CITIES)
        for audience in AUDIENCES[: self.plan.audiences]:
            # An audience without a row is a guard's own story; there is always one.
            self.source.setdefault((audience, "always"), "Bern")
        rows = [(a, f"Audience {a}", u, city) for (a, u), city in sorted(self.source.items())]
        if isinstance(self.inner, RememberingDuckDb):
            self.inner.fill_source(rows)
        else:
            self.inner.execute(f"DELETE FROM {SOURCE}")
            insert_rows(self.inner, SOURCE, rows)

    def _note(self, sql: str) -> None:
        """Remember what the source held when a table was written out of it."""
        head, _, query = sql.partition(" AS ")
        if head.startswith("CREATE TABLE"):
            current = self.scheduler.current
            label = self.labels.get(current.process, self.label) if current else self.label
            name = head.rpartition(".")[2].strip('" ')
            of_source = SOURCE in query
            self.written[name] = self._members(label) if of_source else {}

    def _members(self, label: str) -> oracle.Members:
        return {key: {label: city} if city is not None else {} for key, city in self.source.items()}

    # -- one process's view

    def ledger(self) -> Ledger:
        warehouse = SimulatedWarehouse(self.inner, self.server)
        rows = MemoryRows(self.kept, self.server, SYNC) if self.rows_in_memory else None
        return Ledger(warehouse, SCHEMA, SYNC, rows)

    def delivery(self, name: str, part: int = 0, **changed: Any) -> Delivery:
        parts = self.plan.parts if name == "b" else 1
        options = {"max_users": 2, "user_properties": True}
        return small_delivery(name, options=options, part=Part(part, parts), **changed)

    def outbox(self, name: str, part: int = 0, **changed: Any) -> Outbox:
        return Outbox(self.ledger(), self.delivery(name, part, **changed), self.streams[name].put, policy=QUICK)

    # -- tasks

    def diff(self, number: int, *, let_through: bool = False) -> dict[str, Any]:
        current = self.scheduler.current
        assert current is not None
        self.labels[current.process] = self.label
        source = Source(
            query=f"SELECT * FROM {SOURCE}",
            user_id="uid",
            identities={},
            properties={"city": self.label},
            audience_id_column="audience",
            audience_name_column="title",
        )
        guards = Guards(max_exit_ratio=None, max_exits=self.plan.max_exits, on_schema_change="update")
        retention = Retention(
            compaction_share=self.plan.compaction_share, keep_history=day(self.plan.keep_days) - day(0)
        )
        permission = Permission(everything=True) if let_through else NO_PERMISSION
        self.allowed |= {int(day(number).timestamp())} if let_through else set()
        sync = Sync(self.ledger(), source, guards=guards, retention=retention)
        return sync.run(day(number), permission=permission, hold=self.plan.hold and not let_through)

    def publish(self, name: str, part: int, number: int) -> None:
        outbox = self.outbox(name, part)
        outbox.drain(day(number))

    def resync(self, name: str) -> None:
        outbox = self.outbox(name, resync="resync 1")
        resync(outbox, self.delivery(name))

    def delete(self, name: str, number: int) -> None:
        outbox = self.outbox(name)
        self.labels[self.scheduler.current.process] = self.label  # type: ignore[union-attr]
        self.allowed.add(int(day(number).timestamp()))
        close(outbox.ledger, day(number), exits=True, delivery=outbox.delivery)
        announce_deletion(outbox)

    def approve(self, summary: Mapping[str, Any], number: int) -> None:
        self.allowed.add(int(day(number).timestamp()))
        approve(self.ledger(), day(number), summary["held_table"])

    # -- Airflow

    def task(self, name: str, attempt: Callable[[], Any], tries: int = TRIES) -> tuple[bool, Any]:
        """Try until an attempt ends well, fails for good, or no try is left; gives its result."""
        scheduler = self.scheduler
        for number in range(tries):
            skew = self.chance.choice((-3_600.0, 7_200.0)) if "clock" in self.plan.acts else 0.0
            actor = scheduler.spawn(name, attempt, Process(f"{name} #{number}", skew=skew))
            if not scheduler.wait(lambda actor=actor: actor.done, UNHEARD_SECONDS):  # type: ignore[misc]
                self.reached["an attempt begins while one that was given up is alive"] += 1
            elif actor.error is None:
                self.outcomes[f"{name.partition(' ')[0]} done"] += 1
                return True, actor.result
            elif self._is_for_good(name, actor.error):
                return False, actor.error
            scheduler.sleep(RETRY_SECONDS)
        self.outcomes[f"{name.partition(' ')[0]} out of tries"] += 1
        return False, None

    def _is_for_good(self, name: str, error: BaseException) -> bool:
        self.outcomes[f"{name.partition(' ')[0]} {type(error).__name__}"] += 1
        self.scheduler.trace.append(f"{self.scheduler.now:9.3f} {name}: {error!r}")
        if not isinstance(error, (AudienceError, Killed)):
            self.unforeseen.append(error)
        return isinstance(error, AudienceError) and not error.retry_helps

    def side_by_side(self, acts: Mapping[str, Callable[[], Any]]) -> list[Any]:
        """Do several things at once, and wait for all; each is Airflow's, which never dies."""
        actors = [self.scheduler.spawn(name, act) for name, act in acts.items()]
        self.scheduler.wait(lambda: all(a.done for a in actors))
        for actor in actors:
            if actor.error is not None:
                raise actor.error
        return [a.result for a in actors]

    def publishing(self, number: int) -> dict[str, Callable[[], Any]]:
        """Name the publishing tasks of a run."""
        tasks: dict[str, Callable[[], Any]] = {}
        for name, parts in (("a", 1), ("b", self.plan.parts)):
            for part in range(parts):
                for copy in range(2 if "twice" in self.plan.acts and not self.calm else 1):
                    title = f"publish {name}{part} {number}{' again' * copy}"
                    tasks[title] = lambda t=title, n=name, p=part: self.task(  # type: ignore[misc]
                        t, lambda: self.publish(n, p, number)
                    )
        return tasks

    def dag_run(self, number: int, *, let_through: bool = False) -> bool:
        """Run the sync and its publishing tasks; gives whether all ended well."""
        done, summary = self.task(f"diff {number}", lambda: self.diff(number, let_through=let_through))
        if done and summary.get("held"):
            self.reached["a change set is held"] += 1
            if self.chance.random() < 0.3:
                return False
            done, _ = self.task(f"approve {number}", lambda: self.approve(summary, number))
        if not done:
            return False
        ended = self.side_by_side({f"Airflow: {t}": act for t, act in self.publishing(number).items()})
        return all(well for well, _ in ended)

    # -- what the oracle reads

    def ledger_rows(self) -> list[oracle.LedgerRow]:
        """Read the ledger's rows, each log's in their order."""
        if self.rows_in_memory:
            found = [(r.log, r.sequence, r.event, r.as_of, r.detail) for r in self.kept.rows.values()]
        elif "ledger" in self.tables(with_ledger=True):
            query = f'SELECT "log", "sequence", "event", "as_of", "detail" FROM {SCHEMA}."ledger"'
            found = [tuple(r) for r in self.inner.read_rows(query)]  # type: ignore[misc]
        else:
            found = []
        return [oracle.LedgerRow(*row[:4], json.loads(row[4])) for row in sorted(found)]

    def tables(self, *, with_ledger: bool = False) -> set[str]:
        if isinstance(self.inner, RememberingDuckDb):
            return set(self.inner.names) - {SOURCE}
        query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{SCHEMA}'"
        return {n for (n,) in self.inner.read_rows(query)} - (set() if with_ledger else {"ledger"})

    def log_of(self, name: str) -> str:
        return replace(self.delivery(name), part=Part(0, 1)).log
